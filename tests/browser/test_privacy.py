"""A canary: what is typed into Chat is afterwards on no disk, in no log and in no storage of the browser."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ARGUMENTS, CHROMIUM, PATIENCE, app, free_port, is_foreign, wait_until

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)
CANARY = "canarytyped90417"


def holding(*folders: Path) -> list[Path]:
    forms = [CANARY.encode(), CANARY.encode("utf-16-le")]
    files = [p for folder in folders for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    return [p for p in files if any(form in p.read_bytes() for form in forms)]


@pytest.mark.timeout(420)
def test_what_is_typed_is_written_nowhere(browsers, tuned, tmp_path):
    """With a real worker, its own home and temporary folder, and a browser that keeps a profile."""
    home, temporary, profile = (tmp_path / name for name in ("home", "tmp", "profile"))
    for folder in (home, temporary):
        folder.mkdir()
    port, log, foreign = free_port(), tmp_path / "app.log", []
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary), "XDG_CACHE_HOME": str(home / "cache")}
    with log.open("wb") as out:
        served = subprocess.Popen(app(port, tuned.path.parent), stdout=out, stderr=out, env=environment)
    try:
        wait_until(lambda: b"Ctrl-C" in log.read_bytes(), 120)
        context = browsers.chromium.launch_persistent_context(profile, executable_path=CHROMIUM, args=ARGUMENTS)
        page = context.pages[0]
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda r: foreign.append(r.url) if is_foreign(r.url) else None)
        page.goto(f"http://127.0.0.1:{port}")
        expect(page.locator("#runs .mc-run[aria-current='true']")).to_have_count(1)
        page.get_by_role("tab", name="Chat", exact=True).click()
        page.locator("#question textarea").fill(f"What is {CANARY}?")
        page.get_by_role("button", name="Ask both", exact=True).click()
        expect(page.locator("#left-ending")).to_contain_text("tokens", timeout=240_000)
        page.locator("#question textarea").fill(f"And {CANARY} again?")
        page.get_by_role("button", name="Ask both", exact=True).click()
        expect(page.locator("#earlier")).to_contain_text(CANARY)
        assert CANARY not in page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
        page.wait_for_timeout(3000)  # a browser saves its session every few seconds
        context.close()
    finally:
        served.send_signal(signal.SIGINT)
        served.wait(60)
    assert foreign == []
    assert holding(tuned.path.parent, home, temporary, profile, tmp_path) == []
