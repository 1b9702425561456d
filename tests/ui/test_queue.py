"""The line of waiting jobs: a cancel is of the job that was chosen, and of no other."""

import os

import pytest

from medcot import jobs
from medcot.settings import RunSettings
from medcot.ui.train.queue import Queue
from tests.fakes import write_run


@pytest.fixture
def waiting(page, monkeypatch):
    """Three runs in line, the next first."""
    monkeypatch.setattr("medcot.jobdirs.JobDir.worker_alive", lambda self, pid: pid == os.getpid())
    return [write_run(page.store, RunSettings(), "queued", pid=os.getpid()) for _ in range(3)]


@pytest.fixture
def stopped(monkeypatch):
    """What `jobs.stop` was asked to stop; it leaves the line."""
    found = []
    monkeypatch.setattr(jobs, "stop", lambda job: (found.append(job.id), job.write_status("stopped")))
    return found


def test_nothing_is_chosen_by_itself_and_a_choice_is_left_alone(page, waiting):
    tab = Queue(page)
    for chosen in (None, waiting[1].id):
        listed = tab.look(chosen, "")[1]
        assert [value for _, value in listed["choices"]] == [run.id for run in waiting]
        assert "value" not in listed


def test_where_the_chosen_one_has_left_the_line_none_is_chosen(page, waiting):
    tab = Queue(page)
    waiting[0].write_status("running", pid=os.getpid())
    assert tab.look(waiting[0].id, "")[1]["value"] is None


def test_cancel_stops_the_chosen_one_alone(page, waiting, stopped):
    problems, _, listed, *_ = Queue(page).cancel(waiting[1].id)
    assert stopped == [waiting[1].id]
    assert problems == ""
    assert listed["value"] is None
    assert waiting[2].status().state == "queued"


def test_cancel_with_nothing_chosen_says_so(page, waiting, stopped):
    problems, _, listed, *_ = Queue(page).cancel(None)
    assert "none is chosen" in problems
    assert "value" not in listed
    assert stopped == []


def test_cancel_of_one_that_waits_no_longer_says_so(page, waiting, stopped):
    waiting[0].write_status("running", pid=os.getpid())
    problems, _, listed, *_ = Queue(page).cancel(waiting[0].id)
    assert "waits no longer" in problems
    assert listed["value"] is None
    assert stopped == []
