"""What is wrong, where, and what to do next: the one way in which medcot refuses input.

Everything that a person can get wrong ends as a `BadInput` with all of its problems at once. The command line
prints them and exits with code 2; the page shows them next to the fields. A `Failure` is what travels between
processes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `where` is a setting's path, a file or a record, or empty; `fix` is what to do.

    `page` is what to do in the page, where `fix` is for a terminal; no option, command or server's path stands in it.
    """

    where: str
    what: str
    fix: str = ""
    page: str | None = None

    def __str__(self) -> str:
        return (f"{self.where}: " if self.where else "") + self.what + (f" {self.fix}" if self.fix else "")

    @property
    def in_page(self) -> str:
        """What is wrong and what to do, for the page."""
        fix = self.fix if self.page is None else self.page
        return f"{self.what} {fix}".strip()


class BadInput(Exception):
    """Input that cannot be used; `problems` lists everything found once, never only the first."""

    def __init__(self, problems: Sequence[Problem] | Problem):
        self.problems = [problems] if isinstance(problems, Problem) else list(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))

    @classmethod
    def of(cls, where: str, what: str, fix: str = "", page: str | None = None) -> Self:
        """A single problem."""
        return cls(Problem(where, what, fix, page))


@contextmanager
def collected(problems: list[Problem]) -> Iterator[None]:
    """Add the problems of a BadInput inside to the list, and go on after it."""
    try:
        yield
    except BadInput as bad:
        problems += bad.problems


class Busy(Exception):
    """The device is taken by another job. The message says by which, and what to do."""


class WorkerFailed(Exception):
    """A worker could not do what it was asked, for no fault of the input."""


IN_WORDS = BadInput | Busy | WorkerFailed  # exceptions whose texts were written for a reader
DEBUG = "MEDCOT_DEBUG"  # where it is set, tracebacks of all others are shown


class Failure(BaseModel):
    """Why a process did not do what it was asked, as it tells another process."""

    kind: Literal["input", "busy", "crash"] = "crash"
    problems: list[Problem]

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """An exception in words; with its type where nobody wrote the words for a reader."""
        if isinstance(error, BadInput):
            return cls(kind="input", problems=error.problems)
        if isinstance(error, IN_WORDS):
            return cls(kind="busy" if isinstance(error, Busy) else "crash", problems=[Problem("", str(error))])
        words = f"{type(error).__name__}: {str(error).strip()}"[:600]
        fix = f"This is unexpected; {DEBUG}=1 shows where it comes from."
        return cls(problems=[Problem("", words, fix)])

    def exception(self) -> BadInput | Busy | WorkerFailed:
        """What `of` was made from, to be raised for the asker."""
        if self.kind == "input":
            return BadInput(self.problems)
        return (Busy if self.kind == "busy" else WorkerFailed)(" ".join(map(str, self.problems)))

    @property
    def error(self) -> str:
        """What went wrong, as status.json and events.jsonl say it."""
        return "\n".join(str(p) if self.kind == "input" else p.what for p in self.problems)

    @property
    def hint(self) -> str:
        """What to do next, as status.json and events.jsonl say it."""
        return "Fix this and start again." if self.kind == "input" else " ".join(p.fix for p in self.problems)


def first_line(error: BaseException) -> str:
    """The first line of a library's error, or its type if it has no text; for a message of our own."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
