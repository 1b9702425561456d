"""Apps and workers that end when nobody expects it, clocks that go back: the run directory says what happened."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from medcot.runs.events import Checkpoint, Started, Step, Stopped
from medcot.runs.job_dir import ALIVE
from medcot.runs.store import RunStore
from medcot.workers import jobs
from medcot.workers.slot import Slot, waiting_jobs
from tests.engine_tools import changed
from tests.faults.tools import ended, events, until

APP = """
import sys, time
from pathlib import Path
from medcot.workers import jobs
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
settings = RunSettings.model_validate_json(sys.stdin.readline())
for _ in range(int(sys.argv[2])):
    print(jobs.start_training(RunStore(Path(sys.argv[1])), settings).id, flush=True)
time.sleep(600)
"""


@pytest.fixture
def store(tmp_path):
    (tmp_path / "runs").mkdir()
    return RunStore(tmp_path / "runs")


def started_by_an_app_that_is_killed(store, settings, count=1):
    """Runs whose starter, and everything in its process group, was ended by SIGKILL."""
    app = subprocess.Popen(
        [sys.executable, "-c", APP, str(store.root), str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    app.stdin.write(settings.model_dump_json() + "\n")
    app.stdin.flush()
    runs = [store.get(app.stdout.readline().strip()) for _ in range(count)]
    os.killpg(app.pid, signal.SIGKILL)
    app.wait()
    return runs


@pytest.mark.slow
def test_the_app_dies_and_the_worker_goes_on_to_the_end(store, tiny_settings):
    (run,) = started_by_an_app_that_is_killed(store, tiny_settings)
    assert run.status().state in ALIVE
    assert ended(run).state == "finished", run.log_tail(40)
    assert run.has_adapter


def test_the_queue_outlives_the_app_and_each_of_it_can_be_cancelled(store, tiny_settings):
    slot = Slot(store.root)
    assert slot.try_acquire("a test")
    first, second = started_by_an_app_that_is_killed(store, tiny_settings, count=2)
    after_a_restart = RunStore(store.root)
    assert [j.path for j in waiting_jobs(after_a_restart)] == [first.path, second.path]
    jobs.stop(first)
    assert ended(first).state == "stopped"
    slot.release()
    until(lambda: second.status().state == "running", "its turn")
    jobs.stop(second, now=True)
    assert second.status().state == "stopped"


def test_sigterm_to_the_whole_group_saves_a_checkpoint_and_leaves_no_process(store, tiny_settings):
    """As a machine does that goes down: every process of the worker is told."""
    run = jobs.start_training(store, changed(tiny_settings, "training", max_steps=5000, save_steps=5000))
    until(lambda: len(events(run, Step)) > 2, "some steps")
    pid = run.status().pid
    os.killpg(pid, signal.SIGTERM)
    assert ended(run).state == "stopped", run.log_tail(40)
    (stopped,) = events(run, Stopped)
    assert [e.step for e in events(run, Checkpoint)] == [stopped.step]
    until(lambda: not in_session(pid), "the end of its processes")


def test_sigterm_while_it_loads_ends_it_at_once(store, tiny_settings):
    run = jobs.start_training(store, changed(tiny_settings, "training", max_steps=5000))
    until(lambda: run.status().state == "running", "its start")
    os.kill(run.status().pid, signal.SIGTERM)
    assert ended(run).state == "stopped", run.log_tail(40)
    assert len(events(run, Step)) <= 1, "where loading takes no time, the first step was under way"


def in_session(leader):
    def session(process):
        try:
            return os.getsid(process.pid)
        except OSError:
            return None

    return [p for p in psutil.process_iter() if session(p) == leader and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.slow
def test_a_clock_that_goes_back_an_hour_disturbs_neither_the_order_nor_the_speed(
    store, tiny_settings, tmp_path, monkeypatch
):
    """The worker's own clock, by a module that Python imports before anything else."""
    flag = tmp_path / "back"
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(
        f"import os, time\nnow = time.time\ntime.time = lambda: now() - 3600 * os.path.exists({str(flag)!r})\n"
    )
    path = os.pathsep.join([str(tmp_path / "clock"), os.environ.get("PYTHONPATH", "")])
    with monkeypatch.context() as of_the_first:
        of_the_first.setenv("PYTHONPATH", path)
        run = jobs.start_training(store, changed(tiny_settings, "training", max_steps=5000, save_steps=5000))
    until(lambda: events(run, Step), "a step")
    flag.touch()
    before = len(events(run, Step))
    until(lambda: len(events(run, Step)) > before + 3, "steps after it")
    jobs.stop(run)
    status = ended(run)
    assert status.state == "stopped", run.log_tail(40)
    steps = events(run, Step)
    assert steps[-1].time < steps[0].time, "the clock did go back"
    assert [s.step for s in steps] == list(range(1, len(steps) + 1))
    assert all(s.tokens_per_second > 0 and s.eta_seconds >= 0 for s in steps)

    flag.unlink()
    jobs.resume_training(run)
    until(lambda: len(events(run, Started)) == 2 or run.status().state not in ALIVE, "the second start")
    assert run.status().state == "running", run.log_tail(40)
    jobs.stop(run, now=True)
