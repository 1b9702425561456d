"""The curves of the open run: its losses and rates, over steps or time at work, on a plain or a log scale."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import pairwise

import gradio as gr

from medcot.runs.events import Step, Validation
from medcot.runs.job_dir import ALIVE
from medcot.ui import components as c
from medcot.ui.chart import Look, Points, loss_plot, small_plots
from medcot.ui.guard import visitor_may
from medcot.ui.job_reader import Seen
from medcot.ui.page import LATEST, Page, Updates

STEPS, TIME = "Steps", "Time"
REST = 20  # times the usual time between two readings: a longer one is a pause, as between two parts of a run


class Curves:
    def __init__(self, page: Page):
        self.page = page
        with gr.Row(elem_classes="mc-look", visible=False) as self.how:
            over = gr.Radio([STEPS, TIME], value=STEPS, label="Over", container=False, elem_id="plot-over")
            log = gr.Checkbox(False, label="Log scale", container=False, elem_id="plot-log")
        self.plot, self.rates = c.block(elem_id="plot"), c.block(elem_id="rates")
        self.mark = gr.State("")
        read, outputs = [page.run, over, log], [self.how, self.plot, self.rates, self.mark]
        page.refresh(self.look, [*read, self.mark], outputs)
        gr.on([over.input, log.input], self.draw, read, outputs, **LATEST)

    def look(self, run_id: object, over: object, log: object, seen: str) -> Updates:
        return {} if self._mark(run_id) == seen else self.draw(run_id, over, log)

    def _mark(self, run_id: object) -> str:
        if (run := self.page.reader.find(run_id)) is None:
            return ""
        seen = self.page.reader.seen(run)
        return f"{run.id} {run.status().state} {seen.steps.newest} {seen.validations.newest} {seen.kept}"

    @visitor_may
    def draw(self, run_id: object, over: object, log: object) -> Updates:
        """The curves of a run as they are now; nothing without one."""
        now, run = self._mark(run_id), self.page.reader.find(run_id)
        if run is None:
            return {self.plot: "", self.rates: "", self.how: gr.update(visible=False), self.mark: now}
        look = Look("time" if over == TIME else "step", log is True)
        seen = self.page.reader.seen(run)
        losses, series, kept = curves(seen, look)
        shown = any(losses) or run.status().state in ALIVE
        return {
            self.plot: loss_plot(*losses, seen.total_steps, look, kept) if shown else "",
            self.rates: small_plots(series, seen.total_steps if look.over == "step" else 0, look),
            self.how: gr.update(visible=any(losses)),
            self.mark: now,
        }


def curves(seen: Seen, look: Look) -> tuple[tuple[Points, Points], list[tuple[str, Points]], float | None]:
    """(train and validation loss, what else is measured at each step, the place of the kept step if there is one), over
    what the plot is drawn over."""
    train, validation = seen.losses
    series, kept = rates(seen), seen.kept.step if seen.kept else None
    if look.over == "step":
        return (train, validation), series, kept
    at = elapsed([*seen.steps.points, *seen.validations.points])

    def over_time(points: Points) -> Points:
        return [(at[x], y) for x, y in points]

    chosen = None if kept is None else at.get(kept)
    return (over_time(train), over_time(validation)), [(title, over_time(points)) for title, points in series], chosen


def elapsed(readings: Sequence[Step | Validation]) -> Mapping[float, float]:
    """Seconds at work until each step, from the first reading on; pauses between the parts of a run are left out."""
    times = sorted({reading.step: reading.time for reading in readings}.items())
    gaps = [max(0.0, after - before) for (_, before), (_, after) in pairwise(times)]
    usual = statistics.median(gaps) if gaps else 0.0
    found, total = dict[float, float](), 0.0
    for (step, _), gap in zip(times, [0.0, *gaps], strict=False):
        total += usual if gap > REST * usual else gap
        found[step] = total
    return found


def rates(seen: Seen) -> list[tuple[str, Points]]:
    """(title, points) of what is measured at each step besides the loss."""
    steps = seen.steps.points
    on_gpu = any(s.gpu_memory_gib for s in steps)
    return [
        ("Learning rate", [(s.step, s.learning_rate) for s in steps]),
        ("Gradient norm", [(s.step, s.grad_norm) for s in steps if s.grad_norm is not None]),
        ("Tokens/s", [(s.step, s.tokens_per_second) for s in steps]),
        ("GPU memory, GiB", [(s.step, s.gpu_memory_gib) for s in steps] if on_gpu else []),
    ]
