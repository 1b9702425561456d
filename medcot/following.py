"""A job watched from the command line to its end: progress, and what Ctrl-C does."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from medcot import jobs, terminal
from medcot.errors import BadInput
from medcot.events import AnyEvent, Checkpoint, PlanMade, RecordDone, Sample, Step, Validation, Warned
from medcot.events import Progress as Stage
from medcot.jobdirs import ALIVE, JobDir, State, Status
from medcot.runs import Run

POLL_SECONDS = 0.5
STARTING_SECONDS = 3.0  # of a worker, before it takes the device or waits for it
QUIET_SECONDS = 15.0  # between lines where there is no terminal to draw on


def follow(job: JobDir, title: str) -> Status:
    """Show a job until it ends, and return its last status. Ctrl-C asks it to stop and save, and waits for that."""
    display = Display(title)
    offset = 0
    asked = False
    with display.progress, interrupts() as pressed:
        while True:
            status = job.status()
            events, offset = job.events(offset)
            for event in events:
                display.show(event)
            display.state(status.state)
            if status.state not in ALIVE and not events:
                return status
            if len(pressed) > 1:
                raise KeyboardInterrupt
            if pressed and not asked and status.state in ALIVE:
                asked = True
                what = (
                    "after this step, and saving a checkpoint"
                    if isinstance(job, Run)
                    else "and keeping what is answered"
                )
                display.say(f"Stopping {what}. Ctrl-C once more leaves it to end by itself.")
                with suppress(BadInput):  # it ended since it was looked at
                    jobs.stop(job)
            time.sleep(POLL_SECONDS)


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Gathers what Ctrl-C sends instead of raising it wherever the program is, as in a place that swallows it."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


class Display:
    """A bar on a terminal; now and then a line where there is none."""

    def __init__(self, title: str):
        self.title = title
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            console=terminal.err,
            transient=True,
            disable=not terminal.err.is_terminal,
        )
        self._task = self.progress.add_task(title, total=None, note="")
        self._loss = ""
        self._stage = ""
        self._last_line = 0.0
        self._asked = time.monotonic()
        self._queued = False

    def say(self, line: str) -> None:
        terminal.err.print(line)

    def state(self, state: State) -> None:
        """A worker needs a moment to start; what is queued for longer waits for another job, and that is said once."""
        if state == "queued" and not self._queued and time.monotonic() - self._asked > STARTING_SECONDS:
            self._queued = True
            self.say(f"{self.title}: waiting, because another job has the device; `medcot runs` lists them")

    def show(self, event: AnyEvent) -> None:
        if isinstance(event, Stage):
            self._show_stage(event)
        elif isinstance(event, PlanMade):
            share = event.trainable_parameters / event.total_parameters
            self.say(
                f"  {event.records} training and {event.held_out} held-out records, {event.total_steps} steps; "
                f"{event.trainable_parameters:,} of {event.total_parameters:,} parameters are trained ({share:.1%})"
            )
            if event.truncated:
                self.say(f"  [yellow]![/yellow] {event.truncated} records lose their end: raise training.max_length")
        elif isinstance(event, Step):
            self._loss = f"loss {event.loss:.2f}  {event.tokens_per_second:.0f} tokens/s"
        elif isinstance(event, Validation):
            self.say(f"  step {event.step}: validation loss {event.loss:.3f}")
        elif isinstance(event, Warned):
            self.say(f"  [yellow]![/yellow] {escape(event.message)}")
        elif isinstance(event, Checkpoint | Sample | RecordDone):
            return

    def _show_stage(self, event: Stage) -> None:
        left = f"{terminal.duration(event.eta_seconds)} left" if event.eta_seconds is not None else ""
        note = "  ".join(part for part in (self._loss if event.stage == "Training" else "", left) if part)
        self.progress.update(
            self._task,
            description=f"{self.title}: {event.stage}",
            total=event.total or None,
            completed=event.done,
            note=note,
        )
        now = time.monotonic()
        if not terminal.err.is_terminal and (event.stage != self._stage or now - self._last_line > QUIET_SECONDS):
            self._last_line = now
            count = f" {event.done}/{event.total}" if event.total else ""
            self.say(f"{self.title}: {event.stage}{count}  {note}".rstrip())
        self._stage = event.stage
