"""The demo on the page: two jobs in the queue from one button, told honestly to their end."""

import gradio as gr
import pytest

from medcot.errors import BadInput
from medcot.runs.job_dir import JobDir
from medcot.settings import RunSettings
from medcot.ui.train.demo import Demo
from medcot.ui.train.open_run import OpenRun, Parts
from medcot.workers import jobs
from tests.fakes import write_run


@pytest.fixture
def parts(page):
    with page.demo:
        demo, parts = Demo(page), Parts(gr.Tabs())
        run = OpenRun(page)
        demo.wire(run, parts)
        return demo, run, parts


def test_the_button_is_there_on_a_page_without_runs_alone(page, parts):
    demo, _, _ = parts
    assert demo.open("", "", "")[demo.button]["visible"] is True
    write_run(page.store, RunSettings(), "finished")
    assert demo.open("", "", "")[demo.button]["visible"] is False


@pytest.mark.parametrize(
    ("training", "evaluation", "words", "end"),
    [
        ("queued", "queued", 'mc-step-now">Demo: training', ""),
        ("running", "queued", 'mc-step-now">Demo: training', ""),
        ("finished", "queued", 'mc-step-now">Measuring', ""),
        ("finished", "running", 'mc-step-now">Measuring', ""),
        ("finished", "finished", 'mc-step-now">Asking', "the run"),
        ("stopped", "queued", "its training is stopped, so nothing was measured", "broke"),
        ("failed", "failed", "its training is failed, so nothing was measured", "broke"),
        ("finished", "failed", "its evaluation is failed. The tuned model is there", "broke"),
        ("finished", "stopped", "its evaluation is stopped", "broke"),
    ],
)
def test_each_state_of_the_two_jobs_is_told(page, parts, monkeypatch, training, evaluation, words, end):
    monkeypatch.setattr(JobDir, "worker_alive", lambda self, pid: True)
    demo, _, _ = parts
    run = write_run(page.store, RunSettings(), training, pid=1)
    run.new_evaluation().write_status(evaluation, pid=1)
    seen = demo.look(run.id, "", "")
    assert words in seen[demo.state]
    assert seen.get(demo.end, "") == (run.id if end == "the run" else end)
    assert demo.look(run.id, seen[demo.state], seen.get(demo.end, "")) == {}, "nothing new is nothing to draw"


def test_another_pages_runs_are_no_demo_of_this_one(page, parts):
    demo, _, _ = parts
    write_run(page.store, RunSettings(), "finished")
    assert demo.look("", "", "") == {}
    assert demo.look("../x", "", "") == {}


def test_pressed_where_a_run_has_come_meanwhile_nothing_is_started(page, parts, monkeypatch):
    demo, run, _ = parts
    monkeypatch.setattr(jobs, "start_training", lambda *_: pytest.fail("started"))
    write_run(page.store, RunSettings(), "finished")
    assert "the demo is for an empty page" in demo.start(run, parts[2])[run.problems]


def test_what_cannot_be_prepared_is_told_and_starts_nothing(page, parts, monkeypatch):
    def refuse(compose):
        raise BadInput.of("model.id", "cannot be fetched.", "Connect this machine.")

    demo, run, _ = parts
    monkeypatch.setattr("medcot.workers.preflight.prepare", refuse)
    assert "cannot be fetched" in demo.start(run, parts[2])[run.problems]
    assert not page.store.list()
