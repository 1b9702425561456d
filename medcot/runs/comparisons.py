"""Blinded comparisons: what a reader preferred without knowing which model wrote which, kept in the run's folder.

comparisons.jsonl holds one JSON object a line; a line is appended only when somebody saves a judgement.
"""

import errno
import json
import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from medcot.evaluation.answers import ARMS, Arm, Reply
from medcot.evaluation.metrics import wilson
from medcot.evaluation.table_csv import csv_of
from medcot.machine import disk_in_words
from medcot.runs.job_dir import read_lines
from medcot.runs.run import Run

Preference = Literal["base", "tuned", "equal"]
CRITERIA = ("correct", "complete", "safe", "clear")
ASPECTS = ("reasoning", "answer", *CRITERIA)
FILE = "comparisons.jsonl"
STORED = """the question, both outputs whole, which of them was A, the decoding settings, the times, your judgement \
and your comment"""


class Judgement(BaseModel):
    """Which arm is better: in reasoning, in answer, and on each criterion that was judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    reasoning: Preference
    answer: Preference
    correct: Preference | None = None
    complete: Preference | None = None
    safe: Preference | None = None
    clear: Preference | None = None
    harm: tuple[Arm, ...] = ()  # arms that could harm somebody who followed them
    comment: str = Field("", max_length=4000)


class Comparison(BaseModel):
    """One line of comparisons.jsonl. `a` is the arm that stood first, as A."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1
    id: str = Field(default_factory=lambda: secrets.token_hex(8))
    saved: float = Field(default_factory=time.time)  # seconds since 1970, UTC
    run: str
    model: str
    question: str
    group: str
    a: Arm
    base: Reply
    tuned: Reply
    decoding: dict[str, float]
    reading_seconds: float  # from the end of the answers to the judgement
    judgement: Judgement


def path_of(run: Run) -> Path:
    return run.path / FILE


def append(run: Run, comparison: Comparison) -> None:
    """Append a judgement; it is on disk when this returns. Raises BadInput if the run's folder cannot be written."""
    line = (comparison.model_dump_json() + "\n").encode()
    with disk_in_words(str(path_of(run)), "cannot be written", "Free some space, or fix its permissions."):
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
    """Read all judgements of a run, oldest first; a line that a crash cut short is skipped."""
    return read_lines(path_of(run), TypeAdapter(Comparison))


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


def share(comparisons: Sequence[Comparison], aspect: str) -> Share:
    """Count the preferences on one of ASPECTS."""
    chosen = [getattr(c.judgement, aspect) for c in comparisons]
    return Share(*(chosen.count(arm) for arm in ("tuned", "equal", "base")))


def groups(comparisons: Sequence[Comparison]) -> dict[str, list[Comparison]]:
    """Group by kind of question, in order of first appearance."""
    return {name: [c for c in comparisons if c.group == name] for name in dict.fromkeys(c.group for c in comparisons)}


def to_csv(comparisons: Sequence[Comparison]) -> str:
    """Write one row a judgement, for a spreadsheet."""
    parts = ("reasoning", "answer", "ended", "tokens", "seconds")
    rows: list[list[object]] = [
        [
            *("id", "saved", "run", "model", "group", "question", "a"),
            *(f"better_{aspect}" for aspect in ASPECTS),
            *("harm_base", "harm_tuned", "comment", "reading_seconds", "decoding"),
            *(f"{arm}_{part}" for arm in ARMS for part in parts),
        ]
    ]
    for c in comparisons:
        saved = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(c.saved))
        judged = [getattr(c.judgement, aspect) or "" for aspect in ASPECTS]
        harm = [int(arm in c.judgement.harm) for arm in ARMS]
        row = [c.id, saved, c.run, c.model, c.group, c.question, c.a, *judged, *harm, c.judgement.comment]
        row += [round(c.reading_seconds, 1), json.dumps(c.decoding), *_output(c.base), *_output(c.tuned)]
        rows.append(row)
    return csv_of(rows, end="\r\n")


def _output(reply: Reply) -> list[object]:
    return [reply.reasoning, reply.answer, reply.ended, reply.tokens, round(reply.seconds, 2)]
