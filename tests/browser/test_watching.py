"""What an open page asks for: nothing of Gradio while nothing happens, nothing at all while it is hidden."""

import re
import time

import pytest
from playwright.sync_api import expect

from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from tests.browser.conftest import PATIENCE, wait_until
from tests.fakes import FakeClient, write_run

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)
HIDE = """(hidden) => {
  Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
  document.dispatchEvent(new Event("visibilitychange"));
}"""

# How often anybody asks for a frame within three seconds. Gradio's parts keep the function that they find at first.
COUNTED = """window.asked = 0;
const frame = window.requestAnimationFrame.bind(window);
window.requestAnimationFrame = then => { window.asked++; return frame(then); };"""
FRAMES = "(window.asked = 0, new Promise(done => setTimeout(() => done(window.asked), 3000)))"


def at_rest(page):
    """The page, once it shows the newest version, and its last event of Gradio's is three seconds old."""
    events = []
    page.on("request", lambda request: events.append(time.monotonic()) if "/queue/" in request.url else None)
    expect(page.locator("#looked")).to_have_attribute("value", re.compile(".+"), timeout=PATIENCE)
    page.wait_for_timeout(1500)
    deadline = time.monotonic() + 60
    while events and time.monotonic() < min(deadline, events[-1] + 3):
        page.wait_for_timeout(500)
    return page


def test_a_page_at_rest_asks_once_in_ten_seconds_and_sees_a_change_of_another_program(serve, open_page, runs_dir):
    store = RunStore(runs_dir)
    run = write_run(store, RunSettings(), "finished", adapter=True)
    page = open_page(serve(runs_dir, FakeClient()))
    page.add_init_script(COUNTED)
    page.reload()
    at_rest(page)
    drawn = [page.evaluate(FRAMES)]
    while drawn[-1] and len(drawn) < 5:  # on a busy machine the last of what has come may still be drawn
        drawn.append(page.evaluate(FRAMES))
    assert drawn[-1] == 0, f"something is drawn again and again: frames in three seconds each: {drawn}"
    asked = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2].partition("?")[0]))
    page.wait_for_timeout(11_000)
    assert set(asked) == {"changes"}
    assert len(asked) <= 2
    run.describe(name="Named elsewhere")
    expect(page.locator("#runs .mc-run", has_text="Named elsewhere")).to_be_visible()
    page.get_by_role("tab", name="Evaluate", exact=True).click()
    expect(page.locator("#evaluate-head")).to_contain_text("Named elsewhere")


def test_a_hidden_page_asks_nothing_and_catches_up_when_it_is_shown(serve, open_page, runs_dir):
    store = RunStore(runs_dir)
    run = write_run(store, RunSettings(), "finished", adapter=True)
    page = at_rest(open_page(serve(runs_dir, FakeClient())))
    page.evaluate(HIDE, True)
    page.wait_for_timeout(500)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    run.describe(name="Named meanwhile")
    page.wait_for_timeout(3000)
    assert asked == []
    page.evaluate(HIDE, False)
    expect(page.locator("#runs .mc-run", has_text="Named meanwhile")).to_be_visible(timeout=10_000)


def test_a_page_catches_up_with_a_server_that_was_away(serve, open_page, runs_dir):
    store = RunStore(runs_dir)
    run = write_run(store, RunSettings(), "finished", adapter=True)
    page = at_rest(open_page(serve(runs_dir, FakeClient())))
    page.context.set_offline(True)
    run.describe(name="Named while offline")
    page.wait_for_timeout(2000)
    page.context.set_offline(False)
    expect(page.locator("#runs .mc-run", has_text="Named while offline")).to_be_visible(timeout=PATIENCE)


def test_nothing_that_moves_is_laid_out_anew_for_each_frame(serve, open_page, runs_dir, monkeypatch):
    monkeypatch.setattr("medcot.runs.job_dir.JobDir.worker_alive", lambda self, pid: True)
    write_run(RunStore(runs_dir), RunSettings(), "running", pid=1)
    page = open_page(serve(runs_dir, FakeClient()))
    expect(page.locator("#live .mc-unknown")).to_be_visible()
    moving = page.evaluate(
        "document.getAnimations().flatMap(a => a.effect.getKeyframes()).flatMap(k => Object.keys(k))"
        ".filter(name => !['offset', 'easing', 'composite', 'computedOffset'].includes(name))"
    )
    wait_until(lambda: bool(moving), 10)
    assert set(moving) <= {"transform", "opacity"}
