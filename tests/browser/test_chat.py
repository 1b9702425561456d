"""Chat, on a real service worker with a tiny model."""

import pytest
from playwright.sync_api import expect

from medcot.data.starter import CHIPS, SAMPLE_QUESTIONS
from medcot.machine import write_atomically
from medcot.runs.ids import title_of
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.workers.client import ServiceClient
from tests.browser.conftest import PATIENCE
from tests.fakes import FakeClient, write_run, write_shipped

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)


def test_asks_fills_both_panels_and_cancels(serve, open_page, tuned):
    settings = tuned.settings()
    # Drawn by chance, so that it does not go round in circles, and not so freely that it draws the end of its turn
    # (about once in 1,000 tokens at temperature 1): either would end it before Stop is pressed.
    long = settings.evaluation.model_copy(update={"max_new_tokens": 30_000, "temperature": 0.25})
    longer = settings.model_copy(update={"evaluation": long})
    write_atomically(tuned.path / "settings.json", longer.model_dump_json())
    folder = tuned.path.parent
    page = open_page(serve(folder, ServiceClient(folder.resolve())))
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    page.get_by_role("tab", name="Chat", exact=True).click()
    expect(page.locator("#memory")).to_contain_text("No model is in memory")

    question = SAMPLE_QUESTIONS[2][1]
    page.get_by_role("button", name=CHIPS[question], exact=True).click()
    expect(page.locator("#question textarea")).to_have_value(question)
    assert page.locator("#chat-note").inner_text().strip() == "", "a sample must not send"

    page.get_by_role("button", name="Ask both", exact=True).click()
    expect(page.locator("#chat-note")).to_contain_text("tokens per second")
    for side in ("left", "right"):
        expect(page.locator(f"#{side}-answer .mc-text, #{side}-reasoning .mc-text").first).not_to_be_empty()
    page.get_by_role("button", name="Stop answering", exact=True).click()
    expect(page.locator("#chat-note")).to_contain_text("Stopped.")
    expect(page.get_by_role("button", name="Ask both", exact=True)).to_be_enabled()
    expect(page.locator("#memory")).to_contain_text(f"In memory: {title_of(tuned.id)}")

    stored = page.evaluate("JSON.stringify({...localStorage}) + JSON.stringify({...sessionStorage})")
    assert "diabetes" not in stored
    left = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".slot"))
    assert left == files, "chat wrote a file"
    page.reload()
    page.get_by_role("tab", name="Chat", exact=True).click()
    expect(page.locator("#question textarea")).to_have_value("")


def test_an_exported_file_is_chosen_by_its_name_and_asked(serve, open_page, tmp_path):
    run = write_run(RunStore(tmp_path / "runs"), RunSettings(), "finished", adapter=True)
    client = FakeClient(base="A base answer.", tuned="<think>Why</think><response>The file's answer.</response>")
    page = open_page(serve(tmp_path / "runs", client))
    page.get_by_role("tab", name="Chat", exact=True).click()
    choice = page.locator("#chat-beside")
    expect(page.get_by_role("button", name="Ask both", exact=True)).to_be_visible()
    expect(choice).to_be_hidden()

    write_shipped(run, tmp_path / "shipped", "q8_0")
    file = choice.get_by_label("The exported file (Q8_0), run by llama.cpp", exact=True)
    file.check()  # it appears by itself
    page.locator("#question textarea").fill("What suggests gout?")
    page.get_by_role("button", name="Ask both", exact=True).click()
    expect(page.locator("#panel-right h2")).to_contain_text("Q8_0")
    expect(page.locator("#right-answer")).to_contain_text("The file's answer.")
    expect(page.locator("#memory")).to_contain_text("with its exported file")
    expect(file).to_be_checked()
    assert str(tmp_path / "shipped") not in page.content()
