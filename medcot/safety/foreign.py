"""Text, files and programs from elsewhere: small and plain, shown without what is not seen, run within limits."""

import contextlib
import errno
import json
import os
import re
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

LFS_POINTER = b"version https://git-lfs"  # how the small file begins that Git keeps in a large one's place
MOST_SMALL = 10_000_000  # bytes of a file of settings; a tokenizer's are the longest, a few million


def require_plain(path: Path) -> None:
    """Raise OSError for a pipe, a device or a folder: reading those may never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no plain file")


def read_small(path: Path) -> str:
    """A small file's text. Raises OSError for another kind of file or a long one, ValueError if it is not UTF-8."""
    require_plain(path)
    with path.open("rb") as file:
        raw = file.read(MOST_SMALL + 1)
    if len(raw) > MOST_SMALL:
        raise OSError(errno.EFBIG, f"it has more than {MOST_SMALL:,} bytes")
    return raw.decode("utf-8")


def parse_json(text: str, **options: Any) -> Any:
    """`json.loads`, whose ValueError is also raised for brackets within brackets without end."""
    try:
        return json.loads(text, **options)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None


class RepeatedName(ValueError):
    """A JSON object that has one name twice: every reader would silently drop one of the two."""


def named_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object of its pairs, for `object_pairs_hook`. Raises RepeatedName."""
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(name for name in found if sum(name == other for other, _ in pairs) > 1)
        raise RepeatedName(f"names {repeated!r} twice. Remove one of them.")
    return found


def read_json(path: Path) -> Any:
    """A small file's JSON. Raises OSError or ValueError where it cannot be read."""
    return parse_json(read_small(path))


# Characters that change the direction of the text after them, command a terminal, or are not seen on a screen.
UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def visible(value: object) -> str:
    """Text from elsewhere as it was written, each unseen character by its code point."""
    return UNSEEN.sub(lambda found: f"\u2039U+{ord(found[0]):04X}\u203a", str(value).replace("\r\n", "\n"))


class Late(Exception):
    """Something took longer than it may."""


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise Late inside when the time is over, and once a second from then on in case somebody catches it.

    Python gives signals to the main thread alone, also within a long multiplication or search; in another thread there
    is no limit.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def end(*_: object) -> None:
        raise Late(f"it takes more than {seconds:.0f} seconds")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_a_copy(work: Callable[[], bytes], *, seconds: float, more_bytes: int) -> bytes | None:
    """What a function returns in a copy of this process; None if it took longer or more memory, or did not end well.

    For what runs the program of somebody else, which may never end: no signal ends a long computation in C.
    """
    if not hasattr(os, "fork"):
        return work()
    reading, writing = os.pipe()
    if not (child := os.fork()):
        with contextlib.suppress(BaseException):
            limit_memory(more_bytes)
            with os.fdopen(writing, "wb") as answer:
                answer.write(work())
        os._exit(0)  # nothing of the original is flushed or ended a second time
    os.close(writing)
    late = threading.Timer(seconds, os.kill, (child, signal.SIGKILL))
    late.start()
    try:
        with os.fdopen(reading, "rb") as answer:
            return answer.read() or None
    finally:
        late.cancel()
        late.join()  # the number is not given to another process before the child is waited for
        os.waitpid(child, 0)


def limit_memory(more_bytes: int) -> None:
    """Let this process take so much memory more than it has, and leave no core file."""
    import resource

    most, already = psutil.Process().memory_info().vms + more_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]
    if already != resource.RLIM_INFINITY:  # it may be lowered and not raised
        most = min(most, already)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
