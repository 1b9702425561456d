"""An evaluation that ends early and is continued says what it would have said at once."""

import json
import os
import shutil
import signal
import time

import pytest
from pydantic import BaseModel

from medcot.errors import BadInput
from medcot.runs.events import RecordDone
from medcot.runs.job_dir import ALIVE
from medcot.runs.run import Run
from medcot.settings import build
from medcot.settings.evaluation import EvaluationOrder
from medcot.workers import jobs
from tests.conftest import tiny_raw, write_records
from tests.engine_tools import changed, train
from tests.workers.test_jobs import until

ORDER = EvaluationOrder(max_new_tokens=24, batch_size=4, tell_base=False)  # two questions a batch
LONGER = ORDER.model_copy(update={"max_new_tokens": 900})  # so that a real worker is still at it when it is ended


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("resume")
    settings = build(tiny_raw(tiny_model, write_records(folder / "records.jsonl")))
    settings = changed(changed(settings, "data", held_out=5), "training", keep_checkpoints=2)
    run = train(folder / "runs", settings)
    run.write_status("finished")
    return run


def evaluate(run: Run, job, order=ORDER, report=None):
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.evaluate import evaluate as evaluate_

    evaluate_(run, job, order, PeftBackend(), report or job.append)


def written(run: Run, order=ORDER):
    job = run.new_evaluation()
    (job.path / "settings.json").write_text(order.model_dump_json())
    return job


def timeless(value):
    """Without what a clock says."""
    if isinstance(value, BaseModel):
        value = value.model_dump(exclude_unset=True)
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k != "seconds"}
    return [timeless(v) for v in value] if isinstance(value, list) else value


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def whole(run):
    job = written(run)
    evaluate(run, job)
    return job


@pytest.fixture(scope="module")
def longer(run):
    job = written(run, LONGER)
    evaluate(run, job, LONGER)
    return job


@pytest.mark.parametrize("after", [1, 4])
def test_broken_off_and_continued_gives_the_same(run, whole, after):
    job = written(run)
    seen = []

    def report(event):
        job.append(event)
        seen.extend([event] if isinstance(event, RecordDone) else [])
        if len(seen) == after:
            raise Killed

    with pytest.raises(Killed):
        evaluate(run, job, report=report)
    assert job.summary() is None
    assert len(job.examples()) == after, "a question is on disk as soon as it is answered"
    with (job.path / "answers.jsonl").open("a") as file:
        file.write('{"kind": "record", "number": 4, "arm": "ba')  # cut off
    before = job.answers()
    evaluate(run, job)
    assert [a for a in job.answers() if a in before] == before, "what was answered is not asked again"
    assert len(job.answers()) == len(whole.answers())
    assert timeless(job.summary()) == timeless(whole.summary())
    assert timeless(job.examples()) == timeless(whole.examples())
    assert timeless(job.samples()) == timeless(whole.samples())


def test_further_arms_are_continued_too(run):
    order = ORDER.model_copy(update={"adapters": ("checkpoint-2",), "records": 2})
    whole, job = written(run, order), written(run, order)
    evaluate(run, whole, order)
    answers = whole.answers()
    cut = next(i for i, a in enumerate(answers) if a.arm == "checkpoint-2") + 2
    job.write_lines("answers", answers[:cut])
    evaluate(run, job, order)
    assert timeless(job.summary()) == timeless(whole.summary())


def test_continuing_with_another_adapter_is_refused(run, tmp_path):
    twin = Run(shutil.copytree(run.path, tmp_path / "twin"))
    job = written(twin)
    (job.path / "inputs.json").write_text(json.dumps({"questions": "x", "adapter of tuned": "y"}))
    with pytest.raises(BadInput, match="adapter of tuned, questions: not what this evaluation was begun with"):
        evaluate(twin, job)


def test_one_that_is_finished_is_not_continued(run):
    job = written(run)
    job.write_status("finished", job="evaluate")
    with pytest.raises(BadInput, match="is finished"):
        jobs.resume_evaluation(job)


def test_a_run_still_training_is_not_evaluated(run, tmp_path, monkeypatch):
    twin = Run(shutil.copytree(run.path, tmp_path / "twin"))
    monkeypatch.setattr("medcot.runs.job_dir.JobDir.worker_alive", lambda self, pid: True)
    twin.write_status("running", pid=os.getpid())
    with pytest.raises(BadInput, match="is still training"):
        jobs.start_evaluation(twin)
    assert len(twin.evaluations()) == len(run.evaluations())


@pytest.mark.slow
def test_killed_at_half_by_the_kernel_and_resumed(run, longer):
    job = jobs.start_evaluation(run, LONGER)
    until(lambda: 0 < len(job.examples()) < 5, "some answers")
    os.killpg(job.status().pid, signal.SIGKILL)
    until(lambda: job.status().state == "interrupted", "the kill")
    assert f"--resume {job.id}" in job.status().hint
    assert job.summary() is None
    jobs.resume_evaluation(job)
    until(lambda: job.status().state not in ALIVE, "the end")
    assert job.status().state == "finished", job.log_tail()
    assert timeless(job.summary()) == timeless(longer.summary())


@pytest.mark.slow
def test_stopped_keeps_what_is_answered(run, longer):
    job = jobs.start_evaluation(run, LONGER)
    until(lambda: 0 < len(job.examples()) < 5, "some answers")
    jobs.stop(job)
    until(lambda: job.status().state not in ALIVE, "the end")
    assert job.status().state == "stopped"
    kept = len(job.answers())
    assert kept > 0
    time.sleep(0.2)
    assert len(job.answers()) == kept
    jobs.resume_evaluation(job)
    until(lambda: job.status().state not in ALIVE, "the end")
    assert timeless(job.summary()) == timeless(longer.summary())
