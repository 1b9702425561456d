"""Blinded comparisons: what a reader preferred without knowing which model wrote which, kept in the run's folder.

One JSON object a line in comparisons.jsonl, appended when somebody saves a judgement and at no other time.
"""

import csv
import errno
import io
import json
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medcot.errors import disk_in_words
from medcot.events import Ending
from medcot.runs import Run
from medcot.tags import parse

Arm = Literal["base", "tuned"]
Preference = Literal["base", "tuned", "equal"]
CRITERIA = ("correct", "complete", "safe", "clear")
ASPECTS = ("reasoning", "answer", *CRITERIA)
FILE = "comparisons.jsonl"
STORED = (
    "the question, both outputs whole, which of them was A, the decoding settings, the times, your judgement and your "
    "comment"
)
Z95 = 1.959964  # the normal distribution's 97.5% point


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Output(Part):
    """What one arm wrote; seconds from the question to its first and its last token."""

    text: str
    ended: Ending
    tokens: int
    first_token_seconds: float
    seconds: float


class Judgement(Part):
    """Which arm is better: its reasoning, its answer, and, where it was judged, the answer on each criterion."""

    reasoning: Preference
    answer: Preference
    correct: Preference | None = None
    complete: Preference | None = None
    safe: Preference | None = None
    clear: Preference | None = None
    harm: tuple[Arm, ...] = ()  # arms that could harm somebody who followed them
    comment: str = Field("", max_length=4000)


class Comparison(Part):
    """One line of comparisons.jsonl. `a` is the arm that stood first, as A."""

    schema_version: Literal[1] = 1
    id: str = Field(default_factory=lambda: secrets.token_hex(8))
    saved: float = Field(default_factory=time.time)  # seconds since 1970, UTC
    run: str
    model: str
    question: str
    group: str
    a: Arm
    base: Output
    tuned: Output
    decoding: dict[str, float]
    reading_seconds: float  # from the end of the answers to the judgement
    judgement: Judgement


def path_of(run: Run) -> Path:
    return run.path / FILE


def append(run: Run, comparison: Comparison) -> None:
    """Keep a judgement; on disk when this returns. Raises BadInput where the run's folder cannot be written."""
    line = (comparison.model_dump_json() + "\n").encode()
    with disk_in_words(str(path_of(run)), "cannot be written", "Free some space, or mend its rights."):
        handle = os.open(path_of(run), os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":  # a full disk cut the last line
                line = b"\n" + line
            # One write: two readers who save at once leave two whole lines.
            if os.write(handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)


def read(run: Run) -> list[Comparison]:
    """All judgements of a run, oldest first; a line that a crash cut short is passed over."""
    try:
        # A cut may lie in the middle of a character, which would make the whole file unreadable.
        lines = path_of(run).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Comparison.model_validate_json(line))
        except ValidationError:
            continue
    return found


@dataclass(frozen=True, slots=True)
class Share:
    """How often tuned was preferred among those who preferred either; the interval is Wilson's, 95%."""

    tuned: int
    equal: int
    base: int

    @property
    def decided(self) -> int:
        return self.tuned + self.base

    @property
    def share(self) -> float | None:
        return self.tuned / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.tuned, self.decided)


def wilson(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Score interval of a proportion (E. B. Wilson, JASA 22, 1927, 209-212); (0, 1) where nothing was tried."""
    if trials == 0:
        return 0.0, 1.0
    share, square = successes / trials, z * z
    middle = (share + square / (2 * trials)) / (1 + square / trials)
    half = z / (1 + square / trials) * sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def share(comparisons: Sequence[Comparison], aspect: str) -> Share:
    """Preferences on one of ASPECTS."""
    chosen = [getattr(c.judgement, aspect) for c in comparisons]
    return Share(*(chosen.count(arm) for arm in ("tuned", "equal", "base")))


def groups(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """By group of question, in the order in which they first came."""
    found: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        found.setdefault(comparison.group, []).append(comparison)
    return found


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """One row a judgement, for a spreadsheet: a cell that would be taken for a formula gets an apostrophe before it."""
    arms = [
        f"{arm}_{part}" for arm in ("base", "tuned") for part in ("reasoning", "answer", "ended", "tokens", "seconds")
    ]
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\r\n")
    head = ["id", "saved", "run", "model", "group", "question", "a", *(f"better_{a}" for a in ASPECTS)]
    head += ["harm_base", "harm_tuned", "comment", "reading_seconds", "decoding", *arms]
    table.writerow(head)
    for c in comparisons:
        judged = [getattr(c.judgement, aspect) or "" for aspect in ASPECTS]
        harm = [int(arm in c.judgement.harm) for arm in ("base", "tuned")]
        row = [c.id, _utc(c.saved), c.run, c.model, c.group, c.question, c.a, *judged, *harm, c.judgement.comment]
        row += [round(c.reading_seconds, 1), json.dumps(c.decoding), *_output(c.base), *_output(c.tuned)]
        table.writerow([_cell(value) for value in row])
    return out.getvalue()


def _output(output: Output) -> list[object]:
    parts = parse(output.text)
    return [parts.reasoning, parts.answer, output.ended, output.tokens, round(output.seconds, 2)]


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
