"""States of the page that a real worker rarely shows, on run directories and a client written by hand."""

import itertools
import json
import os
import re
import threading

import pytest
from playwright.sync_api import expect

from medcot.evaluation.answers import Answer
from medcot.evaluation.summary import EXAMPLE, Summary
from medcot.runs.events import Finished, Kept, Progress, Started, Step, Validation, Warned
from medcot.runs.ids import name_of, title_of
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.settings.build import fields
from medcot.settings.recipes import compose
from tests.browser.conftest import PATIENCE, is_foreign, listed, pick, points
from tests.fakes import FakeClient, plan_made, write_run

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)
NASTY = (
    "<think>plan</think> <script>window.pwned=1</script> <img src=http://192.0.2.1/a.png onerror=window.pwned=2> "
    "![x](http://192.0.2.1/b.png) ${window.pwned=3} {{constructor}} **bold** &amp; <b>not bold</b>"
)


def step(number: int, total: int = 10) -> Step:
    return Step(
        step=number,
        total_steps=total,
        epoch=number / total,
        loss=3 - number / total,
        learning_rate=1e-3,
        grad_norm=1,
        tokens_seen=100 * number,
        tokens_per_second=123,
        eta_seconds=65,
        gpu_memory_gib=4.2,
    )


def open_tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()
    return page


def test_every_tab_says_what_to_do_first_and_the_research_line_stays(empty_page):
    page = empty_page
    for tab, title in (("Train", "No run yet"), ("Evaluate", "Nothing to evaluate yet"), ("Chat", "Nobody to ask yet")):
        open_tab(page, tab)
        expect(page.get_by_role("heading", name=title)).to_be_visible()
        page.mouse.wheel(0, 3000)
        expect(page.get_by_text("For research only, not for care.")).to_be_in_viewport()
    expect(page.get_by_text("Runs on")).to_be_visible()


def test_figures_failure_with_hint_and_list(serve, open_page, runs_dir):
    store = RunStore(runs_dir)
    plan = plan_made()
    told = [plan, Validation(step=0, loss=3.5), step(1), step(2), Warned(message=NASTY)]
    progress = Progress(stage="Training", done=2, total=10, eta_seconds=65)
    failed = write_run(
        store, RunSettings(name="failed"), "failed", [*told, progress], error=NASTY, hint="Halve “Micro-batch”."
    )
    kept = [Validation(step=1, loss=2.5), Validation(step=2, loss=2.75), Kept(step=1, loss=2.5, ended_at=2)]
    ended = [*told, *kept, Finished(seconds=75, peak_memory_gib=2)]
    done = write_run(store, RunSettings(name="done"), "finished", ended)
    page = open_page(serve(runs_dir, FakeClient()))
    expect(listed(page, done)).to_have_attribute("aria-current", "true")
    pick(page, failed)
    live = page.locator("#live")
    expect(live.locator(".mc-badge")).to_have_text("Failed")
    expect(live).to_contain_text("Halve “Micro-batch”.")
    expect(live).to_contain_text(NASTY)
    expect(live).to_contain_text("4.2 GiB")
    assert points(page) == 2
    assert page.evaluate("window.pwned") is None
    pick(page, done)
    expect(live.locator(".mc-badge")).to_have_text("Finished")
    expect(live).to_contain_text("Took 1:15")
    expect(live).to_contain_text("Ended early at step 2, and kept the adapter of step 1, validation loss 2.500.")
    expect(page.locator("#plot figcaption")).to_contain_text("Kept, 2.5, step 1")
    expect(page.locator("#plot .mc-kept")).to_be_visible()


