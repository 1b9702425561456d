"""After: two runs compared, names, notes, deletion, a new run from an old one; and the queue."""

import os

import pytest
from playwright.sync_api import expect

from medcot.runs.events import Finished, Sample, Validation
from medcot.runs.ids import name_of, title_of
from medcot.runs.store import RunStore
from medcot.settings.recipes import compose
from tests.browser.conftest import PATIENCE, end, field, fill, listed, pick, unfold, wait_until
from tests.browser.test_states import NASTY, step
from tests.browser.test_train import long_run, start  # noqa: F401  # a fixture
from tests.fakes import FakeClient, write_run

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)


def finished(store, *pairs):
    told = [Validation(step=0, loss=3.5), *(step(n) for n in range(1, 11)), Validation(step=10, loss=2.5)]
    settings = compose("starter", None, list(pairs))
    return write_run(store, settings, "finished", [*told, Finished(seconds=75, peak_memory_gib=2)])


def choose(page, run):
    """Choose a run in the list, and wait until the page shows it and what may be done with it."""
    pick(page, run)
    expect(page.locator("#live h3")).to_have_text(name_of(run.id))
    expect(page.locator("#run-note textarea")).to_have_value(run.about().note)


def test_two_runs_are_compared_and_a_new_run_takes_an_old_ones_settings(serve, open_page, runs_dir):
    store = RunStore(runs_dir)
    one, other = finished(store, "lora.rank=8"), finished(store, "training.epochs=2")
    one.describe(note="of one")
    page = open_page(serve(runs_dir, FakeClient()))
    page.locator("#compare-it").click()  # the newest run is open, so it comes first
    heads = page.locator("#differences thead th")
    expect(heads).to_have_text([title_of(other.id), title_of(one.id)])
    expect(page.locator("#differences tbody tr")).to_have_text(["LoRA rank168", "Epochs21"])
    expect(page.locator("#compared-runs polyline")).to_have_count(4)
    expect(page.get_by_role("heading", name="Runs compared", exact=True)).to_be_in_viewport()
    for shown in ("Finished", "starter", "2.000", "2.500", "1:15", "kB"):
        expect(page.locator("#compared")).to_contain_text(shown)
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("#compared-runs")).to_be_hidden()
    expect(page.locator(".mc-tick:checked")).to_have_count(0)
    page.get_by_role("button", name="Name, note, settings, delete").click()
    pick(page, one)
    expect(page.locator("#live")).to_contain_text(one.id)  # both were made in one minute, and are called alike
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#live").get_by_role("button", name="Copy the id").click()
    expect(page.locator("#live .mc-copy-id")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == one.id
    page.get_by_role("button", name="New run from these settings", exact=True).click()
    unfold(page)
    expect(field(page, "lora.rank")).to_have_value("8")
    expect(page.locator("#command")).to_contain_text("--set lora.rank=8")


def test_a_name_and_a_note_are_shown_as_text_and_a_path_is_refused(serve, open_page, runs_dir):
    run = finished(RunStore(runs_dir))
    page = open_page(serve(runs_dir, FakeClient()))
    page.get_by_role("button", name="Name, note, settings, delete").click()
    page.locator("#run-name textarea, #run-name input").fill("../x")
    page.get_by_role("button", name="Save name and note", exact=True).click()
    expect(page.locator("#manage-said")).to_contain_text("Name: may not be empty")
    page.locator("#run-name textarea, #run-name input").fill("<b>my</b> run".replace("/", ""))
    page.locator("#run-note textarea").fill(NASTY)
    page.get_by_role("button", name="Save name and note", exact=True).click()
    expect(listed(page, run)).to_contain_text("<b>my<b> run")
    expect(page.locator("#live")).to_contain_text(NASTY)
    assert page.evaluate("window.pwned") is None
    assert run.about().note == NASTY


def test_delete_asks_first_and_never_takes_a_running_one(serve, open_page, runs_dir, monkeypatch):
    monkeypatch.setattr("medcot.runs.job_dir.JobDir.worker_alive", lambda self, pid: pid == os.getpid())
    store = RunStore(runs_dir)
    old = finished(store)
    alive = write_run(store, compose("starter"), "running", pid=os.getpid())
    for run in (old, alive):
        run.describe(note=f"of {run.id}")
    page = open_page(serve(runs_dir, FakeClient()))
    page.get_by_role("button", name="Name, note, settings, delete").click()
    for run, left in ((alive, True), (old, False)):
        choose(page, run)
        delete = page.get_by_role("button", name="Delete this run", exact=True)
        delete.click()
        expect(page.locator("#delete-question")).to_contain_text(f"Delete {run.id}")
        page.get_by_role("button", name="Keep it", exact=True).click()
        expect(delete).to_be_visible()
        assert run.path.exists()
        delete.click()
        page.get_by_role("button", name="Yes, delete it for good", exact=True).click()
        if left:
            expect(page.locator("#manage-said")).to_contain_text(f"{run.id} is running")
        else:
            expect(listed(page, run)).to_have_count(0)
        assert run.path.exists() is left


def test_samples_and_rates_are_shown(serve, open_page, runs_dir):
    formed = "<think>Urate.</think><response>Gout.</response>"
    told = [
        Validation(step=0, loss=3),
        Sample(step=0, arm="tuned", question="Why a red toe?", output=NASTY),
        *(step(n) for n in range(1, 4)),
        Sample(step=3, arm="tuned", question="Why a red toe?", output=formed),
    ]
    write_run(RunStore(runs_dir), compose("starter"), "stopped", told)
    page = open_page(serve(runs_dir, FakeClient()))
    samples = page.locator("#samples details")
    expect(samples).to_have_count(2)
    expect(samples.first).to_contain_text("Step 3: 1 of 1 keep to the tags")
    expect(samples.first.locator(".mc-text")).to_have_text(["Urate.", "Gout."])
    samples.last.locator("summary").click()
    expect(samples.last).to_contain_text("Format: text outside the tags")
    for title in ("Learning rate", "Gradient norm", "Tokens/s", "GPU memory, GiB"):
        expect(page.locator("#rates figcaption", has_text=title)).to_be_visible()
    assert page.evaluate("window.pwned") is None


def test_a_second_training_waits_in_the_queue_and_can_be_cancelled_and_stop_now_ends_the_first(
    serve,
    open_page,
    runs_dir,
    long_run,  # noqa: F811
):
    url = serve(runs_dir)
    page = open_page(url)
    start(page, long_run)
    first = RunStore(runs_dir).list()[0]
    fill(page, {"name": "second"})
    page.locator("#start").click()
    try:
        expect(page.locator("#live .mc-badge")).to_have_text("Queued")
        second = RunStore(runs_dir).list()[0]
        viewer = open_page(url)
        for each in (page, viewer):
            expect(each.locator("#queue")).to_contain_text(f"At work: Training {title_of(first.id)}")
            expect(each.get_by_role("radio", name=f"Training {title_of(second.id)}")).to_be_visible()
        cancel = viewer.get_by_role("button", name="Cancel the chosen job", exact=True)
        cancel.click()
        expect(viewer.locator("#queue-problems")).to_contain_text("none is chosen")
        viewer.get_by_role("radio", name=f"Training {title_of(second.id)}").check()
        cancel.click()
        expect(page.locator("#live .mc-badge")).to_have_text("Stopped")
        expect(page.locator("#waiting")).not_to_be_visible()
        pick(page, first)
        page.get_by_role("button", name="Stop now, without saving", exact=True).click()
        expect(page.locator("#live .mc-badge")).to_have_text("Stopped")
        wait_until(lambda: first.status().state == "stopped", 20)
    finally:
        for run in RunStore(runs_dir).list():
            end(run)
