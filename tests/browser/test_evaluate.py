"""Evaluate, on a real worker with a tiny model."""

import threading
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from medcot.evaluation.answers import Answer
from medcot.evaluation.summary import EXAMPLE, Summary
from medcot.runs.events import Progress, Started
from medcot.runs.job_dir import ALIVE
from medcot.runs.run import Evaluation
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.settings.evaluation import EvaluationOrder
from medcot.ui.evaluate.tab import EvaluateTab
from tests.browser.conftest import PATIENCE, end, listed, pick, wait_until
from tests.evaluation.test_report import example, summary_of
from tests.fakes import FakeClient, write_run

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)


def test_evaluates_to_a_table_that_a_second_viewer_sees(serve, open_page, tuned):
    url = serve(tuned.path.parent)
    page = open_page(url)
    page.get_by_role("tab", name="Evaluate", exact=True).click()
    expect(page.locator("#results")).to_contain_text("Not evaluated yet")
    page.get_by_role("button", name="What is asked").click()
    budget = page.locator("#evaluate-max-new-tokens textarea, #evaluate-max-new-tokens input")
    expect(budget).to_have_value(str(tuned.settings().evaluation.max_new_tokens))
    page.get_by_label("Number of questions").fill("0")
    page.get_by_role("button", name="Start evaluation", exact=True).click()
    expect(page.locator("#evaluate-problems")).to_contain_text("Number of questions")
    page.get_by_label("Number of questions").fill("2")
    page.get_by_role("button", name="Start evaluation", exact=True).click()
    try:
        page.get_by_role("button", name="Stop evaluation", exact=True).wait_for()
        page.reload()
        page.get_by_role("tab", name="Evaluate", exact=True).click()
        wait_until(lambda: all(job.status().state not in ALIVE for job in tuned.evaluations()), 180)
        expect(page.locator(".forest")).to_be_visible()
    finally:
        for job in tuned.evaluations():
            end(job)
    summary = tuned.latest_summary()
    assert summary
    assert summary.data.records == 2
    page.get_by_text("All figures in a table").click()
    expect(page.locator("#scores")).to_contain_text(f"{summary.arms['tuned']['answer_rouge_l']:.3f}")
    expect(page.locator("#floors tbody tr")).to_have_count(4)
    expect(page.locator("#results .mc-verdict")).to_contain_text("95% interval")
    expect(page.locator("#examples .mc-example")).to_have_count(summary.data.records)

    second = open_page(url)
    second.get_by_role("tab", name="Evaluate", exact=True).click()
    first_example = second.locator("#examples details").first
    first_example.locator("summary").click()
    for heading in ("Base", "Tuned", "Reference"):
        expect(first_example.get_by_role("heading", name=heading, exact=True)).to_be_visible()


def test_figures_plots_sorting_filters_and_files_at_both_widths(serve, open_page, runs_dir):
    gains = [0.3, -0.2, 0.1, 0.0, 0.2, 0.1, 0.4, -0.1, 0.2, 0.1, 0.3, 0.2]
    write_evaluated(runs_dir, gains)
    page = open_page(serve(runs_dir, FakeClient()))
    page.get_by_role("tab", name="Evaluate", exact=True).click()
    expect(page.locator("#results .mc-verdict strong")).to_contain_text("Tuned scores better than base")
    narrow = "document.documentElement.scrollWidth <= innerWidth"
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for part in ("#evaluate", "#results .mc-verdict"):
            expect(page.locator(part)).to_be_in_viewport()
        assert page.evaluate(narrow), "nothing is wider than the screen"
    page.get_by_text("All figures in a table").click()
    expect(page.locator("#scores thead th")).to_have_text(["Base", "Tuned", "Tuned less base", "95% interval"])
    expect(page.locator("#scores")).to_contain_text("to +")
    bars = page.locator("#results .plot-differences")
    expect(bars.locator(".gain, .loss")).to_have_count(sum(g != 0 for g in gains))
    expect(page.locator("#results")).to_contain_text("Ceiling")
    shown = page.locator("#examples .mc-gain")
    expect(shown).to_have_count(len(gains))
    assert shown.all_inner_texts()[0] == "−0.200"
    choose(page, "#sort", "Largest gain first")
    expect(shown.first).to_have_text("+0.400")
    page.get_by_label("Tuned worse", exact=True).check()
    expect(shown).to_have_count(2)
    page.get_by_label("Cut at the limit", exact=True).check()
    expect(shown).to_have_count(1)
    page.locator("#examples details").first.locator("summary").click()
    for heading in ("Base", "Tuned", "Reference"):
        expect(page.locator("#examples").get_by_role("heading", name=heading, exact=True)).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Table as CSV", exact=True).click()
    assert download.value.path().read_text().startswith("kind,measure,arm,value,low,high,note\n")
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(narrow), "nothing is wider than the screen"


