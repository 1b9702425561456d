"""Half an hour with many visitors who ask, reload, upload and go, while trainings come in pairs: one runs, one waits.

    python benchmarks/soak.py [--minutes 30] [--visitors 20]

It promises: no error, memory of page and model at most 5% above that of minute 5, the device for each training within a
minute of its turn, no file of a visitor left at the end. It prints what it saw, and exits with 1 if a promise is
broken. The page is app.py in a process of its own, with a folder of runs and a tiny model made for it and then removed.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.visitor import Asked, Visitor
from medcot.runs.job_dir import ALIVE
from medcot.runs.store import RunStore
from medcot.settings import RunSettings, build
from medcot.workers import jobs

ROOT = Path(__file__).parents[1]
MARK = "Soakvisitor"  # stands in all that a visitor types or uploads
NEW_TOKENS = 12
COUNTED = ("requests", "answered", "refused", "left", "uploads")  # of Seen.counts
REST = 60.0  # seconds between two pairs of trainings, for Chat
PATIENCE = 300.0  # seconds for a training to have the device, before it counts as never
MOST_WAIT, MOST_GROWTH, WARM = 60.0, 1.05, 5  # the promises: seconds, memory against that of minute 5


@dataclass
class Seen:
    """What has happened so far; each list and counter is appended to by the threads."""

    counts: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)  # seconds until a training had the device
    page: list[float] = field(default_factory=list)  # MiB, since the last row
    model: list[float] = field(default_factory=list)
    rows: list[tuple[float, float]] = field(default_factory=list)  # MiB of page and model, from minute 5 on

    def wrong(self, words: str) -> None:
        print(f"error: {words}", flush=True)
        self.errors.append(words)

    def note(self, asked: Asked) -> None:
        self.counts["requests"] += 1
        said = asked.error or " ".join(asked.notes[-1:])
        if asked.left:
            self.counts["left"] += 1
        elif not asked.error and all(end.startswith(("Finished", "Cut at")) for end in asked.endings):
            self.counts["answered"] += 1
        elif not asked.error and "device" in said:  # a training has it: said in words, as promised
            self.counts["refused"] += 1
        else:
            self.wrong(f"a question: {said} {asked.endings}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--visitors", type=int, default=20)
    args = parser.parse_args()
    seen = Seen()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for variable in ("TMPDIR", "GRADIO_TEMP_DIR", "HF_HOME", "MEDCOT_CACHE"):
            os.environ[variable] = str(place := folder / variable.lower())
            place.mkdir()
        os.environ["HF_HUB_OFFLINE"] = "1"
        settings, store = tiny(folder), RunStore(folder / "runs")
        run = jobs.start_training(store, settings)
        while run.status().state in ALIVE:
            time.sleep(0.5)
        assert run.has_adapter, run.log_tail(20)
        with page(folder, store, seen) as (process, address):
            over = time.monotonic() + 60 * args.minutes
            threads = [threading.Thread(target=trainings, args=(store, settings, over, seen))]
            for number in range(args.visitors):
                threads.append(threading.Thread(target=visits, args=(address, run.id, number, over, seen)))
            watch(threads, process, args.minutes, seen)
            seen.counts["uploads kept while the page is open"] = len(left(folder))
        return report(seen, left(folder))


def tiny(folder: Path) -> RunSettings:
    """A random model of two layers and a few records, for trainings of seconds."""
    subprocess.run([sys.executable, "-m", "tests.tiny", folder / "model"], cwd=ROOT, check=True)
    records = [
        {"Question": f"What suggests gout, case {i}?", "Complex_CoT": "Think of the toe.", "Response": f"Sign {i}."}
        for i in range(16)
    ]
    (folder / "records.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return build(
        {
            "model": {"id": str(folder / "model"), "dtype": "float32"},
            "data": {"source": str(folder / "records.jsonl"), "held_out": 4},
            "training": {"max_steps": 20, "micro_batch": 2, "accumulation": 1, "max_length": 256},
        }
    )


@contextmanager
def page(folder: Path, store: RunStore, seen: Seen) -> Iterator[tuple[psutil.Process, str]]:
    """The page as users start it, and the address that it prints; what it complains of is an error."""
    complaints = folder / "page.log"
    command = [sys.executable, "app.py", "--port", "0", "--runs-dir", str(store.root)]
    with complaints.open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        yield psutil.Process(process.pid), process.stdout.readline().split()[0]
    finally:
        process.terminate()  # as a container ends it; a shell lets programs in its background ignore Ctrl-C
        process.wait(60)
    if said := complaints.read_text():
        seen.wrong(f"the page's own complaints: {said[-2000:]}")
    complaints.unlink()


def watch(threads: list[threading.Thread], process: psutil.Process, end: float, seen: Seen) -> None:
    """Let them all go, measure memory until they have ended, and print a row now and then."""
    began = time.monotonic()
    for thread in threads:
        thread.start()
    names = (*COUNTED, "errors", "trainings", "page MiB", "model MiB")
    print(f"minute {' '.join(f'{name:>9}' for name in names)}", flush=True)
    due = [*(minute for minute in (1, *range(5, 1000, 5)) if minute <= end - 4), end]
    while any(thread.is_alive() for thread in threads):
        measure(process, seen)
        if due and time.monotonic() > began + 60 * due[0]:
            row(due.pop(0), seen)
        time.sleep(0.5)


def measure(process: psutil.Process, seen: Seen) -> None:
    with suppress(psutil.NoSuchProcess):
        seen.page.append(process.memory_info().rss / 2**20)
        if children := process.children(recursive=True):
            seen.model.append(sum(child.memory_info().rss for child in children) / 2**20)


def row(minute: float, seen: Seen) -> None:
    """Print what there was so far, and memory since the last row: the page's median, the most that the model had."""
    memory = statistics.median(seen.page), max(seen.model, default=0.0)
    seen.page.clear()
    seen.model.clear()
    if minute <= WARM:
        seen.rows.clear()
    seen.rows.append(memory)
    counted = (*(seen.counts[name] for name in COUNTED), len(seen.errors), len(seen.waits))
    print(f"{minute:6g} {' '.join(f'{n:9d}' for n in counted)} {memory[0]:9.1f} {memory[1]:9.1f}", flush=True)


