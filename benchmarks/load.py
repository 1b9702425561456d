"""Many visitors of Chat at once, on a real page with a real model: errors, order, wholeness, memory, closed tabs.

    python benchmarks/load.py [RUN] [--runs-dir runs] [--visitors 20] [--seconds 60] [--new-tokens 12]

Each visitor asks short questions, one after the other, until the time is over; the answers under way are read to their
end. The page and its model are processes of their own; their memory is read every half second.
"""

import argparse
import itertools
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.visitor import Asked, Visitor
from medcot.runs.store import RunStore

SAME_MOMENT = 1.0  # s: those who all press at once reach the page in any order
QUESTIONS = ("What is gout?", "What is asthma?", "Why is the sky blue?", "What does insulin do?", "What is a fever?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", default="latest")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--new-tokens", type=int, default=12)
    args = parser.parse_args()
    run = RunStore(args.runs_dir).get(args.run)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    page = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), "--runs-dir", str(args.runs_dir), "--no-token"],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert page.stdout is not None
    page.stdout.readline()  # it is served
    try:
        measure(f"http://127.0.0.1:{port}", run.id, psutil.Process(page.pid), args)
    finally:
        page.terminate()  # a shell lets programs in its background ignore Ctrl-C
        page.wait(60)


def measure(url: str, run: str, page: psutil.Process, args: argparse.Namespace) -> None:
    visitors = [Visitor(url, run, args.new_tokens) for _ in range(args.visitors)]
    for question in QUESTIONS:  # loads the model, and says what each answer is
        print(f"alone: {question} {visitors[0].ask(question).endings}")
    asked: list[Asked] = []
    memory: list[float] = []
    over = time.monotonic() + args.seconds

    def visit(visitor: Visitor, first: int) -> None:
        for number in itertools.count(first):
            if time.monotonic() > over:
                return
            asked.append(visitor.ask(QUESTIONS[number % len(QUESTIONS)]))

    threads = [threading.Thread(target=visit, args=(v, i)) for i, v in enumerate(visitors)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        memory.append(resident_gib(page))
        time.sleep(0.5)
    report(asked, memory, args)
    closed_tab(visitors)


def resident_gib(page: psutil.Process) -> float:
    """Of the page and of the model's process."""
    return sum(p.memory_info().rss for p in [page, *page.children(recursive=True)]) / 2**30


def report(asked: list[Asked], memory: list[float], args: argparse.Namespace) -> None:
    answers = {question: {a.answers for a in asked if a.question == question} for question in QUESTIONS}
    whole = [a for a in asked if all(end.startswith(("Finished", "Cut at")) for end in a.endings)]
    begun = sorted((a for a in asked if a.first_piece), key=lambda a: a.began)
    overtaken = sum(
        later.began - earlier.began > SAME_MOMENT and (later.first_piece or 0) < (earlier.first_piece or 0)
        for i, earlier in enumerate(begun)
        for later in begun[i + 1 :]
    )
    settled = memory[len(memory) // 5 :]  # the first fifth is warming up
    waits = sorted(a.ended - a.began for a in asked)
    print(
        f"{args.visitors} visitors, {args.seconds:.0f} s, {args.new_tokens} new tokens: {len(asked)} questions, "
        f"{sum(bool(a.error) for a in asked)} errors, {len(whole)} whole, "
        f"{sum(len(found) > 1 for found in answers.values())} of {len(QUESTIONS)} questions answered in two ways\n"
        f"from question to end: median {waits[len(waits) // 2]:.1f} s, longest {waits[-1]:.1f} s; "
        f"{overtaken} times was one served before another that had come {SAME_MOMENT:.0f} s earlier\n"
        f"memory of page and model: {settled[0]:.2f} GiB, {min(settled):.2f} to {max(settled):.2f}, "
        f"{max(settled) / min(settled) - 1:.1%} apart"
    )
    for error in {a.error for a in asked if a.error}:
        print(f"error: {error}")


def closed_tab(visitors: list[Visitor]) -> None:
    """How long after a tab is closed the one behind it is told that it is next."""
    holder, leaver, behind = visitors[:3]
    for visitor in (holder, leaver, behind):
        visitor.new_tokens = 400  # long enough for the others to wait
    results: list[Asked] = []
    threads = []
    for visitor in (holder, leaver, behind):
        threads.append(threading.Thread(target=lambda v=visitor: results.append(v.ask("Tell me about gout."))))
        threads[-1].start()
        time.sleep(1.5)
    began = time.monotonic()
    leaver.close()
    while behind.latest != "Waiting: yours is next." and time.monotonic() < began + 20:
        time.sleep(0.02)
    print(f"a closed tab's place was free after {time.monotonic() - began:.2f} s ({behind.latest})")
    for visitor in visitors:
        visitor.close()
    for thread in threads:
        thread.join(60)


if __name__ == "__main__":
    main()
