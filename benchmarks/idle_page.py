"""What an open page costs while nothing happens and while a training runs, and how soon a change is seen.

    python benchmarks/idle_page.py [--seconds 30] [--viewers 20] [--step 3]

Shares of one core, as processor time over wall time, each over so many seconds after the page has settled. Browser is
the whole of a headless Chromium, which paints in software; what it takes for an empty page stands above. Server is the
page's process. The training is written by this program, a step every so many seconds, so that none of its work is
counted. The viewers hold what a browser holds, a heartbeat and the question for changes, and send the event that a
browser sends.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.many_runs import make
from benchmarks.startup import CHROMIUM, free_port
from benchmarks.visitor import Visitor
from medcot.runs import liveness
from medcot.runs.events import Progress, Started, Step
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import RunSettings

ROOT = Path(__file__).parents[1]
SETTLE = 12.0  # seconds until a page that was just opened is at rest
STEPS = 400
GOALS = {"one idle page": (1.0, 0.5), "live training": (5.0, 1.0)}  # percent of a core: browser, server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--step", type=float, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder) / "runs") as (url, server):
        store = RunStore(Path(folder) / "runs")
        made = make(store, 20)
        print(f"{'':24}{'browser':>9}{'goal':>7}{'server':>9}{'goal':>7}")
        with browser("about:blank") as shown:
            report("an empty page", *shares([shown, server], given.seconds))
        with browser(url) as shown:
            report("one idle page", *shares([shown, server], given.seconds))
            with training(store, given.step):
                report("live training", *shares([shown, server], given.seconds))
            time.sleep(SETTLE)
            report("idle after the training", *shares([shown, server], given.seconds))
        many(url, server, made, given.viewers, given.seconds)


def report(name: str, browser_share: float, server_share: float) -> None:
    goals = GOALS.get(name, GOALS["one idle page"])
    cells = "".join(
        f"{share:8.2f}%{goal:6.1f}%" for share, goal in zip((browser_share, server_share), goals, strict=True)
    )
    print(f"{name:24}{cells}", flush=True)


def many(url: str, server: list[psutil.Process], run: Run, viewers: int, seconds: float) -> None:
    """Many idle viewers, and when each of them has seen a change."""
    watching = [Viewer(url, run.id) for _ in range(viewers)]
    time.sleep(SETTLE)
    print(f"{viewers} idle viewers: server {shares([server], seconds)[0]:.2f}% of a core (goal 20%)")
    waits: list[float] = []
    for number in range(5):
        time.sleep(2.5)
        began = time.monotonic()
        run.describe(name=f"Change {number}")
        while not all(viewer.shown(f"Change {number}") for viewer in watching):
            if time.monotonic() - began > 60:
                raise TimeoutError("a change was not seen")
            time.sleep(0.01)
        waits.append(time.monotonic() - began)
    middle, worst = statistics.median(waits), max(waits)
    print(f"a change is seen by all after {middle:.2f} s (median of 5), {worst:.2f} s at most (goal 1.5 s)")
    for viewer in watching:
        viewer.close()


class Viewer(Visitor):
    """A visitor who only looks: what watch.js and Gradio's own script send for it."""

    def __init__(self, url: str, run: str):
        super().__init__(url, run, 1)
        self._seen, self._told, self._closed = "", "", False
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._closed:
            began = time.monotonic()
            try:
                version = self._http.get("/changes", params={"seen": self._seen}).text
                if version != self._seen:
                    self._told, self._seen = self._look(), version
            except httpx.HTTPError:
                return
            time.sleep(max(0.0, 1 - (time.monotonic() - began)))

    def shown(self, words: str) -> bool:
        return words in self._told

    def close(self) -> None:
        self._closed = True
        super().close()


@contextmanager
def served(runs_dir: Path) -> Iterator[tuple[str, list[psutil.Process]]]:
    """The page in a process of its own."""
    port = free_port()
    command = [sys.executable, str(ROOT / "app.py"), "--port", str(port), "--runs-dir", str(runs_dir), "--no-token"]
    app = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(url, timeout=60).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield url, [psutil.Process(app.pid)]
    finally:
        app.terminate()
        app.wait()


@contextmanager
def browser(url: str) -> Iterator[list[psutil.Process]]:
    """A Chromium that shows the page; yields its processes."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url)
        if url.startswith("http"):
            page.locator("#start").wait_for(timeout=120_000)
        time.sleep(SETTLE)
        children = psutil.Process().children(recursive=True)
        yield [child for child in children if child.pid not in before and "chrom" in child.name().lower()]
        chromium.close()


@contextmanager
def training(store: RunStore, seconds: float) -> Iterator[None]:
    """A run that reports a step every so many seconds."""
    run, ended = store.create(RunSettings(name="live")), threading.Event()

    def work() -> None:
        with liveness.claim(run.path):
            liveness.sign(run.path)
            run.write_status("running", pid=os.getpid())
            run.append(Started(job="train"))
            for number in range(1, STEPS):
                run.append(step(number))
                run.append(Progress(stage="Training", done=number, total=STEPS, eta_seconds=60.0))
                if ended.wait(seconds):
                    break
            run.write_status("stopped")

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(SETTLE)
    yield
    ended.set()
    thread.join()


def step(number: int) -> Step:
    figures: dict[str, Any] = dict.fromkeys(("learning_rate", "grad_norm", "tokens_per_second", "eta_seconds"), 1.0)
    figures |= {"step": number, "total_steps": STEPS, "tokens_seen": number, "epoch": number / STEPS}
    return Step.model_validate({**figures, "gpu_memory_gib": 0, "loss": 1 + 1 / number})


def shares(groups: list[list[psutil.Process]], seconds: float) -> list[float]:
    """Percent of one core that each group of processes takes."""
    before, began = [spent(group) for group in groups], time.monotonic()
    time.sleep(seconds)
    wall = time.monotonic() - began
    return [100 * (spent(group) - then) / wall for group, then in zip(groups, before, strict=True)]


def spent(processes: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


if __name__ == "__main__":
    main()
