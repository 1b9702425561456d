"""From an empty page to two answers with one button, on real workers with a tiny model; only Chat follows a script."""

import re

import pytest
from playwright.sync_api import expect

from medcot.runs.store import RunStore
from medcot.settings import build
from medcot.ui.train import demo
from medcot.workers import jobs
from tests.browser.conftest import PATIENCE, wait_until
from tests.conftest import tiny_raw, write_records
from tests.fakes import FakeClient

pytestmark = pytest.mark.slow
expect.set_options(timeout=3 * PATIENCE)


@pytest.fixture
def tiny_demo(monkeypatch, tiny_model, tmp_path):
    """The demo's recipe is the tiny model's."""
    settings = build(tiny_raw(tiny_model, write_records(tmp_path / "records.jsonl", 12)))
    monkeypatch.setattr(demo, "compose", lambda recipe: settings)


def test_one_button_trains_measures_and_ends_in_chat_with_two_answers(serve, open_page, runs_dir, tiny_demo):
    client = FakeClient(base="<think>a</think><response>Base says so.</response>", tuned="Tuned says this.")
    page = open_page(serve(runs_dir, client))
    button = page.locator("#demo")
    expect(button).to_have_text(re.compile(r"Run the whole demo \(about \d+ min\)"))
    button.click()
    button.evaluate("e => e.click()")  # twice is once
    expect(page.locator("#demo-state")).to_contain_text("Demo: training the starter")
    page.reload()
    expect(page.locator("#demo-state")).to_contain_text(re.compile("Demo|Measuring|Asking"))
    expect(page.locator("#left-answer")).to_contain_text("Base says so.")
    expect(page.locator("#right-answer")).to_contain_text("Tuned says this.")
    expect(page.locator("#right-answer")).to_be_in_viewport()
    [run] = RunStore(runs_dir).list()
    assert run.status().state == "finished"
    assert [e.status().state for e in run.evaluations()] == ["finished"]
    page.reload()
    expect(page.locator("#live .mc-badge")).to_have_text("Finished")
    expect(page.locator("#demo")).to_be_hidden()
    assert page.evaluate("sessionStorage.getItem('medcot-demo')") is None


def test_a_demo_whose_training_is_stopped_says_so_and_another_page_is_left_alone(
    serve, open_page, runs_dir, tiny_demo, monkeypatch
):
    url = serve(runs_dir, FakeClient())
    monkeypatch.setattr(jobs, "_spawn", lambda job, kind, secrets: job.write_status("queued", job=kind))
    monkeypatch.setattr("medcot.runs.job_dir.JobDir.worker_alive", lambda self, pid: True)
    page, other = open_page(url), open_page(url)
    page.locator("#demo").click()
    expect(page.locator("#demo-state")).to_contain_text("Demo: training the starter")
    wait_until(lambda: bool(RunStore(runs_dir).list()))
    [run] = RunStore(runs_dir).list()
    run.write_status("stopped")
    expect(page.locator("#demo-state")).to_contain_text("its training is stopped, so nothing was measured")
    expect(other.locator("#live .mc-badge")).to_have_text("Stopped")
    expect(other.locator("#demo-state")).to_be_hidden()
