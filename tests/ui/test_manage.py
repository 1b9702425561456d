"""What may be done with the open run."""

import gradio as gr
import pytest

from medcot import about
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
    about.write(made.path, name="first", note="a note")
    return made


def test_fields_are_filled_once_for_each_run_so_that_what_is_typed_meanwhile_stays(page, tab, run):
    other = write_run(page.store, RunSettings(), "finished", adapter=True)
    _, name, note, *_, filled = tab.fill(run.id, Filled())
    assert (name, note, filled) == ("first", "a note", Filled(run.id, "first", "a note"))
    assert tab.fill(run.id, filled) == gr.skip()
    assert tab.fill(other.id, filled)[-1] == Filled(other.id)


def test_save_writes_what_was_changed_here_and_keeps_what_was_said_elsewhere_meanwhile(tab, run):
    filled = tab.fill(run.id, Filled())[-1]
    about.write(run.path, name="from the command line")
    said, filled = tab.save(run.id, "first", "another note", filled)
    assert "Saved" in said
    assert run.about() == about.About(name="from the command line", note="another note")
    about.write(run.path, note="from the command line")
    _, filled = tab.save(run.id, "mine", "another note", filled)
    assert run.about() == about.About(name="mine", note="from the command line")
    tab.save(run.id, "", "another note", filled)
    assert run.about() == about.About(note="from the command line"), "an emptied name is taken away"


def test_a_refused_save_can_be_mended_and_saved(tab, run):
    filled = tab.fill(run.id, Filled())[-1]
    said, filled = tab.save(run.id, "../x", "better", filled)
    assert "name" in said
    tab.save(run.id, "x", "better", filled)
    assert run.about() == about.About(name="x", note="better")


def test_fields_that_are_still_another_runs_are_never_saved(page, tab, run):
    other = write_run(page.store, RunSettings(), "finished")
    filled = tab.fill(run.id, Filled())[-1]
    said, kept = tab.save(other.id, "typed", "for the first", filled)
    assert "another run" in said
    assert (kept, other.about()) == (filled, about.About())
