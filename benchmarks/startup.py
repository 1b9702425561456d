"""How long until the page answers and until `medcot --help` is printed, and whether torch was loaded for either.

    python benchmarks/startup.py [--repeat N]

The first start of each is thrown away: it warms the disk cache.
"""

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3)
    repeat = parser.parse_args().repeat
    rows = [("python app.py, first page", page), ("medcot --help", command_help)]
    print(f"{'':28}{'median':>9}{'slowest':>10}  torch mapped")
    for name, measure in rows:
        measure()
        found = [measure() for _ in range(repeat)]
        seconds = [s for s, _ in found]
        mapped = "yes" if any(torch for _, torch in found) else "no"
        print(f"{name:28}{statistics.median(seconds):8.2f}s{max(seconds):9.2f}s  {mapped}")


def page() -> tuple[float, bool]:
    """Seconds from starting the process to a whole page, and whether torch was mapped by then."""
    port = free_port()
    with tempfile.TemporaryDirectory() as runs:
        started = time.perf_counter()
        command = [sys.executable, str(ROOT / "app.py"), "--port", str(port), "--runs-dir", runs, "--no-token"]
        app = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not answers(f"http://127.0.0.1:{port}/"):
                if time.perf_counter() - started > PATIENCE:
                    raise TimeoutError(f"no page within {PATIENCE:.0f} seconds")
                time.sleep(0.02)
            return time.perf_counter() - started, maps_torch(app.pid)
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
