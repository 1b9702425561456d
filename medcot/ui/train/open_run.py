"""The open run: its state, figures, curves, sample answers and log, read from its directory; Stop."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby, islice

import gradio as gr
import psutil

from medcot.prompts.tags import begins_strict, parse
from medcot.runs.events import Sample, Step
from medcot.runs.ids import name_of
from medcot.runs.job_dir import ALIVE, Status
from medcot.runs.run import Run
from medcot.ui import components as c
from medcot.ui.components import from_elsewhere
from medcot.ui.guard import is_visitor, visitor_may
from medcot.ui.job_reader import Seen, mark
from medcot.ui.page import HIDE, QUIET, Page, Updates
from medcot.ui.train import stages
from medcot.ui.train.curves import Curves
from medcot.workers import jobs

RUN, PLAN = "run", "plan"
NOT_YOURS = c.soft("Those who may train here see it.")  # instead of the log
LOG_LINES = 30


class Parts:
    """The two parts of the tab's right side: the run, and data and plan."""

    def __init__(self, tabs: gr.Tabs):
        self.tabs = tabs

    def show_run(self) -> Updates:
        return {self.tabs: gr.update(selected=RUN)}

    @visitor_may
    def show_plan(self) -> Updates:
        return {self.tabs: gr.update(selected=PLAN)}


class OpenRun:
    def __init__(self, page: Page):
        self.page = page
        self.live = c.block(elem_id="live")
        self.problems = c.block(elem_id="run-problems")
        with gr.Row(elem_classes="mc-actions"):
            self.stop = gr.Button("Stop training", variant="stop", visible=False, elem_id="stop")
            self.stop_now = gr.Button("Stop now, without saving", visible=False, elem_id="stop-now")
            self.resume = gr.Button("Continue from the checkpoint", visible=False, elem_id="resume")
            self.evaluate = gr.Button("Evaluate it", variant="primary", visible=False, elem_id="evaluate-it")
            self.ask = gr.Button("Ask it", visible=False, elem_id="ask-it")
            self.compare = gr.Button("Compare it", visible=False, elem_id="compare-it")
            self.take = gr.Button("Download it", visible=False, elem_id="take-it")
        self.curves = Curves(page)
        self.samples = c.block(elem_id="samples")
        with gr.Accordion("End of the log", open=False, elem_classes="mc-log-part"):
            self.log = c.block(elem_id="log")
        self.mark = gr.State("")
        self.buttons = [self.stop, self.stop_now, self.resume, self.evaluate, self.ask, self.compare, self.take]
        page.lead(self.evaluate, "Evaluate")
        page.lead(self.ask, "Chat")
        page.lead(self.take, "Evaluate")
        self.take.click(None, js=c.from_file("train/take.js"))
        self.compare.click(self.begin_with, page.run, page.ticked, **QUIET)
        shown = [self.live, self.samples, self.log, *self.buttons, self.mark]
        self.outputs = [page.run, *shown]
        page.refresh(self.look, [page.run, self.mark], shown)
        acted = [self.problems, *self.outputs]
        self.stop.click(self.stop_training, page.run, acted, **QUIET)
        self.stop_now.click(self.kill_training, page.run, acted, **QUIET)

    # ---- reading

    def look(self, run_id: object, seen_mark: str) -> Updates:
        return self._view(run_id) if self._mark(run_id) != seen_mark else {}

    def _mark(self, run_id: object) -> str:
        return f"{run_id} {self.page.reader.mark()} {mark(self.page.reader.find(run_id))}"

    def view(self, wanted: object) -> Updates:
        """Everything about a run, which becomes the page's, or about another one if it is gone."""
        chosen = self.page.chosen(wanted)
        return {self.page.run: chosen, **self._view(chosen)}

    def _view(self, run_id: object) -> Updates:
        now = self._mark(run_id)  # before the reading, so that the next look sees what comes in between
        run = self.page.reader.find(run_id)
        return {self.mark: now, **(self._shown(run) if run else self._nothing())}

    def _nothing(self) -> Updates:
        emptied: Updates = dict.fromkeys((self.samples, self.log), "")
        return {self.live: c.empty("train"), **emptied, **dict.fromkeys(self.buttons, HIDE)}

    def _shown(self, run: Run) -> Updates:
        status, seen = run.status(), self.page.reader.seen(run)
        return {
            self.live: self.summary(run, status, seen),
            self.samples: samples(seen),
            # Libraries print paths of this machine, and whatever else.
            self.log: NOT_YOURS if is_visitor() else c.log(run.log_tail(LOG_LINES)),
            **self._possible(run, status),
        }

    def _possible(self, run: Run, status: Status) -> Updates:
        """The buttons of what can be done with the run now."""
        alive, waits = status.state in ALIVE, status.state == "queued"
        resumable = status.state in ("stopped", "interrupted", "failed") and bool(run.checkpoints())
        label = "Cancel" if waits else "Stop training"
        tuned = gr.update(visible=run in self.page.reader.tuned())
        return {
            self.evaluate: tuned,
            self.ask: tuned,
            self.take: tuned,
            self.compare: gr.update(visible=not alive and any(self._others(run.id))),
            self.stop: gr.update(value=label, visible=alive, interactive=status.state != "stopping"),
            self.stop_now: gr.update(visible=alive and (not waits or bool(run.silence(status)))),
            self.resume: gr.update(visible=resumable),
        }

    def summary(self, run: Run, status: Status, seen: Seen) -> str:
        """What it is, how far it is or how it ended, and its newest figures."""
        settings, about = self.page.reader.settings(run), run.about()
        what = f"Recipe {settings.recipe} · model {settings.model.id} · data {settings.data.source}" if settings else ""
        note = f'<p class="mc-soft mc-told">{c.text(about.note)}</p>' if about.note else ""
        name = about.name or name_of(run.id)
        if run.origin():
            head = c.titled(name, job_id=run.id) + from_elsewhere(run, settings)
            return head + c.soft("Its figures are under Evaluate.") + note
        head = c.titled(name, status.state, run.id) + c.soft(what) + note
        return (
            head
            + stages.row(status, seen)
            + self.page.progress(run)
            + c.figures(figures(seen, status))
            + (c.soft(f"{str(seen.kept).capitalize()}.") if seen.kept else "")
            + c.warnings(seen.warnings)
        )

    def _others(self, run_id: object) -> Iterator[str]:
        """The ids of the other runs that were trained here, newest first."""
        return (one.id for one in self.page.reader.look().runs if one.id != run_id and not one.adapter)

    @visitor_may
    def begin_with(self, run_id: object) -> Updates:
        """Tick the open run and the newest other one that was trained here; a person chooses further."""
        return {self.page.ticked: "/".join([str(run_id), *islice(self._others(run_id), 1)])}

    # ---- acting

    def stop_training(self, run_id: object) -> Updates:
        return self.act(run_id, jobs.stop)

    def kill_training(self, run_id: object) -> Updates:
        return self.act(run_id, partial(jobs.stop, now=True))

    def act(self, run_id: object, action: Callable[[Run], None]) -> Updates:
        """Do something with the run; its problems, and the run as it is then."""
        run = self.page.reader.find(run_id)
        if run is None:
            return {self.problems: "", **self.view(None)}
        return {self.problems: c.attempt(lambda: action(run)), **self.view(run_id)}


