"""The whole demo from one button: a training, the evaluation that waits for it, and Chat with the first sample asked.

The two jobs are in the queue from the start, so they go on without any page. Only the page that began the demo turns to
Chat at its end; it knows by its own session storage, also after a reload.
"""

from typing import Any

import gradio as gr

from medcot.errors import BadInput
from medcot.runs import pace
from medcot.runs.job_dir import ALIVE, State
from medcot.runs.run import Run
from medcot.settings import STARTER
from medcot.settings.recipes import compose
from medcot.ui import components as c
from medcot.ui.guard import visitor_may
from medcot.ui.page import QUIET, Page, Updates
from medcot.ui.train.open_run import OpenRun, Parts
from medcot.workers import jobs, preflight

TEXTS: dict[str, str] = c.TEXTS["demo"]
ASKING_SECONDS = 60.0  # loading the model once more, and one answer of each
BEGIN = "() => { document.getElementById('demo').dataset.busy = 'Starting'; }"
KEPT = c.from_file("train/demo_kept.js")
ENDED = c.from_file("train/demo_ended.js")
READ = "() => sessionStorage.getItem('medcot-demo') || ''"


class Demo:
    """`wire` is called when the open run is built as well."""

    def __init__(self, page: Page):
        self.page = page
        self.button = gr.Button(self.words(), variant="primary", visible=False, elem_id="demo")
        self.state = c.block(elem_id="demo-state")
        hidden: dict[str, Any] = {"visible": "hidden", "label": "Demo"}
        self.run = gr.Textbox("", elem_id="demo-run", **hidden)  # the run of the demo that this page began
        self.end = gr.Textbox("", elem_id="demo-end", **hidden)  # that run once it is measured, or how the demo ended

    def wire(self, run: OpenRun, parts: Parts) -> None:
        read, drawn = [self.run, self.state, self.end], [self.button, self.state, self.end]
        begun = [self.run, *drawn, run.problems, parts.tabs, *run.outputs]
        self.button.click(lambda: self.start(run, parts), None, begun, js=BEGIN, **QUIET).then(
            None, self.run, None, js=KEPT
        )
        self.page.demo.load(None, None, self.run, js=READ)
        self.page.refresh(self.look, read, drawn)
        gr.on([self.page.demo.load, self.run.change], self.open, read, drawn, **QUIET)
        self.end.change(None, [self.run, self.end], self.page.finale, js=ENDED)

    def words(self) -> str:
        """The button's words, with the time that the whole takes here."""
        runs, settings = self.page.reader.look().runs, compose(STARTER)
        known = [f(settings, runs, self.page.device) for f in (pace.training, pace.evaluation)]
        total = sum(one.seconds for one in known if one) + ASKING_SECONDS
        return TEXTS["button"].format(time=pace.about(total))

    def start(self, run: OpenRun, parts: Parts) -> Updates:
        """Put both jobs into the queue, unless a demo of this page is there already."""
        try:
            if self.page.reader.look().runs:
                raise BadInput.of("", TEXTS["there"])
            settings, _ = preflight.prepare(lambda: compose(STARTER))
            training = jobs.start_training(self.page.store, settings)
            jobs.start_evaluation(training, after_training=True)
        except BadInput as bad:
            return {run.problems: c.refused(bad), **run.view(None)}
        return {self.run: training.id, run.problems: "", **parts.show_run(), **run.view(training.id)}

    @visitor_may
    def open(self, run_id: object, state: str, end: str) -> Updates:
        return {self.button: gr.update(visible=self._is_first()), **self.look(run_id, state, end)}

    def look(self, run_id: object, shown: str, end: str) -> Updates:
        """How far this page's demo is; the button, on a page without runs alone."""
        run = self.page.reader.find(run_id)
        state, ended = self._told(run) if run else ("", "")
        changed: Updates = {self.state: state} if state != (shown or "") else {}
        changed |= {self.end: ended} if ended != (end or "") else {}
        return changed | ({self.button: gr.update(visible=self._is_first())} if changed else {})

    def _is_first(self) -> bool:
        return not self.page.reader.look().runs

    def _told(self, run: Run) -> tuple[str, str]:
        """The demo's state as HTML, and its end: the run once it is measured, or the word for a demo that broke off."""
        training, evaluation = run.status().state, next(iter(run.evaluations()), None)
        measuring: State = evaluation.status().state if evaluation else "failed"
        if training in ALIVE:
            return told("training"), ""
        if training != "finished":
            return c.stage(TEXTS["broke-training"].format(state=training)), "broke"
        if measuring in ALIVE:
            return told("measuring"), ""
        if measuring != "finished":
            return c.stage(TEXTS["broke-evaluation"].format(state=measuring)), "broke"
        return told("asking"), run.id


def told(part: str) -> str:
    """The demo's three parts, with the one that is under way."""
    names = ("training", "measuring", "asking")
    at = names.index(part)
    marks = ["mc-step-done" if i < at else "mc-step-now" if i == at else "" for i in range(len(names))]
    items = "".join(f'<li class="{mark}">{TEXTS[name]}</li>' for mark, name in zip(marks, names, strict=True))
    return f'<ol class="mc-steps" aria-label="The demo">{items}</ol>'
