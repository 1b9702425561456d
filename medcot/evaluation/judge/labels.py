"""What people said of the same answers: a labelled file, and the blinded comparisons of a run.

A line of the file: `{"record": 3, "arm": "tuned", "verdict": "right"}`, with `reader` where several people judged.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from medcot import data
from medcot.data.files import BadRow
from medcot.errors import BadInput
from medcot.evaluation.judge.asking import PROMPTS

KEPT = "labels.jsonl"  # the copy in the evaluation's folder
VERDICTS: list[str] = PROMPTS["reference"]["verdicts"]
FIX = f'Write a line such as {{"record": 3, "arm": "tuned", "verdict": "right"}}; verdicts are {", ".join(VERDICTS)}.'
Key = tuple[int, str]  # a record and an arm


class Label(BaseModel):
    """One person's verdict on one answer."""

    model_config = ConfigDict(frozen=True)
    record: int
    arm: str
    verdict: str
    reader: str = "1"


def load(path: Path, known: Mapping[int, Sequence[str]]) -> list[Label]:
    """Read a file of labels; `known` has the evaluation's records with their arms. Raises BadInput."""
    seen = set[tuple[int, str, str]]()

    def once(row: Mapping[str, Any]) -> Label:
        label = _read(row, known)
        if (key := (label.record, label.arm, label.reader)) in seen:
            raise BadRow(f"labels record {label.record}, {label.arm} a second time by the same reader.")
        seen.add(key)
        return label

    found = data.read_objects(path, once, FIX)
    if not found:
        raise BadInput.of("--labels", f"{path.name} holds no labels.", FIX)
    return found


def _read(row: Mapping[str, Any], known: Mapping[int, Sequence[str]]) -> Label:
    record, arm, said = (row.get(name) for name in ("record", "arm", "verdict"))
    try:
        number = int(str(record))
    except ValueError:
        raise BadRow(f"has {record!r:.40} as record, which is no number.") from None
    if number not in known:
        raise BadRow(f"is about record {number}, which this evaluation did not ask.")
    if arm not in known[number]:
        raise BadRow(f"names the arm {arm!r:.40}; there is {', '.join(known[number])}.")
    verdict = " ".join(str(said).lower().split())
    if verdict not in VERDICTS:
        raise BadRow(f"has {said!r:.40} as verdict.")
    reader = row.get("reader")
    return Label(record=number, arm=str(arm), verdict=verdict, reader=str("1" if reader is None else reader))


def lines(labels: Sequence[Label]) -> str:
    """The labels as a file that `load` reads."""
    return "".join(label.model_dump_json() + "\n" for label in labels)


def by_reader(labels: Sequence[Label]) -> dict[str, dict[Key, str]]:
    """The verdicts of each reader."""
    found: dict[str, dict[Key, str]] = {}
    for label in labels:
        found.setdefault(label.reader, {})[label.record, label.arm] = label.verdict
    return found


def shares(labels: Sequence[Label], verdict: str) -> dict[Key, float]:
    """The share of readers who gave a verdict, by answer."""
    said: dict[Key, list[bool]] = {}
    for label in labels:
        said.setdefault((label.record, label.arm), []).append(label.verdict == verdict)
    return {key: sum(votes) / len(votes) for key, votes in said.items()}


class Preferred(NamedTuple):
    """A reader's choice between two answers, of the run's blinded comparisons."""

    key: str
    question: str
    base: str
    tuned: str
    said: str  # base, tuned or equal
