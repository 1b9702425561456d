"""Whatever Weights & Biases raises, and whatever its variables hold: the job goes on, and one warning says why."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from medcot.engine import tracking
from medcot.engine.tracking import wandb_run
from medcot.runs.events import Validation, Warned
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import build
from tests import forkserver

KEY = "canary0" + "f" * 33
AWAY = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": KEY}
REFUSED = {
    "an address without a scheme": {"WANDB_BASE_URL": "api.wandb.example"},
    "an address without a host": {"WANDB_BASE_URL": "http://"},
    "an address of another kind": {"WANDB_BASE_URL": "ftp://127.0.0.1"},
    "a key with a newline": {"WANDB_API_KEY": KEY + "\n"},
    "a key in quotes": {"WANDB_API_KEY": f'"{KEY}"'},
    "half a key": {"WANDB_API_KEY": "canary0"},
    "a mode that is none": {"WANDB_MODE": "nonsense"},
    "a number that is none": {"WANDB_INIT_TIMEOUT": "soon"},
    "a folder that cannot be": {"WANDB_DIR": "/proc/nowhere"},
}


def track(folder: str) -> None:
    """Track two figures as a worker does, and print what was reported. In a process of its own."""
    run = Run(Path(folder))
    with tracking.follow(run, run.settings(), lambda event: print(event.model_dump_json())) as report:  # noqa: T201
        for step in range(2):
            report(Validation(step=step, loss=1.0))


@pytest.mark.slow
@pytest.mark.parametrize("variables", REFUSED.values(), ids=REFUSED)
def test_what_wandb_refuses_of_its_variables_is_said_and_the_figures_are_kept_for_later(
    variables, runs_dir, monkeypatch, tmp_path
):
    run = RunStore(runs_dir).create(build({"tracking": {"wandb": True}}))
    environment = {**os.environ, "HOME": str(tmp_path), **AWAY, **variables}
    done = forkserver.run("tests.faults.test_tracking_refused", run.path, env=environment)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [e["type"] for e in events] == ["validation", "warning", "validation"]
    assert "for `wandb sync`" in events[1]["message"]
    assert KEY not in events[1]["message"]
    (logged,) = (run.path / "wandb").glob("offline-run-*/*.wandb")
    assert b"validation/loss" in logged.read_bytes()


class Logged:
    """A W&B run that raises where it is told to."""

    def __init__(self, fails: str, error: Exception):
        self._fails, self._error, self.summary = fails, error, self

    def _meet(self, what: str) -> None:
        if what == self._fails:
            raise self._error

    def define_metric(self, *_, **__):
        self._meet("define_metric")

    def log(self, _):
        self._meet("log")

    def finish(self, **_):
        self._meet("finish")


@pytest.mark.parametrize("error", [RuntimeError("gone"), KeyError("x"), RecursionError(), AssertionError()], ids=repr)
@pytest.mark.parametrize("where", ["login", "init", "teardown", "define_metric", "log", "finish"])
def test_wherever_wandb_raises_the_job_goes_on_and_is_told_once(where, error, runs_dir, monkeypatch):
    logged, wandb = Logged(where, error), ModuleType("wandb")

    def call(what):
        def called(*_, **__):
            logged._meet(what)
            return logged

        return called

    for name in ("login", "init", "teardown", "setup", "Settings"):
        setattr(wandb, name, call(name))
    if where != "login":  # with a key and an answering service
        monkeypatch.setattr(wandb_run, "_offline_because", lambda wandb: None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    run, heard = RunStore(runs_dir).create(build({"tracking": {"wandb": True}})), []
    with tracking.follow(run, run.settings(), heard.append) as report:
        for step in range(3):
            report(Validation(step=step, loss=1.0))
    assert [e.step for e in heard if isinstance(e, Validation)] == [0, 1, 2]
    assert len([e for e in heard if isinstance(e, Warned)]) == (where != "teardown")


def test_a_broken_installation_of_wandb_ends_no_job(runs_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    run, heard = RunStore(runs_dir).create(build({"tracking": {"wandb": True}})), []
    with tracking.follow(run, run.settings(), heard.append) as report:
        report(Validation(step=0, loss=1.0))
    assert "is left out" in heard[1].message


if __name__ == "__main__":
    track(sys.argv[1])
