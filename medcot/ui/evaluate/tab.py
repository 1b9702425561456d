"""What the Evaluate tab shows and does. A worker measures; this reads what it wrote."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from medcot import adopting, jobs
from medcot.errors import BadInput, Problem
from medcot.evaluating.order import CHECKPOINTS, EvaluationOrder
from medcot.jobdirs import ALIVE
from medcot.runs import Evaluation, Run
from medcot.ui import components as c
from medcot.ui.elsewhere import from_elsewhere, style_of
from medcot.ui.evaluate.orders import order_of
from medcot.ui.evaluate.records import listing
from medcot.ui.evaluate.results import results
from medcot.ui.page import Page, choice_of, mark, still

NO_RUN = c.empty(
    "Nothing to evaluate yet",
    "Train a run under <b>Train</b> and let it finish.",
    "Come back: it is chosen here by itself.",
)
NO_EVALUATION = c.empty(
    "Not evaluated yet",
    "Press <b>Start evaluation</b>. Base and tuned answer the same held-out questions.",
    "Read the verdict first, then the answers themselves.",
)
RESUMABLE = ("stopped", "interrupted", "failed")


@dataclass
class View:
    """What the tab shows of the chosen evaluation, in the order of its outputs."""

    runs: Any
    evaluations: Any
    state: str
    table: Any
    examples: Any
    sorting: Any
    further: Any
    ask: Any
    publish: Any
    start: Any
    stop: Any
    resume: Any
    mark: str
    shown: str  # which run, which table and how many examples are on the page
    told: Any = field(default_factory=gr.skip)  # said by a run's settings when it is opened, then by who looks at it

    def outputs(self) -> list[Any]:
        return [getattr(self, name) for name in self.__dataclass_fields__]


class EvaluateTab:
    def __init__(self, page: Page):
        self.page = page

    def newest(self, order: object, filters: object) -> list[Any]:
        """On load: the run that is being evaluated, else the newest."""
        runs = self.page.reader.tuned()
        at_work = (r for r in runs if (e := newest_of(r)) and e.status().state in ALIVE)
        return self._opened(getattr(next(at_work, None), "id", None), order, filters)

    def look(self, run_id: object, evaluation: object, order: object, filters: object, seen: str, shown: str) -> Any:
        if not seen or self._mark(self.page.reader.tuned(), run_id, evaluation) == seen:
            return gr.skip()  # without a mark, the page has yet to hear which run it opens with
        return self.open(run_id, evaluation, order, filters, shown)

    def open(self, run_id: object, evaluation: object, order: object, filters: object, shown: str) -> list[Any]:
        """What the page has chosen; where that is gone, another run with its own settings."""
        view = self.view(run_id, evaluation, order, filters, shown)
        if view.runs["value"] != run_id:
            self._settle(view)
        view.runs, view.evaluations = still(view.runs, run_id), still(view.evaluations, evaluation)
        return view.outputs()

    def open_run(self, run_id: object, order: object, filters: object, shown: str) -> Any:
        """Skipped for the run that is shown: a list tells of its choice also when it only loses the focus."""
        is_shown = shown.partition(" ")[0] == run_id
        return gr.skip() if is_shown else self._opened(run_id, order, filters, chosen=run_id)

    def _opened(self, run_id: object, order: object, filters: object, chosen: object = None) -> list[Any]:
        """A run and its newest evaluation, where `chosen` is what the page has chosen already."""
        view = self.view(run_id, None, order, filters)
        self._settle(view)
        view.runs = still(view.runs, chosen)
        return view.outputs()

    def _settle(self, view: View) -> None:
        """What another run brings: whether base is told the format, as the command line has it; and no further arms,
        since checkpoints are one run's own."""
        run = self.page.reader.find(view.runs["value"])
        settings = self.page.reader.settings(run) if run else None
        view.told = settings.evaluation.tell_base if settings else gr.skip()
        view.further = {**view.further, "value": []}

    def sort(self, run_id: object, evaluation: object, order: object, filters: object) -> str:
        run = self.page.reader.find(choice_of(self.page.reader.tuned(), run_id))
        chosen = evaluation_of(run, evaluation)
        return listing(chosen, self._notice(run), order, filters) if run and chosen else ""

    def _notice(self, run: Run) -> str:
        return c.demonstration(self.page.reader.settings(run))

    def _mark(self, runs: list[Run], run_id: object, evaluation: object) -> str:
        run = self.page.reader.find(choice_of(runs, run_id))
        known = [f"{e.id} {e.status().state}" for e in run.evaluations()] if run else []
        return f"{' '.join(r.id for r in runs)} | {run and run.id} | {known} | {mark(evaluation_of(run, evaluation))}"

    def view(
        self, run_id: object, evaluation: object = None, order: object = None, filters: object = None, shown: str = ""
    ) -> View:
        runs = self.page.reader.tuned()
        now = self._mark(runs, run_id, evaluation)
        chosen = choice_of(runs, run_id)
        run = self.page.reader.find(chosen)
        listed = gr.update(choices=[r.id for r in runs], value=chosen, visible=bool(runs))
        hidden = gr.update(visible=False)
        if run is None:
            return View(listed, hidden, NO_RUN, "", "", hidden, hidden, hidden, hidden, hidden, hidden, hidden, now, "")
        known, one = run.evaluations(), evaluation_of(run, evaluation)
        state = one.status().state if one else None
        alive = any(e.status().state in ALIVE for e in known)
        summary = one.summary() if one else None
        rows = len(one.examples()) if one else 0
        holds = f"{run.id} {one and one.id} {rows} {summary is not None}"
        table: Any = results(one, summary) if one and summary else "" if one else NO_EVALUATION
        examples: Any = listing(one, self._notice(run), order, filters) if one else ""
        if holds == shown:  # so that nothing that a reader has unfolded is folded again
            table = examples = gr.skip()
        others = [r.id for r in runs if r.id != run.id]
        kept = [p.name for p in run.checkpoints()]
        adopted = run.origin() is not None
        picked = [(label(e, adopted), e.id) for e in known]
        return View(
            listed,
            gr.update(choices=picked, value=one.id if one else None, visible=len(known) > 1),
            from_elsewhere(run, self.page.reader.settings(run)) + self.state(one),
            table,
            examples,
            gr.update(visible=rows > 0),
            gr.update(choices=[*([CHECKPOINTS] if kept else []), *kept, *others]),
            gr.update(visible=not alive),
            gr.update(visible=True),
            gr.update(visible=not alive),
            gr.update(visible=state in ALIVE, interactive=state != "stopping"),
            gr.update(visible=state in RESUMABLE and not alive),
            now,
            holds,
        )

    def state(self, chosen: Evaluation | None) -> str:
        if chosen is None:
            return ""
        status, seen = chosen.status(), self.page.reader.seen(chosen)
        busy = self.page.reader.busy() if status.state == "queued" else None
        waiting_for = f", which {busy.path.name} uses" if busy else ""
        at_work = c.progress_bar(seen, status, waiting_for) if status.state in ALIVE else ""
        kept = f'<p class="mc-stage">Stopped on request; {len(chosen.examples())} answered questions are kept.</p>'
        return (
            f'<div class="mc-title"><h3>Evaluation {c.text(chosen.id)}</h3>{c.badge(status.state)}</div>'
            + at_work
            + (kept if status.state == "stopped" else c.ending(chosen, status, seen))
            + (c.warnings(seen.warnings) if chosen.summary() is None else "")
        )

    def start(
        self, run_id: object, order: object, filters: object, what: object, file: object, told: object, further: object
    ) -> list[Any]:
        run = self.page.reader.find(run_id)
        try:
            if run is None:
                raise BadInput(Problem("run", "none is chosen.", "Train one first."))
            newest = newest_of(run)
            if newest and newest.status().state in ALIVE:
                raise BadInput(Problem("run", f"{run.id} is being evaluated.", "Wait until it ends, or stop it."))
            jobs.start_evaluation(run, order_of(run, what, file, told, further))
        except BadInput as bad:
            return [c.problems(bad.problems), *self.view(run_id, None, order, filters).outputs()]
        return ["", *self.view(run_id, None, order, filters).outputs()]

    def measure(
        self,
        order: object,
        filters: object,
        name: object,
        style: object,
        base: object,
        data: object,
        records: object,
    ) -> Iterator[list[Any]]:
        """Adopt an adapter from elsewhere and measure it. Yields what is said of it, then all that the tab shows."""
        shown = len(View.__dataclass_fields__)
        yield ['<p class="mc-stage" role="status">Looking at adapter, base and records…</p>', *[gr.skip()] * shown]
        given = {"Adapter": str(name or "").strip(), "Records": str(data or "").strip()}
        try:
            if missing := [Problem(label, "is empty.") for label, value in given.items() if not value]:
                raise BadInput(missing)
            run, _ = adopting.measure(
                self.page.store,
                given["Adapter"],
                given["Records"],
                lambda settings: EvaluationOrder(**settings.model_dump()),
                style=style_of(style),
                base=str(base or "").strip() or None,
                pairs=[f"evaluation.records={first}"] if (first := str(records or "").strip()) else [],
            )
        except BadInput as bad:
            yield [c.problems(bad.problems), *[gr.skip()] * shown]
            return
        yield ["", *self._opened(run.id, order, filters)]

    def stop(self, *chosen: object) -> list[Any]:
        return self._do(jobs.stop, *chosen)

    def resume(self, *chosen: object) -> list[Any]:
        return self._do(jobs.resume_evaluation, *chosen)

    def _do(self, action: Any, run_id: object, evaluation: object, order: object, filters: object) -> list[Any]:
        chosen = evaluation_of(self.page.reader.find(run_id), evaluation)
        try:
            if chosen:
                action(chosen)
        except BadInput as bad:
            return [c.problems(bad.problems), *self.view(run_id, evaluation, order, filters).outputs()]
        return ["", *self.view(run_id, evaluation, order, filters).outputs()]


def newest_of(run: Run | None) -> Evaluation | None:
    return next(iter(run.evaluations()), None) if run else None


def evaluation_of(run: Run | None, evaluation: object) -> Evaluation | None:
    """The run's evaluation of exactly this id, else the newest: what a browser sends is never made into a path."""
    known = run.evaluations() if run else []
    return next((e for e in known if e.id == evaluation), newest_of(run))


def label(evaluation: Evaluation, adopted: bool) -> str:
    """An evaluation in the picker: when, what, and how it ended."""
    stamp = evaluation.id
    when = f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]} {stamp[9:11]}:{stamp[11:13]}"
    try:
        what = "multiple choice" if evaluation.order().questions else "records" if adopted else "held-out"
    except BadInput:
        what = "settings unreadable"
    return f"{when} · {what} · {evaluation.status().state}"
