"""What all tabs share: the runs, the model's process, the device, and one look that brings all cards up to date."""

import traceback
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from gradio.blocks import Block
from gradio.context import LocalContext

from medcot.machine import device
from medcot.runs.job_dir import JobDir
from medcot.runs.run import Evaluation, Run
from medcot.runs.store import RunStore
from medcot.ui import components as c
from medcot.ui import progress
from medcot.ui.changes import Version
from medcot.ui.conversation import Conversation
from medcot.ui.guard import on_space, unexpected, visitor_may
from medcot.ui.job_reader import SHARED_SECONDS, Reader
from medcot.ui.sources import Client, ServerSource
from medcot.workers.slot import in_the_way

Update = dict[str, Any]  # gr.update's: new properties of one component
# What a handler returns: new values or properties by component. Gradio leaves alone what is not in it.
Updates = dict[Block, Any]
Job = TypeVar("Job", Run, Evaluation)
# For every event: hidden from the API and without a progress overlay. This is not access control: a handler checks
# whatever it is sent.
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# For choices: the last of several that are made while one is under way counts; gradio would drop them.
LATEST: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}
SHOW, HIDE = gr.update(visible=True), gr.update(visible=False)
NONE = "-"  # in a card's mark: there is nothing to choose
UNCHANGED: Updates = gr.skip()  # an event's whole answer; gradio would take an empty dict for a value


class Page:
    """Made inside the gr.Blocks of the page. `server` is a model server that Chat may ask too."""

    def __init__(self, demo: gr.Blocks, runs_dir: Path, client: Client, server: ServerSource | None = None):
        self.demo, self.runs_dir, self.client, self.server = demo, runs_dir, client, server
        self.device, self.store = device(), RunStore(runs_dir)
        self.reader, self.conversation = Reader(self.store), Conversation(client)
        self.version = Version(demo, self.reader, client)
        self._looks = list[tuple[Callable[..., Updates | None], list[Any], list[Any]]]()
        # A visitor of a Space may do something in Chat; the form of Train is closed to him.
        self.tabs: Any = gr.Tabs(selected="Chat" if on_space() else None, render=False, elem_classes="mc-tabs")
        self._leads: list[tuple[str, gr.Button, Any]] = []  # tab, button, and the list in which its run is chosen
        # The run whose first sample Chat asks by itself, at the end of a demo that this page began.
        self.finale: Any = gr.Textbox("", label="Demo", visible="hidden", elem_id="finale")
        self._unseen = c.block(elem_id="unseen")  # why a card is not brought up to date
        self._looked = c.block(looked(""), elem_classes="mc-hidden")

    def refresh(self, see: Callable[..., Updates | None], inputs: list[Any], outputs: list[Any]) -> None:
        """Run `see` whenever the version has moved; it returns {} if nothing has changed, None if it is too early."""
        self._looks.append((see, inputs, outputs))

    def lead(self, button: gr.Button, tab: str, runs: Any = None) -> None:
        """Let a button open a tab, with the run that is chosen in `runs`."""

        @visitor_may
        def show() -> Updates:
            return {self.tabs: gr.update(selected=tab)}

        button.click(show, None, self.tabs, **QUIET)
        self._leads.append((tab, button, runs))

    def follow(self, tab: str, choose: Callable[..., Updates], inputs: list[Any], outputs: list[Any]) -> None:
        """Call `choose` with the run of each button that leads to this tab. All of them are built before."""
        for led_to, button, runs in self._leads:
            if led_to == tab:
                button.click(choose, [runs, *inputs], outputs, **QUIET)

    def watch(self) -> None:
        """Let one event look for all cards together; watch.js sends it. Called once, when all of them are built."""

        @visitor_may
        def look(shown: str | None, *values: Any) -> Updates:
            version = self.version.newest  # before the reading, so that what comes in between is looked at again
            sent, merged, reasons = iter(values), Updates(), list[str]()
            for see, inputs, _ in self._looks:
                sent_to_it = list(islice(sent, len(inputs)))
                try:
                    if (updates := see(*sent_to_it)) is None:
                        version = ""
                    merged |= updates or {}
                except Exception as error:  # noqa: BLE001  # the other cards go on, and this one is asked again
                    version = ""
                    reasons.append(unexpected(error))
                    if reasons[-1] not in printed:  # and not once a second
                        printed.add(reasons[-1])
                        traceback.print_exception(error)
            if (told := c.warnings(list(dict.fromkeys(reasons)))) != (shown or ""):
                merged[self._unseen] = told
            return {**merged, self._looked: looked(version)}

        printed = set[str]()
        button = gr.Button("Look", elem_id="look", elem_classes="mc-hidden")
        read = [self._unseen, *(component for _, inputs, _ in self._looks for component in inputs)]
        drawn = [self._unseen, self._looked, *(component for _, _, outputs in self._looks for component in outputs)]
        # Without preprocessing, which refuses a choice that has just left its list; the looks take care of that. Not by
        # the queue, whose stream of messages costs more than the look itself does.
        free: dict[str, Any] = {"preprocess": False, "queue": False, **LATEST}
        button.click(self.reader.one_moment()(look), read, drawn, **free)

    def progress(self, job: JobDir) -> str:
        """How far a job is, what it waits for, or how it ended."""
        status = job.status()
        waits_for = in_the_way(self.store, job, SHARED_SECONDS) if status.state == "queued" else ""
        return progress.progress(job, status, self.reader.seen(job), waits_for)


def looked(version: str) -> str:
    """Where watch.js reads which version the page shows."""
    return f'<data id="looked" value="{version}"></data>'


def addressed(name: str) -> str | None:
    """The run or the evaluation that the page's address names; it is looked up like any choice of a browser."""
    request = LocalContext.request.get(None)
    return request.query_params.get(name) if request else None


def mark_of(chosen: object, *rest: object) -> str:
    """What a card shows: its choice, if there is one, then all else that makes it look different."""
    return " | ".join(map(str, (NONE if chosen is None else chosen, *rest)))


def is_early(sent: object, mark: str) -> bool:
    """True for a look that a browser sends before it has received the choice which its session opened with.

    The session's mark is set when the load has been answered, a moment before the browser has the answer.
    """
    return not mark or (sent is None and not mark.startswith(f"{NONE} |"))


def still(update: Update, chosen: object) -> Update:
    """Leave `value` out of a list's update if it has not changed, so that a newer choice is not overwritten."""
    return {k: v for k, v in update.items() if k != "value" or v != chosen}


def choice_of(jobs: Sequence[Job], wanted: object) -> Job | None:
    """The job of exactly this id, else the first; what a browser sends never becomes a path."""
    return next((job for job in jobs if job.id == wanted), next(iter(jobs), None))
