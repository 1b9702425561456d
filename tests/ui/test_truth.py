"""Each state of a run, an evaluation and a queue, and each sentence of the page held against the folder.

A sentence that says something of a folder has its row in CLAIMS: wherever the page says it, it must be so.
"""

import html
import re
from collections.abc import Callable

import pytest

from medcot.errors import Failure, Problem
from medcot.evaluation.answers import Answer
from medcot.runs.events import Finished, Progress, Started, Step, Validation, Warned
from medcot.runs.ids import title_of
from medcot.runs.job_dir import ALIVE, JobDir
from medcot.runs.run import ORIGIN, Evaluation, Run
from medcot.settings import RunSettings
from medcot.ui.evaluate.tab import EvaluateTab
from medcot.ui.train.open_run import OpenRun
from medcot.ui.train.queue import Queue
from tests.browser.test_states import step
from tests.fakes import plan_made, write_run

BEGUN = [
    Started(job="train", device="CPU"),
    plan_made(),
]
OFFLINE = Warned(
    message="Weights & Biases: no key; logging into F for `wandb sync`. To send it later: wandb sync F/*run-*"
)


@pytest.fixture(autouse=True)
def _alive_with_a_pid(monkeypatch):
    monkeypatch.setattr(JobDir, "worker_alive", lambda self, pid: pid == 1)


def begun(job: JobDir) -> bool:
    return any(True for _ in job.events_of(Started))


def steps(job: JobDir) -> list[int]:
    return [event.step for event in job.events_of(Step)]


def kept(job: JobDir) -> list[str]:
    return [path.name.partition("-")[2] for path in job.checkpoints()] if isinstance(job, Run) else []


# What is said, and when it may be: given the job and what the pattern's groups found.
CLAIMS: dict[str, Callable[..., bool]] = {
    r"the checkpoint of step (\d+) is kept": lambda job, at: kept(job)[:1] == [at],
    r"before anything was saved": lambda job: begun(job) and not kept(job),
    r"Cancelled before it started": lambda job: not begun(job),
    r"(\d+) of (\d+) answers are kept": lambda job, count, _: len(job.answers()) == int(count),
    r"The loss appears with the first step": lambda job: job.status().state in ALIVE and not steps(job),
    r"Took (\S+)[.,]": lambda job, _: job.newest_event(Finished) is not None,
    r"Press Continue from the checkpoint": lambda job: bool(kept(job)),
    r"No checkpoint was saved yet": lambda job: not kept(job),
    r"What is answered is kept": lambda job: isinstance(job, Evaluation),
    r"worker's process is gone": lambda job: job.status().state == "interrupted",
    r"wandb sync": lambda job: any("wandb" in warned.message for warned in job.events_of(Warned)),
    r"Waiting: ": lambda job: job.status().state == "queued",
    r"Stopping after this": lambda job: job.status().state == "stopping",
    r"not trained here": lambda job: job.origin() is not None if isinstance(job, Run) else True,
    r"about (\S+) left": lambda job, _: job.status().state in ALIVE,
    r"Step (\d+) of": lambda job, at: int(at) == steps(job)[-1],
}


def plain(shown: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub("<.*?>", " ", shown))).strip()


def hold_against(job: JobDir, said: str) -> set[str]:
    """Check every claim that is made; returns which were."""
    made = set()
    for claim, is_so in CLAIMS.items():
        if found := re.search(claim, said):
            assert is_so(job, *found.groups()), f"{job.status().state}: it says {found[0]!r} in {said!r}"
            made.add(claim)
    return made


def a_run(page, state, events=(), *, checkpoint=0, adapter=False, alive=True, **rest) -> Run:
    pid = (1 if alive else 2**30) if state in ALIVE else None
    run = write_run(page.store, RunSettings(), state, [*events], adapter=adapter, pid=pid, **rest)
    if checkpoint:
        (run.checkpoints_dir / f"checkpoint-{checkpoint}").mkdir(parents=True)
    return run


