"""An adapter from elsewhere, measured from the page by a real worker."""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from medcot.runs.job_dir import ALIVE
from medcot.runs.store import RunStore
from tests.browser.conftest import PATIENCE, end, wait_until
from tests.conftest import write_records
from tests.fakes import FakeClient

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)


def test_it_is_asked_for_what_it_lacks_then_measured_and_never_said_to_be_trained_here(
    serve, open_page, trained, endless_model, tmp_path
):
    theirs = Path(shutil.copytree(trained / "adapter", tmp_path / "theirs"))
    (theirs / "prompt_contract.json").unlink()
    records, runs = write_records(tmp_path / "own.jsonl", 60), RunStore(tmp_path / "runs")
    page = open_page(serve(runs.root, FakeClient()))
    page.get_by_role("tab", name="Evaluate", exact=True).click()
    page.get_by_role("button", name="Measure an adapter from elsewhere").click()
    told, go = page.locator("#elsewhere-told"), page.get_by_role("button", name="Measure it", exact=True)
    go.click()
    expect(told).to_contain_text("Adapter: is empty")
    expect(told).to_contain_text("Records: is empty")

    page.locator("#elsewhere-name textarea, #elsewhere-name input").fill(str(theirs))
    page.locator("#elsewhere-data textarea, #elsewhere-data input").fill(str(records))
    go.click()
    expect(told).to_contain_text("how it was asked in training is unknown")
    expect(told).to_contain_text("is not followed")
    assert runs.list() == []

    page.locator("#elsewhere-style").get_by_label("plain", exact=True).check()
    page.locator("#elsewhere-base textarea, #elsewhere-base input").fill(str(endless_model))
    # Enough of them that it is still at work when Stop is pressed: the model never ends an answer by itself.
    page.locator("#elsewhere-records textarea, #elsewhere-records input").fill("60")
    go.click()
    state = page.locator("#evaluation-state")
    expect(state).to_contain_text(f"Tuned is {theirs}, not trained here")
    run = runs.get("latest")
    try:
        expect(page.get_by_role("button", name="Stop evaluation", exact=True)).to_be_visible()
        page.get_by_role("tab", name="Train", exact=True).click()
        expect(page.locator("#live")).to_contain_text("not trained here")
        expect(page.locator("#runs .mc-run[aria-current=true]")).to_contain_text("Evaluation")
        page.get_by_role("tab", name="Evaluate", exact=True).click()
        page.get_by_role("button", name="Stop evaluation", exact=True).click()
        wait_until(lambda: all(job.status().state not in ALIVE for job in run.evaluations()))
        expect(page.get_by_role("button", name="Resume evaluation", exact=True)).to_be_visible()
    finally:
        for job in run.evaluations():
            end(job)
