"""The stages of a run by name and count, and the title of the browser's tab."""

import re

import pytest

from medcot.runs.events import Progress, Started
from medcot.runs.job_dir import JobDir
from medcot.settings import RunSettings
from medcot.ui.train import stages
from medcot.ui.train.stages import STAGES, Title
from tests.fakes import write_run

TOLD = [
    Started(job="train", device="CPU"),
    Progress(stage="Reading the data"),
    Progress(stage="Fetching the starter model (93 MB, once)"),
    Progress(stage="Encoding the records", total=170),
    Progress(stage="Loading the model"),
    Progress(stage="Validation before the first step", done=24, total=24),
    Progress(stage="Answering the sample questions", done=0, total=3),
    Progress(stage="Training", done=20, total=37),
    Progress(stage="Validation", done=1, total=24),
    Progress(stage="Saving a checkpoint", done=20, total=37),
    Progress(stage="Saving the adapter"),
]


@pytest.fixture(autouse=True)
def _alive(monkeypatch):
    monkeypatch.setattr(JobDir, "worker_alive", lambda self, pid: True)


def steps(page, told, state="running"):
    run = write_run(page.store, RunSettings(), state, told, pid=1)
    shown = stages.row(run.status(), page.reader.seen(run))
    return {
        re.sub("<.*?>", "", text): kind for kind, text in re.findall(r"<li(?: class=\"(.*?)\".*?)?>(.*?)</li>", shown)
    }


@pytest.mark.parametrize("so_far", range(1, len(TOLD) + 1))
def test_at_each_event_one_step_is_the_one_under_way(page, so_far):
    shown = steps(page, TOLD[:so_far])
    assert len(shown) == len(STAGES)
    assert list(shown.values()).count("mc-step-now") == 1


def test_every_stage_that_a_worker_tells_has_its_step(page):
    assert all(stages.of(told) for told in TOLD if isinstance(told, Progress))
    assert {stages.of(told) for told in TOLD if isinstance(told, Progress)} == set(STAGES) - {"Queued"}


def test_a_queued_run_is_queued_and_an_ended_one_has_no_row(page):
    assert steps(page, [], "queued")["Queued"] == "mc-step-now"
    assert steps(page, TOLD, "finished") == {}


def test_counts_are_the_newest_and_done_steps_keep_theirs(page):
    shown = steps(page, TOLD[:9])
    assert shown["Validation1 of 24"] == "mc-step-now"
    assert shown["Training20 of 37"] == shown["Baseline24 of 24"] == "mc-step-done"
    assert shown["Saving"] == ""


def test_the_title_follows_the_job_at_work_and_says_how_it_ended(page):
    with page.demo:
        title = Title(page)
    assert title.look("", "")[title.title] == "medcot"
    run = write_run(page.store, RunSettings(), "running", TOLD[:9], pid=1)
    seen = title.look("medcot", "")
    assert seen[title.title] == "54% · medcot"
    assert title.look("54% · medcot", seen[title.job]) == {}
    run.write_status("finished")
    assert title.look("54% · medcot", seen[title.job])[title.title] == "Finished · medcot"
    assert title.look("medcot", "") == {}, "a page that comes later saw nothing end"
