"""The open run: its state, figures, curves, samples and log, read from its directory; Stop and Continue."""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

import gradio as gr

from medcot import jobs
from medcot.errors import BadInput
from medcot.jobdirs import ALIVE, Status
from medcot.runs import Run
from medcot.ui import components as c
from medcot.ui.chart import loss_plot, small_plots
from medcot.ui.elsewhere import from_elsewhere
from medcot.ui.page import Page, choice_of, mark, still
from medcot.ui.reading import Seen
from medcot.ui.train.history import title
from medcot.ui.train.keys import Keys
from medcot.ui.train.readings import figures, rates, samples

LOG_LINES = 30
NOTHING = c.empty(
    "No run yet",
    "Keep the recipe, or choose another. <b>starter</b> needs no GPU and no account.",
    "Press <b>Start training</b>. The loss appears here, and goes on if you close this page.",
    "When it has finished, go to <b>Evaluate</b>.",
)


@dataclass
class View:
    """What the tab shows of the run that is open, in the order of the list and RunColumn's outputs."""

    runs: Any
    live: str
    plot: str
    rates: str
    samples: str
    log: str
    stop: Any
    stop_now: Any
    resume: Any
    mark: str

    def outputs(self) -> list[Any]:
        return list(astuple(self))


@dataclass(frozen=True)
class RunColumn:
    live: gr.HTML
    plot: gr.HTML
    rates: gr.HTML
    samples: gr.HTML
    log: gr.HTML
    stop: gr.Button
    stop_now: gr.Button
    resume: gr.Button
    problems: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        read = (self.live, self.plot, self.rates, self.samples, self.log)
        return [*read, self.stop, self.stop_now, self.resume]


def run_column() -> RunColumn:
    """The open run."""
    live = c.block(elem_id="live")
    problems = c.block(elem_id="run-problems")
    with gr.Row(elem_classes="mc-actions"):
        stop = gr.Button("Stop training", variant="stop", visible=False, elem_id="stop")
        stop_now = gr.Button("Stop now, without saving", visible=False, elem_id="stop-now")
        resume = gr.Button("Continue from the checkpoint", visible=False, elem_id="resume")
    plot, rates = c.block(elem_id="plot"), c.block(elem_id="rates")
    samples = c.block(elem_id="samples")
    with gr.Accordion("End of the log", open=False, elem_classes="mc-log-part"):
        log = c.block(elem_id="log")
    return RunColumn(live, plot, rates, samples, log, stop, stop_now, resume, problems)


class Running:
    def __init__(self, page: Page):
        self.page = page

    # ---- reading

    def newest(self) -> list[Any]:
        """On load: the run that is at work, else one that waits, else the newest."""
        states = {run.id: run.status().state for run in self.page.store.list()}
        alive = sorted((run_id for run_id in states if states[run_id] in ALIVE), key=lambda i: states[i] == "queued")
        return self.view(next(iter(alive), None)).outputs()

    def look(self, run_id: object, seen_mark: str) -> Any:
        if not seen_mark or self._mark(self.page.store.list(), run_id) == seen_mark:
            return gr.skip()  # without a mark, the page has yet to hear which run it opens with
        return self.open(run_id)

    def open(self, run_id: object) -> list[Any]:
        """The run that the page has chosen."""
        view = self.view(run_id)
        view.runs = still(view.runs, run_id)
        return view.outputs()

    def _mark(self, runs: list[Run], run_id: object) -> str:
        states = " ".join(f"{run.id}={run.status().state} {run.about().name}" for run in runs)
        return f"{states} | {mark(self.page.reader.find(choice_of(runs, run_id)))}"

    def view(self, run_id: object) -> View:
        runs = self.page.store.list()
        now = self._mark(runs, run_id)  # before the reading, so that what comes in between is seen next time
        chosen = choice_of(runs, run_id)
        run = self.page.reader.find(chosen)
        listed = gr.update(choices=[(self.label(r), r.id) for r in runs], value=chosen, visible=bool(runs))
        hidden = gr.update(visible=False)
        if run is None:
            return View(listed, NOTHING, "", "", "", "", hidden, hidden, hidden, now)
        status, seen = run.status(), self.page.reader.seen(run)
        losses = [(s.step, s.loss) for s in seen.steps], [(v.step, v.loss) for v in seen.validations]
        waits = status.state == "queued"
        return View(
            listed,
            self.live(run, status, seen),
            loss_plot(*losses, seen.total_steps),
            small_plots(rates(seen), seen.total_steps),
            samples(seen),
            c.log(run.log_tail(LOG_LINES)),
            gr.update(
                value="Cancel" if waits else "Stop training",
                visible=status.state in ALIVE,
                interactive=status.state != "stopping",
            ),
            gr.update(visible=status.state in ALIVE and not waits),
            gr.update(visible=status.state in ("stopped", "interrupted", "failed") and bool(run.checkpoints())),
            now,
        )

    def label(self, run: Run) -> str:
        if run.origin():
            return f"{title(run)} · not trained here"
        seen, state = self.page.reader.seen(run), c.STATE_WORDS[run.status().state]
        steps = f" · {seen.steps[-1].step} of {seen.total_steps} steps" if seen.steps else ""
        loss = f" · validation loss {seen.validations[-1].loss:.2f}" if seen.validations else ""
        return f"{title(run)} · {state}{steps}{loss}"

    def live(self, run: Run, status: Status, seen: Seen) -> str:
        settings, told = self.page.reader.settings(run), run.about()
        what = f"Recipe {settings.recipe} · model {settings.model.id} · data {settings.data.source}" if settings else ""
        note = f'<p class="mc-soft mc-told">{c.text(told.note)}</p>' if told.note else ""
        name = f'<p class="mc-told"><b>{c.text(told.name)}</b></p>' if told.name else ""
        if run.origin():
            head = f'<div class="mc-title"><h3>{c.text(run.id)}</h3></div>'
            where = '<p class="mc-soft">Its figures are under Evaluate.</p>'
            return name + head + from_elsewhere(run, settings) + where + note
        at_work = c.progress_bar(seen, status, self.waits_for(status)) if status.state in ALIVE else ""
        return (
            f'{name}<div class="mc-title"><h3>{c.text(run.id)}</h3>{c.badge(status.state)}</div>'
            f'<p class="mc-soft">{c.text(what)}</p>{note}'
            + at_work
            + c.ending(run, status, seen)
            + c.figures(figures(seen, status))
            + c.warnings(seen.warnings)
        )

    def waits_for(self, status: Status) -> str:
        busy = self.page.reader.busy() if status.state == "queued" else None
        return f", which {busy.path.name} uses" if busy else ""

    # ---- acting

    def stop(self, run_id: object) -> list[Any]:
        return self._act(run_id, jobs.stop)

    def stop_now(self, run_id: object) -> list[Any]:
        return self._act(run_id, partial(jobs.stop, now=True))

    def resume(self, run_id: object, *typed: object) -> list[Any]:
        """Problems, the fields of the typed keys, emptied once they are handed on, then what is shown."""
        problems, *view = self._act(run_id, partial(jobs.resume_training, secrets=Keys.secrets(typed)))
        return [problems, *[gr.skip() if problems else ""] * len(typed), *view]

    def _act(self, run_id: object, action: Callable[[Run], None]) -> list[Any]:
        run = self.page.reader.find(run_id)
        if run is None:
            return ["", *self.view(None).outputs()]
        try:
            action(run)
        except BadInput as bad:
            return [c.problems(bad.problems), *self.view(run_id).outputs()]
        return ["", *self.view(run_id).outputs()]
