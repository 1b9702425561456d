"""The open run: what a tick may change."""

import gradio as gr
import pytest
from gradio.context import LocalContext
from starlette.requests import Request

from medcot.runs.events import Progress
from medcot.runs.job_dir import JobDir
from medcot.settings import RunSettings
from medcot.ui.train.open_run import OpenRun
from tests.fakes import write_run
from tests.ui.test_guard import login


@pytest.fixture
def tab(page) -> OpenRun:
    with page.demo:
        return OpenRun(page)


@pytest.mark.parametrize(("who", "sees"), [("ada", True), ("bob", False), (None, False)])
def test_a_visitor_of_a_space_sees_no_log(page, tab, monkeypatch, who, sees):
    monkeypatch.setenv("SPACE_ID", "ada/medcot")
    run = write_run(page.store, RunSettings(), "failed", log="/home/ada/cache is full")
    session = {"oauth_info": login(who)} if who else {}
    asked = LocalContext.request.set(gr.Request(Request({"type": "http", "headers": [], "session": session})))
    try:
        shown = tab.look(run.id, "")[tab.log]
    finally:
        LocalContext.request.reset(asked)
    assert ("/home/ada" in shown, bool(shown)) == (sees, True)


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
