"""The queue of waiting jobs."""

import os

import pytest

from medcot.settings import RunSettings
from medcot.ui.train.queue import Queue
from medcot.workers import jobs
from tests.fakes import write_run


@pytest.fixture
def waiting(page, monkeypatch):
    """Three runs in line, the next first."""
    monkeypatch.setattr("medcot.runs.job_dir.JobDir.worker_alive", lambda self, pid: pid == os.getpid())
    return [write_run(page.store, RunSettings(), "queued", pid=os.getpid()) for _ in range(3)]


@pytest.fixture
def queue(page) -> Queue:
    with page.demo:
        return Queue(page)


@pytest.fixture
def stopped(monkeypatch):
    """What `jobs.stop` was asked to stop; it leaves the line."""
    found = []
    monkeypatch.setattr(jobs, "stop", lambda job: (found.append(job.id), job.write_status("stopped")))
    return found


def test_nothing_is_chosen_by_itself_and_a_choice_is_left_alone(queue, waiting):
    for chosen in (None, waiting[1].id):
        listed = queue.look(chosen, "")[queue.waiting]
        assert [value for _, value in listed["choices"]] == [run.id for run in waiting]
        assert "value" not in listed


def test_where_the_chosen_one_has_left_the_line_none_is_chosen(queue, waiting):
    waiting[0].write_status("running", pid=os.getpid())
    assert queue.look(waiting[0].id, "")[queue.waiting]["value"] is None


def test_cancel_stops_the_chosen_one_alone(queue, waiting, stopped):
    view = queue.cancel_chosen(waiting[1].id)
    problems, listed = view[queue.problems], view[queue.waiting]
    assert stopped == [waiting[1].id]
    assert problems == ""
    assert listed["value"] is None
    assert waiting[2].status().state == "queued"


def test_cancel_with_nothing_chosen_says_so(queue, waiting, stopped):
    view = queue.cancel_chosen(None)
    problems, listed = view[queue.problems], view[queue.waiting]
    assert "none is chosen" in problems
    assert "value" not in listed
    assert stopped == []


def test_cancel_of_one_that_waits_no_longer_says_so(queue, waiting, stopped):
    waiting[0].write_status("running", pid=os.getpid())
    view = queue.cancel_chosen(waiting[0].id)
    problems, listed = view[queue.problems], view[queue.waiting]
    assert "no longer waiting" in problems
    assert listed["value"] is None
    assert stopped == []
