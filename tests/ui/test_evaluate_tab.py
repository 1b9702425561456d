"""The Evaluate tab: what a tick may change, and whether base is told the format."""

import gradio as gr
import pytest

from medcot import jobs
from medcot.settings import RunSettings, build
from medcot.ui.evaluate.orders import HELD_OUT, OWN_CHOICE
from medcot.ui.evaluate.tab import EvaluateTab, View
from tests.fakes import write_run

NAMES = list(View.__dataclass_fields__)


@pytest.fixture
def tab(page) -> EvaluateTab:
    return EvaluateTab(page)


def finished(page, **evaluation):
    return write_run(page.store, build({"evaluation": evaluation}), "finished", adapter=True)


def shown(outputs: list) -> dict:
    return dict(zip(NAMES, outputs, strict=True))


def test_a_tick_before_the_page_has_loaded_chooses_nothing(page, tab):
    finished(page)
    assert tab.look(None, None, None, None, "", "") == gr.skip()


def test_a_tick_tells_of_a_choice_only_where_there_is_none_or_it_is_gone(page, tab):
    old, new = finished(page), finished(page)
    first, second = sorted((old.new_evaluation() for _ in range(2)), key=lambda e: e.id)  # it may be one millisecond
    for evaluation in (first, second):
        evaluation.write_status("finished", job="evaluate")
    view = shown(tab.look(old.id, first.id, None, None, "seen", ""))
    assert "value" not in view["runs"]
    assert "value" not in view["evaluations"]
    view = shown(tab.look(old.id, None, None, None, "seen", ""))
    assert view["evaluations"]["value"] == second.id
    page.store.delete(old)
    view = shown(tab.look(old.id, first.id, None, None, "seen", ""))
    assert view["runs"]["value"] == new.id


def test_what_was_opened_is_shown_and_a_choice_made_meanwhile_stands(page, tab):
    old, _ = finished(page), finished(page)
    evaluation = old.new_evaluation()
    evaluation.write_status("finished", job="evaluate")
    view = shown(tab.open_run(old.id, None, None, ""))
    assert "value" not in view["runs"]
    assert view["evaluations"]["value"] == evaluation.id
    view = shown(tab.open(old.id, evaluation.id, None, None, ""))
    assert evaluation.id in view["state"]
    assert "value" not in view["runs"]
    assert "value" not in view["evaluations"]


def test_base_is_told_the_format_as_the_opened_runs_settings_say(page, tab):
    untold, told = finished(page, tell_base=False), finished(page, tell_base=True)
    view = shown(tab.newest(None, None))
    assert view["told"] is True
    assert shown(tab.open_run(untold.id, None, None, view["shown"]))["told"] is False
    page.store.delete(told)
    gone = shown(tab.look(told.id, None, None, None, view["mark"], view["shown"]))
    assert gone["told"] is False


def test_nothing_but_opening_another_run_changes_what_was_said_of_base(page, tab, monkeypatch):
    run = finished(page, tell_base=True)
    view = shown(tab.newest(None, None))
    assert tab.open_run(run.id, None, None, view["shown"]) == gr.skip(), (
        "a list that loses the focus tells of its choice again"
    )
    run.new_evaluation().write_status("finished", job="evaluate")
    assert shown(tab.look(run.id, None, None, None, view["mark"], view["shown"]))["told"] == gr.skip()
    ordered = []
    monkeypatch.setattr(jobs, "start_evaluation", lambda run, order: ordered.append(order))
    _, *outputs = tab.start(run.id, None, None, HELD_OUT, None, False, [])
    assert shown(outputs)["told"] == gr.skip()
    assert ordered[0].tell_base is False


def test_a_list_that_loses_the_focus_leaves_unfolded_answers_as_they_are(page, tab):
    run = finished(page)
    run.new_evaluation().write_status("finished", job="evaluate")
    view = shown(tab.newest(None, None))
    again = shown(tab.open(run.id, view["evaluations"]["value"], None, None, view["shown"]))
    assert (again["table"], again["examples"]) == (gr.skip(), gr.skip())


def test_a_question_file_that_was_removed_meanwhile_is_asked_for_again(page, tab, tmp_path):
    run = write_run(page.store, RunSettings(), "finished", adapter=True)
    problems, *_ = tab.start(run.id, None, None, OWN_CHOICE, str(tmp_path / "gone.jsonl"), False, [])
    assert "questions" in problems
    assert "Choose it again." in problems


def test_another_run_is_opened_in_the_order_that_the_page_shows_and_without_the_last_ones_further_arms(
    page, tab, monkeypatch
):
    run, other = finished(page), finished(page)
    for each in (run, other):
        each.new_evaluation().write_status("finished", job="evaluate")
    asked = []
    monkeypatch.setattr("medcot.ui.evaluate.tab.listing", lambda _one, _notice, *how: asked.append(how) or "listed")
    view = shown(tab.open_run(run.id, "Gain", ["Cut"], ""))
    assert asked == [("Gain", ["Cut"])]
    assert view["further"]["value"] == []
    kept = shown(tab.open(run.id, None, "Gain", ["Cut"], ""))
    assert "value" not in kept["further"], "what was chosen for this run stays"
    page.store.delete(run)
    gone = shown(tab.open(run.id, None, "Gain", ["Cut"], ""))
    assert gone["further"]["value"] == []
    assert asked == [("Gain", ["Cut"])] * 3


def test_there_is_nothing_to_publish_before_there_is_a_run(page, tab):
    assert shown(tab.newest(None, None))["publish"]["visible"] is False
    finished(page)
    assert shown(tab.newest(None, None))["publish"]["visible"] is True
