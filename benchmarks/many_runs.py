"""What looking costs the page and `medcot runs`: a folder of many runs, and one run of many events.

    python benchmarks/many_runs.py [--runs 500] [--events 200000] [--tabs 20]

The runs are made for it: a finished training with one evaluation each, and no weights. All figures are processor
seconds of the process that looks, but for `medcot runs`, whose wall seconds are there too. Settled is a folder in which
nothing has changed for some seconds.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from medcot.evaluation import metrics
from medcot.evaluation.summary import Summary
from medcot.runs.events import Finished, Started, Step, Validation
from medcot.runs.run import Run
from medcot.runs.snapshot import COARSE_SECONDS
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.settings.evaluation import EvaluationOrder
from medcot.ui import TABS
from medcot.ui.page import Page
from medcot.ui.side.comparison import Comparison
from medcot.ui.side.run_list import RunList
from medcot.workers.client import ServiceClient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--tabs", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder) / "runs")
        made = make(store, 20)
        for number in range(given.runs - 1):
            shutil.copytree(made.path, store.root / f"20260101-{number:06}-000-copy-{number:04x}")
        write_events(made, given.events)
        time.sleep(COARSE_SECONDS + 1)
        look(store, given.tabs)
        listing(store)


def make(store: RunStore, steps: int) -> Run:
    """A finished run with one finished evaluation."""
    run = store.create(RunSettings())
    run.adapter_dir.mkdir()
    (run.adapter_dir / "adapter_model.safetensors").touch()
    write_events(run, steps)
    evaluation = run.new_evaluation()
    (evaluation.path / "settings.json").write_text(EvaluationOrder().model_dump_json(), encoding="utf-8")
    scores = [metrics.score("<think>a</think><response>b</response>", "a", "b")] * 20
    figures = {
        "data": {"source": "starter", "records": 20},
        "metric": "ROUGE-L",
        "decoding": {"max_new_tokens": 64, "temperature": 0.0},
        "arms": {arm: metrics.summarise(scores) for arm in ("base", "tuned")},
        "floors": {"echo": 0.2},
        "paired": {"tuned-base": metrics.compare([0.1] * 20, [0.2] * 20).model_dump()},
    }
    evaluation.write_summary(Summary.model_validate_json(json.dumps({"schema": 1, "run": run.id, **figures})))
    for job, kind in ((evaluation, "evaluate"), (run, "train")):
        job.write_status("finished", job=kind)
    return run


def write_events(run: Run, steps: int) -> None:
    def step(number: int) -> Step:
        values = dict.fromkeys(
            ("learning_rate", "grad_norm", "tokens_per_second", "eta_seconds", "gpu_memory_gib"), 1.0
        )
        values |= {"step": number, "total_steps": steps, "tokens_seen": 10 * number, "epoch": number / steps}
        return Step.model_validate({**values, "loss": 1 + 1 / number})

    with (run.path / "events.jsonl").open("w", encoding="utf-8") as file:
        file.write(Started(job="train").model_dump_json() + "\n")
        for number in range(1, steps + 1):
            file.write(step(number).model_dump_json() + "\n")
            if number % 200 == 0 or number == steps:
                file.write(Validation(step=number, loss=1.0).model_dump_json() + "\n")
        file.write(Finished(seconds=3.0).model_dump_json() + "\n")


def look(store: RunStore, tabs: int) -> None:
    """The first look of a page, the settled look of one tab and of many in one second."""
    with gr.Blocks() as demo:
        page = Page(demo, store.root, ServiceClient(store.root))
        for build in (RunList, Comparison, *TABS.values()):
            build(page)
    shown = Shown(page)

    def first() -> None:
        with page.reader.one_moment():
            shown.tick()

    def second(count: int) -> Callable[[], None]:
        def ticks() -> None:
            page.store._folder._looked = float("-inf")  # as if the second were over
            for _ in range(count):
                with page.reader.one_moment():
                    assert not shown.tick(), "it is settled"

        return ticks

    print(f"first look of a page          {spent(first):8.3f} s")
    first()  # a card may show what another has drawn
    print(f"settled second, one tab       {min(spent(second(1)) for _ in range(5)):8.4f} s")
    many = min(spent(second(tabs)) for _ in range(5))
    print(f"settled second, {tabs} tabs       {many:8.4f} s, {many / tabs:.4f} s a tick")


class Shown:
    """What an open page holds of the components that its looks read."""

    def __init__(self, page: Page):
        self._looks = page._looks
        self._held: dict[Any, Any] = {part: part.value for _, inputs, _ in self._looks for part in inputs}
        self._held[page.run] = page.chosen(None)

    def tick(self) -> bool:
        """Whether anything has changed since the last one."""
        changed = False
        for see, inputs, _ in self._looks:
            for part, new in (see(*(self._held[part] for part in inputs)) or {}).items():
                changed = True
                is_update = isinstance(new, dict) and "__type__" in new
                self._held[part] = new.get("value", self._held.get(part)) if is_update else new
        return changed


def spent(do: Callable[[], object]) -> float:
    began = time.process_time()
    do()
    return time.process_time() - began


def listing(store: RunStore) -> None:
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "medcot", "runs", "--runs-dir", store.root], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"medcot runs                   {processor:8.3f} s, {time.perf_counter() - began:.2f} s of wall time")


if __name__ == "__main__":
    main()
