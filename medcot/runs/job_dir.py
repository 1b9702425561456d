"""A job directory: status.json, events.jsonl and worker.log in a folder that one worker writes and anyone reads."""

import contextlib
import os
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import psutil
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from medcot.errors import BadInput, Failure, Problem
from medcot.machine import write_atomically
from medcot.runs import liveness
from medcot.runs.events import EVENT, AnyEvent, E, Started, lines_with

T = TypeVar("T")
State = Literal["queued", "running", "stopping", "stopped", "finished", "failed", "interrupted"]
ALIVE: tuple[State, ...] = ("queued", "running", "stopping")
WORKER_MODULE = "medcot.engine.worker"
STARTING_SECONDS = 5.0
FULL_BYTES = 2**20  # a disk with less free is full
ENDING_SECONDS = 10.0  # between a worker's last word and the end of its process
STATUS, EVENTS = "status.json", "events.jsonl"
ASKED = ".stop-asked"  # the pid of the worker that was asked to end at its next step
Time = Annotated[float, Field(ge=0, lt=253_402_300_800)]  # seconds since 1970, up to the year 9999
Pid = Annotated[int, Field(gt=0, lt=2**31)]  # of one process: 0 and below mean groups of them


class Status(BaseModel):
    """status.json. `pid` is the newest worker's, `started` the first one's, `updated` the last change of state."""

    state: State
    job: str
    pid: Pid | None = None
    started: Time
    updated: Time
    error: str = ""
    hint: str = ""
    bad_input: bool = False  # a person can fix it in settings or data
    problems: list[Problem] = []  # the same as error and hint, for the page too


def command(words: str, runs_dir: Path) -> str:
    """A `medcot` command to type; it names the runs folder if that is not the default one."""
    usual = Path(os.environ.get("MEDCOT_RUNS_DIR", "runs")).expanduser().resolve()
    named = "" if runs_dir.expanduser().resolve() == usual else f" --runs-dir {shlex.quote(str(runs_dir))}"
    return f"medcot {words}{named}"


def read_lines(path: Path, kind: TypeAdapter[T]) -> list[T]:
    """The lines of a file that somebody may be appending to; what cannot be read is left out."""
    try:
        return list(parsed(path.read_bytes().split(b"\n"), kind))
    except OSError:
        return []


def parsed(lines: Iterable[bytes], kind: TypeAdapter[T]) -> Iterator[T]:
    """The lines that can be read as that kind."""
    for line in lines:
        try:
            yield kind.validate_json(line)
        except ValidationError:  # cut off by a crash, perhaps continued by a later worker
            continue