def visits(address: str, run: str, number: int, over: float, seen: Seen) -> None:
    """One visitor after the other at one place: each asks and perhaps uploads, reloads in the middle or goes."""
    chance = random.Random(number)
    while time.monotonic() < over:
        try:
            visit(Visitor(address, run, NEW_TOKENS), chance, over, seen)
        except (httpx.HTTPError, StopIteration) as error:
            seen.wrong(f"a visit: {type(error).__name__}: {error}")
        time.sleep(chance.choice([0, 0, 5]))  # a reload, or another comes later


def visit(visitor: Visitor, chance: random.Random, over: float, seen: Seen) -> None:
    seen.counts["requests"] += 1
    try:
        if chance.random() < 0.5:
            seen.counts["uploads"] += 1
            visitor.upload(f"{MARK}.jsonl", f'{{"Question": "{MARK} {visitor.session}"}}\n'.encode() * 1000)
        for _ in range(chance.randint(1, 4)):
            if time.monotonic() < over:
                disease = chance.choice(["gout", "asthma", "a fever", "insulin"])
                asked = visitor.ask(f"What is {disease}? {MARK} asks.", chance.choice([PATIENCE, PATIENCE, 2]))
                seen.note(asked)
                if asked.left or asked.error:
                    return
                time.sleep(chance.uniform(0, 2))
    finally:
        visitor.close()


def trainings(store: RunStore, settings: RunSettings, over: float, seen: Seen) -> None:
    """Start two at once, see when each has the device, and leave it to Chat for a while."""
    while time.monotonic() < over:
        pair = [jobs.start_training(store, settings) for _ in range(2)]
        for training in pair:
            free = time.monotonic()
            while training.status().state == "queued" and time.monotonic() < free + PATIENCE:
                time.sleep(0.1)
            seen.waits.append(time.monotonic() - free)
            while training.status().state == "running" and time.monotonic() < over + PATIENCE:
                time.sleep(0.1)
            if (state := training.status().state) != "finished":
                seen.wrong(f"a training is {state}: {training.log_tail(5)}")
        time.sleep(max(0.0, min(REST, over - time.monotonic())))


def left(folder: Path) -> list[str]:
    """Files that a visitor brought, or in which something stands that a visitor typed."""
    mark, files = MARK.encode(), [path for path in folder.rglob("*") if path.is_file()]
    return [str(path.relative_to(folder)) for path in files if MARK in path.name or mark in path.read_bytes()]


def report(seen: Seen, files: list[str]) -> int:
    """What was seen against what is promised; 1 if a promise is broken."""
    (page, model), (page_end, model_end) = seen.rows[0], seen.rows[-1]
    kept = seen.counts["uploads kept while the page is open"]
    broken = {
        f"errors: {len(seen.errors)}": bool(seen.errors),
        f"questions answered: {seen.counts['answered']}": not seen.counts["answered"],
        f"page from minute {WARM} on: {page:.1f} to {page_end:.1f} MiB": page_end > page * MOST_GROWTH,
        f"model from minute {WARM} on: {model:.1f} to {model_end:.1f} MiB": model_end > model * MOST_GROWTH,
        f"longest wait of {len(seen.waits)} trainings: {max(seen.waits):.1f} s": max(seen.waits) > MOST_WAIT,
        f"files of visitors: {kept} while the page was open, {len(files)} left": bool(files),
    }
    for words, is_broken in broken.items():
        print(f"{'BROKEN' if is_broken else 'held':7}{words}")
    for words in files[:20]:
        print(f"left: {words}")
    return int(any(broken.values()))


if __name__ == "__main__":
    sys.exit(main())
