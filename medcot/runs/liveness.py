"""Whether a job's worker is alive: it holds a lock in the job's folder for life, and touches its file now and then.

The kernel takes the lock back when the worker ends, however that comes about, and shows it to all who have the folder
on the same machine, other containers too. The file names the worker's host: where that is another one, with which locks
may not be shared, a fresh touch says that the worker lives. Folders of earlier versions have no such file.
"""

import contextlib
import fcntl
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

LOCK = ".worker.lock"
TOUCH_SECONDS = 10.0
FRESH_SECONDS = 60.0  # for so long a touch proves life on another host
SILENT_SECONDS = 120.0  # after so long without a touch something is wrong


class Taken(Exception):
    """Somebody has the worker's place."""


class _Own(threading.local):
    """The places that this thread holds, by folder."""

    def __init__(self) -> None:
        self.places: dict[Path, BinaryIO] = {}


_own = _Own()


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Hold the worker's place in a folder, in this thread. Raises Taken."""
    # The file is only closed: an unlock would end the lock of a child that has inherited it as well.
    with (folder / LOCK).open("ab+") as place:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Taken from None
        _own.places[folder] = place
        try:
            yield
        finally:
            del _own.places[folder]


def sign(folder: Path) -> int:
    """Write this host's name into the place that this thread holds; returns its file, for the worker to inherit."""
    place = _own.places[folder]
    place.truncate(0)
    place.write(platform.node().encode())
    place.flush()
    return place.fileno()


def is_held(folder: Path) -> bool | None:
    """Whether somebody else has the worker's place; None where there is none, or locks are not known."""
    if folder in _own.places:
        return False
    try:
        with (folder / LOCK).open("rb") as place:
            # A shared lock, so that two who look at once do not take each other for a worker.
            fcntl.flock(place, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return None


def host(folder: Path) -> str:
    """The host of the newest worker; empty if it is not known."""
    try:
        return (folder / LOCK).read_bytes().decode(errors="replace")[:300]
    except OSError:
        return ""


def is_touched_elsewhere(folder: Path) -> bool:
    """Whether a worker on another host has touched the file just now."""
    return host(folder) not in ("", platform.node()) and since_touch(folder) < FRESH_SECONDS


def since_touch(folder: Path) -> float:
    """Seconds since the worker has touched its file; 0 if there is none. A clock that was set back counts as well."""
    try:
        return abs(time.time() - (folder / LOCK).stat().st_mtime)
    except OSError:
        return 0.0


def keep_touching(folder: Path) -> None:
    """Touch the file from now on to the end of this process."""

    def touch() -> None:
        while True:
            with contextlib.suppress(OSError):  # the folder may be gone, or read-only now
                os.utime(folder / LOCK)
            time.sleep(TOUCH_SECONDS)

    threading.Thread(target=touch, daemon=True).start()
