"""What the page reads: job directories, folded event by event, so that a look each second costs only what is new.

This is a cache of files and nothing more: it can be thrown away at any moment, and every viewer shares it.
"""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from medcot.errors import BadInput
from medcot.events import AnyEvent, Checkpoint, Finished, PlanMade, Progress, Sample, Started, Step, Validation, Warned
from medcot.jobdirs import ALIVE, JobDir
from medcot.runs import Run, RunStore
from medcot.settings import RunSettings


@dataclass
class Seen:
    """A job's events so far, sorted by what the page shows of them."""

    offset: int = 0
    device: str = ""
    plan: PlanMade | None = None
    stage: Progress | None = None
    steps: list[Step] = field(default_factory=list)
    validations: list[Validation] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    saved_step: int | None = None
    finished: Finished | None = None

    def fold(self, event: AnyEvent) -> None:
        if isinstance(event, Started):
            self.device, self.finished, self.warnings = event.device, None, []
        elif isinstance(event, PlanMade):
            self.plan = event
        elif isinstance(event, Progress):
            self.stage = event
        elif isinstance(event, Step):
            # A continued run goes back to its checkpoint: what came after that is told again.
            self.steps = [s for s in self.steps if s.step < event.step] if self._goes_back(event) else self.steps
            self.validations = [v for v in self.validations if v.step < event.step or v.step == 0]
            self.samples = [s for s in self.samples if (s.step or 0) < event.step]
            self.steps.append(event)
        elif isinstance(event, Validation):
            self.validations = [v for v in self.validations if v.step < event.step] + [event]
        elif isinstance(event, Sample):
            self.samples = [s for s in self.samples if (s.step, s.question) != (event.step, event.question)] + [event]
        elif isinstance(event, Warned):
            self.warnings.append(event.message)
        elif isinstance(event, Checkpoint):
            self.saved_step = event.step
        elif isinstance(event, Finished):
            self.finished = event

    def _goes_back(self, event: Step) -> bool:
        return bool(self.steps) and event.step <= self.steps[-1].step

    @property
    def total_steps(self) -> int:
        return self.steps[-1].total_steps if self.steps else self.plan.total_steps if self.plan else 0


class Reader:
    """Reads jobs of one runs folder for all viewers."""

    def __init__(self, store: RunStore):
        self.store = store
        self._seen: dict[Path, Seen] = {}
        self._settings: dict[Path, RunSettings | None] = {}
        self._lock = threading.Lock()

    def seen(self, job: JobDir) -> Seen:
        with self._lock:
            seen = self._seen.setdefault(job.path, Seen())
            events, seen.offset = job.events(seen.offset)
            for event in events:
                seen.fold(event)
            return seen

    def settings(self, run: Run) -> RunSettings | None:
        """A run's settings, which never change; None where they cannot be read."""
        if run.path not in self._settings:
            try:
                self._settings[run.path] = run.settings()
            except BadInput:
                self._settings[run.path] = None
        return self._settings[run.path]

    def find(self, run_id: object) -> Run | None:
        """The run of exactly this id: what a browser sends is never made into a path."""
        return next((run for run in self.store.list() if run.id == run_id), None)

    def tuned(self) -> list[Run]:
        """Runs that have an adapter and are not training, newest first."""
        return [run for run in self.store.list() if run.has_adapter and run.status().state not in ALIVE]

    def busy(self) -> JobDir | None:
        """The job that has the device now, if any."""
        jobs = (job for run in self.store.list() for job in run.job_dirs())
        return next((job for job in jobs if job.status().state in ("running", "stopping")), None)