TRAINED = [*BEGUN, Validation(step=0, loss=3), step(1), step(2)]
VALIDATING, SAVING = Progress(stage="Validation"), Progress(stage="Saving the adapter")
SAMPLING = Progress(stage="Answering the sample questions", total=3)
FIRST, LOSS, TOOK = "before anything was saved", "The loss appears", r"Took (\S+)[.,]"
RUNS = {
    "queued": ({"state": "queued"}, "", {"stop"}),
    "cancelled before its start": ({"state": "stopped"}, "Cancelled before it started", set()),
    "starting": ({"state": "running"}, LOSS, {"stop", "stop_now"}),
    "reading data": ({"state": "running", "events": [*BEGUN[:1], Progress(stage="Reading the data")]}, LOSS, {"stop"}),
    "loading": ({"state": "running", "events": [*BEGUN[:1], Progress(stage="Loading the model")]}, LOSS, {"stop"}),
    "baseline": (
        {"state": "running", "events": [*BEGUN, Progress(stage="Validation before the first step", done=1, total=2)]},
        LOSS,
        {"stop"},
    ),
    "training": (
        {"state": "running", "events": [*TRAINED, Progress(stage="Training", done=2, total=10, eta_seconds=65)]},
        r"about (\S+) left",
        {"stop", "stop_now"},
    ),
    "validating": (
        {"state": "running", "events": [*TRAINED, VALIDATING], "checkpoint": 2},
        "",
        {"stop"},
    ),
    "sampling": (
        {"state": "running", "events": [*TRAINED, SAMPLING]},
        "",
        set(),
    ),
    "saving": (
        {"state": "running", "events": [*TRAINED, SAVING], "checkpoint": 2},
        "",
        set(),
    ),
    "stopping": ({"state": "stopping", "events": TRAINED}, "Stopping after this", {"stop_now"}),
    "stopped with a checkpoint": (
        {"state": "stopped", "events": TRAINED, "checkpoint": 2},
        "the checkpoint",
        {"resume"},
    ),
    "stopped without": ({"state": "stopped", "events": TRAINED}, FIRST, set()),
    "failed": ({"state": "failed", "events": TRAINED, "error": "It broke.", "hint": "Mend it."}, "", set()),
    "failed with a checkpoint": (
        {"state": "failed", "events": TRAINED, "checkpoint": 2, "error": "It broke.", "hint": "Mend it."},
        "",
        {"resume"},
    ),
    "interrupted": ({"state": "running", "events": TRAINED, "alive": False}, "No checkpoint was saved yet", set()),
    "interrupted with a checkpoint": (
        {"state": "running", "events": TRAINED, "checkpoint": 2, "alive": False},
        "Press Continue",
        {"resume"},
    ),
    "continued and queued": ({"state": "queued", "events": TRAINED, "checkpoint": 2}, "", {"stop"}),
    "continued": ({"state": "running", "events": [*TRAINED, *BEGUN], "checkpoint": 2}, "", {"stop"}),
    "finished": (
        {"state": "finished", "events": [*TRAINED, Finished(seconds=75)], "adapter": True, "checkpoint": 2},
        TOOK,
        {"evaluate", "ask"},
    ),
    "W&B offline": ({"state": "running", "events": [*BEGUN[:1], OFFLINE, *TRAINED[1:]]}, "wandb sync", {"stop"}),
    "W&B offline, continued": (
        {"state": "running", "events": [*TRAINED, *BEGUN[:1], OFFLINE], "checkpoint": 2},
        "wandb sync",
        {"stop"},
    ),
}
BUTTONS = ("stop", "stop_now", "resume", "evaluate", "ask")


@pytest.mark.parametrize("name", RUNS)
def test_what_is_said_of_a_run_is_so_and_its_buttons_are_what_can_be_done(page, name):
    made, expected, buttons = RUNS[name]
    run = a_run(page, **made)
    with page.demo:
        tab = OpenRun(page)
    view = {**tab.view(run.id), **tab.curves.draw(run.id, None, None)}
    said = " ".join(plain(view[part]) for part in (tab.live, tab.curves.plot))
    hold_against(run, said)
    assert not expected or re.search(expected, said), said
    visible = {button for button in BUTTONS if view[getattr(tab, button)]["visible"]}
    assert visible >= buttons
    assert ("resume" in visible) == (run.status().state in ("stopped", "failed", "interrupted") and bool(kept(run)))
    assert ("stop" in visible) == (run.status().state in ALIVE)
    assert ("ask" in visible) == (run.has_adapter and run.status().state not in ALIVE)
    assert not re.search(r"--[a-z]|\bmedcot [a-z]+ ", said)


