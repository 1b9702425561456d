"""The open run: what a tick may change."""

import gradio as gr
import pytest
from gradio.context import LocalContext
from starlette.requests import Request

from medcot.runs.events import Progress
from medcot.runs.job_dir import JobDir
from medcot.settings import RunSettings
from medcot.ui.page import NONE
from medcot.ui.train.open_run import OpenRun, Parts
from tests.browser.test_states import step
from tests.fakes import write_run
from tests.ui.test_guard import login


@pytest.fixture
def tab(page) -> OpenRun:
    with page.demo:
        return OpenRun(page, gr.Radio(), Parts(gr.Tabs()))


def test_a_tick_before_the_page_has_loaded_chooses_nothing(page, tab):
    write_run(page.store, RunSettings(), "finished")
    assert tab.look(None, "") is None


def test_a_tick_tells_of_a_choice_only_where_there_is_none_or_it_is_gone(page, tab):
    old, new = (write_run(page.store, RunSettings(), "finished") for _ in range(2))
    mark = tab.newest()[tab.mark]
    old.append(step(1))
    assert "value" not in tab.look(old.id, mark)[tab.runs]
    assert tab.look(None, f"{NONE} | nothing before")[tab.runs]["value"] == new.id
    page.store.delete(old)
    assert tab.look(old.id, mark)[tab.runs]["value"] == new.id


def test_a_tick_sent_before_the_page_knows_its_run_keeps_the_one_at_work(page, tab, monkeypatch):
    monkeypatch.setattr(JobDir, "worker_alive", lambda self, pid: True)
    write_run(page.store, RunSettings(), "running", pid=1)
    write_run(page.store, RunSettings(), "queued", pid=1)
    opened = tab.newest()
    assert tab.look(None, opened[tab.mark]) is None
    assert tab.look(None, f"{NONE} | nothing before")[tab.runs]["value"] == opened[tab.runs]["value"]


@pytest.mark.parametrize(("who", "sees"), [("ada", True), ("bob", False), (None, False)])
def test_a_visitor_of_a_space_sees_no_log(page, tab, monkeypatch, who, sees):
    monkeypatch.setenv("SPACE_ID", "ada/medcot")
    run = write_run(page.store, RunSettings(), "failed", log="/home/ada/cache is full")
    session = {"oauth_info": login(who)} if who else {}
    asked = LocalContext.request.set(gr.Request(Request({"type": "http", "headers": [], "session": session})))
    try:
        shown = tab.open(run.id)[tab.log]
    finally:
        LocalContext.request.reset(asked)
    assert ("/home/ada" in shown, bool(shown)) == (sees, True)


def test_an_opened_run_is_shown_and_a_choice_made_meanwhile_stands(page, tab):
    old, _ = (write_run(page.store, RunSettings(), "finished") for _ in range(2))
    view = tab.open(old.id)
    assert old.id in view[tab.live]
    assert "value" not in view[tab.runs]


@pytest.mark.parametrize(("kind", "words"), [("training", "this step"), ("evaluation", "this batch of answers")])
def test_one_that_is_stopping_says_so_instead_of_its_stage_and_takes_no_second_stop(
    page, tab, monkeypatch, kind, words
):
    monkeypatch.setattr(JobDir, "worker_alive", lambda self, pid: True)
    run = write_run(page.store, RunSettings(), "stopping", [Progress(stage="Training", done=3, total=9)], pid=1)
    job = run if kind == "training" else run.new_evaluation()
    job.write_status("stopping", pid=1)
    shown = page.progress(job)
    assert f"Stopping after {words}" in shown
    assert "Training" not in shown
    assert tab.view(run.id)[tab.stop]["interactive"] is False
