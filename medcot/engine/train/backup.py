"""A run's kept checkpoints and records, pushed to its private repository on the Hub by a thread of the worker.

No step waits for it, and none of its failures ends the training: each is told once and tried again at the next
checkpoint. What is pushed are hard links to the checkpoint's files, which stay while newer ones take its place.
"""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medcot import hub
from medcot.adapters.backup import MARK, RECORDS, Mark, require_free
from medcot.engine import distributed
from medcot.errors import BadInput, first_line
from medcot.machine import write_atomically
from medcot.runs.events import Progress, Report, Warned
from medcot.runs.run import Run
from medcot.settings import RunSettings

TRIES, FIRST_WAIT = 4, 2.0  # seconds; doubled each time
FINAL = (400, 401, 403, 404)  # of HTTP: another try would be answered alike
LAST_SECONDS = 300.0  # how long the end of a run waits for the last push
FOLDER = ".backup"


@contextmanager
def backed_up(run: Run, settings: RunSettings, report: Report) -> Iterator["Backup | None"]:
    """The run's backup, or None where the settings name none. At the end, the last push is waited for.

    Raises BadInput if the repository is public, another run's, or closed to this account's token.
    """
    if not settings.training.backup or not distributed.is_main_process():
        yield None
        return
    backup = Backup(run, settings.training.backup, report)
    backup.begin()
    try:
        yield backup
    finally:
        backup.close()


class Backup:
    """The thread and what it has to push: the newest state alone, where checkpoints come faster than it pushes."""

    def __init__(self, run: Run, repo: str, report: Report):
        from huggingface_hub import HfApi

        self._run, self._repo, self._report = run, repo, report
        self._api = HfApi(endpoint=hub.endpoint())
        self._next: Path | None = None
        self._count, self._told, self._over = 0, False, False
        self._changed, self._hurry = threading.Condition(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def begin(self) -> None:
        """Make the repository, private, or check it. A Hub that does not answer now is asked again at a checkpoint."""
        from huggingface_hub import get_token

        if not get_token():
            raise BadInput.of("HF_TOKEN", "is not set, and training.backup needs it.", "Set it, or: hf auth login")
        try:
            self._make_place()
        except BadInput:
            raise
        except Exception as error:  # noqa: BLE001  # whatever the Hub's client raises
            if _status(error) in FINAL:
                what = f"this token may not make or write {self._repo} (HTTP {_status(error)})."
                raise BadInput.of("training.backup", what, "Use a token with write access there.") from None
            self._failed(error)
        shutil.rmtree(self._run.path / FOLDER, ignore_errors=True)
        self._thread.start()

    def take(self) -> None:
        """Have the run pushed as it is now; a state that waits to be pushed is replaced."""
        try:
            self._count += 1
            state = self._linked(self._run.path / FOLDER / str(self._count))
        except OSError as error:
            self._failed(error)
            return
        with self._changed:
            stale, self._next = self._next, state
            self._changed.notify_all()
        if stale:
            shutil.rmtree(stale, ignore_errors=True)

    def close(self) -> None:
        """Wait for the last push, LAST_SECONDS at most."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join(0.1)
        if self._thread.is_alive():
            self._report(Progress(stage=f"Pushing the last checkpoint to {self._repo}"))
            self._thread.join(LAST_SECONDS)
        if self._thread.is_alive():
            self._hurry.set()
            what = f"The last push to {self._repo} did not end in {LAST_SECONDS:.0f} s. What is here is whole;"
            self._report(Warned(message=f"{what} there, it is that of an earlier checkpoint."))
        shutil.rmtree(self._run.path / FOLDER, ignore_errors=True)

    def _linked(self, state: Path) -> Path:
        """A folder with the run's state now: its checkpoints' files by hard link, where the disk has that."""
        for checkpoint in self._run.checkpoints():
            (there := state / "checkpoints" / checkpoint.name).mkdir(parents=True)
            for file in checkpoint.iterdir():
                try:
                    os.link(file, there / file.name)
                except OSError:
                    shutil.copyfile(file, there / file.name)
        for name in RECORDS:
            with suppress(FileNotFoundError):
                shutil.copyfile(self._run.path / name, state / name)
        write_atomically(state / MARK, Mark(run=self._run.id).model_dump_json())
        return state

    def _work(self) -> None:
        while (state := self._awaited()) is not None:
            try:
                self._push(state)
                self._told = False
            except Exception as error:  # noqa: BLE001  # whatever the Hub's client raises, the training goes on
                self._failed(error)
            shutil.rmtree(state, ignore_errors=True)

    def _awaited(self) -> Path | None:
        """The state to push, once there is one; None at the end."""
        with self._changed:
            while self._next is None and not self._over:
                self._changed.wait()
            state, self._next = self._next, None
        return state

    def _push(self, state: Path) -> None:
        """One commit with the state, in which older checkpoints go. Raises what the last of TRIES raised."""
        for attempt in range(TRIES):
            try:
                self._make_place()
                step = self._run.checkpoints()[0].name.replace("checkpoint-", "Step ")
                named: dict[str, Any] = {"commit_message": step, "delete_patterns": ["checkpoints/*"]}
                self._api.upload_folder(repo_id=self._repo, folder_path=state, **named)
                return
            except Exception as error:  # the client's errors have no common class
                final = isinstance(error, BadInput) or _status(error) in FINAL
                if final or attempt + 1 == TRIES or self._hurry.wait(FIRST_WAIT * 2**attempt):
                    raise

    def _make_place(self) -> None:
        if require_free(self._repo, self._run.id) is None:
            self._api.create_repo(self._repo, private=True)

    def _failed(self, error: Exception) -> None:
        """Tell the first of several failures in a row."""
        if not self._told:
            self._told = True
            why = f"The backup to {self._repo} failed ({first_line(error)[:200].rstrip('.')})."
            self._report(Warned(message=f"{why} The training goes on, and each further checkpoint tries it again."))


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)
