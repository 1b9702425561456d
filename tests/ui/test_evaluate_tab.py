"""The Evaluate tab: what a tick may change, and whether base is told the format."""

import gradio as gr
import pytest
from gradio.context import LocalContext

from medcot.evaluation.summary import EXAMPLE
from medcot.runs.ids import title_of
from medcot.runs.run import Run
from medcot.settings import RunSettings, build
from medcot.ui.evaluate import records, results
from medcot.ui.evaluate import tab as tab_module
from medcot.ui.evaluate.questions import HELD_OUT, OWN_CHOICE, STARTER_CHOICE
from medcot.ui.evaluate.records import PAGE, Wanted, listing
from medcot.ui.evaluate.tab import EvaluateTab
from medcot.ui.page import NONE
from medcot.workers import jobs
from tests.evaluation.test_report import example, with_facts
from tests.fakes import write_run

TYPED = ("", "1280", "0")  # number of questions, token budget, temperature


@pytest.fixture
def tab(page) -> EvaluateTab:
    with page.demo:
        return EvaluateTab(page)


def finished(page, **evaluation):
    return write_run(page.store, build({"evaluation": evaluation}), "finished", adapter=True)


def shown(tab, run, evaluation=None, seen="", holds=""):
    """What a look at a run shows."""
    return tab.look(run.id, evaluation and evaluation.id, None, None, seen, holds)


def test_a_tick_tells_of_an_evaluation_only_where_none_is_chosen(page, tab):
    run = finished(page)
    first, second = sorted((run.new_evaluation() for _ in range(2)), key=lambda e: e.id)  # it may be one millisecond
    for evaluation in (first, second):
        evaluation.write_status("finished", job="evaluate")
    opened = shown(tab, run)
    assert opened[tab.evaluations]["value"] == second.id
    holds = opened[tab.shown]
    assert "value" not in shown(tab, run, first, "seen", holds)[tab.evaluations]
    assert shown(tab, run, None, "seen", holds)[tab.evaluations]["value"] == second.id


def test_the_evaluation_of_the_address_is_opened_with_its_run_alone(page, tab):
    run, other = finished(page), finished(page)
    first, second = sorted((run.new_evaluation() for _ in range(2)), key=lambda e: e.id)
    for evaluation in (first, second):
        evaluation.write_status("finished", job="evaluate")
    held = LocalContext.request.set(gr.Request(query_params={"run": run.id, "evaluation": first.id}))
    try:
        assert shown(tab, run)[tab.evaluations]["value"] == first.id
        assert shown(tab, other)[tab.evaluations]["value"] is None
    finally:
        LocalContext.request.reset(held)


def test_a_run_without_an_adapter_says_why_and_leads_to_one_that_has_one(page, tab):
    untuned = write_run(page.store, RunSettings(), "stopped")
    view = shown(tab, untuned)
    assert (view[tab.train]["visible"], view[tab.other_run]["visible"]) == (True, False)
    tuned = finished(page)
    view = shown(tab, untuned, seen=view[tab.mark])
    assert "it has no adapter" in view[tab.state]
    assert (view[tab.train]["visible"], view[tab.other_run]["visible"]) == (False, True)
    assert not any(view[part]["visible"] for part in (tab.start, tab.take.whole, tab.publish.whole))
    assert title_of(tuned.id) in shown(tab, tuned, holds=view[tab.shown])[tab.head]


def test_a_tick_of_further_tabs_lists_no_folder(page, tab, monkeypatch):
    run = finished(page)
    evaluation = run.new_evaluation()
    evaluation.write_status("finished", job="evaluate")
    view = shown(tab, run)
    with page.reader.one_moment():
        listed = []
        monkeypatch.setattr(Run, "evaluations", listed.append)
        for _ in range(3):
            assert tab.look(run.id, evaluation.id, None, None, view[tab.mark], view[tab.shown]) == {}
    assert listed == []


def test_base_is_told_the_format_as_the_opened_runs_settings_say(page, tab):
    untold, told = finished(page, tell_base=False), finished(page, tell_base=True)
    view = shown(tab, told)
    assert view[tab.questions.told] is True
    assert shown(tab, untold, seen=view[tab.mark], holds=view[tab.shown])[tab.questions.told] is False


def test_nothing_but_opening_another_run_changes_what_was_said_of_base(page, tab, monkeypatch):
    run = finished(page, tell_base=True)
    view = shown(tab, run)
    run.new_evaluation().write_status("finished", job="evaluate")
    again = shown(tab, run, seen=view[tab.mark], holds=view[tab.shown])
    assert again
    assert tab.questions.told not in again
    ordered = []
    monkeypatch.setattr(jobs, "start_evaluation", lambda run, order: ordered.append(order))
    assert tab.questions.told not in tab.start_evaluation(run.id, None, None, HELD_OUT, None, False, [], *TYPED)
    assert ordered[0].tell_base is False


def test_a_list_that_loses_the_focus_leaves_unfolded_answers_as_they_are(page, tab):
    run = finished(page)
    run.new_evaluation().write_status("finished", job="evaluate")
    view = shown(tab, run)
    again = tab.open(run.id, view[tab.evaluations]["value"], None, None, view[tab.shown])
    assert tab.table not in again
    assert tab.records.shown not in again


