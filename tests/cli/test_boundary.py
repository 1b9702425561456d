"""The edge of the command line: whatever is raised, and wherever the output goes, ends in words and an exit code."""

import json
import os
import subprocess

import pytest
from typer.testing import CliRunner

from medcot.cli import app
from medcot.runs.store import RunStore
from medcot.settings import build
from tests import forkserver

NOTE = "Fieber ≥ 39 °C → 发烧 😀"


def medcot(*arguments, **options):
    return forkserver.run("medcot", *arguments, fresh=True, **options)


@pytest.fixture
def broken(monkeypatch):
    def breaks(error):
        def fail(self):
            raise error

        monkeypatch.setattr(RunStore, "list", fail)

    return breaks


UNEXPECTED = [KeyError("x"), RuntimeError(), ZeroDivisionError("[bold]"), UnicodeDecodeError("utf-8", b"a", 0, 1, "no")]
UNEXPECTED += [OSError(5, "Input/output error"), RecursionError("too deep"), MemoryError()]


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
def test_whatever_a_command_raises_is_one_line_that_says_where_to_look(broken, error):
    broken(error)
    done = CliRunner().invoke(app, ["runs"])
    assert done.exit_code == 1
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert f"{type(error).__name__}: {str(error).strip()}" in done.stderr
    assert "MEDCOT_DEBUG=1" in done.stderr


def test_with_json_it_is_json_too_and_with_the_switch_the_traceback_stands_above(broken, monkeypatch):
    broken(KeyError("x"))
    said = json.loads(CliRunner().invoke(app, ["runs", "--json"]).stdout)
    assert "KeyError: 'x'" in said["problems"][0]
    monkeypatch.setenv("MEDCOT_DEBUG", "1")
    done = CliRunner().invoke(app, ["runs"])
    assert done.exit_code == 1
    assert done.stderr.index("Traceback") < done.stderr.index("This is unexpected")


def test_ctrl_c_and_a_no_are_nothing_unexpected(broken, runs_dir):
    broken(KeyboardInterrupt())
    done = CliRunner().invoke(app, ["runs"])
    assert (done.exit_code, done.stderr) == (130, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "gbk"])
def test_a_console_that_lacks_letters_shows_the_rest(runs_dir, encoding):
    run = RunStore(runs_dir).create(build({}))
    run.describe(note=NOTE)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    shown = medcot("show", env=environment, encoding=encoding, errors="replace")
    assert shown.returncode == 0, shown.stderr
    assert "Fieber" in shown.stdout
    assert run.id in shown.stdout
    told = medcot("show", "--json", env=environment, encoding=encoding)
    assert json.loads(told.stdout)["note"] == NOTE
    refused = medcot("show", "nothing-发烧", env=environment, encoding=encoding)
    assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)


def test_a_reader_that_has_read_enough_ends_it_quietly():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        done = medcot("init-config", stdout=nobody)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("command", [["init-config"], ["runs", "--json"], ["score", "--help"]])
def test_an_output_on_a_full_disk_is_said_so(command):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = medcot(*command, stdout=full)
    assert done.returncode != 0
    assert "No space left" in done.stderr


def test_without_any_output_a_command_does_its_work(runs_dir):
    run = RunStore(runs_dir).create(build({}))
    command = f"{forkserver.sys.executable} -m medcot note {run.id} done >&-"
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr, run.about().note) == (0, "", "done")