class JobDir:
    """A job's folder; see the module."""

    def __init__(self, path: Path):
        self.path = path

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, JobDir) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def log_path(self) -> Path:
        return self.path / "worker.log"

    # ---- status

    def write_status(
        self, state: State, *, job: str | None = None, pid: int | None = None, failure: Failure | None = None
    ) -> None:
        """Change the state; `job` and `pid` stay as they were if not given."""
        now = time.time()
        old = self._read_status() or Status(state=state, job="train", started=now, updated=now)
        kept = pid if pid is not None or state == "queued" else old.pid
        status = Status(state=state, job=job or old.job, pid=kept, started=old.started, updated=now)
        if failure:
            status.error, status.hint, status.bad_input = failure.error, failure.hint, failure.kind == "input"
            status.problems = failure.problems
        write_atomically(self.path / STATUS, status.model_dump_json(indent=1))
        if state not in ALIVE:
            (self.path / ASKED).unlink(missing_ok=True)

    def _read_status(self) -> Status | None:
        try:
            return Status.model_validate_json((self.path / STATUS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def status(self) -> Status:
        """The state as it is: `interrupted` if its worker is gone, and `stopping` as soon as the worker is asked to."""
        status = self._read_status()
        if status is None:
            error = f"{self.path / STATUS} is missing or damaged."
            hint = "The run cannot be continued; its adapter, if it has one, can still be used."
            return Status(state="failed", job="unknown", started=0, updated=0, error=error, hint=hint)
        if status.state == "queued" and status.pid is None and abs(time.time() - status.updated) < STARTING_SECONDS:
            return status  # the starter is about to write the worker's pid
        if status.state in ALIVE and not self.worker_alive(status.pid):
            # The worker may have written its last state and ended between the two reads.
            status = self._read_status() or status
            if status.state in ALIVE:
                why = ", and the disk is full" if self._disk_is_full() else ": it was killed, or the machine went down"
                go_on, in_page = self._how_to_go_on()
                hint, error = f"The end of {self.log_path} may say why. {go_on}", f"The worker's process is gone{why}."
                problem = Problem("", error, hint, page=f"The end of the log may say why. {in_page}")
                ended = {"state": "interrupted", "error": error, "hint": hint, "problems": [problem]}
                return status.model_copy(update=ended)
        if status.state == "running" and self._is_asked_to_stop(status.pid):
            return status.model_copy(update={"state": "stopping"})
        return status

    def ask_to_stop(self, pid: Pid) -> None:
        """Note that this worker was asked to stop. It alone writes its status, so that no last word of it is lost."""
        with contextlib.suppress(OSError):  # a full disk is no reason not to stop
            (self.path / ASKED).write_text(str(pid), encoding="utf-8")

    def _is_asked_to_stop(self, pid: Pid | None) -> bool:
        try:
            return (self.path / ASKED).read_text(encoding="utf-8") == str(pid)
        except (OSError, ValueError):
            return False

    def _disk_is_full(self) -> bool:
        """Whether a worker could not even have said how it ended."""
        try:
            return shutil.disk_usage(self.path).free < FULL_BYTES
        except OSError:
            return False

    def _how_to_go_on(self) -> tuple[str, str]:
        """What to do about a worker that is gone: in a terminal, and in the page."""
        return ("Start it again when that is fixed.",) * 2

    @property
    def named(self) -> str:
        """What it is, in a sentence."""
        return self.id

    @property
    def how_to_stop(self) -> str:
        """The command that stops it."""
        return command(f"stop {self.id}", self.path.parent)

    @contextlib.contextmanager
    def claimed(self, where: str) -> Iterator[None]:
        """Hold the worker's place in a job that has no worker; nobody else starts, continues or deletes it meanwhile.

        Raises BadInput about `where` if the job is alive.
        """
        deadline = time.monotonic() + ENDING_SECONDS
        with contextlib.ExitStack() as held:
            while True:
                taken = False
                try:
                    held.enter_context(self.place())
                except liveness.Taken:
                    taken = True
                state = self.status().state
                if state in ALIVE or (taken and time.monotonic() > deadline):
                    doing = state if state in ALIVE else "still ending, or being started or deleted"
                    fix = f"Stop it first: {self.how_to_stop}"
                    raise BadInput.of(where, f"{self.named} is {doing}.", fix, page="Stop it first, or wait for it.")
                if not taken:
                    break
                time.sleep(0.05)  # a worker has said how it ended, and its process is about to
            yield

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold the worker's place, in this thread. Raises Taken."""
        old = self._read_status()
        if liveness.is_held(self.path) is None and old and self.has_process(old.pid):
            raise liveness.Taken
        with liveness.claim(self.path):
            yield

    def worker_alive(self, pid: int | None) -> bool:
        """Whether this job's worker runs, here or elsewhere."""
        held = liveness.is_held(self.path)
        if held is None:
            return self.has_process(pid)
        return held or liveness.is_touched_elsewhere(self.path)

    def silence(self, status: Status) -> str:
        """That a worker which is alive has given no sign for minutes, in words; empty unless something is wrong."""
        silent = liveness.since_touch(self.path) if status.state in ALIVE else 0.0
        return f"no sign of its worker for {silent // 60:.0f} minutes" if silent > liveness.SILENT_SECONDS else ""

    def has_process(self, pid: int | None) -> bool:
        """Whether that process here is this job's worker; told by its command line, since a pid is used again."""
        if pid is None:
            return False
        try:
            command = psutil.Process(pid).cmdline()
        except psutil.Error:
            return False
        return WORKER_MODULE in command and str(self.path.resolve()) in command

    # ---- events

    def append(self, event: AnyEvent) -> None:
        with (self.path / EVENTS).open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json() + "\n")

    def end_half_line(self) -> None:
        """End the unfinished line of a killed worker, so that the next event has its own."""
        path = self.path / EVENTS
        if path.is_file() and (data := path.read_bytes()) and not data.endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")

    def events(self, offset: int = 0) -> tuple[list[AnyEvent], int]:
        """Events from a byte offset on, and the offset to go on from. A half line at the end waits for its rest.

        Lines that are no events are left out, and so are all if there is no file that can be read.
        """
        events, offset = self.new_events(offset)
        return list(events), offset

    def new_events(self, offset: int) -> tuple[Iterator[AnyEvent], int]:
        """As `events`, one after the other: all of a long run at once take a lot of memory."""
        try:
            if (self.path / EVENTS).stat().st_size == offset:
                return iter(()), offset
            with (self.path / EVENTS).open("rb") as file:
                file.seek(offset)
                data = file.read()
        except OSError:
            return iter(()), offset
        complete = data[: data.rfind(b"\n") + 1]
        return parsed(complete.split(b"\n"), EVENT), offset + len(complete)

    def events_of(self, kind: type[E], *, newest_first: bool = False) -> Iterator[E]:
        """The events of a kind. Other lines are not parsed: most of a long run's are steps."""
        word = str(kind.model_fields["type"].default).encode()
        try:
            data = (self.path / EVENTS).read_bytes()
        except OSError:
            return
        for event in parsed(lines_with(word, data, newest_first), EVENT):
            if isinstance(event, kind):
                yield event

    def newest_event(self, kind: type[E]) -> E | None:
        """The last event of a kind; None if there is none."""
        return next(self.events_of(kind, newest_first=True), None)

    def worked_seconds(self) -> float:
        """How long this job's workers have worked, by their events."""
        parts: list[list[float]] = []  # each worker's first and newest event
        for event in self.events()[0]:
            if isinstance(event, Started):
                parts.append([event.time, event.time])
            elif parts:
                parts[-1][1] = event.time
        return sum(max(0.0, newest - first) for first, newest in parts)

    def log_tail(self, lines: int = 20) -> str:
        try:
            with self.log_path.open("rb") as file:
                file.seek(max(0, self.log_path.stat().st_size - 20_000))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        # A progress bar rewrites its line; only its last state is worth showing.
        return "\n".join([line.rsplit("\r", 1)[-1] for line in text.splitlines()][-lines:])
