"""States of the page that a real worker rarely shows, on run directories and a client written by hand."""

import json
import os
import threading

import pytest
from playwright.sync_api import expect

from medcot.events import Finished, PlanMade, Progress, Step, Validation, Warned
from medcot.runs import RunStore
from medcot.settings import RunSettings
from tests.browser.conftest import PATIENCE, is_foreign, points
from tests.fakes import FakeClient, write_run

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


def test_every_tab_says_what_to_do_first_and_the_research_line_stays(serve, open_page, runs_dir):
    page = open_page(serve(runs_dir, FakeClient()))
    for tab, title in (("Train", "No run yet"), ("Evaluate", "Nothing to evaluate yet"), ("Chat", "Nobody to ask yet")):
        open_tab(page, tab)
        expect(page.get_by_role("heading", name=title)).to_be_visible()
        page.mouse.wheel(0, 3000)
        expect(page.get_by_text("For research only, not for care.")).to_be_in_viewport()
    expect(page.get_by_text("Runs on")).to_be_visible()


def test_figures_failure_with_hint_and_list(serve, open_page, runs_dir):
    store = RunStore(runs_dir)
    plan = PlanMade(
        records=10,
        held_out=2,
        truncated=0,
        total_steps=10,
        trainable_parameters=1,
        total_parameters=2,
        fingerprint="f",
        model="m",
    )
    told = [plan, Validation(step=0, loss=3.5), step(1), step(2), Warned(message=NASTY)]
    progress = Progress(stage="Training", done=2, total=10, eta_seconds=65)
    failed = write_run(
        store, RunSettings(name="failed"), "failed", [*told, progress], error=NASTY, hint="Halve training.micro_batch."
    )
    done = write_run(store, RunSettings(name="done"), "finished", [*told, Finished(seconds=75, peak_memory_gib=2)])
    page = open_page(serve(runs_dir, FakeClient()))
    expect(page.get_by_role("radio", name=done.id)).to_be_checked()
    page.get_by_role("radio", name=failed.id).check()
    live = page.locator("#live")
    expect(live.locator(".mc-badge")).to_have_text("Failed")
    expect(live).to_contain_text("Halve training.micro_batch.")
    expect(live).to_contain_text(NASTY)
    expect(live).to_contain_text("4.2 GiB")
    assert points(page) == 2
    assert page.evaluate("window.pwned") is None
    page.get_by_role("radio", name=done.id).check()
    expect(live.locator(".mc-badge")).to_have_text("Finished")
    expect(live).to_contain_text("Took 1:15")


def test_a_queued_run_says_that_it_waits(serve, open_page, runs_dir, monkeypatch):
    monkeypatch.setattr("medcot.jobdirs.JobDir.worker_alive", lambda self, pid: pid == os.getpid())
    store = RunStore(runs_dir)
    busy = write_run(store, RunSettings(name="busy"), "running", pid=os.getpid())
    queued = write_run(store, RunSettings(name="next"), "queued", pid=os.getpid())
    page = open_page(serve(runs_dir, FakeClient()))
    expect(page.get_by_role("radio", name=busy.id)).to_be_checked()
    page.get_by_role("radio", name=queued.id).check()
    expect(page.locator("#live")).to_contain_text(f"Waiting for the device, which {busy.id} uses")


def test_nothing_from_data_is_markup_in_evaluate(serve, open_page, runs_dir):
    run = write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True)
    evaluation = run.new_evaluation()
    arm = {"output": NASTY, "reasoning": NASTY, "answer": "word " * 3000, "problems": [NASTY], "truncated": False}
    row = {"question": NASTY, "base": arm, "tuned": arm, "reference": {"reasoning": NASTY, "answer": NASTY}}
    row |= {"record": 1, "gain": 0}
    evaluation.write_lines("examples", [row])
    evaluation.write_summary(summary())
    evaluation.write_status("finished", job="evaluate")
    page = open_tab(open_page(serve(runs_dir, FakeClient())), "Evaluate")
    expect(page.locator("#results .mc-verdict")).to_contain_text("Not distinguishable at this size")
    expect(page.locator("#scores")).to_contain_text("+0.010 (-0.020 to +0.040)")
    expect(page.locator("#results")).to_contain_text("Tuned was cut at the token limit in 50% of the records.")
    page.locator("#examples summary").click()
    expect(page.locator("#examples .mc-text").first).to_have_text(NASTY)
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def summary() -> dict:
    arm = dict.fromkeys(
        ("answer_rouge_l", "reasoning_rouge_l", "format_strict", "format_lenient", "truncated", "length_ratio"), 0.5
    )
    paired = {"difference": 0.01, "low": -0.02, "high": 0.04, "win": 11, "tie": 5, "loss": 4}
    return {
        "run": "r",
        "metric": "rougeL F1, stemmer",
        "decoding": {"max_new_tokens": 320, "temperature": 0.0},
        "notes": [NASTY],
        "data": {"records": 1, "source": NASTY},
        "arms": {"base": arm, "tuned": arm},
        "floors": {"echo": 0.1, "shuffled": 0.1, "empty": 0.0, "gold_reasoning": 0.2},
        "paired": {"tuned-base": {**paired, "verdict": "not distinguishable", "records_needed": 300}},
    }


def test_chat_shows_model_text_as_text_and_warns_of_the_starter(serve, open_page, runs_dir):
    write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True)
    tuned = f"<think>first {NASTY[23:]}</think><response>so {NASTY[23:]}</response>"
    page = open_tab(open_page(serve(runs_dir, FakeClient(base=NASTY + " </b> <think", tuned=tuned))), "Chat")
    expect(page.get_by_text("its medical statements are often wrong")).to_have_count(2)
    page.locator("#question textarea").fill("Why?")
    page.get_by_role("button", name="Ask both", exact=True).click()
    expect(page.locator("#chat-note")).to_contain_text("Done.")
    expect(page.locator("#left-ending")).to_contain_text("Finished · 10 tokens · first token after 0.1 s")
    expect(page.locator("#right-reasoning .mc-text")).to_have_text(f"first {NASTY[23:]}")
    expect(page.locator("#right-answer .mc-text")).to_have_text(f"so {NASTY[23:]}")
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
