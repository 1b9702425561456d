"""What may be done with the open run."""

import gradio as gr
import pytest

from medcot.runs.run import About
from medcot.settings import RunSettings
from medcot.ui.form import Form
from medcot.ui.train.manage import Filled, Manage
from tests.fakes import write_run


@pytest.fixture
def tab(page) -> Manage:
    with page.demo:
        return Manage(page, Form("starter"))


@pytest.fixture
def run(page):
    made = write_run(page.store, RunSettings(), "finished", adapter=True)
    made.describe(name="first", note="a note")
    return made


def test_fields_are_filled_once_for_each_run_so_that_what_is_typed_meanwhile_stays(page, tab, run):
    other = write_run(page.store, RunSettings(), "finished", adapter=True)
    view = tab.fill(run.id, Filled())
    filled = view[tab.filled]
    assert (view[tab.name], view[tab.note], filled) == ("first", "a note", Filled(run.id, "first", "a note"))
    assert tab.fill(run.id, filled) == gr.skip()
    assert tab.fill(other.id, filled)[tab.filled] == Filled(other.id)


def test_save_writes_what_was_changed_here_and_keeps_what_was_said_elsewhere_meanwhile(tab, run):
    filled = tab.fill(run.id, Filled())[tab.filled]
    run.describe(name="from the command line")
    view = tab.save(run.id, "first", "another note", filled)
    filled = view[tab.filled]
    assert "Saved" in view[tab.said]
    assert run.about() == About(name="from the command line", note="another note")
    run.describe(note="from the command line")
    filled = tab.save(run.id, "mine", "another note", filled)[tab.filled]
    assert run.about() == About(name="mine", note="from the command line")
    tab.save(run.id, "", "another note", filled)
    assert run.about() == About(note="from the command line"), "an emptied name is taken away"


def test_a_refused_save_can_be_mended_and_saved(tab, run):
    filled = tab.fill(run.id, Filled())[tab.filled]
    view = tab.save(run.id, "../x", "better", filled)
    assert "<strong>Name</strong>" in view[tab.said]
    assert tab.filled not in view
    tab.save(run.id, "x", "better", filled)
    assert run.about() == About(name="x", note="better")


def test_fields_that_are_still_another_runs_are_never_saved(page, tab, run):
    other = write_run(page.store, RunSettings(), "finished")
    filled = tab.fill(run.id, Filled())[tab.filled]
    view = tab.save(other.id, "typed", "for the first", filled)
    assert "another run" in view[tab.said]
    assert tab.filled not in view
    assert other.about() == About()
