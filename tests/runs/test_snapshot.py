"""A runs folder looked at again and again: what has changed is seen, and nothing else is read."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medcot.runs import liveness, snapshot
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from tests.fakes import write_run


@pytest.fixture
def store(runs_dir) -> RunStore:
    return RunStore(runs_dir)


@pytest.fixture
def read(monkeypatch):
    """The ids of the runs that were read, in order."""
    found = []
    original = snapshot.listed
    monkeypatch.setattr(snapshot, "listed", lambda run: (found.append(run.id), original(run))[1])
    return found


def settle(store):
    """Let all that was written lie for a while."""
    then = time.time() - 60
    for path in sorted(store.root.rglob("*"), reverse=True):
        if not path.is_symlink():
            os.utime(path, (then, then))


def runs(store, count=3):
    return [write_run(store, RunSettings(), "finished", adapter=True) for _ in range(count)]


def test_a_settled_folder_is_not_read_again(store, read):
    made = runs(store)
    settle(store)
    first = store.look()
    assert sorted(read) == sorted(run.id for run in made)
    read.clear()
    for _ in range(10):
        assert store.look() is first
    assert read == []


CHANGES = {
    "state": lambda run: run.write_status("failed"),
    "name": lambda run: run.describe(name="Heart"),
    "note": lambda run: run.describe(note="again"),
    "an evaluation": lambda run: run.new_evaluation().write_status("finished", job="evaluate"),
    "the adapter is gone": lambda run: (run.adapter_dir / "adapter_model.safetensors").unlink(),
    "another base is named": lambda run: (run.path / "origin.json").write_text('{"adapter": "o/n"}'),
    "its settings are gone": lambda run: (run.path / "settings.json").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen_and_that_run_alone_is_read(store, read, change):
    changed, *_ = runs(store)
    settle(store)
    before = store.look()
    read.clear()
    change(changed)
    after = store.look()
    assert after.version == before.version + 1
    assert set(read) <= {changed.id}
    assert after.find(changed.id) != before.find(changed.id)
    kept = [run for run in after.runs if run.id != changed.id]
    assert all(one is other for one, other in zip(kept, (r for r in before.runs if r.id != changed.id), strict=True))


@pytest.mark.parametrize(
    "change",
    [
        lambda evaluation: evaluation.write_status("stopped"),
        lambda evaluation: (evaluation.path / "summary.json").write_text("{"),
        lambda evaluation: shutil.rmtree(evaluation.path),
    ],
    ids=["state", "summary", "gone"],
)
def test_a_change_in_an_evaluation_is_seen(store, change):
    run, *_ = runs(store)
    evaluation = run.new_evaluation()
    evaluation.write_status("finished", job="evaluate")
    settle(store)
    before = store.look()
    change(evaluation)
    after = store.look()
    assert after.version == before.version + 1
    assert after.find(run.id) != before.find(run.id)


def test_a_run_that_comes_or_goes_is_seen(store):
    one, *_ = runs(store, 1)
    (seen,) = store.look().runs
    two, *_ = runs(store, 1)
    assert [run.id for run in store.look().runs] == [two.id, one.id]
    store.delete(one)
    assert [run.id for run in store.look().runs] == [two.id]
    shutil.rmtree(store.root)
    assert store.look().runs == ()
    assert seen.id == one.id


def test_changes_in_one_moment_that_the_clock_of_the_disk_does_not_tell_apart_are_seen(store):
    run, *_ = runs(store, 1)
    for state in ("failed", "stopped", "finished", "failed"):
        before = run.path.stat()
        run.write_status(state)
        os.utime(run.path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as coarse a time as disks have
        assert store.look().runs[0].status.state == state


def test_a_worker_that_dies_without_a_word_is_seen_though_no_file_has_changed(store):
    run, *_ = runs(store, 1)
    with run.place():
        command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[liveness.sign(run.path)])
    child.stdout.readline()
    run.write_status("running", pid=child.pid)
    settle(store)
    assert [job.id for job, _ in store.look().alive] == [run.id]
    assert store.look().at_work() == run
    child.kill()
    child.wait()
    child.stdout.close()
    assert store.look().runs[0].status.state == "interrupted"
    assert store.look().alive == []


def test_a_worker_elsewhere_that_is_seen_again_is_alive_again(store):
    run, *_ = runs(store, 1)
    with run.place():
        pass
    (run.path / liveness.LOCK).write_text("another-host")
    run.write_status("running", pid=7)
    settle(store)
    assert store.look().runs[0].status.state == "interrupted"
    os.utime(run.path / liveness.LOCK)
    assert store.look().runs[0].status.state == "running"


def test_strange_things_among_the_runs_are_passed_over(store):
    run, *_ = runs(store, 1)
    (store.root / "notes.txt").write_text("")
    (store.root / "empty").mkdir()
    (store.root / ".new-x").mkdir()
    (store.root / ".new-x" / "settings.json").write_text("{}")
    (store.root / "loop").symlink_to("loop")
    shutil.copytree(run.path, store.root / "a copy of somebody")
    assert [one.id for one in store.look().runs] == [one.id for one in store.list()] == ["a copy of somebody", run.id]


def test_it_sees_what_each_run_says_of_itself(store):
    one, two = runs(store, 2)
    two.describe(name="Heart", note="n")
    (two.path / "origin.json").write_text(json.dumps({"adapter": "owner/name@abc"}))
    evaluation = two.new_evaluation()
    evaluation.write_status("stopped", job="evaluate")
    for seen in store.look().runs:
        run = Run(Path(seen.run.path))
        assert seen.status == run.status()
        assert seen.about == run.about()
        assert seen.adapter == run.origin()
        assert seen.has_adapter == run.has_adapter
        assert [e for e, _ in seen.evaluations] == run.evaluations()
        assert seen.shown_status == run.shown_status()
    assert store.look().tuned == [two, one]
