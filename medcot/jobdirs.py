"""A job directory: status.json, events.jsonl and worker.log in a folder that one worker writes and anyone reads."""

import os
import secrets
import shlex
import shutil
import time
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, ValidationError

from medcot.events import EVENT, AnyEvent

State = Literal["queued", "running", "stopping", "stopped", "finished", "failed", "interrupted"]
ALIVE: tuple[State, ...] = ("queued", "running", "stopping")
WORKER_MODULE = "medcot.engine.worker"
STARTING_SECONDS = 5.0
FULL_BYTES = 2**20


class Status(BaseModel):
    """status.json. `pid` is the worker's; `updated` tells when the state last changed."""

    state: State
    job: str
    pid: int | None = None
    started: float
    updated: float
    error: str = ""
    hint: str = ""
    bad_input: bool = False  # the failure is something that a person can mend in settings or data


def command(words: str, runs_dir: Path) -> str:
    """A `medcot` command to type as it stands: it names the runs folder where that is not the one taken by itself."""
    usual = Path(os.environ.get("MEDCOT_RUNS_DIR", "runs")).expanduser().resolve()
    named = "" if runs_dir.expanduser().resolve() == usual else f" --runs-dir {shlex.quote(str(runs_dir))}"
    return f"medcot {words}{named}"


def write_atomically(path: Path, text: str) -> None:
    """Readers see the old file or the new one, whole, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    # Readable like any new file, where mkstemp's is its owner's alone: runs are shared by the folder's rights.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class JobDir:
    """A folder that one worker writes and anyone reads."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def log_path(self) -> Path:
        return self.path / "worker.log"

    # ---- status

    def write_status(
        self,
        state: State,
        *,
        job: str | None = None,
        pid: int | None = None,
        error: str = "",
        hint: str = "",
        bad_input: bool = False,
    ) -> None:
        """Change the state; what is not given stays as it was."""
        now = time.time()
        old = self._read_status()
        status = Status(
            state=state,
            job=job or (old.job if old else "train"),
            pid=pid if pid is not None or state == "queued" else (old.pid if old else None),
            started=old.started if old and state not in ("queued",) else now,
            updated=now,
            error=error,
            hint=hint,
            bad_input=bad_input,
        )
        write_atomically(self.path / "status.json", status.model_dump_json(indent=1))

    def _read_status(self) -> Status | None:
        try:
            return Status.model_validate_json((self.path / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def status(self) -> Status:
        """The state as it really is: a job that claims to be alive and whose process is gone is `interrupted`."""
        status = self._read_status()
        if status is None:
            now = time.time()
            return Status(
                state="failed",
                job="unknown",
                started=now,
                updated=now,
                error=f"{self.path / 'status.json'} is missing or damaged.",
                hint="The run cannot be continued; its adapter, where there is one, can still be used.",
            )
        if status.state == "queued" and status.pid is None and abs(time.time() - status.updated) < STARTING_SECONDS:
            return status  # whoever starts it is about to note the worker's pid
        if status.state in ALIVE and not self.worker_alive(status.pid):
            # A worker's last act is to write its state: it may have ended between the two looks.
            status = self._read_status() or status
            if status.state in ALIVE:
                gone = "The worker's process is gone: it was killed, or the machine went down."
                # On a full disk a worker cannot even say so.
                if shutil.disk_usage(self.path).free < FULL_BYTES:
                    gone = "The worker's process is gone, and the disk is full."
                return status.model_copy(
                    update={"state": "interrupted", "error": gone, "hint": self._interrupted_hint()}
                )
        return status

    def _interrupted_hint(self) -> str:
        return f"The end of {self.log_path} may say why. Start it again when that is mended."

    def worker_alive(self, pid: int | None) -> bool:
        """Whether this very job's worker runs: its command line names the folder, so a reused pid cannot fool us."""
        if pid is None:
            return False
        try:
            command = psutil.Process(pid).cmdline()
        except psutil.Error:
            return False
        return WORKER_MODULE in command and str(self.path.resolve()) in command

    # ---- events

    def append(self, event: AnyEvent) -> None:
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(event.model_dump_json() + "\n")

    def end_half_line(self) -> None:
        """Close a line that a killed worker left unfinished, so that the next event stands on its own."""
        path = self.path / "events.jsonl"
        if path.is_file() and (data := path.read_bytes()) and not data.endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")

    def events(self, offset: int = 0) -> tuple[list[AnyEvent], int]:
        """Events from a byte offset on, and the offset to go on from. A half line at the end waits for its rest."""
        try:
            with (self.path / "events.jsonl").open("rb") as file:
                file.seek(offset)
                data = file.read()
        except FileNotFoundError:
            return [], offset
        complete = data[: data.rfind(b"\n") + 1]
        found = []
        for line in complete.splitlines():
            try:
                found.append(EVENT.validate_json(line))
            except ValidationError:  # a line cut by a crash, continued by a later worker
                continue
        return found, offset + len(complete)

    def log_tail(self, lines: int = 20) -> str:
        try:
            with self.log_path.open("rb") as file:
                file.seek(max(0, self.log_path.stat().st_size - 20_000))
                text = file.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        # A progress bar rewrites its line; only its last state is worth showing.
        return "\n".join([line.rsplit("\r", 1)[-1] for line in text.splitlines()][-lines:])