def test_a_queued_run_says_that_it_waits(serve, open_page, runs_dir, monkeypatch):
    monkeypatch.setattr("medcot.runs.job_dir.JobDir.worker_alive", lambda self, pid: pid == os.getpid())
    store = RunStore(runs_dir)
    busy = write_run(store, RunSettings(name="busy"), "running", pid=os.getpid())
    queued = write_run(store, RunSettings(name="next"), "queued", pid=os.getpid())
    page = open_page(serve(runs_dir, FakeClient()))
    expect(listed(page, busy)).to_have_attribute("aria-current", "true")
    pick(page, queued)
    expect(page.locator("#live")).to_contain_text(f"Waiting: Training {title_of(busy.id)} has the device.")
    busy.write_status("finished")
    expect(page.locator("#live .mc-stage")).to_have_text("Starting")


def test_each_checkbox_of_the_form_has_its_whole_label_and_help(empty_page):
    page = empty_page
    for title in ("Settings", "LoRA", "Training", "Evaluation"):
        page.get_by_role("button", name=re.compile(f"^{re.escape(title)}")).first.click()  # not "Start training"
    boxes = page.locator(".mc-fields .block:has([type=checkbox])")
    count = sum(field.annotation is bool for field in fields().values())
    expect(boxes).to_have_count(count)
    for width, i in itertools.product((390, 1440), range(count)):
        page.set_viewport_size({"width": width, "height": 900})
        box = boxes.nth(i)
        expect(box.locator(".info-text")).to_be_visible()
        assert box.evaluate("e => e.clientWidth >= 180 && e.scrollWidth <= e.clientWidth")
        assert box.evaluate("e => e.scrollHeight <= e.clientHeight")


def test_an_empty_page_leads_to_train_and_a_finished_run_to_what_comes_next(serve, open_page, runs_dir):
    store, page = RunStore(runs_dir), open_page(serve(runs_dir, FakeClient()))
    for tab in ("Evaluate", "Chat"):
        open_tab(page, tab).get_by_role("button", name="Go to Train", exact=True).click()
        expect(page.locator("#start")).to_be_visible()
    first, _ = (write_run(store, RunSettings(), "finished", adapter=True) for _ in range(2))
    for button, head in (("Evaluate it", "#evaluate-head"), ("Ask it", "#chat-head")):
        pick(open_tab(page, "Train"), first)
        expect(page.locator("#live h3")).to_have_text(name_of(first.id))
        page.get_by_role("button", name=button, exact=True).first.click()
        expect(page.locator(head)).to_be_visible()
        expect(page.locator(head)).to_contain_text(title_of(first.id))
        expect(page.get_by_role("button", name="Go to Train", exact=True)).to_be_hidden()
    untuned = write_run(store, RunSettings(), "stopped")
    pick(open_tab(page, "Train"), untuned)
    expect(page.get_by_role("button", name="Evaluate it", exact=True)).to_be_hidden()


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (768, 1024), (390, 844), (320, 568)])
def test_start_is_in_view_on_an_empty_page_and_with_settings_unfolded(empty_page, width, height):
    page = empty_page
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate("scrollTo(0, 0)")
    start, check = page.locator("#start"), page.locator("#check")
    expect(start).to_be_in_viewport(ratio=1)
    expect(check).to_be_in_viewport(ratio=1)
    page.locator("#settings > button").click()
    page.locator("#settings").scroll_into_view_if_needed()
    expect(start).to_be_in_viewport(ratio=1)
    start.click(trial=True)  # nothing lies over it


@pytest.mark.parametrize("width", [1440, 390])
def test_the_header_is_one_line_and_the_gpu_is_spoken_of_under_train_alone(empty_page, width):
    page = empty_page
    page.set_viewport_size({"width": width, "height": 844})
    for tab in ("Train", "Evaluate", "Chat"):
        open_tab(page, tab)
        assert page.locator(".mc-head").bounding_box()["height"] < 50
        expect(page.get_by_text("Needs a CUDA GPU").first).to_be_visible(visible=tab == "Train")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_has_one_measure(serve, open_page, runs_dir):
    page = open_page(serve(runs_dir, FakeClient()))
    expect(page.locator("#run-list")).to_be_hidden()
    for width in (1440, 1920, 2560):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.locator(".main.fillable").bounding_box()["width"] == 1320, width
    write_run(RunStore(runs_dir), RunSettings(), "finished")
    expect(page.locator("#run-list")).to_be_visible()
    assert page.locator(".main.fillable").bounding_box()["width"] == 1600, "the list stands beside the tabs"
    page.get_by_role("button", name="Hide", exact=True).click()
    assert page.locator(".main.fillable").bounding_box()["width"] == 1320


