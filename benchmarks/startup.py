"""How long until the page answers and until `medcot --help` is printed, and whether torch was loaded for either.

    python benchmarks/startup.py [--repeat N] [--browser]

The first start of each is thrown away: it warms the disk cache. With --browser also what somebody sees who opens the
page of a program that runs, in a Chromium with an empty cache each time: seconds until its first content and until the
main button of Train can be pressed, and bytes that travelled.
"""

import argparse
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0
# The headless shell shows a page in two thirds of the processor time that a whole Chromium takes for it.
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--browser", action="store_true")
    asked = parser.parse_args()
    repeat = asked.repeat
    rows = [("python app.py, first page", page), ("medcot --help", command_help)]
    print(f"{'':28}{'median':>9}{'slowest':>10}  torch mapped")
    for name, measure in rows:
        measure()
        found = [measure() for _ in range(repeat)]
        seconds = [s for s, _ in found]
        mapped = "yes" if any(torch for _, torch in found) else "no"
        print(f"{name:28}{statistics.median(seconds):8.2f}s{max(seconds):9.2f}s  {mapped}")
    if asked.browser:
        for name, found, unit in opened(repeat):
            print(f"{name:28}{statistics.median(found):8.2f}{unit}{max(found):9.2f}{unit}")


def opened(repeat: int) -> list[tuple[str, list[float], str]]:
    """What a browser measures of the page: (what, its readings, their unit)."""
    from playwright.sync_api import sync_playwright

    content, button, megabytes = list[float](), list[float](), list[float]()
    with served() as (_, port), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        for number in range(repeat + 1):
            context = browser.new_context()
            tab, sizes = context.new_page(), list[float]()
            network = context.new_cdp_session(tab)
            network.send("Network.enable")
            network.on("Network.loadingFinished", lambda event, sizes=sizes: sizes.append(event["encodedDataLength"]))
            started = time.perf_counter()
            tab.goto(f"http://127.0.0.1:{port}/", wait_until="commit")
            tab.get_by_role("button", name=re.compile("Run the whole demo")).click(trial=True, timeout=1000 * PATIENCE)
            pressed = time.perf_counter() - started
            tab.wait_for_timeout(2000)  # what is loaded after it
            painted = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            if number:  # the first reads the browser from the disk
                content.append(painted / 1000)
                button.append(pressed)
                megabytes.append(sum(sizes) / 1e6)
            context.close()
        browser.close()
    return [("first content", content, "s"), ("main button", button, "s"), ("bytes", megabytes, "MB")]


def page() -> tuple[float, bool]:
    """Seconds from starting the process to a whole page, and whether torch was mapped by then."""
    started = time.perf_counter()
    with served() as (app, _):
        return time.perf_counter() - started, maps_torch(app.pid)


@contextmanager
def served() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """app.py with an empty folder of runs, once its page answers: (the process, its port)."""
    port, began = free_port(), time.perf_counter()
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, str(ROOT / "app.py"), "--port", str(port), "--runs-dir", runs, "--no-token"]
        app = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not answers(f"http://127.0.0.1:{port}/"):
                if time.perf_counter() - began > PATIENCE:
                    raise TimeoutError(f"no page within {PATIENCE:.0f} seconds")
                time.sleep(0.02)
            yield app, port
        finally:
            app.terminate()
            app.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return b"gradio_config" in reply.read()
    except (urllib.error.URLError, ConnectionError):
        return False


def maps_torch(pid: int) -> bool:
    return "libtorch" in Path(f"/proc/{pid}/maps").read_text()


def command_help() -> tuple[float, bool]:
    """Seconds for the whole command, and whether it imported torch."""
    code = "import sys, medcot.cli as c\ntry: c.app(['--help'])\nfinally: sys.stderr.write(str('torch' in sys.modules))"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    return time.perf_counter() - started, done.stderr.strip().endswith("True")


if __name__ == "__main__":
    main()
