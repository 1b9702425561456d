"""A forked child behaves like one that `python -m` started, and is not used where it could not."""

import json
import os
import subprocess
import sys

import psutil
import pytest

from medcot import machine
from tests import forkserver

PROBE = """
import atexit, json, os, sys
from huggingface_hub import constants
atexit.register(print, "the end")
said = {"argv": sys.argv[1:], "input": sys.stdin.read(), "folder": os.getcwd(), "cache": constants.HF_HUB_CACHE}
said |= {"session": os.getsid(0) == os.getpid(), "home": os.environ["HF_HOME"], "open": os.listdir("/proc/self/fd")}
print(json.dumps(said), flush=True)
print("to the other", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture
def forks():
    if not forkserver.possible():
        pytest.skip("no forks here")


def test_a_forked_child_is_like_one_that_was_started(forks, tmp_path):
    (tmp_path / "probe.py").write_text(PROBE)
    words = [sys.executable, "-m", "probe", "one", "two words"]
    piped = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    child = forkserver.Forked(words, **piped, text=True, cwd=tmp_path, env=environment, start_new_session=True)
    process = psutil.Process(child.pid)
    assert process.cmdline()[: len(words)] == words
    assert process.ppid() == os.getpid()
    assert child.poll() is None
    out, err = child.communicate("what it reads")
    said, end = out.splitlines()
    found = json.loads(said)
    assert (found["argv"], found["input"]) == (["one", "two words"], "what it reads")
    assert (found["folder"], found["session"]) == (str(tmp_path), True)
    assert (found["home"], found["cache"]) == (str(tmp_path / "home"), str(tmp_path / "home" / "hub"))
    assert len(found["open"]) == 4, "the three streams, and the listing itself"
    assert (end, err, child.returncode) == ("the end", "to the other\n", 3)


def test_what_kills_a_forked_child_is_seen_by_its_parent(forks):
    child = machine.spawn("medcot.engine.service", "runs", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert isinstance(child, forkserver.Forked)
    child.terminate()
    assert child.wait() == -15


def test_no_fork_where_a_library_was_imported_under_other_values():
    child = machine.spawn("medcot.adapters.push", env={**os.environ, "HF_HUB_OFFLINE": "1"}, stdin=subprocess.DEVNULL)
    child.kill()
    child.wait()
    assert not isinstance(child, forkserver.Forked)
