"""The stages of a run as a row of named steps, each with its newest count, and the title of the browser's tab."""

from typing import Any

import gradio as gr

from medcot.runs.events import Progress
from medcot.runs.job_dir import ALIVE, JobDir, Status
from medcot.ui import components as c
from medcot.ui.job_reader import Seen
from medcot.ui.page import Page, Updates

STAGES: dict[str, list[str]] = c.TEXTS["stages"]
QUEUED = next(iter(STAGES))
NAME = "medcot"
TITLE = "(title) => { if (title) document.title = title; }"


def of(told: Progress) -> str:
    """The stage that an event is about; empty for one that no row names."""
    fitting = {name: begin for name, begins in STAGES.items() for begin in begins if told.stage.startswith(begin)}
    return max(fitting, key=lambda name: len(fitting[name]), default="")


def row(status: Status, seen: Seen) -> str:
    """What has been done, what is done now, and what comes; empty once the run has ended."""
    if status.state not in ALIVE:
        return ""
    if status.state == "queued":
        seen = Seen()  # what a run that goes on had done before is told again by its new worker
    now = of(seen.stage) if seen.stage else QUEUED
    items = "".join(_step(name, seen, name == now) for name in STAGES)
    return f'<ol class="mc-steps" aria-label="Stages">{items}</ol>'


def _step(name: str, seen: Seen, is_now: bool) -> str:
    told = _newest(name, seen)
    # A stage that is over and told no more than its size has done all of it.
    done_of = f"{told.done:,} of " if told and (is_now or told.done) else ""
    count = f"<small>{done_of}{told.total:,}</small>" if told and told.total else ""
    if is_now:
        return f'<li class="mc-step-now" aria-current="step">{name}{count}</li>'
    done = told is not None or (name == QUEUED and seen.device)
    return f'<li class="mc-step-done">{name}{count}</li>' if done else f"<li>{name}</li>"


def _newest(name: str, seen: Seen) -> Progress | None:
    return next((told for told in reversed(list(seen.told.values())) if of(told) == name), None)


def percent(seen: Seen) -> int | None:
    """How much of a job is done; None if it has not said how much there is."""
    told = _newest("Training", seen) or seen.stage
    return 100 * told.done // told.total if told and told.total else None


class Title:
    """The tab's title: how far the job at work is, or how the last one ended that this page saw at work."""

    def __init__(self, page: Page):
        self.page = page
        hidden: dict[str, Any] = {"visible": "hidden", "elem_id": "tab-title"}
        self.title, self.job = gr.Textbox("", label="Title of the tab", **hidden), gr.State("")
        self.title.change(None, self.title, None, js=TITLE)
        page.refresh(self.look, [self.title, self.job], [self.title, self.job])

    def look(self, shown: str, watched: str) -> Updates:
        reader = self.page.reader
        if busy := reader.busy():
            now, watched_now = f"{self._share(busy)} · {NAME}", str(busy.path)
        else:
            ended = next((job for one in reader.look().runs for job, _ in one.jobs if str(job.path) == watched), None)
            state = ended.status().state.capitalize() if ended else ""
            now, watched_now = (f"{state} · {NAME}" if state else NAME), watched if ended else ""
        return {} if (now, watched_now) == (shown, watched) else {self.title: now, self.job: watched_now}

    def _share(self, job: JobDir) -> str:
        far = percent(self.page.reader.seen(job))
        return "Running" if far is None else f"{far}%"
