"""Train in one screen: what starts a run, and what a start brings, are in view without scrolling."""

import re

import pytest
from playwright.sync_api import Page, expect

from medcot.runs.events import Finished, Progress, Started, Validation
from medcot.runs.job_dir import JobDir
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.workers import jobs
from tests.browser.conftest import PATIENCE
from tests.browser.test_states import step
from tests.fakes import FakeClient, write_run

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)
SIZES = [(1440, 900), (390, 844)]


@pytest.fixture
def no_worker(monkeypatch):
    """A start makes the run's folder and no process, and whatever has the pid 1 is alive."""
    monkeypatch.setattr(jobs, "_spawn", lambda job, kind, secrets: job.write_status("queued", job=kind, pid=1))
    monkeypatch.setattr(JobDir, "worker_alive", lambda self, pid: pid == 1)


def sized(page: Page, width: int, height: int) -> Page:
    page.set_viewport_size({"width": width, "height": height})
    return page


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_main_button_and_then_its_result_are_in_view(serve, open_page, runs_dir, no_worker, width, height):
    page = sized(open_page(serve(runs_dir, FakeClient())), width, height)
    start = page.locator("#start")
    expect(start).to_be_in_viewport(ratio=1)
    expect(start).to_have_text(re.compile(r"Start training · about \d+ min"))
    expect(page.locator("#check")).to_be_in_viewport(ratio=1)
    expect(page.locator("#demo")).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    start.click()
    badge = page.locator("#live .mc-badge")
    expect(badge).to_have_text("Queued")
    expect(badge).to_be_in_viewport(ratio=1)
    expect(page.locator("#live .mc-steps")).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_cards_say_what_runs_here_and_how_long(empty_page):
    page = empty_page
    cards = page.locator("#set-recipe label:has(input)")
    expect(cards).to_have_count(3)
    expect(cards.nth(0)).to_contain_text(re.compile(r"Starter.*146 records.*about \d+ min.*GiB", re.DOTALL))
    for other in (cards.nth(1), cards.nth(2)):
        expect(other).to_contain_text("Needs a CUDA GPU")
        assert other.evaluate("e => getComputedStyle(e).borderStyle") == "dashed"
    cards.nth(1).click()
    expect(page.locator("#start")).to_have_text("Start training")
    expect(page.locator("#form-notes")).to_contain_text("It does not run here: Needs a CUDA GPU")


def test_data_is_named_by_a_button_and_the_time_follows_the_form(empty_page):
    page = empty_page
    page.locator("#data-hub").click()
    expect(page.locator("#set-data-source").locator("input, textarea")).to_have_value(
        re.compile("^FreedomIntelligence/")
    )
    expect(page.locator("#start")).to_have_text("Start training")
    expect(page.locator("#set-data-answer_column")).to_be_visible()
    page.locator("#data-starter").click()
    expect(page.locator("#start")).to_have_text(re.compile(r"· about \d+ min"))
    expect(page.locator("#set-data-answer_column")).to_be_hidden()


def test_a_run_is_walked_through_all_its_stages_and_the_tabs_title_follows(serve, open_page, runs_dir, no_worker):
    store = RunStore(runs_dir)
    run: Run = write_run(store, RunSettings(), "queued", pid=1)
    page = open_page(serve(runs_dir, FakeClient()))
    live, now = page.locator("#live"), page.locator("#live .mc-step-now")
    expect(now).to_have_text("Queued")
    run.write_status("running", pid=1)
    run.append(Started(job="train", device="CPU"))
    for told, words in (
        (Progress(stage="Reading the data"), "Data"),
        (Progress(stage="Fetching the starter model (93 MB, once)"), "Model"),
        (Progress(stage="Encoding the records", total=170), "Data0 of 170"),
        (Progress(stage="Loading the model"), "Model"),
        (Progress(stage="Validation before the first step", done=3, total=6), "Baseline3 of 6"),
        (Progress(stage="Answering the sample questions", total=3), "Samples0 of 3"),
        (Progress(stage="Training", done=4, total=10, eta_seconds=65), "Training4 of 10"),
    ):
        run.append(told)
        expect(now).to_have_text(words)
    expect(live).to_contain_text("about 1:05 left")
    expect(page).to_have_title("40% · medcot")
    run.append(step(4))
    run.append(Validation(step=4, loss=2.5))
    run.append(Progress(stage="Saving a checkpoint", done=4, total=10))
    (run.checkpoints_dir / "checkpoint-4").mkdir(parents=True)
    expect(now).to_have_text("Saving4 of 10")
    run.write_status("stopping", pid=1)
    expect(live).to_contain_text("Stopping after this step")
    run.write_status("stopped")
    expect(live).to_contain_text("Stopped on request; the checkpoint of step 4 is kept.")
    expect(page.locator("#live .mc-steps")).to_have_count(0)
    expect(page).to_have_title("Stopped · medcot")
    page.locator("#resume").click()
    expect(now).to_have_text("Queued")
    run.write_status("running", pid=1)
    run.append(Started(job="train", device="CPU"))
    run.append(Progress(stage="Training", done=5, total=10))
    expect(now).to_have_text("Training5 of 10")
    run.append(Finished(seconds=75))
    run.write_status("finished")
    expect(live).to_contain_text("Took 1:15.")
    expect(page).to_have_title("Finished · medcot")