def test_one_that_was_stopped_offers_to_resume_and_keeps_what_is_answered(serve, open_page, runs_dir):
    evaluation = write_evaluated(runs_dir, [0.1, 0.2])
    (evaluation.path / "summary.json").unlink()
    answer = {"kind": "record", "output": "x", "tokens": 1, "ended": "finished", "seconds": 1.0}
    evaluation.write_lines("answers", [Answer(**answer, number=n, arm=a) for n in (1, 2) for a in ("base", "tuned")])
    evaluation.append(Started(job="evaluate", device="CPU"))
    evaluation.append(Progress(stage="Answering", done=4, total=20))
    evaluation.write_status("stopped")
    page = open_page(serve(runs_dir, FakeClient()))
    page.get_by_role("tab", name="Evaluate", exact=True).click()
    expect(page.get_by_role("button", name="Resume evaluation", exact=True)).to_be_visible()
    expect(page.locator("#evaluation-state")).to_contain_text("4 of 20 answers are kept")
    expect(page.locator("#examples .mc-gain")).to_have_count(2)


def test_a_look_that_began_before_a_choice_does_not_undo_it(serve, open_page, runs_dir, monkeypatch):
    one, other = (write_evaluated(runs_dir, [0.1, 0.2]) for _ in range(2))
    theirs = one.path.parents[1].name
    looks: list[str] = []
    held, go_on, look = threading.Event(), threading.Event(), EvaluateTab.look

    def slow(tab, run_id, *values):
        found = look(tab, run_id, *values)
        looks.append(run_id)
        if found and other.status().state == "stopped" and not held.is_set():
            held.set()
            assert go_on.wait(60)
        return found

    monkeypatch.setattr(EvaluateTab, "look", slow)
    page = open_page(serve(runs_dir, FakeClient()))
    page.get_by_role("tab", name="Evaluate", exact=True).click()
    state = page.locator("#evaluation-state")
    expect(state).to_contain_text(other.id)
    other.write_status("stopped")
    assert held.wait(60)
    before = len(looks)
    pick(page, theirs)
    go_on.set()
    expect(state).to_contain_text(one.id)
    wait_until(lambda: one.write_status("finished") or len(looks) >= before + 3)
    assert set(looks[before:]) == {theirs}
    expect(listed(page, theirs)).to_have_attribute("aria-current", "true")
    expect(state).to_contain_text(one.id)


def choose(page: Page, dropdown: str, option: str) -> None:
    page.locator(f"{dropdown} input").click()
    page.locator(dropdown).get_by_role("option", name=option, exact=True).click()


def write_evaluated(runs_dir: Path, gains: list[float]) -> Evaluation:
    """A finished evaluation, as a worker leaves it; the second record's answers met the limit."""
    run = write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True)
    evaluation = run.new_evaluation()
    (evaluation.path / "settings.json").write_text(EvaluationOrder().model_dump_json())
    examples = [
        {**example(f"Question {i}", 0.5, 0.5 + gain), "record": i + 1, "gain": gain} for i, gain in enumerate(gains)
    ]
    for arm in ("base", "tuned"):
        examples[1][arm]["truncated"] = True
    ceiling = {"answer_rouge_l": 0.9, "truncated": 0.0, "truncated_before_answer": 0.0}
    summary = Summary.model_validate({**summary_of(examples), "ceiling": ceiling})
    evaluation.write_reports(summary, list(map(EXAMPLE.validate_python, examples)), [])
    evaluation.write_status("finished", job="evaluate")
    return evaluation


def test_a_click_on_a_bar_opens_its_record_on_its_page_and_takes_off_a_filter_that_hides_it(serve, open_page, runs_dir):
    gains = [0.005 * (i - 5) for i in range(50)]
    write_evaluated(runs_dir, gains)
    page = open_page(serve(runs_dir, FakeClient()))
    page.get_by_role("tab", name="Evaluate", exact=True).click()
    records = page.locator("#examples .mc-example")
    expect(records).to_have_count(20)
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".mc-pager")).to_contain_text("Page 2 of 3")
    page.get_by_label("Tuned worse", exact=True).check()
    expect(records).to_have_count(5)
    bar = page.locator('.plot-differences [data-record="48"] .hit')
    bar.scroll_into_view_if_needed()
    box = bar.bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened = page.locator("#record-48[open]")
    expect(opened).to_be_in_viewport()
    expect(opened).to_contain_text("question Question 47")
    expect(opened.get_by_role("heading", name="Reference", exact=True)).to_be_visible()
    expect(opened.locator("mark").first).to_have_text("Question 47")
    expect(page.locator(".mc-pager")).to_contain_text("Page 3 of 3")
    expect(page.get_by_label("Tuned worse", exact=True)).not_to_be_checked()
    assert "#record" not in page.url
