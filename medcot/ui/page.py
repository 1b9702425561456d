"""What all tabs share: the chosen run, the model's process, and one look that brings all cards up to date."""

import traceback
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from gradio.blocks import Block
from gradio.context import LocalContext

from medcot.machine import device
from medcot.runs.export import Export
from medcot.runs.job_dir import ALIVE, JobDir
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
TO_ASK = ("evaluate", "chat")  # the tabs whose run must have an adapter
SHOW, HIDE = gr.update(visible=True), gr.update(visible=False)
NONE = "-"  # chosen where there is no run
LOOK = "() => document.getElementById('look').click()"  # what is chosen has changed: all cards are brought up to date
UNCHANGED: Updates = gr.skip()  # an event's whole answer; gradio would take an empty dict for a value


class Page:
    """Made inside the gr.Blocks of the page. `server` is a model server that Chat may ask too."""

    def __init__(self, demo: gr.Blocks, runs_dir: Path, client: Client, server: ServerSource | None = None):
        self.demo, self.runs_dir, self.client, self.server = demo, runs_dir, client, server
        self.device, self.store = device(), RunStore(runs_dir)
        self.reader, self.conversation = Reader(self.store), Conversation(client)
        self.version = Version(demo, self.reader, client)
        self._looks = list[tuple[Callable[..., Updates], list[Any], list[Any]]]()
        # A visitor of a Space may do something in Chat; the form of Train is closed to him.
        self.tabs: Any = gr.Tabs(selected="Chat" if on_space() else None, render=False, elem_classes="mc-tabs")
        # The run that all tabs are about. Empty until the page's load has been answered.
        self.run: Any = gr.Textbox("", label="Run", visible="hidden", elem_id="run")
        self.run.change(None, self.run, None, js="run => medcot.chose(run)")
        demo.load(self.first, None, self.run, **QUIET)
        self.ticked: Any = gr.Textbox("", label="Compared", visible="hidden", elem_id="ticked")  # ids, with / between
        # The run whose first sample Chat asks by itself, at the end of a demo that this page began.
        self.finale: Any = gr.Textbox("", label="Demo", visible="hidden", elem_id="finale")
        self._unseen = c.block(elem_id="unseen")  # why a card is not brought up to date
        self._looked = c.block(looked(""), elem_classes="mc-hidden")

    def refresh(self, see: Callable[..., Updates], inputs: list[Any], outputs: list[Any]) -> None:
        """Run `see` whenever the version or a choice has moved; it returns {} if nothing has changed."""
        self._looks.append((see, inputs, outputs))

    def lead(self, button: gr.Button, tab: str) -> None:
        """Let a button open a tab."""

        @visitor_may
        def show() -> Updates:
            return {self.tabs: gr.update(selected=tab)}

        button.click(show, None, self.tabs, **QUIET)

    @visitor_may
    def first(self) -> Updates:
        """The run that the page opens with: the one of its address, else one that fits the tab."""
        wanted: object = addressed("run")
        if addressed("tab") in TO_ASK or (on_space() and not addressed("tab")):
            wanted = wanted if self.reader.find(wanted) else self.measured()
        return {self.run: self.chosen(wanted)}

    def chosen(self, wanted: object) -> str:
        """The wanted run if it exists; else one at work or that waits, else the newest with something to show."""
        folder = self.reader.look()
        if folder.find(wanted):
            return str(wanted)
        runs, states = folder.runs, {run.id: run.status.state for run in folder.runs}
        alive = sorted((run_id for run_id in states if states[run_id] in ALIVE), key=lambda i: states[i] == "queued")
        begun = (run.id for run in runs if states[run.id] != "stopped" or self.reader.seen(run.run).device)
        return next(iter(alive), None) or next(begun, None) or next(iter(states), NONE)

    def measured(self) -> str | None:
        """The run that is being evaluated, else the newest that can be."""
        folder = self.reader.look()
        tuned = [listed for run in folder.tuned if (listed := folder.find(run.id))]
        at_work = (one for one in tuned if any(status.state in ALIVE for _, status in one.evaluations))
        found = next(at_work, None) or next(iter(tuned), None)
        return found.id if found else None

    def tuned(self, run_id: object) -> Run | None:
        """The run of this id if it can be measured and asked."""
        listed = self.reader.look().find(run_id)
        return listed.run if listed and listed.has_adapter and listed.status.state not in ALIVE else None

    def untuned(self, run_id: object, empty: str) -> str:
        """Why the chosen run cannot be measured or asked; the first steps of `empty` where none can."""
        listed = self.reader.look().find(run_id)
        if listed is None or not self.reader.tuned():
            return c.empty(empty)
        state = f"it is {listed.status.state}" if listed.status.state in ALIVE else "it has no adapter"
        words = f"{listed.title} cannot be evaluated or asked: {state}. Choose another run in the list."
        return f'<div class="mc-empty"><p class="mc-soft">{c.text(words)}</p></div>'

    def other_run(self, name: str) -> Any:
        """A button, hidden at first, that chooses the newest run that can be measured and asked."""
        button = c.small_button("Take the newest finished run", visible=False, elem_id=name)
        button.click(self.take_measured, None, self.run, **QUIET)
        return button

    @visitor_may
    def take_measured(self) -> Updates:
        return {self.run: self.measured() or NONE}

    def watch(self) -> None:
        """Let one event look for all cards together; watch.js sends it. Called once, when all of them are built."""

        @visitor_may
        def look(shown: str | None, run: str | None, *values: Any) -> Updates:
            if not run:
                return {self._looked: looked("")}  # the page does not know yet which run it opens with
            version = self.version.newest  # before the reading, so that what comes in between is looked at again
            sent, merged, reasons = iter(values), Updates(), list[str]()
            if (now := self.chosen(run)) != run:
                merged[self.run] = now
            for see, inputs, _ in self._looks:
                pairs = zip(inputs, islice(sent, len(inputs)), strict=True)
                sent_to_it = [now if part is self.run else value for part, value in pairs]
                try:
                    merged |= see(*sent_to_it)
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
        read = [self._unseen, self.run, *(component for _, inputs, _ in self._looks for component in inputs)]
        drawn = [self._unseen, self._looked, self.run]
        drawn += [component for _, _, outputs in self._looks for component in outputs]
        # Without preprocessing, which refuses a choice that has just left its list; the looks take care of that. Not by
        # the queue, whose stream of messages costs more than the look itself does.
        free: dict[str, Any] = {"preprocess": False, "queue": False, **LATEST}
        button.click(self.reader.one_moment()(look), read, drawn, **free)

    def progress(self, job: JobDir) -> str:
        """How far a job is, what it waits for, or how it ended."""
        status = job.status()
        waits_for = in_the_way(self.store, job, SHARED_SECONDS, self.label) if status.state == "queued" else ""
        return progress.progress(job, status, self.reader.seen(job), waits_for)

    def label(self, job: JobDir) -> str:
        """What a job does, and the title of its run."""
        run_id = job.id if isinstance(job, Run) else job.path.parents[1].name
        listed = self.reader.look().find(run_id)
        title = listed.title if listed else run_id
        if isinstance(job, Run):
            return f"Training {title}"
        return f"{'Export' if isinstance(job, Export) else 'Evaluation'} of {title}"


def looked(version: str) -> str:
    """Where watch.js reads which version the page shows."""
    return f'<data id="looked" value="{version}"></data>'


def addressed(name: str) -> str | None:
    """The run or the evaluation that the page's address names; it is looked up like any choice of a browser."""
    request = LocalContext.request.get(None)
    return request.query_params.get(name) if request else None


def still(update: Update, chosen: object) -> Update:
    """Leave `value` out of a list's update if it has not changed, so that a newer choice is not overwritten."""
    return {k: v for k, v in update.items() if k != "value" or v != chosen}


def choice_of(jobs: Sequence[Job], wanted: object) -> Job | None:
    """The job of exactly this id, else the first; what a browser sends never becomes a path."""
    return next((job for job in jobs if job.id == wanted), next(iter(jobs), None))
