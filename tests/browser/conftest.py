"""A browser, and the page served to it. Every test also fails on a script error or a request to another machine."""

import contextlib
import json
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Playwright, expect, sync_playwright

from benchmarks.startup import CHROMIUM
from medcot.runs.job_dir import ALIVE, JobDir
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import build
from medcot.ui import build_app
from medcot.ui.serve import Served
from medcot.workers import jobs
from tests.conftest import tiny_raw, write_records
from tests.fakes import FakeClient

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-features=PreloadTopChromeWebUI,WebUIOmniboxPopup",  # pages of the browser's own, loaded for each of ours
]
PATIENCE = 60_000  # ms; two busy cores import a model library in half of it
MOUNTED = 150  # ms; for less than ten a field that has just come puts its own value over what is typed into it

pytestmark = pytest.mark.slow
Open = Callable[[str], Page]


@pytest.fixture(scope="session")
def browsers() -> Iterator[Playwright]:
    """One for the whole session: a second one in the same thread is refused."""
    if not CHROMIUM:
        pytest.skip("neither chromium-headless-shell nor chromium is installed")
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="session")
def chromium(browsers: Playwright) -> Iterator[Browser]:
    browser = browsers.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    yield browser
    browser.close()


@contextlib.contextmanager
def viewers(chromium: Browser) -> Iterator[Open]:
    """Opens a URL as a new viewer."""
    contexts, wrong = [], []

    def open_(url: str) -> Page:
        context = chromium.new_context(viewport={"width": 1440, "height": 1000})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: wrong.append(f"script error: {error}"))
        page.on("request", lambda r: wrong.append(f"left the machine: {r.url}") if is_foreign(r.url) else None)
        page.goto(url)
        page.get_by_role("tab", name="Train", exact=True).wait_for()
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not wrong


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    """Opens a URL as a new viewer."""
    with viewers(chromium) as open_:
        yield open_


@pytest.fixture(scope="module")
def shared_page(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Page, Path]]:
    """For `empty_page`; loading a page is half of what a test of it takes."""
    runs_dir = tmp_path_factory.mktemp("empty") / "runs"
    with viewers(chromium) as open_:
        served = Served(build_app(runs_dir, FakeClient()))
        yield open_(served.url), runs_dir
        served.close()


@pytest.fixture
def empty_page(shared_page: tuple[Page, Path], monkeypatch: pytest.MonkeyPatch) -> Page:
    """A page without a run and with an untouched form; the tests of a file share it, so leave it without a run."""
    page, runs_dir = shared_page
    monkeypatch.setenv("MEDCOT_RUNS_DIR", str(runs_dir))
    page.set_viewport_size({"width": 1440, "height": 1000})
    url, kept = page.url.partition("?")[0], "localStorage.getItem('medcot-form')"
    if page.evaluate(kept):  # the form was touched
        page.goto("about:blank")
        storage = {"origin": url.rstrip("/"), "storageTypes": "local_storage"}
        page.context.new_cdp_session(page).send("Storage.clearDataForOrigin", storage)
        page.goto(url)
        assert page.evaluate(kept) is None
    page.get_by_role("tab", name="Train", exact=True).click()
    if is_unfolded(page):
        page.locator("#settings > button").click()
    return page


def is_foreign(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "data:", "blob:"))


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serves the page over a runs folder from this process; returns its URL."""
    running: list[tuple[Any, Any]] = []

    def serve_(runs_dir: Path, client: Any = None) -> str:
        page = Served(build_app(runs_dir, client))
        running.append((page, client))
        return page.url

    yield serve_
    for page, client in running:
        page.close()
        if client:
            client.close()


def app(port: int, runs_dir: Path) -> list[str]:
    """The command that serves the page without a token, so that its address is known before it is printed."""
    script = Path(__file__).parents[2] / "app.py"
    return [sys.executable, str(script), "--port", str(port), "--runs-dir", str(runs_dir), "--no-token"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def end(job: JobDir) -> None:
    """Stop a job for good, so that no worker outlives its test; one that has just been queued gets its worker first."""
    wait_until(lambda: job.status().state not in ALIVE or job.status().pid is not None)
    if job.status().state in ALIVE:
        jobs.stop(job, now=True)


@pytest.fixture(scope="session")
def endless_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, unable to end its turn and with room for minutes of it, so that there is time to press Stop."""
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(tiny_model, tmp_path_factory.mktemp("endless") / "model"))
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"].copy()
    weights["lm_head.weight"][:3] = 0  # the special tokens' rows
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for name, key in (("config.json", "max_position_embeddings"), ("tokenizer_config.json", "model_max_length")):
        config = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**config, key: 32_768}), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def trained(endless_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny model, made once by a real worker. Copy it; do not write to it."""
    folder = tmp_path_factory.mktemp("trained")
    records = write_records(folder / "records.jsonl", 12)
    run = jobs.start_training(RunStore(folder / "runs"), build(tiny_raw(endless_model, records)))
    wait_until(lambda: run.status().state not in ALIVE, 150)
    assert run.status().state == "finished", run.log_tail()
    return run.path


@pytest.fixture
def tuned(trained: Path, tmp_path: Path) -> Run:
    """A copy of the finished run, in a runs folder of its own."""
    return Run(Path(shutil.copytree(trained, tmp_path / "runs" / trained.name)))


def fill(page: Page, values: dict[str, Any]) -> None:
    """Type settings into the form, by their paths, with what is folded unfolded."""
    unfold(page)
    for path, value in values.items():
        field(page, path).wait_for()
        page.wait_for_timeout(MOUNTED)
        field(page, path).fill(str(value))


def unfold(page: Page) -> None:
    """Open the part of the form with all settings."""
    if not is_unfolded(page):
        page.locator("#settings > button").click()


def is_unfolded(page: Page) -> bool:
    return "open" in (page.locator("#settings > button").get_attribute("class") or "")


def field(page: Page, path: str) -> Locator:
    """Where a setting is typed."""
    return page.locator(f"#set-{path.replace('.', '-')}").locator("input, textarea")


def listed(page: Page, run: Run | str) -> Locator:
    """A run's row in the list at the side."""
    return page.locator(f'#runs .mc-run[data-run="{run if isinstance(run, str) else run.id}"]')


def pick(page: Page, run: Run | str) -> None:
    """Choose a run in the list at the side."""
    listed(page, run).click()
    expect(listed(page, run)).to_have_attribute("aria-current", "true")


def points(page: Page) -> int:
    """How many readings of the training loss the plot shows."""
    return int(page.locator("#plot .mc-plot").get_attribute("data-points") or 0)
