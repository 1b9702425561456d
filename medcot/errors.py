"""What is wrong, where, and what to do next: the one way in which medcot refuses input.

Everything that a person can get wrong ends as a `BadInput` with all of its problems at once. The command line
prints them and exits with code 2; the page shows them next to the fields.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `where` is a setting's path, a file or a record; `fix` is what to do about it."""

    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" {self.fix}" if self.fix else "")


class BadInput(Exception):
    """Input that cannot be used; `problems` lists everything found, never only the first."""

    def __init__(self, problems: Sequence[Problem] | Problem):
        self.problems = [problems] if isinstance(problems, Problem) else list(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class Busy(Exception):
    """The device is taken by another job. The message says by which, and what to do."""


class WorkerFailed(Exception):
    """A worker could not do what it was asked, for no fault of the input."""


@contextmanager
def disk_in_words(where: str, what: str, fix: str = "") -> Iterator[None]:
    """Raises BadInput where a full disk, missing rights or the like end what is done inside."""
    try:
        yield
    except OSError as error:
        raise BadInput(Problem(where, f"{what}: {error.strerror or error}.", fix)) from None


def first_line(error: BaseException) -> str:
    """What an error of a library says first, or its kind where it says nothing; for a message of our own."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def is_full_disk(error: BaseException) -> bool:
    """safetensors and tokenizers say it in the text of an error of another kind."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(f"(os error {number})" in str(error) for number in (errno.ENOSPC, errno.EDQUOT))