def test_an_adopted_adapter_is_not_said_to_train(page):
    run = a_run(page, "finished", adapter=True)
    (run.path / ORIGIN).write_text('{"adapter": "owner/name@abc"}', encoding="utf-8")
    with page.demo:
        tab = OpenRun(page)
    view = {**tab.view(run.id), **tab.curves.draw(run.id, None, None)}
    said = " ".join(plain(view[part]) for part in (tab.live, tab.curves.plot))
    assert hold_against(run, said) == {"not trained here"}
    assert "Finished" not in said
    assert not view[tab.stop]["visible"]


def answered(evaluation: Evaluation, count: int) -> Evaluation:
    answer = {"kind": "record", "arm": "base", "output": "x", "tokens": 1, "ended": "finished", "seconds": 1.0}
    evaluation.write_lines("answers", [Answer(**answer, number=n) for n in range(1, count + 1)])
    return evaluation


TOLD = [Started(job="evaluate", device="CPU"), Progress(stage="Answering", done=4, total=15)]
EVALUATIONS = {
    "queued": ("queued", [], 0, "", {"stop"}),
    "cancelled before its start": ("stopped", [], 0, "Cancelled before it started", {"start", "resume"}),
    "answering": ("running", TOLD, 4, "4 of 15", {"stop"}),
    "stopping": ("stopping", TOLD, 4, "Stopping after this batch", {"stop"}),
    "stopped mid-batch": ("stopped", TOLD, 3, "3 of 15 answers are kept", {"start", "resume"}),
    "stopped at once": ("stopped", TOLD[:1], 0, "0 answers are kept", {"start", "resume"}),
    "failed": ("failed", TOLD, 4, "It failed", {"start", "resume"}),
    "interrupted": ("gone", TOLD, 4, "press Resume evaluation", {"start", "resume"}),
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_what_is_said_of_an_evaluation_is_so(page, name):
    state, events, answers, words, buttons = EVALUATIONS[name]
    with page.demo:
        tab = EvaluateTab(page)
    evaluation = answered(a_run(page, "finished", adapter=True).new_evaluation(), answers)
    for event in events:
        evaluation.append(event)
    pid = 2**30 if state == "gone" else 1 if state in ALIVE else None
    failure = Failure(problems=[Problem("", "It broke.", "Mend it.")]) if state == "failed" else None
    evaluation.write_status("running" if state == "gone" else state, job="evaluate", pid=pid, failure=failure)
    view = tab.view(evaluation.path.parent.parent.name)
    said = plain(view[tab.state])
    hold_against(evaluation, said)
    assert words in said
    assert {name for name in ("start", "resume", "stop") if view[getattr(tab, name)].get("visible")} >= buttons
    assert not re.search(r"--[a-z]|\bmedcot [a-z]+ ", said)


def test_a_queue_says_who_waits_for_whom_and_only_while_somebody_does(page):
    with page.demo:
        queue = Queue(page)
    assert queue.look(None, "x")[queue.now] == ""
    first = a_run(page, "running", BEGUN)
    assert queue.look(None, "x")[queue.now] == ""
    second, third = a_run(page, "queued"), a_run(page, "queued")
    view = queue.look(None, "x")
    assert title_of(first.id) in view[queue.now]
    assert [value for _, value in view[queue.waiting]["choices"]] == [second.id, third.id]
    assert f"Training {title_of(first.id)} has the device" in plain(page.progress(second))
    first.write_status("finished")
    page.store.look()  # else what was seen within the last second is shown
    assert "another job is before it" in plain(page.progress(third))
    assert "Waiting" not in plain(page.progress(second))
    second.write_status("stopped")
    third.write_status("stopped")
    assert queue.look(None, "x")[queue.now] == ""
