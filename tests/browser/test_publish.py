"""Publish from the page: what would go, what went, what the Hub refused, and where the token is afterwards."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from medcot.runs.run import Run, size
from tests.browser.conftest import PATIENCE
from tests.fakes import FakeClient
from tests.hub_stub import WRITE_TOKEN, HubStub

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)
REPO = "ada/tiny-medical-cot"
READ_TOKEN = "hf_stubMayOnlyReadAndNothingElse0123456"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStub]:
    """The child that pushes finds it; large files go over plain LFS."""
    with HubStub() as stub:
        monkeypatch.setenv("HF_ENDPOINT", stub.endpoint)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        yield stub


def panel(page: Page) -> Page:
    page.get_by_role("tab", name="Evaluate", exact=True).click()
    page.get_by_role("button", name="Publish to the Hugging Face Hub").click()
    page.wait_for_timeout(1000)  # the tab's first drawing would take back what is typed into it meanwhile
    page.get_by_label("Repository").fill(REPO)
    return page


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_nowhere(page: Page, run: Run, token: str) -> None:
    """Not in the page, its fields, the browser's stores, or any file beside the runs."""
    assert token not in page.content()
    fields = page.evaluate("[...document.querySelectorAll('input, textarea')].map(e => e.value)")
    assert all(token not in value for value in fields)
    stores = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert token not in stores
    for name, content in contents(run.path.parent).items():
        assert token.encode() not in content, name


def test_a_dry_run_lists_and_a_push_pushes_and_the_token_is_gone(serve, open_page, tuned, hub):
    before = contents(tuned.path)
    page = panel(open_page(serve(tuned.path.parent, FakeClient())))
    page.get_by_role("button", name="Preview", exact=True).click()
    expect(page.locator("#published caption")).to_contain_text(f"These would go to {REPO}")
    listed = dict(
        zip(
            page.locator("#published tbody th").all_inner_texts(),
            page.locator("#published tbody td").all_inner_texts(),
            strict=True,
        )
    )
    weights = (tuned.adapter_dir / "adapter_model.safetensors").stat().st_size
    assert listed["adapter_model.safetensors"] == size(weights)
    assert {"README.md", "adapter_config.json", "prompt_contract.json", "settings.json"} <= listed.keys()
    assert not hub.commits, "nothing was pushed"

    page.get_by_label("Hub token").fill(WRITE_TOKEN)
    page.get_by_role("button", name="Publish", exact=True).click()
    expect(page.locator("#published caption")).to_contain_text(f"{REPO}, private, commit")
    assert len(hub.commits) == 1
    assert set(hub.models[REPO].files) - {".gitattributes"} == listed.keys()
    assert hub.models[REPO].private
    expect(page.get_by_label("Hub token")).to_have_value("")
    assert_nowhere(page, tuned, WRITE_TOKEN)
    assert WRITE_TOKEN not in json.dumps(hub.commits, default=str)
    assert contents(tuned.path) == before, "the run is as it was"


def test_what_the_hub_refuses_is_said_in_words_and_the_run_is_as_it_was(serve, open_page, tuned, hub):
    before = contents(tuned.path)
    page = panel(open_page(serve(tuned.path.parent, FakeClient())))
    page.get_by_label("Hub token").fill(READ_TOKEN)
    page.get_by_role("button", name="Publish", exact=True).click()
    told = page.locator("#publish-told")
    expect(told).to_contain_text("may not write")
    expect(told).not_to_contain_text("Traceback")
    expect(page.get_by_label("Hub token")).to_have_value("")
    assert not hub.commits
    assert REPO not in hub.models
    assert_nowhere(page, tuned, READ_TOKEN)
    assert contents(tuned.path) == before

    page.get_by_label("Repository").fill("not a name")
    page.get_by_role("button", name="Preview", exact=True).click()
    expect(told).to_contain_text("is no repository's name")
