"""Alive is who holds the lock in the job's folder, wherever it runs; who continues or deletes a job needs that lock."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from medcot.cli import display
from medcot.cli.follow import Display
from medcot.cli.runs import stop
from medcot.errors import BadInput
from medcot.runs import liveness
from medcot.runs.job_dir import WORKER_MODULE, JobDir
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import build
from medcot.ui import progress
from medcot.ui.job_reader import Seen, mark
from medcot.workers import jobs
from tests.conftest import at_once

NO_PROCESS = 2**22 + 7  # above the largest pid that Linux gives
HOUR = 3600


@pytest.fixture
def store(runs_dir) -> RunStore:
    return RunStore(runs_dir)


@pytest.fixture
def run(store) -> Run:
    return store.create(build({}))


@pytest.fixture
def worker():
    """Starts a process that has a job's place as its worker has it; the pid is as another container sees it."""
    started = []

    def start(job: JobDir, *words: str) -> subprocess.Popen:
        with job.place():
            place = liveness.sign(job.path)
            command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(120)", *words]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[place])
        started.append(child)
        child.stdout.readline()
        job.write_status("running", pid=child.pid if words else NO_PROCESS)
        return child

    yield start
    for child in started:
        end(child)
        child.stdout.close()


def freeze(child: subprocess.Popen) -> None:
    """Stop it, and wait until it stands: a SIGTERM that comes before is taken first, and ends it."""
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)


def end(child: subprocess.Popen) -> None:
    child.send_signal(signal.SIGCONT)
    child.kill()
    child.wait()


def touched(job: JobDir, seconds_ago: float, host: str = "") -> None:
    """The worker's file as a worker of that host has left it."""
    path = job.path / liveness.LOCK
    if host:
        path.write_text(host)
    then = time.time() - seconds_ago
    os.utime(path, (then, then))


# ---- on the same machine, in whichever container


def test_a_worker_that_the_process_table_does_not_show_is_alive_while_it_holds_its_place(run, worker):
    child = worker(run)
    touched(run, HOUR)
    assert run.status().state == "running"
    end(child)
    status = run.status()
    assert status.state == "interrupted"
    assert "process is gone" in status.error


@pytest.mark.parametrize(
    "act",
    [
        lambda store, run: store.delete(run),
        lambda store, run: jobs.resume_training(run),
        lambda store, run: jobs.stop(run),
        lambda store, run: jobs.stop(run, now=True),
    ],
    ids=["delete", "resume", "stop", "stop now"],
)
def test_nobody_deletes_continues_or_ends_what_is_at_work_in_another_container(store, run, worker, act):
    child = worker(run)
    before = sorted(path.name for path in run.path.iterdir())
    with pytest.raises(BadInput) as refused:
        act(store, run)
    (problem,) = refused.value.problems
    assert "running" in problem.what
    assert "Stop it" in problem.fix
    assert child.poll() is None
    assert run.status().state == "running"
    assert run.status().pid == NO_PROCESS
    assert sorted(path.name for path in run.path.iterdir()) == before


def test_an_evaluation_at_work_elsewhere_keeps_its_run(store, run, worker):
    run.write_status("finished")
    evaluation = run.new_evaluation()
    evaluation.write_status("queued", job="evaluate")
    child = worker(evaluation)
    with pytest.raises(BadInput, match=f"the evaluation {evaluation.id} of {run.id} is running"):
        store.delete(run)
    end(child)
    store.delete(run)
    assert store.list() == []


def test_where_it_runs_is_said_to_who_would_stop_it_from_elsewhere(run, worker):
    worker(run)
    (run.path / liveness.LOCK).write_text("ward-seven")
    with pytest.raises(BadInput, match=r"another machine \(ward-seven\)"):
        jobs.stop(run)


def test_a_worker_that_ends_gives_its_place_back_however_it_ends(run, worker):
    for signal_ in (signal.SIGTERM, signal.SIGKILL, signal.SIGABRT):
        child = worker(run)
        child.send_signal(signal_)
        child.wait()
        with run.claimed("run"):
            pass


@pytest.mark.parametrize("shared", [True, False], ids=["one object for all", "an object for each"])
def test_one_of_many_who_want_the_place_has_it(run, shared):
    def want():
        try:
            with (run if shared else Run(run.path)).place():
                time.sleep(0.5)
        except liveness.Taken:
            return "taken"
        return "had"

    assert sorted(at_once(8, want)) == ["had", *["taken"] * 7]


def test_those_who_look_at_once_do_not_take_each_other_for_a_worker(run):
    with run.place():
        pass
    seen = at_once(8, lambda: {liveness.is_held(run.path) for _ in range(300)})
    assert seen == [{False}] * 8


# ---- on another machine, where locks may not be shared


@pytest.mark.parametrize(
    ("seconds_ago", "state"),
    [(0, "running"), (30, "running"), (90, "interrupted"), (HOUR, "interrupted"), (-HOUR, "interrupted")],
)
def test_on_another_host_a_fresh_touch_is_life(run, seconds_ago, state):
    with run.place():
        pass
    run.write_status("running", pid=NO_PROCESS)
    touched(run, seconds_ago, "another-host")
    assert run.status().state == state
    touched(run, seconds_ago, liveness.platform.node())
    assert run.status().state == "interrupted", "on this host the lock would be held"


