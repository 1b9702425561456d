"""The Evaluate tab: what is asked, Start and Stop, and the chosen evaluation. A worker measures; the page reads."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from medcot.errors import BadInput
from medcot.evaluation import benchmarks
from medcot.evaluation.summary import MEASURES
from medcot.runs.ids import when
from medcot.runs.job_dir import ALIVE
from medcot.runs.run import Evaluation, Run
from medcot.runs.snapshot import Snapshot
from medcot.settings.evaluation import CHECKPOINTS
from medcot.ui import components as c
from medcot.ui.components import from_elsewhere
from medcot.ui.evaluate.questions import Elsewhere, Questions
from medcot.ui.evaluate.records import CHOOSE, RecordList, Wanted, evaluation_of
from medcot.ui.evaluate.results import results, spoilt
from medcot.ui.evaluate.take import TakePanel
from medcot.ui.guard import visitor_may
from medcot.ui.job_reader import mark
from medcot.ui.page import (
    HIDE,
    LATEST,
    QUIET,
    SHOW,
    UNCHANGED,
    Page,
    Updates,
    addressed,
    choice_of,
    is_early,
    mark_of,
    still,
)
from medcot.ui.publish import PublishPanel
from medcot.workers import jobs

RESUMABLE = ("stopped", "interrupted", "failed")


class EvaluateTab:
    def __init__(self, page: Page):
        self.page = page
        with gr.Column(elem_classes="mc-card"):
            c.block("<h2>Base against tuned</h2>")
            with gr.Row(elem_classes="mc-fields"):
                hidden: dict[str, Any] = {"visible": False, "filterable": False}
                self.runs = gr.Dropdown([], label="Run", elem_id="evaluate-run", **hidden)
                self.evaluations = gr.Dropdown([], label="Evaluation", elem_id="evaluation", **hidden)
            self.state = c.block(elem_id="evaluation-state")
            self.problems = c.block(elem_id="evaluate-problems")
            with gr.Row(elem_classes="mc-actions mc-few"):
                self.start = gr.Button("Start evaluation", variant="primary", visible=False, elem_id="evaluate")
                self.resume = gr.Button("Resume evaluation", visible=False, elem_id="resume-evaluation")
                self.stop = gr.Button("Stop evaluation", variant="stop", visible=False, elem_id="stop-evaluation")
                self.ask = gr.Button("Ask it", visible=False, elem_id="ask-evaluated")
            self.questions = Questions(page, self.runs)
            self.train = c.small_button("Go to Train", visible=False, elem_id="evaluate-to-train")
            self.table = c.block(elem_id="results", script=CHOOSE)
            self.take, self.publish = TakePanel(page, self.runs), PublishPanel(page, self.runs)
            self.leaving = (self.take.whole, self.publish.whole)
            self.elsewhere = Elsewhere(page)
        with gr.Column():
            self.records = RecordList(page, [self.runs, self.evaluations], self.table)
        # `shown` says which run, which table and how many examples are on the page.
        self.mark, self.shown = gr.State(""), gr.State("")
        self._wire(self.records.how)

    def _wire(self, sorted_by: list[Any]) -> None:
        page, asked = self.page, self.questions
        chosen, buttons = (
            [self.runs, self.evaluations, *sorted_by],
            [self.start, self.stop, self.resume, self.ask, self.train],
        )
        listed = [self.records.shown, self.records.sorting]
        shown = [self.runs, self.evaluations, self.state, self.table, *listed, *buttons]
        shown += [*asked.outputs, *self.leaving, self.mark, self.shown]
        done = [self.problems, *shown]
        page.lead(self.train, "Train")
        page.lead(self.ask, "Chat", self.runs)
        page.follow("Evaluate", self.opened, sorted_by, shown)
        page.demo.load(self.newest, sorted_by, shown, **QUIET)
        page.refresh(self.look, [*chosen, self.mark, self.shown], shown)
        self.runs.input(self.open_run, [self.runs, *sorted_by, self.shown], shown, **LATEST)
        self.evaluations.input(self.open, [*chosen, self.shown], shown, **LATEST)
        self.start.click(self.start_evaluation, [self.runs, *sorted_by, *asked.inputs], done, **QUIET)
        measured = [self.elsewhere.result, *shown]
        self.elsewhere.measure.click(self.measure, [*sorted_by, *self.elsewhere.inputs], measured, **QUIET)
        self.stop.click(self.stop_evaluation, chosen, done, **QUIET)
        self.resume.click(self.resume_evaluation, chosen, done, **QUIET)

    # ---- reading

    @visitor_may
    def newest(self, order: object, filters: object) -> Updates:
        """On load: what the address names, else the run that is being evaluated, else the newest."""
        if wanted := addressed("run"):
            view = self.view(wanted, addressed("evaluation"), order, filters)
            return view | self._own_settings(view)
        at_work = (run.id for run in self.page.reader.tuned() if is_evaluated(run))
        return self.opened(next(at_work, None), order, filters)

    def look(self, run_id: object, evaluation: object, *how: Any) -> Updates | None:
        order, filters, seen, shown = how
        if is_early(run_id, seen):
            return None
        if self._mark(run_id, evaluation) == seen:
            return {}
        return self.open(run_id, evaluation, order, filters, shown)

    @visitor_may
    def open(self, run_id: object, evaluation: object, order: object, filters: object, shown: str) -> Updates:
        """The run and the evaluation that the page has chosen; if the run is gone, another with its own settings."""
        view = self.view(run_id, evaluation, order, filters, shown)
        if view[self.runs]["value"] != run_id:
            view |= self._own_settings(view)
        chosen = {self.runs: run_id, self.evaluations: evaluation}
        return view | {picker: still(view[picker], value) for picker, value in chosen.items()}

    @visitor_may
    def open_run(self, run_id: object, order: object, filters: object, shown: str) -> Updates:
        """A run with its newest evaluation; nothing for the one that is shown, since gradio also fires this on blur."""
        if shown.partition(" ")[0] == run_id:
            return UNCHANGED
        view = self.opened(run_id, order, filters)
        return view | {self.runs: still(view[self.runs], run_id)}

    @visitor_may
    def opened(self, run_id: object, order: object, filters: object) -> Updates:
        """A run that was chosen elsewhere, with its newest evaluation."""
        view = self.view(run_id, None, order, filters)
        return view | self._own_settings(view)

    def _own_settings(self, view: Updates) -> Updates:
        """What is asked, as the viewed run's settings have it; and no further arms of another run."""
        settings = self.page.reader.settings(self.page.reader.find(view[self.runs]["value"]))
        asked = self.questions.filled(settings) if settings else {}
        return {**asked, self.questions.further: {**view[self.questions.further], "value": []}}

    def _mark(self, run_id: object, evaluation: object) -> str:
        """A text that changes whenever the view would. It is asked for at each look, so no folder is read for it."""
        folder = self.page.reader.look()
        run = choice_of(folder.tuned, run_id)
        listed = folder.find(run and run.id)
        evaluations = listed.evaluations if listed else ()
        known = [f"{one.id} {status.state}" for one, status in evaluations]
        chosen = choice_of([one for one, _ in evaluations], evaluation)
        return mark_of(run and run.id, hash(folder.titles), known, mark(chosen))

    def view(
        self, run_id: object, evaluation: object = None, order: object = None, filters: object = None, shown: str = ""
    ) -> Updates:
        """Everything about a run and one of its evaluations; no table and examples if those in `shown` are the same."""
        now = self._mark(run_id, evaluation)  # before the reading, so that the next look sees what comes after
        folder = self.page.reader.look()
        runs, run = folder.tuned, choice_of(folder.tuned, run_id)
        listed = gr.update(choices=list(folder.titles), value=run.id if run else None, visible=bool(runs))
        view: Updates = {self.runs: listed, self.mark: now, self.train: HIDE if run else SHOW}
        if run is None:
            return view | self._nothing()
        one = evaluation_of(run, evaluation)
        rows, summary = (len(one.examples()), one.summary()) if one else (0, None)
        judges = [judge.model_dump_json() for judge in summary.judges.values()] if summary else None
        holds = f"{run.id} {one and one.id} {rows} {judges if judges is None else hash(tuple(judges))}"
        if holds != shown:  # else what a reader has unfolded would be folded again
            measured = results(one, summary) if one and summary else ""
            view[self.table] = spoilt(one, rows) + measured if one else c.empty("evaluation")
            view[self.records.shown] = self.records.listing(run, one, Wanted(order, filters)) if one else ""
        view |= {
            self.records.sorting: gr.update(visible=rows > 0),
            **dict.fromkeys(self.leaving, SHOW),
            self.shown: holds,
        }
        return view | self._lists(run, folder, one) | self._buttons(run, one)

    def _nothing(self) -> Updates:
        asked = self.questions
        parts = (
            self.evaluations,
            self.records.sorting,
            asked.further,
            asked.whole,
            *self.leaving,
        )
        hidden: Updates = dict.fromkeys((*parts, self.start, self.stop, self.resume, self.ask), HIDE)
        return {self.state: c.empty("evaluate"), self.table: "", self.records.shown: "", self.shown: "", **hidden}

    def _lists(self, run: Run, folder: Snapshot, one: Evaluation | None) -> Updates:
        """The run's evaluations, and what can be a further arm."""
        known, adopted = run.evaluations(), run.origin() is not None
        picked = [(label(e, adopted), e.id) for e in known]
        kept, others = [p.name for p in run.checkpoints()], [pair for pair in folder.titles if pair[1] != run.id]
        return {
            self.evaluations: gr.update(choices=picked, value=one.id if one else None, visible=len(known) > 1),
            self.questions.further: gr.update(choices=[*([CHECKPOINTS] if kept else []), *kept, *others]),
        }

    def _buttons(self, run: Run, one: Evaluation | None) -> Updates:
        """The evaluation's state, and what can be done now."""
        state, alive = one.status().state if one else None, is_evaluated(run)
        at_rest, now = gr.update(visible=not alive), from_elsewhere(run, self.page.reader.settings(run))
        if one:
            now += c.titled(named(one, run.origin() is not None), one.status().state, one.id) + self.page.progress(one)
            now += c.warnings(self.page.reader.seen(one).warnings) if one.summary() is None else ""
        return {
            self.state: now,
            self.questions.whole: at_rest,
            self.start: {**at_rest, "variant": "secondary" if state == "finished" else "primary"},
            self.ask: SHOW if state == "finished" else HIDE,
            self.stop: gr.update(visible=state in ALIVE, interactive=state != "stopping"),
            self.resume: gr.update(visible=state in RESUMABLE and not alive),
        }

    # ---- acting

    def start_evaluation(self, run_id: object, order: object, filters: object, *asked: object) -> Updates:
        refused = c.attempt(lambda: self._start(self.page.reader.find(run_id), asked))
        return {self.problems: refused, **self.view(run_id, None, order, filters)}

    def _start(self, run: Run | None, asked: tuple[object, ...]) -> None:
        if run is None:
            raise BadInput.of("run", "none is chosen.", "Train one first.")
        if is_evaluated(run):
            raise BadInput.of("run", f"{run.id} is being evaluated.", "Wait until it ends, or stop it.")
        jobs.start_evaluation(run, self.questions.order(run, *asked))

    def measure(self, order: object, filters: object, *typed: object) -> Iterator[Updates]:
        """Adopt an adapter from elsewhere, measure it, and open it."""
        result = self.elsewhere.result
        yield {result: c.announced("Looking at adapter, base and records…")}
        try:
            run = self.elsewhere.adopt(*typed)
        except BadInput as bad:
            yield {result: c.refused(bad)}
            return
        yield {result: "", **self.opened(run.id, order, filters)}

    def stop_evaluation(self, *chosen: object) -> Updates:
        return self._act(jobs.stop, *chosen)

    def resume_evaluation(self, *chosen: object) -> Updates:
        return self._act(jobs.resume_evaluation, *chosen)

    def _act(self, do: Callable[[Evaluation], None], run_id: object, evaluation: object, *sorting: Any) -> Updates:
        chosen = evaluation_of(self.page.reader.find(run_id), evaluation)
        refused = c.attempt(lambda: do(chosen)) if chosen else ""
        return {self.problems: refused, **self.view(run_id, evaluation, *sorting)}


def is_evaluated(run: Run) -> bool:
    """True while an evaluation of the run is at work or waits."""
    return any(e.status().state in ALIVE for e in run.evaluations())


def label(evaluation: Evaluation, adopted: bool) -> str:
    """An evaluation in the list: when, what, and its state."""
    return f"{named(evaluation, adopted)} · {evaluation.status().state}"


def named(evaluation: Evaluation, adopted: bool) -> str:
    """When an evaluation was started, and what it asks."""
    try:
        order = evaluation.order()
        words, benchmark = MEASURES[order.kind].words, benchmarks.named(order.questions)
        what = benchmark.title if benchmark else (adopted and words.elsewhere) or words.label
    except BadInput:
        what = "settings unreadable"
    return f"{when(evaluation.id) or evaluation.id} · {what}"
