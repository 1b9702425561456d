"""Where a page is, in its address, and what of the form a reload keeps."""

import json
import re

import pytest
from playwright.sync_api import expect

from medcot.runs.ids import title_of
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from tests.browser.conftest import PATIENCE, field, listed, pick, unfold
from tests.fakes import FakeClient, write_run

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)


def tab(page, name):
    return page.get_by_role("tab", name=name, exact=True)


def settle(page):
    """For 0.3 s after a load the page follows its address and writes none."""
    page.evaluate("new Promise(done => setTimeout(done, 300))")


def test_a_reload_keeps_the_tab_and_a_link_and_the_back_button_lead_to_one(serve, open_page, runs_dir):
    url = serve(runs_dir, FakeClient())
    page = open_page(url)
    settle(page)
    tab(page, "Evaluate").click()
    tab(page, "Chat").click()
    expect(page).to_have_url(re.compile(r"\?tab=chat$"))
    page.reload()
    expect(tab(page, "Chat")).to_have_attribute("aria-selected", "true")
    settle(page)
    tab(page, "Train").click()
    expect(page).to_have_url(re.compile(r"\?tab=train$"))
    page.go_back()
    expect(tab(page, "Chat")).to_have_attribute("aria-selected", "true")
    linked = open_page(f"{url}/?tab=evaluate")
    expect(tab(linked, "Evaluate")).to_have_attribute("aria-selected", "true")
    strange = open_page(f"{url}/?tab=%3Cscript%3E&run=../../etc")
    expect(tab(strange, "Train")).to_have_attribute("aria-selected", "true")


def test_a_run_has_an_address_and_a_reload_keeps_it_in_every_tab(serve, open_page, runs_dir):
    store = RunStore(runs_dir)
    older, newer = (write_run(store, RunSettings(), "finished", adapter=True) for _ in range(2))
    url = serve(runs_dir, FakeClient())
    page = open_page(url)
    expect(listed(page, newer)).to_have_attribute("aria-current", "true")
    settle(page)
    pick(page, older)
    expect(page).to_have_url(re.compile(f"run={older.id}"))
    page.reload()
    expect(listed(page, older)).to_have_attribute("aria-current", "true")
    for name, head in (("Evaluate", "#evaluate-head"), ("Chat", "#chat-head")):
        tab(page, name).click()
        expect(page.locator(head)).to_contain_text(title_of(older.id))
    gone = open_page(f"{url}/?run=20200101-000000-000-gone-0000")
    expect(listed(gone, newer)).to_have_attribute("aria-current", "true")


def test_a_reload_keeps_the_form_and_the_browser_keeps_no_key_and_no_question(serve, open_page, runs_dir):
    page = open_page(serve(runs_dir, FakeClient()))
    unfold(page)
    field(page, "training.epochs").fill("3")
    field(page, "name").fill("Mine")
    page.get_by_text("Keys for this run only").click()
    page.get_by_label("Hugging Face token").fill("hf_secret_token")
    tab(page, "Chat").click()
    page.locator("#question textarea").fill("A patient of mine")
    page.wait_for_timeout(1500)
    page.reload()
    tab(page, "Train").click()
    unfold(page)
    expect(field(page, "training.epochs")).to_have_value("3")
    expect(field(page, "name")).to_have_value("Mine")
    expect(page.locator("#command")).to_contain_text("training.epochs=3")
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert "Mine" in kept
    for private in ("hf_secret", "A patient"):
        assert private not in kept
    assert json.loads(json.loads(kept)[0]["medcot-form"])["training.epochs"] == "3"


def test_a_form_that_another_version_kept_stops_nothing(serve, open_page, runs_dir):
    page = open_page(serve(runs_dir, FakeClient()))
    page.evaluate('localStorage.setItem(\'medcot-form\', \'{"recipe": "gone", "name": "Kept", "x": [1]}\')')
    page.reload()
    unfold(page)
    expect(field(page, "name")).to_have_value("Kept")
    expect(page.locator("#set-recipe input:checked")).to_have_count(1)