def test_a_stopped_job_says_what_is_left_of_it(serve, open_page, runs_dir):
    """Each sentence beside what lies in the folder."""
    store, begun = RunStore(runs_dir), [Started(job="train", device="CPU"), step(1)]
    kept = write_run(store, RunSettings(name="kept"), "stopped", begun)
    (kept.checkpoints_dir / "checkpoint-20").mkdir(parents=True)
    empty = write_run(store, RunSettings(name="empty"), "stopped", begun)
    cancelled = write_run(store, RunSettings(name="cancelled"), "stopped")
    page = open_page(serve(runs_dir, FakeClient()))
    expect(listed(page, empty)).to_have_attribute("aria-current", "true")
    for run, words in (
        (kept, "Stopped on request; the checkpoint of step 20 is kept."),
        (empty, "Stopped on request, before anything was saved."),
        (cancelled, "Cancelled before it started."),
    ):
        pick(page, run)
        expect(page.locator("#live .mc-stage")).to_have_text(words)
    expect(page.locator("#plot")).not_to_contain_text("appears with the first step")


def test_a_stopped_evaluation_says_how_many_answers_are_kept(serve, open_page, runs_dir):
    run = write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True)
    evaluation = run.new_evaluation()
    answer = {"kind": "record", "arm": "base", "output": "x", "tokens": 1, "ended": "finished", "seconds": 1.0}
    evaluation.write_lines("answers", [Answer(**answer, number=n) for n in range(1, 5)])
    for event in (Started(job="evaluate", device="CPU"), Progress(stage="Answering", done=4, total=15)):
        evaluation.append(event)
    evaluation.write_status("stopped", job="evaluate")
    page = open_tab(open_page(serve(runs_dir, FakeClient())), "Evaluate")
    expect(page.get_by_text("Stopped on request; 4 of 15 answers are kept.")).to_be_visible()


def test_chat_says_on_load_that_the_decoding_is_the_evaluations(serve, open_page, runs_dir):
    write_run(RunStore(runs_dir), compose("starter"), "finished", adapter=True)
    page = open_tab(open_page(serve(runs_dir, FakeClient())), "Chat")
    page.get_by_role("button", name="Decoding", exact=False).first.click()
    expect(page.get_by_label("New tokens", exact=False).first).to_have_value("320")
    page.wait_for_timeout(1500)
    expect(page.locator("#decoding-state")).to_contain_text("The same as in the evaluation of this run.")


