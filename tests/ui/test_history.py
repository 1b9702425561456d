"""The history's two lists, which a tick changes only if the chosen run is gone, and the queue of waiting jobs."""

import os

import gradio as gr
import pytest

from medcot.runs.run import ORIGIN
from medcot.settings import RunSettings
from medcot.ui.train.history import History, Queue
from medcot.ui.train.open_run import OpenRun, Parts
from medcot.workers import jobs
from tests.fakes import write_run


@pytest.fixture
def tab(page):
    with page.demo:
        return History(page, OpenRun(page, gr.Radio(), Parts(gr.Tabs())))


def test_a_tick_leaves_what_is_chosen_alone_until_that_run_is_gone(page, tab):
    one, other = (write_run(page.store, RunSettings(), "finished") for _ in range(2))
    view = tab.look(one.id, None, "")
    lists = [view[tab.one], view[tab.other]]
    assert all([value for _, value in listed["choices"]] == [other.id, one.id] for listed in lists)
    assert all("value" not in listed for listed in lists)
    page.store.delete(one)
    view = tab.look(one.id, other.id, "")
    assert view[tab.one]["value"] is None
    assert "value" not in view[tab.other]


def test_a_comparison_that_an_older_tick_took_away_comes_back(page, tab):
    one, other = (write_run(page.store, RunSettings(), "finished") for _ in range(2))
    view = tab.look(one.id, None, "")
    assert view[tab.comparison] == ""
    view = tab.look(one.id, other.id, view[tab.mark])
    assert view[tab.comparison] == tab.compare(one.id, other.id) != ""


def test_a_comparison_begins_with_the_open_run_and_the_newest_other_that_was_trained_here(page, tab):
    one = write_run(page.store, RunSettings(), "finished")
    assert tab.begin_with(one.id) == {tab.one: one.id, tab.other: None, tab.comparison: ""}
    other, elsewhere = (write_run(page.store, RunSettings(), "finished") for _ in range(2))
    (elsewhere.path / ORIGIN).write_text('{"adapter": "ada/tuned"}')
    view = tab.begin_with(one.id)
    assert (view[tab.one], view[tab.other]) == (one.id, other.id)
    assert view[tab.comparison] == tab.compare(one.id, other.id) != ""


# ---- the queue


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
