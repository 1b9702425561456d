"""The Evaluate tab: what a tick may change, and whether base is told the format."""

import gradio as gr
import pytest

from medcot.evaluation.summary import EXAMPLE
from medcot.runs.run import Run
from medcot.settings import RunSettings, build
from medcot.ui.evaluate import results
from medcot.ui.evaluate import tab as tab_module
from medcot.ui.evaluate.questions import HELD_OUT, OWN_CHOICE
from medcot.ui.evaluate.tab import EvaluateTab
from medcot.workers import jobs
from tests.evaluation.test_report import example, with_facts
from tests.fakes import write_run


@pytest.fixture
def tab(page) -> EvaluateTab:
    with page.demo:
        return EvaluateTab(page)


def finished(page, **evaluation):
    return write_run(page.store, build({"evaluation": evaluation}), "finished", adapter=True)


def test_a_tick_before_the_page_has_loaded_chooses_nothing(page, tab):
    finished(page)
    assert tab.look(None, None, None, None, "", "") is None


def test_a_tick_tells_of_a_choice_only_where_there_is_none_or_it_is_gone(page, tab):
    old, new = finished(page), finished(page)
    first, second = sorted((old.new_evaluation() for _ in range(2)), key=lambda e: e.id)  # it may be one millisecond
    for evaluation in (first, second):
        evaluation.write_status("finished", job="evaluate")
    view = tab.look(old.id, first.id, None, None, "seen", "")
    assert "value" not in view[tab.runs]
    assert "value" not in view[tab.evaluations]
    view = tab.look(old.id, None, None, None, "seen", "")
    assert view[tab.evaluations]["value"] == second.id
    page.store.delete(old)
    view = tab.look(old.id, first.id, None, None, "seen", "")
    assert view[tab.runs]["value"] == new.id


def test_a_tick_of_further_tabs_lists_no_folder(page, tab, monkeypatch):
    run = finished(page)
    evaluation = run.new_evaluation()
    evaluation.write_status("finished", job="evaluate")
    view = tab.newest(None, None)
    with page.reader.one_moment():
        listed = []
        monkeypatch.setattr(Run, "evaluations", listed.append)
        for _ in range(3):
            assert tab.look(run.id, evaluation.id, None, None, view[tab.mark], view[tab.shown]) == {}
    assert listed == []


def test_what_was_opened_is_shown_and_a_choice_made_meanwhile_stands(page, tab):
    old, _ = finished(page), finished(page)
    evaluation = old.new_evaluation()
    evaluation.write_status("finished", job="evaluate")
    view = tab.open_run(old.id, None, None, "")
    assert "value" not in view[tab.runs]
    assert view[tab.evaluations]["value"] == evaluation.id
    view = tab.open(old.id, evaluation.id, None, None, "")
    assert evaluation.id in view[tab.state]
    assert "value" not in view[tab.runs]
    assert "value" not in view[tab.evaluations]


def test_base_is_told_the_format_as_the_opened_runs_settings_say(page, tab):
    untold, told = finished(page, tell_base=False), finished(page, tell_base=True)
    view = tab.newest(None, None)
    assert view[tab.questions.told] is True
    assert tab.open_run(untold.id, None, None, view[tab.shown])[tab.questions.told] is False
    page.store.delete(told)
    gone = tab.look(told.id, None, None, None, view[tab.mark], view[tab.shown])
    assert gone[tab.questions.told] is False


def test_nothing_but_opening_another_run_changes_what_was_said_of_base(page, tab, monkeypatch):
    run = finished(page, tell_base=True)
    view = tab.newest(None, None)
    assert tab.open_run(run.id, None, None, view[tab.shown]) == gr.skip(), (
        "a list that loses the focus tells of its choice again"
    )
    run.new_evaluation().write_status("finished", job="evaluate")
    assert tab.questions.told not in tab.look(run.id, None, None, None, view[tab.mark], view[tab.shown])
    ordered = []
    monkeypatch.setattr(jobs, "start_evaluation", lambda run, order: ordered.append(order))
    assert tab.questions.told not in tab.start_evaluation(run.id, None, None, HELD_OUT, None, False, [])
    assert ordered[0].tell_base is False


def test_a_list_that_loses_the_focus_leaves_unfolded_answers_as_they_are(page, tab):
    run = finished(page)
    run.new_evaluation().write_status("finished", job="evaluate")
    view = tab.newest(None, None)
    again = tab.open(run.id, view[tab.evaluations]["value"], None, None, view[tab.shown])
    assert tab.table not in again
    assert tab.examples not in again


def test_a_question_file_that_was_removed_meanwhile_is_asked_for_again(page, tab, tmp_path):
    run = write_run(page.store, RunSettings(), "finished", adapter=True)
    view = tab.start_evaluation(run.id, None, None, OWN_CHOICE, str(tmp_path / "gone.jsonl"), False, [])
    problems = view[tab.problems]
    assert "questions" in problems
    assert "Choose it again." in problems


def test_another_run_is_opened_in_the_order_that_the_page_shows_and_without_the_last_ones_further_arms(
    page, tab, monkeypatch
):
    run, other = finished(page), finished(page)
    for each in (run, other):
        each.new_evaluation().write_status("finished", job="evaluate")
    asked = []
    monkeypatch.setattr(tab_module, "listing", lambda _one, _notice, *how: asked.append(how) or "listed")
    view = tab.open_run(run.id, "Gain", ["Cut"], "")
    assert asked == [("Gain", ["Cut"])]
    assert view[tab.questions.further]["value"] == []
    kept = tab.open(run.id, None, "Gain", ["Cut"], "")
    assert "value" not in kept[tab.questions.further], "what was chosen for this run stays"
    page.store.delete(run)
    gone = tab.open(run.id, None, "Gain", ["Cut"], "")
    assert gone[tab.questions.further]["value"] == []
    assert asked == [("Gain", ["Cut"])] * 3


def test_there_is_nothing_to_publish_before_there_is_a_run(page, tab):
    assert tab.newest(None, None)[tab.publish.whole]["visible"] is False
    finished(page)
    assert tab.newest(None, None)[tab.publish.whole]["visible"] is True


def test_a_record_says_which_facts_are_named_missed_and_what_is_forbidden_and_is_found_by_that():
    row, plain = (EXAMPLE.validate_python(each) for each in (with_facts("<b>")[1], example("a")))
    shown = results.example(row)
    for words in (
        "Missed: named &lt;b&gt;. States what it must not: forbidden &lt;b&gt;.",
        "Facts named, 1 of 1: named",
    ):
        assert words in shown
    assert "Missed" not in results.example(plain)
    assert [row for row in (row, plain) if results.FILTERS["Forbidden statement"](row)] == [row]


def test_a_download_is_called_by_its_folder_and_that_is_text(tmp_path):
    folder = tmp_path / 'x-"><img src=x onerror=alert(1)>'
    folder.mkdir()
    (folder / "table.csv").write_text("a", encoding="utf-8")
    link = results._link(folder / "table.csv", "Table", "text/csv")
    assert "<img" not in link
    assert link.count("<") == 2
