"""Make the pictures in README.md anew: from the page itself, over a real finished starter run.

    make pictures                                     # trains, measures and asks the starter model: some minutes
    python benchmarks/pictures.py --runs-dir runs     # over the newest evaluated run that is there

Chat answers with that run's own model. Needs Chromium and playwright (`pip install -e .[dev]`).
"""

import argparse
import contextlib
import io
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.startup import CHROMIUM
from medcot.ui import build_app
from medcot.ui.components import TEXTS
from medcot.ui.serve import Served
from medcot.workers.client import ServiceClient

IMAGES = Path(__file__).parents[1] / "docs" / "images"
MOST_BYTES = 300_000
ENDED = re.compile("|".join(TEXTS["chat"]["state"][how] for how in ("finished", "limit", "looping")))
PATIENCE = 600_000  # ms; a model on two cores loads and answers in a minute or two


@dataclass(frozen=True)
class Shot:
    """A picture: its name, the tab, what is done there before, and how large the window is."""

    name: str
    tab: str
    prepare: Callable[[Page], None]
    width: int = 1440
    height: int = 900


def trained(page: Page) -> None:
    page.locator("#plot .mc-plot[data-points]").wait_for()


def evaluated(page: Page) -> None:
    page.locator("#results .forest").wait_for()


def asked(page: Page) -> None:
    """Ask the first sample question, and wait until both have answered."""
    page.locator("#chat-head h2").wait_for()  # the page knows its run
    page.locator(".mc-sample").first.click()
    page.locator("#ask").click()
    for side in ("left", "right"):
        page.locator(f"#panel-{side} .mc-state").filter(has_text=ENDED).first.wait_for()


SHOTS = (
    Shot("train", "Train", trained),
    Shot("evaluate", "Evaluate", evaluated),
    Shot("chat", "Chat", asked),
)


def take(url: str, out: Path, browser: Browser, shots: tuple[Shot, ...] = SHOTS) -> Iterator[Path]:
    """Take the pictures of a served page, in light colours, and write each as a small PNG."""
    for shot in shots:
        context = browser.new_context(viewport={"width": shot.width, "height": shot.height}, color_scheme="light")
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(url)
        page.get_by_role("tab", name=shot.tab, exact=True).click()
        shot.prepare(page)
        page.mouse.move(0, 0)
        page.wait_for_timeout(1500)  # what slides into its place is there
        yield write(page.screenshot(), out / f"{shot.name}.png")
        context.close()


def write(png: bytes, path: Path) -> Path:
    """Write a picture with as many colours as fit into MOST_BYTES."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    for colours in (256, 128, 64, 32):
        made = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
        if made.tell() <= MOST_BYTES:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.getvalue())
    return path


@contextmanager
def runs(given: Path | None) -> Iterator[Path]:
    """The runs folder: the given one, or a new one with a starter run made by `medcot quickstart`.

    From beside it, so that the pictures' commands name no folder of this machine.
    """
    if given:
        with contextlib.chdir(given.parent):
            yield Path(given.name)
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        subprocess.run([sys.executable, "-m", "medcot", "quickstart", "--runs-dir", "runs"], check=True)
        yield Path("runs")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the pictures in README.md anew.")
    parser.add_argument("--runs-dir", type=Path, help="has an evaluated run; without it one is made")
    parser.add_argument("--out", type=Path, default=IMAGES)
    parser.add_argument("--only", choices=[shot.name for shot in SHOTS], help="this picture alone")
    options = parser.parse_args()
    shots = tuple(shot for shot in SHOTS if options.only in (None, shot.name))
    with runs(options.runs_dir) as folder, sync_playwright() as playwright:
        client = ServiceClient(folder.resolve())
        served = Served(build_app(folder, client))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            for path in take(served.url, options.out, browser, shots):
                sys.stdout.write(f"{path}  {path.stat().st_size / 1000:.0f} kB\n")
        finally:
            browser.close()
            served.close()
            client.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
