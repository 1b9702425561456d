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
from medcot.ui.page import HIDE, LATEST, QUIET, SHOW, Page, Updates, addressed, choice_of, still
from medcot.ui.publish import PublishPanel
from medcot.workers import jobs

HEAD = "<h2>Base against tuned</h2>"
RESUMABLE = ("stopped", "interrupted", "failed")


class EvaluateTab:
    def __init__(self, page: Page):
        self.page = page
        with gr.Column(elem_classes="mc-card"):
            self.head = c.block(HEAD, elem_id="evaluate-head")
            listed: dict[str, Any] = {"label": "Evaluation", "elem_id": "evaluation", "filterable": False}
            self.evaluations = gr.Dropdown([], visible=False, **listed)
            self.state = c.block(elem_id="evaluation-state")
            self.other_run = page.other_run("evaluate-other")
            self.train = c.small_button("Go to Train", visible=False, elem_id="evaluate-to-train")
            self.problems = c.block(elem_id="evaluate-problems")
            with gr.Row(elem_classes="mc-actions mc-few"):
                self.start = gr.Button("Start evaluation", variant="primary", visible=False, elem_id="evaluate")
                self.resume = gr.Button("Resume evaluation", visible=False, elem_id="resume-evaluation")
                self.stop = gr.Button("Stop evaluation", variant="stop", visible=False, elem_id="stop-evaluation")
                self.ask = gr.Button("Ask it", visible=False, elem_id="ask-evaluated")
            self.questions = Questions(page)
            self.table = c.block(elem_id="results", script=CHOOSE)
            self.take, self.publish = TakePanel(page), PublishPanel(page)
            self.leaving = (self.take.whole, self.publish.whole)
            self.elsewhere = Elsewhere(page)
        with gr.Column():
            self.records = RecordList(page, self.evaluations, self.table)
        # `shown` says which run, which table and how many examples are on the page.
        self.mark, self.shown = gr.State(""), gr.State("")
        self._wire(self.records.how)

    def _wire(self, sorted_by: list[Any]) -> None:
        page, asked = self.page, self.questions
        chosen = [page.run, self.evaluations, *sorted_by]
        buttons = [self.start, self.stop, self.resume, self.ask, self.train, self.other_run]
        listed = [self.records.shown, self.records.sorting]
        shown = [self.head, self.evaluations, self.state, self.table, *listed, *buttons]
        shown += [*asked.outputs, *self.leaving, self.mark, self.shown]
        done = [self.problems, *shown]
        page.lead(self.train, "Train")
        page.lead(self.ask, "Chat")
        page.refresh(self.look, [*chosen, self.mark, self.shown], shown)
        self.evaluations.input(self.open, [*chosen, self.shown], shown, **LATEST)
        self.evaluations.input(None, self.evaluations, None, js="one => medcot.at('evaluation', one)")
        self.start.click(self.start_evaluation, [page.run, *sorted_by, *asked.inputs], done, **QUIET)
        measured = [self.elsewhere.result, page.run, *shown]
        self.elsewhere.measure.click(self.measure, [*sorted_by, *self.elsewhere.inputs], measured, **QUIET)
        self.stop.click(self.stop_evaluation, chosen, done, **QUIET)
        self.resume.click(self.resume_evaluation, chosen, done, **QUIET)

    # ---- reading

    def look(self, run_id: object, evaluation: object, *how: Any) -> Updates:
        order, filters, seen, shown = how
        if self._mark(run_id, evaluation) == seen:
            return {}
        if run_id == shown.partition("/")[0]:
            return self.open(run_id, evaluation, order, filters, shown)
        named = addressed("evaluation") if addressed("run") == run_id else None
        return self.opened(run_id, named, order, filters)

    @visitor_may
    def open(self, run_id: object, evaluation: object, order: object, filters: object, shown: str) -> Updates:
        """The run and the evaluation that the page has chosen."""
        view = self.view(run_id, evaluation, order, filters, shown)
        return view | {self.evaluations: still(view[self.evaluations], evaluation)}

    def opened(self, run_id: object, evaluation: object, order: object, filters: object) -> Updates:
        """Another run with the named evaluation, or its newest, and with its own settings."""
        view = self.view(run_id, evaluation, order, filters)
        settings = self.page.reader.settings(self.page.reader.find(run_id))
        asked = self.questions.filled(settings) if settings else {}
        return {**view, **asked, self.questions.further: {**view[self.questions.further], "value": []}}

    def _mark(self, run_id: object, evaluation: object) -> str:
        """A text that changes whenever the view would. It is asked for at each look, so no folder is read for it."""
        folder = self.page.reader.look()
        run, listed = self.page.tuned(run_id), folder.find(run_id)
        evaluations = listed.evaluations if run and listed else ()
        known = [f"{one.id} {status.state}" for one, status in evaluations]
        chosen = choice_of([one for one, _ in evaluations], evaluation)
        return f"{run_id} {listed and listed.status.state} {hash(folder.titles)} {known} {mark(chosen)}"

    def view(
        self, run_id: object, evaluation: object = None, order: object = None, filters: object = None, shown: str = ""
    ) -> Updates:
        """Everything about a run and one of its evaluations; no table and examples if those in `shown` are the same."""
        now = self._mark(run_id, evaluation)  # before the reading, so that the next look sees what comes after
        folder = self.page.reader.look()
        if (run := self.page.tuned(run_id)) is None:
            return {self.mark: now, **self._nothing(run_id, bool(folder.tuned))}
        one = evaluation_of(run, evaluation)
        rows, summary = (len(one.examples()), one.summary()) if one else (0, None)
        judges = [judge.model_dump_json() for judge in summary.judges.values()] if summary else None
        holds = f"{run.id}/{one and one.id} {rows} {judges if judges is None else hash(tuple(judges))}"
        view: Updates = {}
        if holds != shown:  # else what a reader has unfolded would be folded again
            measured = results(one, summary) if one and summary else ""
            view[self.table] = spoilt(one, rows) + measured if one else c.empty("evaluation")
            view[self.records.shown] = self.records.listing(run, one, Wanted(order, filters)) if one else ""
        view |= {
            self.mark: now,
            self.head: headed(folder, run),
            self.records.sorting: gr.update(visible=rows > 0),
            **dict.fromkeys((self.train, self.other_run), HIDE),
            **dict.fromkeys(self.leaving, SHOW),
            self.shown: holds,
        }
        return view | self._lists(run, folder, one) | self._buttons(run, one)

    def _nothing(self, run_id: object, others: bool) -> Updates:
        """Why there is nothing to evaluate, and what leads on."""
        asked = self.questions
        parts = (self.evaluations, self.records.sorting, asked.further, asked.whole, *self.leaving)
        hidden: Updates = dict.fromkeys((*parts, self.start, self.stop, self.resume, self.ask), HIDE)
        leads = {self.train: gr.update(visible=not others), self.other_run: gr.update(visible=others)}
        empty = {
            self.head: HEAD,
            self.table: "",
            self.records.shown: "",
            self.shown: f"{run_id}/",
        }
        return {self.state: self.page.untuned(run_id, "evaluate"), **empty, **hidden, **leads}

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
        yield {result: "", self.page.run: run.id, **self.opened(run.id, None, order, filters)}

    def stop_evaluation(self, *chosen: object) -> Updates:
        return self._act(jobs.stop, *chosen)

    def resume_evaluation(self, *chosen: object) -> Updates:
        return self._act(jobs.resume_evaluation, *chosen)

    def _act(self, do: Callable[[Evaluation], None], run_id: object, evaluation: object, *sorting: Any) -> Updates:
        chosen = evaluation_of(self.page.reader.find(run_id), evaluation)
        refused = c.attempt(lambda: do(chosen)) if chosen else ""
        return {self.problems: refused, **self.view(run_id, evaluation, *sorting)}


def headed(folder: Snapshot, run: Run) -> str:
    """What is measured: the run, by name."""
    listed = folder.find(run.id)
    return f"<h2>{c.text(listed.title if listed else run.id)}</h2>{c.soft('Base against tuned')}"


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
