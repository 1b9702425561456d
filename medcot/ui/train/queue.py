"""The queue: the job that has the device, and those that wait for it."""

from typing import Any

import gradio as gr

from medcot.errors import BadInput
from medcot.ui import components as c
from medcot.ui.page import HIDE, QUIET, SHOW, Page, Updates, still
from medcot.workers import jobs


class Queue:
    """The job that has the device, and those that wait for it, in order; a waiting job can be cancelled."""

    def __init__(self, page: Page):
        self.page = page
        with gr.Column(elem_classes="mc-card mc-queue"):
            self.now = c.block(elem_id="queue")
            listed: dict[str, Any] = {"label": "Waiting, the next first", "visible": False, "elem_classes": "mc-runs"}
            self.waiting = gr.Radio([], elem_id="waiting", **listed)
            hidden: dict[str, Any] = {"visible": False, "elem_classes": "mc-copy"}
            self.cancel = gr.Button("Cancel the chosen job", elem_id="cancel-waiting", **hidden)
            self.problems = c.block(elem_id="queue-problems")
        self.mark = gr.State("")
        outputs = [self.now, self.waiting, self.cancel, self.mark]
        page.refresh(self.look, [self.waiting, self.mark], outputs)
        self.cancel.click(self.cancel_chosen, self.waiting, [self.problems, *outputs], **QUIET)

    def look(self, chosen: object, seen_mark: str) -> Updates:
        waiting, busy = self.page.reader.look().waiting(), self.page.reader.busy()
        mark = " ".join([str(busy and busy.path), *(str(job.path) for job in waiting)])
        if mark == seen_mark:
            return {}
        at_work = (
            f"At work: {self.page.label(busy)}." if busy else "The device is in use by a chat, or about to be free."
        )
        choices = [(self.page.label(job), job.path.name) for job in waiting]
        kept = chosen if chosen in [k for _, k in choices] else None  # never another: Cancel is about the chosen one
        listed = still(gr.update(choices=choices, value=kept, visible=bool(waiting)), chosen)
        queue = f"<h3>Queue</h3>{c.soft(at_work)}" if waiting else ""
        return {self.now: queue, self.waiting: listed, self.cancel: SHOW if waiting else HIDE, self.mark: mark}

    def cancel_chosen(self, chosen: object) -> Updates:
        problems = c.attempt(lambda: self._stop(chosen))
        return {self.problems: problems, **self.look(chosen, "changed")}

    def _stop(self, chosen: object) -> None:
        job = next((job for job in self.page.reader.look().waiting() if job.path.name == chosen), None)
        if job is None:
            what = "is no longer waiting." if chosen else "none is chosen."
            raise BadInput.of("job", what, "Choose one.")
        jobs.stop(job)