def test_a_question_file_that_was_removed_meanwhile_is_asked_for_again(page, tab, tmp_path):
    run = write_run(page.store, RunSettings(), "finished", adapter=True)
    view = tab.start_evaluation(run.id, None, None, OWN_CHOICE, str(tmp_path / "gone.jsonl"), False, [], *TYPED)
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
    monkeypatch.setattr(tab_module, "Wanted", lambda *how: asked.append(how) or Wanted())
    view = tab.look(run.id, None, "Gain", ["Cut"], "", "")
    assert asked == [("Gain", ["Cut"])]
    assert view[tab.questions.further]["value"] == []
    kept = tab.open(run.id, None, "Gain", ["Cut"], "")
    assert "value" not in kept[tab.questions.further], "what was chosen for this run stays"
    view = tab.look(other.id, None, "Gain", ["Cut"], view[tab.mark], view[tab.shown])
    assert view[tab.questions.further]["value"] == []
    assert asked == [("Gain", ["Cut"])] * 3


def test_there_is_nothing_to_publish_before_there_is_a_run(page, tab):
    assert tab.look(NONE, None, None, None, "", "")[tab.publish.whole]["visible"] is False
    assert shown(tab, finished(page))[tab.publish.whole]["visible"] is True


def test_a_record_says_which_facts_are_named_missed_and_what_is_forbidden_and_is_found_by_that():
    row, plain = (EXAMPLE.validate_python(each) for each in (with_facts("<b>")[1], example("a")))
    shown = records.example(row)
    for words in (
        "Missed: named &lt;b&gt;. States what it must not: forbidden &lt;b&gt;.",
        "Facts named, 1 of 1: named",
    ):
        assert words in shown
    assert "Missed" not in records.example(plain)
    assert [row for row in (row, plain) if records.FILTERS["Forbidden statement"](row)] == [row]


def test_a_download_is_called_by_its_folder_and_that_is_text(tmp_path):
    folder = tmp_path / 'x-"><img src=x onerror=alert(1)>'
    folder.mkdir()
    (folder / "table.csv").write_text("a", encoding="utf-8")
    link = results._link(folder / "table.csv", "Table", "text/csv")
    assert "<img" not in link
    assert link.count("<") == 2


def ordered(page, tab, monkeypatch, *values):
    """(what was ordered, the problems shown) of a start with these values."""
    run, started = finished(page), []
    monkeypatch.setattr(jobs, "start_evaluation", lambda run, order: started.append(order))
    view = tab.start_evaluation(run.id, None, None, *values)
    return started, view[tab.problems]


def test_number_budget_and_temperature_are_chosen_at_the_start(page, tab, monkeypatch):
    (order,), problems = ordered(page, tab, monkeypatch, HELD_OUT, None, False, [], "7", "64", "0.5")
    assert not problems
    assert (order.records, order.budget, order.temperature) == (7, 64, 0.5)
    (choice,), _ = ordered(page, tab, monkeypatch, STARTER_CHOICE, None, False, [], "", "64", "0")
    assert (choice.records, choice.budget, choice.kind) == (None, 64, "choice")


@pytest.mark.parametrize(
    "typed", [("0", "64", "0"), ("x", "64", "0"), ("1.5", "64", "0"), ("9", "", "0"), ("9", "64", "6")]
)
def test_what_cannot_be_is_refused_by_its_label_and_nothing_starts(page, tab, monkeypatch, typed):
    started, problems = ordered(page, tab, monkeypatch, HELD_OUT, None, False, [], *typed)
    assert not started
    assert any(label in problems for label in ("Number of questions", "New tokens", "Temperature"))
    assert "--" not in problems


def test_the_fields_show_the_opened_runs_own_settings(page, tab):
    view = shown(tab, finished(page, records=5, max_new_tokens=99, temperature=0.25))
    assert [view[field] for field in tab.questions.numbers.values()] == ["5", "99", "0.25"]


def rows_of(count):
    return [
        EXAMPLE.validate_python({**example(f"Question {i}", 0.5, 0.5 + i / 1000), "record": i + 1})
        for i in range(count)
    ]


def test_a_long_list_comes_in_pages_and_a_record_is_found_on_its_own():
    rows = rows_of(2 * PAGE + 1)
    first, last = listing(rows, "", Wanted()), listing(rows, "", Wanted(page=99))
    assert first.count("<summary><span") == PAGE
    assert "Page 1 of 3" in first
    assert last.count("<summary><span") == 1
    opened = listing(rows, "", Wanted(record=PAGE + 2))
    assert "Page 2 of 3" in opened
    assert opened.count('" open>') == 1
    assert f'id="record-{PAGE + 2}" open>' in opened
    assert listing(rows, "", Wanted(record=9999)) == ""
    assert listing(rows, "", Wanted(filters=["Tuned worse"], record=2)) == "", "a filter hides it"
    assert listing([], "", Wanted()) == ""
    assert "mc-pager" not in listing(rows[:PAGE], "", Wanted())


def test_a_long_answer_is_folded_and_whole_and_a_hostile_one_is_text():
    said = "<script>alert(1)</script> " + "word " * 400
    shown = records.folded("Answer", said, "word")
    assert "Show the rest, " in shown
    assert "<script" not in shown
    assert shown.count("word") >= 400
    assert "Show the rest" not in records.folded("Answer", "short", "")
    assert "None was written" in records.folded("Answer", "", "x")
