"""A job watched from the command line to its end: progress, and what Ctrl-C does."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn
from rich.table import Column

from medcot.cli import display as terminal
from medcot.errors import BadInput
from medcot.runs.events import AnyEvent, Kept, PlanMade, Step, Validation, Warned
from medcot.runs.events import Progress as Stage
from medcot.runs.job_dir import ALIVE, JobDir, Status
from medcot.runs.run import Run, duration
from medcot.runs.store import RunStore
from medcot.workers import jobs
from medcot.workers.slot import in_the_way

POLL_SECONDS = 0.5
WIDE = 120  # columns that a bar needs beside the longest texts
QUIET_SECONDS = 15.0  # between lines if there is no terminal


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
            if status.state == "queued":
                display.queued(job)
            display.silent(job, status)
            if status.state not in ALIVE and not events:
                return status
            if len(pressed) > 1:
                raise KeyboardInterrupt
            if pressed and not asked and status.state in ALIVE:
                asked = True
                training = isinstance(job, Run)
                what = "after this step, and saving a checkpoint" if training else "and keeping what is answered"
                display.say(f"Stopping {what}. Ctrl-C once more leaves it to end by itself.")
                with suppress(BadInput):  # it has just ended
                    jobs.stop(job)
            time.sleep(POLL_SECONDS)


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Collect Ctrl-C instead of raising it anywhere, perhaps in code that swallows it."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


class Display:
    """A progress bar on a terminal; without one, a line now and then."""

    def __init__(self, title: str):
        self.title = title
        # On a narrow terminal texts take a second line, and there is no bar: rich would cut them for it.
        text, note = (
            TextColumn(t, table_column=Column(), markup=False) for t in ("{task.description}", "{task.fields[note]}")
        )
        bar = [BarColumn()] if terminal.err.width >= WIDE else []
        columns = (SpinnerColumn(), text, *bar, TaskProgressColumn(), note)
        shown = terminal.err.is_terminal
        self.progress = Progress(*columns, console=terminal.err, transient=True, disable=not shown)
        self._task = self.progress.add_task(title, total=None, note="")
        self._loss = ""
        self._stage = ""
        self._last_line = 0.0
        self._waits_for = ""
        self._silent = False
        self._store: RunStore | None = None

    def say(self, line: str) -> None:
        terminal.err.print(line)

    def queued(self, job: JobDir) -> None:
        """Say what a queued job waits for, whenever that changes."""
        run = job if isinstance(job, Run) else Run(job.path.parent.parent)
        self._store = self._store or RunStore(run.path.parent)
        waits_for = in_the_way(self._store, job)
        if waits_for and waits_for != self._waits_for:
            self.say(f"{self.title}: waiting, because {waits_for}; `medcot runs` lists all jobs")
        self._waits_for = waits_for

    def silent(self, job: JobDir, status: Status) -> None:
        """Say once that a worker gives no sign."""
        silence = job.silence(status)
        if silence and not self._silent:
            words = f"There is {silence}. This ends it without saving: {job.how_to_stop} --now"
            terminal.marked("  !", "yellow", words)
        self._silent = bool(silence)

    def show(self, event: AnyEvent) -> None:
        if isinstance(event, Stage):
            self._show_stage(event)
        elif isinstance(event, PlanMade):
            share = event.trainable_parameters / max(1, event.total_parameters)
            records = f"{event.records} training and {event.held_out} held-out records, {event.total_steps} steps"
            if event.validation is not None:
                parts = f"{event.records} training, {event.validation} validation and {event.held_out} test records"
                left_out = f" ({event.repeated} left out, which repeat one of those)" if event.repeated else ""
                records = f"{parts}{left_out}, {event.total_steps} steps"
            of_all = f"{event.trainable_parameters:,} of {event.total_parameters:,} parameters"
            self.say(f"  {records}; {of_all} are trained ({share:.1%})")
            if event.truncated:
                terminal.marked("  !", "yellow", f"{event.truncated} records lose their end: raise training.max_length")
            if event.left_out:
                left = f"{event.left_out} records are too long and left out: raise training.max_length"
                terminal.marked("  !", "yellow", left)
            if event.shortened:
                self.say(f"  {event.shortened} records are too long; their reasoning ends at an earlier sentence")
        elif isinstance(event, Step):
            self._loss = f"loss {event.loss:.2f}  {event.tokens_per_second:.0f} tokens/s"
        elif isinstance(event, Validation):
            self.say(f"  step {event.step}: validation loss {event.loss:.3f}")
        elif isinstance(event, Kept):
            self.say(f"  {event}")
        elif isinstance(event, Warned):
            terminal.marked("  !", "yellow", event.message)

    def _show_stage(self, event: Stage) -> None:
        left = f"{duration(event.eta_seconds)} left" if event.eta_seconds is not None else ""
        note = "  ".join(part for part in (self._loss if event.stage == "Training" else "", left) if part)
        title, total = f"{self.title}: {event.stage}", event.total or None
        self.progress.update(self._task, description=title, total=total, completed=event.done, note=note)
        now = time.monotonic()
        if not terminal.err.is_terminal and (event.stage != self._stage or now - self._last_line > QUIET_SECONDS):
            self._last_line = now
            count = f" {event.done}/{event.total}" if event.total else ""
            self.say(f"{title}{count}  {note}".rstrip())
        self._stage = event.stage