def test_nothing_from_data_is_markup_in_evaluate(serve, open_page, runs_dir):
    run = write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True)
    evaluation = run.new_evaluation()
    arm = {"output": NASTY, "reasoning": NASTY, "answer": "word " * 3000, "problems": [NASTY], "truncated": False}
    row = {"question": NASTY, "base": arm, "tuned": arm, "reference": {"reasoning": NASTY, "answer": NASTY}}
    row |= {"record": 1, "gain": 0}
    evaluation.write_lines("examples", [EXAMPLE.validate_python(row)])
    evaluation.write_summary(summary())
    evaluation.write_status("finished", job="evaluate")
    page = open_tab(open_page(serve(runs_dir, FakeClient())), "Evaluate")
    expect(page.locator("#results .mc-verdict")).to_contain_text("Not distinguishable at this size")
    expect(page.locator("#scores")).to_contain_text("+0.010−0.020 to +0.040")
    expect(page.locator("#results")).to_contain_text("Tuned was cut at the token limit in 50% of the records.")
    page.locator("#examples summary").first.click()
    expect(page.locator("#examples")).to_contain_text(NASTY)
    assert page.evaluate("window.pwned") is None
    for width in (320, 390, 768, 961, 1200, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, width


def summary() -> Summary:
    arm = dict.fromkeys(
        ("answer_rouge_l", "reasoning_rouge_l", "format_strict", "format_lenient", "truncated", "length_ratio"), 0.5
    )
    paired = {"difference": 0.01, "low": -0.02, "high": 0.04, "win": 11, "tie": 5, "loss": 4}
    return Summary(
        run="r",
        metric="rougeL F1, stemmer",
        decoding={"max_new_tokens": 320, "temperature": 0.0},
        notes=[NASTY],
        data={"records": 1, "source": NASTY},
        arms={"base": arm, "tuned": arm},
        floors={"echo": 0.1, "shuffled": 0.1, "empty": 0.0, "gold_reasoning": 0.2},
        paired={"tuned-base": {**paired, "verdict": "not distinguishable", "records_needed": 300}},
    )


def test_chat_shows_model_text_as_text_and_warns_of_the_starter(serve, open_page, runs_dir):
    write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True)
    tuned = f"<think>first {NASTY[23:]}</think><response>so {NASTY[23:]}</response>"
    page = open_tab(open_page(serve(runs_dir, FakeClient(base=NASTY + " </b> <think", tuned=tuned))), "Chat")
    expect(page.get_by_text("its medical statements are often wrong")).to_have_count(1)
    page.locator("#question textarea").fill("Why?")
    page.get_by_role("button", name="Ask both", exact=True).click()
    expect(page.locator("#chat-note")).to_contain_text("Done.")
    expect(page.locator("#left-ending")).to_contain_text("Finished · 10 tokens · first token after 0.1 s")
    expect(page.locator("#right-reasoning .mc-text")).to_have_text(f"first {NASTY[23:]}")
    expect(page.locator("#right-answer .mc-text")).to_have_text(f"so {NASTY[23:].replace('**', '')}")
    expect(page.locator("#left-answer")).to_contain_text("<think")
    assert page.evaluate("window.pwned") is None


def test_a_second_question_waits_and_a_refusal_is_in_words(serve, open_page, runs_dir):
    write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True)
    client = FakeClient(base="one", tuned="two")
    client.hold = threading.Event()
    url = serve(runs_dir, client)
    first, second = (open_tab(open_page(url), "Chat") for _ in range(2))
    for page, note in ((first, "Answering"), (second, "Waiting: yours is next.")):
        page.locator("#question textarea").fill("Why?")
        page.get_by_role("button", name="Ask both", exact=True).click()
        expect(page.locator("#chat-note")).to_contain_text(note)
    client.hold.set()
    for page in (first, second):
        expect(page.locator("#chat-note")).to_contain_text("Done.")
    client.problems = ("The device is in use by some-run. Wait until it is done.",)
    second.locator("#question textarea").fill("Again?")
    second.get_by_role("button", name="Ask both", exact=True).click()
    expect(second.locator("#chat-note")).to_contain_text("The device is in use by some-run.")
    second.locator("#question textarea").fill(" ")
    second.get_by_role("button", name="Ask both", exact=True).click()
    expect(second.locator("#chat-note")).to_contain_text("question: is empty.")


def test_the_page_invites_the_named_calls_alone_and_keeps_nothing(serve, open_page, runs_dir):
    page = open_page(serve(runs_dir, FakeClient()))
    config = page.evaluate("window.gradio_config")
    assert config["run_history"] is False
    assert not config["analytics_enabled"]
    called = {d["api_name"] for d in config["dependencies"] if d["api_visibility"] == "public"}
    assert called == {"list_runs", "evaluation_summary", "ask_base_and_tuned"}
    assert not is_foreign(page.url)
    assert json.loads(page.evaluate("JSON.stringify({...localStorage})")).keys() <= {"theme"}
