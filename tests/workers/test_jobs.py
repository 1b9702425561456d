"""Real workers, killed, stopped, queued and raced: what the run directory says must be what happened."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from medcot.errors import BadInput
from medcot.machine import child_environment
from medcot.runs import liveness
from medcot.runs.events import Checkpoint, Finished, Step, Stopped
from medcot.runs.job_dir import ALIVE, JobDir
from medcot.runs.store import RunStore
from medcot.workers import jobs
from medcot.workers.slot import Slot, waiting_jobs
from tests.conftest import at_once
from tests.fakes import write_run
from tests.faults.tools import ended, events, until


def longer(settings, **training):
    return settings.model_copy(update={"training": settings.training.model_copy(update=training)})


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def test_a_finished_run_leaves_a_lora_adapter_and_no_trace_of_its_secrets(store, tiny_settings):
    canary = "canary-5e1f0c"
    run = jobs.start_training(store, tiny_settings, secrets={"HF_TOKEN": canary})
    until(lambda: run.status().pid, "a pid")
    assert canary.encode() not in Path(f"/proc/{run.status().pid}/cmdline").read_bytes()
    assert ended(run).state == "finished", run.log_tail(40)
    names = {p.name for p in run.adapter_dir.iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "prompt_contract.json", "tokenizer.json"} <= names
    assert len(events(run, Step)) == tiny_settings.training.max_steps
    assert len(events(run, Finished)) == 1
    until(lambda: not liveness.is_held(run.path), "the end of its process, and of all that it started")
    assert [p for p in run.path.rglob("*") if p.is_file() and canary.encode() in p.read_bytes()] == []


def test_a_killed_worker_is_interrupted_says_how_to_go_on_and_is_resumed_once(store, tiny_settings):
    run = jobs.start_training(store, longer(tiny_settings, max_steps=5000, save_steps=2))
    until(lambda: events(run, Checkpoint), "a checkpoint")
    assert liveness.is_held(run.path)
    assert liveness.since_touch(run.path) < 60
    os.kill(run.status().pid, signal.SIGKILL)
    status = ended(run)
    assert status.state == "interrupted"
    assert liveness.is_held(run.path) is False
    assert f"medcot train --resume {run.id}" in status.hint
    assert not run.has_adapter

    def resume():
        try:
            jobs.resume_training(run)
        except BadInput:
            return "refused"
        return "started"

    assert sorted(at_once(2, resume)) == ["refused", "started"], "two resumes in one moment start one worker"
    jobs.stop(run, now=True)


def test_a_stop_saves_a_checkpoint_and_resume_finishes_the_run(store, tiny_settings):
    run = jobs.start_training(store, longer(tiny_settings, max_steps=400, save_steps=10_000, validate_steps=10_000))
    until(lambda: len(events(run, Step)) > 2, "some steps")
    jobs.stop(run)
    assert ended(run).state == "stopped", run.log_tail(40)
    stopped_at = events(run, Stopped)[0].step
    assert [p.name for p in run.checkpoints()] == [f"checkpoint-{stopped_at}"]
    assert not run.has_adapter
    with pytest.raises(BadInput, match="no adapter"):
        jobs.start_evaluation(run)

    jobs.resume_training(run)
    until(lambda: len(events(run, Step)) > stopped_at + 2 or run.status().state not in ALIVE, "steps after the resume")
    steps = [e.step for e in events(run, Step)]
    assert steps[: stopped_at + 2] == list(range(1, stopped_at + 3)), "goes on where it stopped, not from the start"
    jobs.stop(run, now=True)
    assert ended(run).state == "stopped"


def test_two_starts_in_one_moment_make_one_running_job_and_one_that_waits(store, tiny_settings):
    settings = longer(tiny_settings, max_steps=5000)
    first, second = at_once(2, lambda: jobs.start_training(store, settings))
    until(lambda: "running" in (first.status().state, second.status().state), "one to run")
    until(lambda: events(first, Step) or events(second, Step), "a step")
    states = sorted(r.status().state for r in (first, second))
    assert states == ["queued", "running"]
    running, waiting = (first, second) if first.status().state == "running" else (second, first)
    jobs.stop(running, now=True)
    until(lambda: waiting.status().state == "running", "the waiting one's turn")
    jobs.stop(waiting, now=True)
    assert waiting.status().state == "stopped"


def test_a_waiting_job_is_cancelled(store, tiny_settings):
    slot = Slot(_made(store.root))
    assert slot.try_acquire("a test")
    run = jobs.start_training(store, tiny_settings)
    until(lambda: run.status().state == "queued" and run.status().pid, "the queue")
    jobs.stop(run)
    assert ended(run).state == "stopped"
    slot.release()


def test_jobs_wait_in_the_order_of_their_start(store, tiny_settings):
    slot = Slot(_made(store.root))
    assert slot.try_acquire("a test")
    runs = [jobs.start_training(store, tiny_settings) for _ in range(3)]
    assert [j.path for j in waiting_jobs(store)] == [r.path for r in runs]
    for run in runs:
        jobs.stop(run, now=True)
    slot.release()


def test_the_slot_is_free_again_after_its_holder_was_killed(store):
    root = _made(store.root)
    code = (
        "import sys, time; from pathlib import Path; from medcot.workers.slot import Slot; "
        "slot = Slot(Path(sys.argv[1])); "
        "print(slot.try_acquire('x'), flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline().strip() == "True"
    assert not Slot(root).try_acquire("me")
    holder.kill()
    holder.wait()
    mine = Slot(root)
    assert mine.try_acquire("me")
    mine.release()


def test_a_runs_folder_may_be_called_evaluation(tmp_path, tiny_settings):
    run = jobs.start_training(RunStore(tmp_path / "evaluation"), longer(tiny_settings, max_steps=1))
    assert ended(run).state == "finished", run.log_tail(20)
    assert not list(tmp_path.glob(".slot*"))


def test_a_job_of_another_user_is_not_stopped_and_that_is_said(store, tiny_settings, monkeypatch):
    run = write_run(store, tiny_settings, "running", pid=os.getpid())
    monkeypatch.setattr("medcot.runs.job_dir.JobDir.has_process", lambda self, pid: True)

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    with pytest.raises(BadInput, match="another user's job"):
        jobs.stop(run)


def test_a_job_sees_one_gpu_of_several(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert child_environment()["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert child_environment()["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert child_environment()["CUDA_VISIBLE_DEVICES"] == "", "hidden stays hidden"


def test_bad_input_found_by_the_worker_is_told_as_such(store, tiny_settings):
    lora = tiny_settings.lora.model_copy(update={"target_modules": ("no_such_proj",)})
    run = jobs.start_training(store, tiny_settings.model_copy(update={"lora": lora}))
    status = ended(run)
    assert (status.state, status.bad_input) == ("failed", True)
    assert "lora.target_modules" in status.error
    assert "no_such_proj" in status.error


def _made(root):
    root.mkdir(parents=True, exist_ok=True)
    return root


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_in_a_folder_that_cannot_be_written_a_chat_has_the_device(store, monkeypatch, number):
    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", refused)
    slot = Slot(store.root)
    assert slot.try_acquire(jobs.CHAT)
    slot.release()
    assert not list(store.root.glob(".slot*"))
    monkeypatch.setattr(FileLock, "acquire", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        slot.try_acquire(jobs.CHAT)


@pytest.mark.parametrize("kind", ["training", "evaluation"])
def test_whoever_looks_sees_at_once_that_a_stop_was_asked_for_until_the_worker_says_how_it_ended(
    store, tiny_settings, monkeypatch, kind
):
    """A worker may be within a long step, or about to say its last word, when it is asked."""
    run = write_run(store, tiny_settings, "running", pid=os.getpid())
    job = run if kind == "training" else run.new_evaluation()
    job.write_status("running", pid=os.getpid())
    monkeypatch.setattr(JobDir, "has_process", lambda job, pid: pid is not None)
    monkeypatch.setattr(jobs.os, "kill", lambda pid, number: None)
    jobs.stop(job)
    assert type(job)(job.path).status().state == "stopping"
    assert '"running"' in (job.path / "status.json").read_text(encoding="utf-8"), "the worker alone writes it"
    for last in ("stopping", "stopped", "finished", "failed"):
        job.write_status(last)
        assert job.status().state == last
    job.write_status("running", pid=os.getpid() + 1)  # continued by another worker, which nobody has asked
    assert job.status().state == "running"
