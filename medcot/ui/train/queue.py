"""What has the device and what waits for it, in order; a waiting job can be cancelled."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from medcot import jobs
from medcot.errors import BadInput, Problem
from medcot.jobdirs import JobDir
from medcot.runs import Run
from medcot.ui import components as c
from medcot.ui.page import Page, still


@dataclass(frozen=True)
class QueueCard:
    now: gr.HTML
    waiting: gr.Radio
    cancel: gr.Button
    problems: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.now, self.waiting, self.cancel]


def queue_card() -> QueueCard:
    with gr.Column(elem_classes="mc-card mc-queue"):
        now = c.block(elem_id="queue")
        waiting = gr.Radio(
            [], label="Waiting, the next first", visible=False, elem_id="waiting", elem_classes="mc-runs"
        )
        cancel = gr.Button("Cancel the chosen job", visible=False, elem_id="cancel-waiting", elem_classes="mc-copy")
        problems = c.block(elem_id="queue-problems")
    return QueueCard(now, waiting, cancel, problems)


class Queue:
    def __init__(self, page: Page):
        self.page = page

    def look(self, chosen: object, seen_mark: str) -> Any:
        waiting, busy = jobs.waiting_jobs(self.page.store), self.page.reader.busy()
        mark = " ".join([str(busy and busy.path), *(str(job.path) for job in waiting)])
        if mark == seen_mark:
            return gr.skip()
        return [*self._view(waiting, busy, chosen), mark]

    def _view(self, waiting: list[JobDir], busy: JobDir | None, chosen: object) -> list[Any]:
        if not waiting:
            hidden = gr.update(visible=False)
            return ["", still(gr.update(choices=[], value=None, visible=False), chosen), hidden]
        at_work = f"At work: {c.text(label(busy))}." if busy else "The device is in use by a chat, or about to be free."
        choices = [(label(job), key(job)) for job in waiting]
        kept = chosen if chosen in [k for _, k in choices] else None  # never another: Cancel is of the chosen one
        return [
            f'<h3>Queue</h3><p class="mc-soft">{at_work}</p>',
            still(gr.update(choices=choices, value=kept, visible=True), chosen),
            gr.update(visible=True),
        ]

    def cancel(self, chosen: object) -> list[Any]:
        """Problems, then the card's outputs and mark."""
        problems = ""
        job = next((job for job in jobs.waiting_jobs(self.page.store) if key(job) == chosen), None)
        try:
            if job is None:
                raise BadInput(Problem("job", "it waits no longer." if chosen else "none is chosen.", "Choose one."))
            jobs.stop(job)
        except BadInput as bad:
            problems = c.problems(bad.problems)
        return [problems, *self.look(chosen, "changed")]


def key(job: JobDir) -> str:
    return job.path.name


def label(job: JobDir) -> str:
    return f"Training {job.path.name}" if isinstance(job, Run) else f"Evaluation of {job.path.parent.parent.name}"
