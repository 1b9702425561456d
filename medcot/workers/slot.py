"""One device, one queue: the slot that a job holds while it computes."""

import contextlib
import errno
import time
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

from filelock import FileLock, Timeout

from medcot.runs.job_dir import JobDir, command
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.workers.jobs import CHAT

POLL_SECONDS = 0.3
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class Slot:
    """The right to use the device: one process at a time for a runs folder; the kernel releases it at death."""

    def __init__(self, root: Path):
        self._note = root / ".slot-holder"
        self._lock = FileLock(root / ".slot.lock")

    def try_acquire(self, holder: str) -> bool:
        """Take the device if it is free; in a folder that cannot be written nothing waits for it, and it is free."""
        try:
            self._lock.acquire(timeout=0)
            self._note.write_text(holder, encoding="utf-8")
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
        return True

    def release(self) -> None:
        with contextlib.suppress(OSError):
            self._note.unlink(missing_ok=True)
        self._lock.release()

    def _holder(self) -> str:
        """Who took it last, perhaps a process that was killed; empty if it was released."""
        try:
            return self._note.read_text(encoding="utf-8")
        except OSError:
            return ""

    def held_by_chat(self) -> bool:
        """Whether a chat has the device now."""
        if self._holder() == CHAT:
            try:
                self._lock.acquire(timeout=0)
            except (Timeout, OSError):
                return True
            self._lock.release()
        return False

    def busy(self) -> str:
        """Who has it and what to do, in words."""
        holder = self._holder()
        if holder == CHAT:
            return "The device is in use by a chat. It is given back when nobody has asked for some minutes."
        if not holder:
            return "The device is in use by another process. Try again."
        stop_it = command(f"stop {holder}", self._note.parent)
        return f"The device is in use by the run {holder}. Wait until it is done, or stop it: {stop_it}"


def waiting_jobs(store: RunStore) -> list[JobDir]:
    """Queued jobs with a living worker, the one that waits longest first."""
    return store.look().waiting()


def in_the_way(
    store: RunStore, job: JobDir, at_most_old: float = 0.0, named: Callable[[JobDir], str] = attrgetter("named")
) -> str:
    """What a queued job waits for, in words; empty if nothing is, and its worker is only starting.

    `named` says what the job that has the device is called.
    """
    folder = store.look(at_most_old)
    if other := folder.at_work(but=job):
        return f"{named(other)} has the device"
    waiting = folder.waiting()
    if waiting and waiting[0].path != job.path:
        return "another job is before it"
    return "a chat has the device, which it gives back after its answer" if Slot(store.root).held_by_chat() else ""


def wait_for_slot(store: RunStore, job: JobDir, run: Run) -> Slot:
    """Block until it is this job's turn, then hold the slot in its run's name. Called by a worker before it loads."""
    slot = Slot(store.root)
    while True:
        waiting = waiting_jobs(store)
        if (not waiting or waiting[0].path.resolve() == job.path.resolve()) and slot.try_acquire(run.id):
            return slot
        time.sleep(POLL_SECONDS)
