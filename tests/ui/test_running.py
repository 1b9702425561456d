"""The open run: what a tick may change, and what its worker is given."""

import gradio as gr
import pytest

from medcot import jobs
from medcot.errors import BadInput, Problem
from medcot.settings import RunSettings
from medcot.ui.train.running import Running
from tests.browser.test_states import step
from tests.fakes import write_run


@pytest.fixture
def tab(page) -> Running:
    return Running(page)


def test_a_tick_before_the_page_has_loaded_chooses_nothing(page, tab):
    write_run(page.store, RunSettings(), "finished")
    assert tab.look(None, "") == gr.skip()


def test_a_tick_tells_of_a_choice_only_where_there_is_none_or_it_is_gone(page, tab):
    old, new = (write_run(page.store, RunSettings(), "finished") for _ in range(2))
    mark = tab.newest()[-1]
    old.append(step(1))
    assert "value" not in tab.look(old.id, mark)[0]
    assert tab.look(None, "changed")[0]["value"] == new.id
    page.store.delete(old)
    assert tab.look(old.id, mark)[0]["value"] == new.id


def test_an_opened_run_is_shown_and_a_choice_made_meanwhile_stands(page, tab):
    old, _ = (write_run(page.store, RunSettings(), "finished") for _ in range(2))
    listed, live, *_ = tab.open(old.id)
    assert old.id in live
    assert "value" not in listed


def test_continue_hands_on_the_typed_keys_and_then_the_fields_are_empty(page, tab, monkeypatch):
    run, given = write_run(page.store, RunSettings(), "stopped"), []
    monkeypatch.setattr(jobs, "resume_training", lambda run, secrets: given.append((run.id, secrets)))
    problems, *fields = tab.resume(run.id, " wandb ", "")[:3]
    assert given == [(run.id, {"WANDB_API_KEY": "wandb"})]
    assert (problems, fields) == ("", ["", ""])


def test_a_refused_continue_leaves_the_typed_keys(page, tab, monkeypatch):
    def refuse(run, secrets):
        raise BadInput(Problem("--resume", "no."))

    monkeypatch.setattr(jobs, "resume_training", refuse)
    run = write_run(page.store, RunSettings(), "stopped")
    problems, *fields = tab.resume(run.id, "wandb", "")[:3]
    assert "no." in problems
    assert fields == [gr.skip(), gr.skip()]