def test_what_another_host_has_touched_just_now_is_not_deleted(store, run):
    with run.place():
        pass
    run.write_status("running", pid=NO_PROCESS)
    touched(run, 5, "another-host")
    with pytest.raises(BadInput, match="is running"):
        store.delete(run)
    touched(run, HOUR, "another-host")
    store.delete(run)


# ---- folders of the version before


def test_a_worker_of_the_version_before_is_known_by_its_process_and_its_folder_is_left_as_it_is(store, run):
    code = "import time; print(flush=True); time.sleep(120)"
    words = [WORKER_MODULE, str(run.path.resolve())]
    with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        run.write_status("running", pid=child.pid)
        assert run.status().state == "running"
        for act in (store.delete, jobs.resume_training):
            with pytest.raises(BadInput, match="is running"):
                act(run)
        assert not (run.path / liveness.LOCK).exists()
        child.kill()
    assert run.status().state == "interrupted"
    store.delete(run)


@pytest.mark.parametrize("strange", ["folder", "link to nowhere", "no text"])
def test_a_strange_thing_in_the_locks_place_is_no_worker(run, strange):
    path = run.path / liveness.LOCK
    if strange == "folder":
        path.mkdir()
    elif strange == "no text":
        path.write_bytes(b"\xff\x00" * 10_000)
    else:
        path.symlink_to("nowhere")
    run.write_status("running", pid=NO_PROCESS)
    touched(run, HOUR) if path.exists() else None
    assert run.status().state == "interrupted"
    assert len(liveness.host(run.path)) <= 300


# ---- a worker that gives no sign


def test_a_worker_without_a_sign_for_minutes_is_said_and_how_to_end_it(run, worker, capsys):
    child = worker(run)
    freeze(child)
    touched(run, 30)
    quiet = mark(run)
    assert run.silence(run.status()) == ""
    touched(run, 5 * 60 + 20)
    status = run.status()
    assert run.silence(status) == "no sign of its worker for 5 minutes"
    assert mark(run) != quiet, "the page draws it anew"
    shown = progress.progress(run, status, Seen(), "")
    assert "no sign of its worker for 5 minutes" in shown
    assert "Stop now, without saving ends it" in shown
    assert "--now" not in shown
    display.runs([run])
    assert "running, no sign of its worker for 5 minutes" in capsys.readouterr().out


def test_who_asks_a_silent_worker_to_stop_is_told_what_ends_it(store, run, worker, capsys):
    child = worker(run, WORKER_MODULE, str(run.path.resolve()))
    freeze(child)
    stop(run.id, store.root)
    assert "no sign" not in capsys.readouterr().out
    touched(run, 200)
    stop(run.id, store.root)
    said = capsys.readouterr().out
    assert f"{run.id} is asked to stop. There is no sign of its worker for 3 minutes" in said
    assert f"medcot stop {run.id} --now" in said


def test_who_follows_a_job_is_told_once_of_each_silence(run, worker, monkeypatch):
    worker(run)
    said, display_ = [], Display("Training")
    monkeypatch.setattr("medcot.cli.display.marked", lambda mark, style, line: said.append(line))
    for seconds_ago in (30, 200, 260, 30, 200):
        touched(run, seconds_ago)
        display_.silent(run, run.status())
    assert ["3 minutes" in line for line in said] == [True, True]


def test_a_job_that_is_over_or_of_the_version_before_is_not_called_silent(run, worker):
    run.write_status("running", pid=os.getpid())
    assert run.silence(run.status()) == ""
    end(worker(run))
    run.write_status("finished")
    touched(run, HOUR)
    assert run.silence(run.status()) == ""


def test_the_file_is_touched_for_as_long_as_the_process_lives(run, monkeypatch):
    with run.place():
        pass
    touched(run, HOUR)
    monkeypatch.setattr(liveness, "TOUCH_SECONDS", 0.05)
    liveness.keep_touching(run.path)
    deadline = time.monotonic() + 30
    for _ in range(2):
        while liveness.since_touch(run.path) > 60 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert liveness.since_touch(run.path) < 60
        touched(run, HOUR)


def test_two_machines_names_and_paths_are_not_needed_to_be_alike(run, worker, tmp_path):
    """The folder is mounted elsewhere under another path; the place is the same."""
    worker(run)
    other = tmp_path / "mounted"
    other.symlink_to(run.path.parent)
    assert Run(Path(other) / run.id).status().state == "running"


def test_who_continues_or_deletes_a_job_waits_for_the_end_of_a_process_that_has_said_its_last_word(run, worker):
    child = worker(run)
    run.write_status("stopped")
    timer = threading.Timer(0.5, child.kill)
    timer.start()
    with run.claimed("--resume"):
        child.wait(10)


def test_a_process_that_does_not_end_after_its_last_word_is_said(run, worker, monkeypatch):
    monkeypatch.setattr("medcot.runs.job_dir.ENDING_SECONDS", 0.2)
    worker(run)
    run.write_status("stopped")
    with pytest.raises(BadInput, match="still ending"), run.claimed("--resume"):
        pass


def test_who_starts_a_job_has_its_place_to_all_others(run):
    run.write_status("queued", job="train", pid=NO_PROCESS)
    with run.place():
        seen = []
        other = threading.Thread(target=lambda: seen.append(run.status().state))
        other.start()
        other.join()
        assert seen == ["queued"]
        assert run.status().state == "interrupted", "and itself it knows that no worker is there"