MOST_VALIDATIONS = 12  # whose samples are shown, newest first


def figures(seen: Seen, status: Status) -> list[tuple[str, str]]:
    """The newest figures that no plot tells; what has not been measured yet is a dash."""
    last, validation = seen.steps.newest, seen.validations.newest
    return [
        ("Train loss", f"{last.loss:.3f}" if last else "–"),
        ("Validation loss", f"{validation.loss:.3f}" if validation else "–"),
        ("Step", f"{last.step:,} of {last.total_steps:,}" if last else "–"),
        ("Epoch", f"{last.epoch:.2f}" if last else "–"),
        ("Tokens/s", f"{last.tokens_per_second:,.0f}" if last else "–"),
        ("Memory", memory(last, seen, status)),
    ]


def memory(last: Step | None, seen: Seen, status: Status) -> str:
    """The GPU's memory as the worker reports it; on a CPU, the worker process's memory now, or at its peak."""
    if last and last.gpu_memory_gib:
        return f"{last.gpu_memory_gib:.1f} GiB"
    if seen.finished and status.state not in ALIVE:
        return f"{seen.finished.peak_memory_gib:.1f} GiB"
    if status.state != "running" or status.pid is None:
        return "–"
    try:
        return f"{psutil.Process(status.pid).memory_info().rss / 2**30:.1f} GiB"
    except psutil.Error:
        return "–"


def samples(seen: Seen) -> str:
    """The answers at each validation, newest first: they show how the form is learned."""
    known = [s for s in reversed(list(seen.samples.values())) if s.step is not None]
    groups = [(step, list(group)) for step, group in groupby(known, key=lambda s: s.step)][:MOST_VALIDATIONS]
    if not groups:
        return ""
    parts = "".join(_samples_of(step, group, i == 0) for i, (step, group) in enumerate(groups))
    return f"<h4>Sample answers, as it learns</h4>{parts}"


def _samples_of(step: int | None, group: list[Sample], is_open: bool) -> str:
    answers = "".join(_sample(s.question, s.output) for s in reversed(group))
    whole = sum(parse(s.output).strict for s in group)
    begun = sum(begins_strict(s.output) for s in group)
    so_far = f" so far, {whole} complete" if begun > whole else ""
    return c.fold(f"Step {step}: {begun} of {len(group)} keep to the tags{so_far}", answers, is_open)


def _sample(question: str, output: str) -> str:
    parsed = parse(output)
    cut = begins_strict(output) and not parsed.strict
    format = "the sample ends here, with the tags right so far" if cut else "; ".join(parsed.problems)
    wrong = f'<p class="mc-format">Format: {c.text(format)}</p>' if parsed.problems else ""
    reasoning = f"<h5>Reasoning</h5>{c.passage(parsed.reasoning)}" if parsed.reasoning else ""
    answer = "" if cut and not parsed.answer else f"<h5>Answer</h5>{c.passage(parsed.answer, 'No answer.')}"
    return f'<div class="mc-arm mc-arm-tuned"><p class="mc-soft">{c.text(question)}</p>{reasoning}{answer}{wrong}</div>'
