"""A cache of job directories, folded event by event, so that a look each second reads only what is new.

It holds nothing but what the files say, can be thrown away at any moment, and is shared by all viewers.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from medcot.errors import BadInput
from medcot.runs.events import AnyEvent, Finished, Kept, PlanMade, Progress, Sample, Started, Step, Validation, Warned
from medcot.runs.job_dir import JobDir
from medcot.runs.run import Run
from medcot.runs.snapshot import Snapshot
from medcot.runs.store import RunStore
from medcot.settings import RunSettings

MOST_POINTS = 4000  # of a curve; a plot shows no more, and a run may have millions
MOST_SAMPLES = 400
SHARED_SECONDS = 1.0  # for so long all tabs see one state of the runs folder
Reading = TypeVar("Reading", Step, Validation)


@dataclass
class Curve(Generic[Reading]):
    """Readings of growing step, evenly thinned, and the newest one."""

    kept: list[Reading] = field(default_factory=list)
    newest: Reading | None = None
    stride: int = 1
    _since: int = 0  # readings since the last kept one

    def add(self, reading: Reading) -> None:
        """Append a reading. A continued run goes back to its checkpoint and reports again what came after it."""
        if self.newest and reading.step <= self.newest.step:
            self.cut(reading.step)
        if self._since % self.stride == 0:
            self.kept.append(reading)
            self._since = 0
        self._since, self.newest = self._since + 1, reading
        if len(self.kept) > MOST_POINTS:
            self.kept, self.stride = self.kept[::2], 2 * self.stride

    def cut(self, step: int) -> None:
        """Forget this step and all later ones."""
        del self.kept[bisect_left(self.kept, step, key=lambda one: one.step) :]
        self.newest, self._since = self.kept[-1] if self.kept else None, self.stride

    @property
    def points(self) -> list[Reading]:
        """The kept readings and the newest, as they are now: another thread may add more."""
        points = list(self.kept)
        if self.newest and (not points or self.newest is not points[-1]):
            points.append(self.newest)
        return points


@dataclass
class Seen:
    """A job's events so far, by what the page shows of them."""

    offset: int = 0
    device: str = ""
    plan: PlanMade | None = None
    stage: Progress | None = None
    told: dict[str, Progress] = field(default_factory=dict)  # the newest of each stage of this worker
    steps: Curve[Step] = field(default_factory=Curve)
    validations: Curve[Validation] = field(default_factory=Curve)
    validated: int = 0  # how often
    samples: dict[tuple[int | None, str], Sample] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    finished: Finished | None = None
    kept: Kept | None = None  # the step whose adapter it is, where the validation loss chose
    worked: float = 0.0  # seconds of all its workers, by their events
    _newest: float | None = None  # when this worker wrote its newest event

    def fold(self, event: AnyEvent) -> None:
        self._work(event)
        if isinstance(event, Step):
            if self.steps.newest and event.step <= self.steps.newest.step:
                self._go_back(event.step)
            self.steps.add(event)
        elif isinstance(event, Started):
            self.device, self.finished, self.warnings, self.stage, self.kept = event.device, None, [], None, None
            self.told = {}
        elif isinstance(event, PlanMade):
            self.plan = event
        elif isinstance(event, Progress):
            self.stage = event
            self.told[event.stage] = event
        elif isinstance(event, Validation):
            self.validated += 1
            self.validations.add(event)
        elif isinstance(event, Sample):
            self.samples.pop((event.step, event.question), None)
            self.samples[event.step, event.question] = event
            if len(self.samples) > MOST_SAMPLES:
                del self.samples[next(iter(self.samples))]
        elif isinstance(event, Warned):
            self.warnings.append(event.message)
        elif isinstance(event, Kept):
            self.kept = event
        elif isinstance(event, Finished):
            self.finished = event

    def _work(self, event: AnyEvent) -> None:
        """Count the time since the worker's event before; what lies between two workers counts for nothing."""
        if isinstance(event, Started):
            self._newest = event.time
        elif self._newest is not None:
            self.worked, self._newest = self.worked + event.time - self._newest, event.time

    def _go_back(self, step: int) -> None:
        """Forget what a continued run is about to report again."""
        self.validations.cut(max(step, 1))
        self.samples = {key: sample for key, sample in self.samples.items() if (sample.step or 0) < step}

    @property
    def total_steps(self) -> int:
        newest = self.steps.newest
        return newest.total_steps if newest else self.plan.total_steps if self.plan else 0

    @property
    def losses(self) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """(step, loss) of each step and of each validation."""
        return [(s.step, s.loss) for s in self.steps.points], [(v.step, v.loss) for v in self.validations.points]


class Reader:
    """Reader of the jobs of one runs folder, for all viewers."""

    def __init__(self, store: RunStore):
        self.store = store
        self._seen: dict[Path, Seen] = {}
        self._settings: dict[Path, RunSettings | None] = {}
        self._lock = threading.Lock()
        self._shared: ContextVar[Snapshot | None] = ContextVar("shared", default=None)

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """Within it everything is of one moment, which is shared with other viewers and at most a second old."""
        token = self._shared.set(self.store.look(SHARED_SECONDS))
        try:
            yield
        finally:
            self._shared.reset(token)

    def look(self) -> Snapshot:
        """The runs now, or in `one_moment` as they were then."""
        return self._shared.get() or self.store.look()

    def mark(self) -> str:
        """A text that changes whenever a run, an evaluation or a state does, or a running job is validated."""
        folder = self.look()
        validated = (f"{job.id} {self.seen(job).validated}" for job, _ in folder.alive)
        return " ".join([str(folder.version), *validated])

    def seen(self, job: JobDir) -> Seen:
        with self._lock:
            seen = self._seen.setdefault(job.path, Seen())
            events, seen.offset = job.new_events(seen.offset)
            for event in events:
                seen.fold(event)
            return seen

    def settings(self, run: Run | None) -> RunSettings | None:
        """A run's settings, which never change; None if there is no run or they cannot be read."""
        if run is None:
            return None
        if run.path not in self._settings:
            try:
                self._settings[run.path] = run.settings()
            except BadInput:
                self._settings[run.path] = None
        return self._settings[run.path]

    def find(self, run_id: object) -> Run | None:
        """The run of exactly this id; what a browser sends never becomes a path."""
        found = self.look().find(run_id)
        return found.run if found else None

    def tuned(self) -> list[Run]:
        """The runs that have an adapter and are not training, newest first."""
        return self.look().tuned

    def busy(self) -> JobDir | None:
        """The job that has the device now, or None."""
        return self.look().at_work()


def mark(job: JobDir | None) -> str:
    """A text that changes whenever a job's state or files do; the same mark means nothing new to show."""
    if job is None:
        return ""
    status = job.status()
    sizes = [size_of(job.path / name) for name in ("events.jsonl", "worker.log", "summary.json")]
    return f"{job.path.name} {status.state} {status.updated} {job.silence(status)} {sizes}"


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
