"""axe-core over every tab, light and dark: no serious and no critical finding."""

from typing import Any

import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.sync_api import Browser, Page, expect

from medcot.data.starter import SAMPLE_QUESTIONS
from medcot.evaluation.summary import EXAMPLE
from medcot.runs.events import Finished, Progress, Warned
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from tests.browser.conftest import PATIENCE
from tests.browser.test_states import step, summary
from tests.fakes import FakeClient, write_run

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)
TUNED = "<think>\nA thought.\n</think>\n<response>\nAn answer.\n</response>"


@pytest.fixture
def url(serve, runs_dir) -> str:
    """A page with a finished, evaluated run and a failed one."""
    store = RunStore(runs_dir)
    write_run(
        store, RunSettings(name="failed"), "failed", [step(1), Warned(message="w")], error="No.", hint="Do.", log="x"
    )
    told = [Progress(stage="Training", done=2, total=10), step(1), step(2), Finished(seconds=75, peak_memory_gib=2)]
    run = write_run(store, RunSettings(), "finished", told, adapter=True)
    evaluation = run.new_evaluation()
    arm = {"output": "o", "reasoning": "r", "answer": "a", "problems": ["no <think> tag"]}
    row = {
        "question": "q",
        "base": arm,
        "tuned": arm,
        "reference": {"reasoning": "r", "answer": "a"},
        "gain": 0,
        "record": 1,
    }
    evaluation.write_lines("examples", [EXAMPLE.validate_python(row)])
    evaluation.write_summary(summary())
    evaluation.write_status("finished", job="evaluate")
    return str(serve(runs_dir, FakeClient(base="plain", tuned=TUNED)))


def findings(page: Page) -> list[str]:
    """What axe finds, with the elements that it means."""
    page.evaluate(AXE_FILE_PATH.read_text(encoding="utf-8"))
    page.wait_for_function("document.getAnimations().every(a => a.playState !== 'running')")
    assert page.evaluate("axe.run().then(r => r.passes.length)") > 10, "axe looked at nothing"
    found: list[dict[str, Any]] = page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)"
    )
    return [f"{v['impact']} {v['id']}: {node['target']} {node['html'][:160]}" for v in found for node in v["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_found_on_any_tab(chromium: Browser, url, scheme):
    context = chromium.new_context(viewport={"width": 1440, "height": 1000}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{url}/?__theme={scheme}")
    found = {}
    for tab, filled in (("Train", "#runs .mc-run"), ("Evaluate", "#tables"), ("Chat", "#chat-head h2")):
        page.get_by_role("tab", name=tab, exact=True).click()
        page.locator(filled).first.wait_for()
        page.evaluate("document.querySelectorAll('.label-wrap:not(.open)').forEach(b => b.offsetParent && b.click())")
        page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
        found[tab] = findings(page)
    page.get_by_label("Compare blinded, and store what I judge").check()
    page.get_by_label("Also with the demonstration model").check()
    page.locator("#question textarea").fill("I have chest pain now. " + SAMPLE_QUESTIONS[2][1])
    page.get_by_role("button", name="Ask both", exact=True).click()
    expect(page.locator("#judgement")).to_be_visible()
    found["Chat, answered and blinded"] = findings(page)
    context.close()
    assert not any(found.values()), found
