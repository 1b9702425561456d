"""A runs folder at one moment. Looked at again and again, it costs little: only folders that have changed are read."""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from medcot.errors import BadInput
from medcot.hub import SETTINGS
from medcot.runs.export import Export, exports_of
from medcot.runs.ids import has_plain_name, title_of
from medcot.runs.job_dir import ALIVE, JobDir, Status
from medcot.runs.run import ABOUT, SUMMARY, About, Evaluation, Run

# A folder's time of change may be this coarse: what was read sooner after a change than this is read once more.
COARSE_SECONDS = 2.0


@dataclass(frozen=True)
class Listed:
    """A run as it was then: what lists show of it. `adapter` is one from elsewhere; jobs are newest first."""

    run: Run
    status: Status
    about: About
    adapter: str | None
    has_adapter: bool
    evaluations: tuple[tuple[Evaluation, Status], ...]
    exports: tuple[tuple[Export, Status], ...]
    unreadable: tuple[str, ...]  # its files that are there and do not hold what they should

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def title(self) -> str:
        return title_of(self.id, self.about.name)

    @property
    def jobs(self) -> Iterator[tuple[JobDir, Status]]:
        yield self.run, self.status
        yield from self.evaluations
        yield from self.exports

    @property
    def shown(self) -> tuple[JobDir, Status]:
        """The job whose state and time are the run's: its newest evaluation if it was not trained here."""
        return self.evaluations[0] if self.adapter and self.evaluations else (self.run, self.status)

    @property
    def shown_status(self) -> Status:
        return self.shown[1]


@dataclass(frozen=True)
class Snapshot:
    """All runs, newest first. Another `version` means that something in it has changed."""

    runs: tuple[Listed, ...] = ()
    version: int = 0

    @cached_property
    def _by_id(self) -> dict[object, Listed]:
        return {listed.id: listed for listed in self.runs}

    @cached_property
    def alive(self) -> list[tuple[JobDir, Status]]:
        """The jobs that wait or are at work."""
        return [(job, status) for listed in self.runs for job, status in listed.jobs if status.state in ALIVE]

    @cached_property
    def tuned(self) -> list[Run]:
        """The runs that have an adapter and are not training."""
        return [one.run for one in self.runs if one.has_adapter and one.status.state not in ALIVE]

    @cached_property
    def titles(self) -> tuple[tuple[str, str], ...]:
        """(shown name, id) of each run in `tuned`."""
        return tuple((self._by_id[run.id].title, run.id) for run in self.tuned)

    def find(self, run_id: object) -> Listed | None:
        return self._by_id.get(run_id) if isinstance(run_id, str) else None

    def waiting(self) -> list[JobDir]:
        """Queued jobs with a living worker, the one that waits longest first."""
        queued = [(status.updated, job) for job, status in self.alive if status.state == "queued"]
        return [job for _, job in sorted(queued, key=lambda pair: (pair[0], str(pair[1].path)))]

    def at_work(self, but: JobDir | None = None) -> JobDir | None:
        """The job that has the device, or None."""
        working = (job for job, status in self.alive if status.state in ("running", "stopping"))
        return next((job for job in working if but is None or job.path != but.path), None)


@dataclass
class _Known:
    """What was read of a folder, when, and the times of change that it and the folders in it had then."""

    listed: Listed | None  # None: it is no run
    folders: list[str]
    changed: list[int]
    read: float

    def is_current(self) -> bool:
        return self.read - max(self.changed) / 1e9 > COARSE_SECONDS and _times(self.folders) == self.changed


class Folder:
    """A runs folder, for any number of threads."""

    def __init__(self, root: Path):
        self._root = root
        self._known: dict[str, _Known] = {}
        self._newest, self._looked = Snapshot(), float("-inf")
        self._lock = threading.Lock()

    def look(self, at_most_old: float = 0.0) -> Snapshot:
        """The runs now, or as somebody else saw them so many seconds ago at most."""
        with self._lock:
            if time.monotonic() - self._looked > at_most_old:
                runs = tuple(self._runs())
                if len(runs) != len(self._newest.runs) or any(map(_differ, runs, self._newest.runs)):
                    self._newest = Snapshot(runs, self._newest.version + 1)
                self._looked = time.monotonic()
            return self._newest

    def _runs(self) -> Iterator[Listed]:
        try:
            names = sorted((e.name for e in os.scandir(self._root) if not e.name.startswith(".")), reverse=True)
        except OSError:
            names = []
        for gone in self._known.keys() - set(names):
            del self._known[gone]
        for name in names:
            known = self._known.get(name)
            if known is None or not known.is_current():
                known = self._known[name] = self._read(name)
            elif known.listed:
                known.listed = _alive_still(known.listed)
            if known.listed:
                yield known.listed

    def _read(self, name: str) -> _Known:
        run, read = Run(self._root / name), time.time()
        inside = [str(run.path / kind) for kind in ("evaluation", "export")]
        jobs = (f"{folder}/{one}" for folder in inside for one in _names(folder))
        folders = [str(run.path), str(run.adapter_dir), *inside, *jobs]
        changed = _times(folders)  # before the reading, so that the next look sees what comes in between
        known, before = _Known(None, folders, changed, read), self._known.get(name)
        if has_plain_name(run.path) and os.path.lexists(run.path / SETTINGS):
            known.listed = listed(run)
            if before and before.listed == known.listed:
                known.listed = before.listed
        return known


def listed(run: Run) -> Listed:
    """Read what lists show of a run; whatever its files hold, it raises nothing."""
    evaluations = tuple((one, one.status()) for one in run.evaluations())
    exports = tuple((one, one.status()) for one in exports_of(run.path))
    strange = tuple(str(path.relative_to(run.path)) for path in unreadable(run, (one for one, _ in evaluations)))
    return Listed(run, run.status(), run.about(), run.origin(), run.has_adapter, evaluations, exports, strange)


def unreadable(run: Run, evaluations: Iterable[Evaluation]) -> Iterator[Path]:
    """A run's files that are there and do not hold what they should."""
    try:
        run.settings()
    except BadInput:
        yield run.path / SETTINGS
    if os.path.lexists(run.path / ABOUT) and run.about() == About():
        yield run.path / ABOUT
    for one in evaluations:
        if os.path.lexists(one.path / SUMMARY) and one.summary() is None:
            yield one.path / SUMMARY


def cannot_be_read(run: Listed) -> str:
    """Which files of a run cannot be read, in words; empty if all can."""
    return f"Cannot be read, and is left out: {', '.join(run.unreadable)}." if run.unreadable else ""


def _alive_still(seen: Listed) -> Listed:
    """The same, unless a worker in it ended without a word or is seen again, which changes no folder."""
    if not any(status.state in (*ALIVE, "interrupted") for _, status in seen.jobs):
        return seen  # what has ended changes its folder when it begins again
    evaluations = tuple((one, one.status()) for one, _ in seen.evaluations)
    exports = tuple((one, one.status()) for one, _ in seen.exports)
    now = replace(seen, status=seen.run.status(), evaluations=evaluations, exports=exports)
    return seen if now == seen else now


def _differ(one: Listed, other: Listed) -> bool:
    return one is not other


def _names(folder: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder)]
    except OSError:
        return []


def _times(folders: list[str]) -> list[int]:
    return [_changed(folder) for folder in folders]


def _changed(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns  # noqa: PTH116  # a Path for each would take longer than the call
    except OSError:
        return 0
