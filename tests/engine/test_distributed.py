"""Two processes on a CPU, through gloo: one set of files, the same learning, stop, resume and failure."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from pydantic import BaseModel

from medcot import machine
from medcot.errors import BadInput
from medcot.machine import child_environment
from medcot.runs.events import Checkpoint, Finished, PlanMade, RecordDone, Started, Step, Stopped, Validation
from medcot.runs.store import RunStore
from medcot.settings import build
from medcot.settings.evaluation import EvaluationOrder
from medcot.workers import jobs, preflight
from tests.engine_tools import adapter_tensors, changed, steps
from tests.faults.tools import ended, events, living, until
from tests.test_house import HEAVY, loads

TOLERANCE = 1e-5  # the order in which float32 gradients are added up differs between one process and two


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "runs")


def two(settings, **training):
    """Two epochs of three steps of four sequences each, in two processes."""
    shared = {"processes": 2, "accumulation": 2, "max_steps": None, "epochs": 2.0, "save_steps": 3}
    return changed(settings, "training", **{**shared, **training})


def finished(job):
    assert ended(job).state == "finished", job.log_tail(60)
    return job


def family(pid):
    return [p.pid for p in psutil.Process(pid).children(recursive=True)]


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["shuffled", pytest.param("grouped", marks=pytest.mark.thorough)])
def test_two_processes_learn_what_one_does_and_write_one_set_of_files(store, tiny_settings, sampling):
    import torch

    one = jobs.start_training(store, two(tiny_settings, processes=1, sampling=sampling))
    both = jobs.start_training(store, two(tiny_settings, sampling=sampling))
    finished(one)
    finished(both)
    plan = events(both, PlanMade)[0].arrangement
    assert (plan.processes, plan.micro_batch, plan.accumulation) == (2, 2, 1)
    for kind in (Started, PlanMade, Finished):
        assert len(events(both, kind)) == 1, kind
    assert [s.step for s in steps(both)] == list(range(1, 7))
    assert [s.loss for s in steps(both)] == pytest.approx([s.loss for s in steps(one)], abs=TOLERANCE)
    assert [s.tokens_seen for s in steps(both)] == [s.tokens_seen for s in steps(one)]
    assert [e.step for e in events(both, Validation)] == [e.step for e in events(one, Validation)]
    assert [e.step for e in events(both, Checkpoint)] == [3, 6]
    assert {p.name for p in both.path.iterdir()} == {p.name for p in one.path.iterdir()}
    assert {p.name for p in both.adapter_dir.iterdir()} == {p.name for p in one.adapter_dir.iterdir()}
    theirs, ours = adapter_tensors(one), adapter_tensors(both)
    assert theirs.keys() == ours.keys()
    assert max(float((theirs[k] - ours[k]).abs().max()) for k in ours) < TOLERANCE
    assert any(bool(torch.any(ours[k])) for k in ours if "lora_B" in k), "and something was learned"


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [pytest.param("shuffled", marks=pytest.mark.thorough), "grouped"])
def test_a_stop_reaches_both_after_one_step_and_a_resume_goes_on_exactly(store, tiny_settings, sampling):
    import torch

    settings = changed(tiny_settings, "lora", dropout=0.1)  # so that the random state matters too
    settings = two(settings, sampling=sampling, accumulation=1, epochs=6.0, save_steps=1000, validate_steps=1000)
    whole = finished(jobs.start_training(store, settings))
    run = jobs.start_training(store, settings)
    until(lambda: len(events(run, Step)) > 6, "steps of the second epoch, of six steps")
    pid = run.status().pid
    others = family(pid)
    jobs.stop(run)
    assert ended(run).state == "stopped", run.log_tail(60)
    (stopped,) = events(run, Stopped)
    assert 6 < stopped.step < 36
    assert [p.name for p in run.checkpoints()] == [f"checkpoint-{stopped.step}"]
    assert len(list(run.checkpoints()[0].glob("rng_state_*.pth"))) == 2
    assert not run.has_adapter
    assert living(others) == []

    jobs.resume_training(run)
    finished(run)
    assert [(s.step, s.loss) for s in steps(run)] == [(s.step, s.loss) for s in steps(whole)]
    theirs, ours = adapter_tensors(whole), adapter_tensors(run)
    assert [k for k in ours if not torch.equal(theirs[k], ours[k])] == []


def test_where_one_process_is_killed_all_end_and_the_run_says_failed(store, tiny_settings):
    run = jobs.start_training(store, two(tiny_settings, epochs=100.0, save_steps=1000))
    until(lambda: events(run, Step), "a step")
    pid = run.status().pid
    others = family(pid)
    ranks = [p for p in others if "medcot.engine.rank" in psutil.Process(p).cmdline()[:5]]
    assert len(ranks) == 2
    os.kill(max(ranks), signal.SIGKILL)
    status = ended(run)
    assert status.state == "failed", run.log_tail(60)
    assert status.error
    assert living(others) == []


def test_work_that_is_done_is_not_undone_by_the_interpreters_end(tmp_path):
    """Threads of gloo that outlive the work abort the process there, now and then; here something always does."""
    script = (
        "import sys, atexit, pathlib, ctypes\n"
        "from medcot.engine import rank\n"
        "class Late:\n"
        "    def __del__(self, abort=ctypes.CDLL(None).abort): abort()\n"
        "sys.kept_to_the_end = Late()\n"
        "atexit.register(pathlib.Path(sys.argv[1]).touch)\n"
        "print('done')\n"
        "rank.end(int(sys.argv[2]))\n"
    )
    for code in (0, 1):
        mark = tmp_path / str(code)
        ended = subprocess.run([sys.executable, "-c", script, mark, str(code)], capture_output=True, text=True)
        assert (ended.returncode, ended.stdout) == (code, "done\n"), ended.stderr
        assert mark.exists(), "what was to be done at the end was done"


def test_a_worker_that_waits_for_the_device_has_loaded_no_model_library():
    assert loads([*HEAVY], ["medcot.engine.worker"]) == {}


def test_what_a_process_refuses_is_the_runs_own_failure(store, tiny_settings):
    run = jobs.start_training(store, changed(two(tiny_settings), "lora", target_modules=("no_such_proj",)))
    status = ended(run)
    assert (status.state, status.bad_input) == ("failed", True), run.log_tail(60)
    assert "no_such_proj" in status.error


@pytest.mark.parametrize("kill", [False, True], ids=["stop --now", "kill -9"])
def test_the_workers_death_is_the_end_of_its_processes(store, tiny_settings, kill):
    run = jobs.start_training(store, two(tiny_settings, epochs=100.0, save_steps=1000))
    until(lambda: events(run, Step), "a step")
    pid = run.status().pid
    others = family(pid)
    if kill:
        os.kill(pid, signal.SIGKILL)
    else:
        jobs.stop(run, now=True)
    until(lambda: not living(others), "the end of all")
    assert run.status().state == ("interrupted" if kill else "stopped")


def test_a_count_that_does_not_divide_is_refused_with_all_other_problems(tiny_settings):
    raw = tiny_settings.model_dump() | {"training": {"micro_batch": 2, "accumulation": 8, "processes": 3}}
    with pytest.raises(BadInput) as refused:
        build(raw | {"evaluation": {"top_p": 0.5}})
    found = {p.where: f"{p.what} {p.fix}" for p in refused.value.problems}
    assert set(found) == {"training.processes", "evaluation.top_p"}
    assert "2 x 8 = 16" in found["training.processes"]
    assert "1, 2, 4, 8, 16" in found["training.processes"]


def test_each_process_takes_a_gpu_or_is_refused(tiny_settings, monkeypatch):
    monkeypatch.setattr(machine, "gpus", lambda: (None, None))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (problem,) = preflight.device_problems(changed(tiny_settings, "training", processes=4))
    assert problem.where == "training.processes"
    assert "there are 2" in problem.what
    assert preflight.device_problems(changed(tiny_settings, "training", processes=2)) == []
    assert child_environment(count=2)["CUDA_VISIBLE_DEVICES"] == "0,1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    (problem,) = preflight.device_problems(changed(tiny_settings, "training", processes=2))
    assert "there are 1" in problem.what
    monkeypatch.setenv("PET_NNODES", "2")
    assert preflight.device_problems(changed(tiny_settings, "training", processes=2)) == []
    assert child_environment(count=2)["CUDA_VISIBLE_DEVICES"] == "3"
    (problem,) = preflight.device_problems(changed(tiny_settings, "training", processes=1))
    assert "2 hosts" in problem.what


@pytest.mark.slow
def test_two_hosts_meet_through_torchrun(store, tiny_settings, monkeypatch):
    """On one machine: the worker's torchrun is the first host's, and the other is started as a person would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meet = {"NNODES": "2", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in meet.items():
        monkeypatch.setenv(f"PET_{name}", value)
    run = jobs.start_training(store, two(tiny_settings))
    other = "--nnodes 2 --node-rank 1 --master-addr 127.0.0.1 --nproc-per-node 1 -m medcot.engine.rank"
    words = [sys.executable, "-m", "torch.distributed.run", "--master-port", port, *other.split(), str(run.path)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PET_")}
    second = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        finished(run)
        assert second.wait(60) == 0
    finally:
        second.kill()
    assert events(run, PlanMade)[0].arrangement.processes == 2
    assert [s.step for s in steps(run)] == list(range(1, 7))


TIMES = ("time", "seconds")


def timeless(value):
    """Without what no two evaluations have in common, however they are run."""
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_unset=True)
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_two_processes_answer_what_one_does_and_go_on_where_they_were_stopped(store, tiny_settings):
    run = finished(jobs.start_training(store, tiny_settings))
    order = EvaluationOrder(max_new_tokens=240, batch_size=2, tell_base=False)
    one = finished(jobs.start_evaluation(run, order))
    both = jobs.start_evaluation(run, order.model_copy(update={"processes": 2}))
    until(lambda: events(both, RecordDone), "a record")
    jobs.stop(both)
    assert ended(both).state == "stopped"
    jobs.resume_evaluation(both)
    finished(both)
    assert timeless(both.summary()) == timeless(one.summary())
    assert timeless(both.examples()) == timeless(one.examples())
    assert timeless(both.samples()) == timeless(one.samples())
    assert len(both.answers()) == len(one.answers()) == 2 * (4 + 3), "four records, three samples, each answered once"
    assert {p.name for p in both.path.iterdir()} == {p.name for p in one.path.iterdir()}


def test_a_server_is_not_asked_by_several_processes(store, tiny_settings):
    run = store.create(tiny_settings)
    run.write_status("finished")
    (run.adapter_dir).mkdir()
    (run.adapter_dir / "adapter_model.safetensors").touch()
    server = {"url": "http://127.0.0.1:9/v1", "base": "b", "tuned": "t"}
    with pytest.raises(BadInput, match="many requests at once"):
        jobs.start_evaluation(run, EvaluationOrder(processes=2, endpoint=server))
    assert run.evaluations() == []
