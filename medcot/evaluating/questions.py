"""Multiple-choice files: `question, options, answer_idx`, and the layouts of MedQA, MedMCQA and PubMedQA."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from medcot import data, starter
from medcot.errors import BadInput, Problem
from medcot.settings import STARTER, DataSettings

KEPT = "questions.jsonl"  # an evaluation's own copy, so that it can be continued wherever the file has gone
MEDMCQA = ("opa", "opb", "opc", "opd")
PUBMEDQA = ("yes", "no", "maybe")


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """One question; `options` by letter, `letter` the right one, `record` its number in the file, from 1."""

    record: int
    question: str
    options: dict[str, str]
    letter: str


def load(source: str) -> tuple[list[ChoiceQuestion], str]:
    """The questions of a file (or the starter's) and their fingerprint. Raises BadInput naming every bad record."""
    path = str(starter.QUESTIONS) if source == STARTER else source
    found, problems = [], []
    for number, row in data.read_rows(DataSettings(source=path)):
        asked = _question(number, row)
        if isinstance(asked, str):
            problems.append(Problem(f"{Path(path).name}, record {number}", asked))
        else:
            found.append(asked)
    if problems:
        raise BadInput(data.cut(problems))
    if not found:
        raise BadInput(Problem("--questions", f"{source} holds no questions.", "Choose a file that does."))
    digest = hashlib.sha256(json.dumps([(q.question, q.options, q.letter) for q in found]).encode()).hexdigest()
    return found, digest


def as_lines(asked: list[ChoiceQuestion]) -> str:
    """The questions as a file that `load` reads."""
    rows = ({"question": q.question, "options": q.options, "answer_idx": q.letter} for q in asked)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _question(number: int, row: Any) -> ChoiceQuestion | str:
    """The record's question, or what is wrong with it."""
    if not isinstance(row, dict):
        return "is no object with question, options and answer_idx."
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        return "has no text `question`."
    row = _as_plain(row)
    options = _options(row.get("options"))
    if options is None:
        return "has no `options`: a list, or an object by letter, of at least two texts."
    letter = _letter(row.get("answer_idx"), options)
    if letter is None:
        return f"has no `answer_idx` that is one of {', '.join(options)}."
    question = _with_context(question.strip(), row.get("context"))
    if any(map(data.half_character, [question, *options.values()])):
        return f"{data.HALF_CHARACTER}. Mend its encoding."
    return ChoiceQuestion(number, question, options, letter)


def _as_plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """MedMCQA (opa to opd, cop from 0) and PubMedQA (final_decision) rows as `options, answer_idx`."""
    if "options" not in row and all(name in row for name in MEDMCQA):
        return {**row, "options": [row[name] for name in MEDMCQA], "answer_idx": row.get("cop")}
    if "options" not in row and row.get("final_decision") in PUBMEDQA:
        return {**row, "options": list(PUBMEDQA), "answer_idx": PUBMEDQA.index(row["final_decision"])}
    return dict(row)


def _options(value: Any) -> dict[str, str] | None:
    if isinstance(value, str):  # as a CSV file holds it
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if isinstance(value, list):
        if value and all(isinstance(v, dict) and {"key", "value"} <= v.keys() for v in value):
            value = {v["key"]: v["value"] for v in value}
        else:
            value = dict(zip(ascii_uppercase, value, strict=False))
    if not isinstance(value, dict):
        return None
    # Parquet fills an object's missing letters with nulls.
    options = {str(k).strip().upper(): str(v).strip() for k, v in value.items() if v is not None}
    whole = len(options) > 1 and all(k in ascii_uppercase and len(k) == 1 and v for k, v in options.items())
    return options if whole else None


def _letter(value: Any, options: dict[str, str]) -> str | None:
    """The right option's letter, from a letter or a number from 0; None where it is neither."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    # A number counts all places, also one whose option is null and dropped.
    of_number = isinstance(value, int) and 0 <= value < len(ascii_uppercase)
    letter = ascii_uppercase[value] if of_number else str(value).strip().upper()
    return letter if letter in options else None


def _with_context(question: str, context: Any) -> str:
    """PubMedQA's abstract before the question, as its authors ask it."""
    parts = context.get("contexts") if isinstance(context, dict) else context
    text = "\n".join(map(str, parts)) if isinstance(parts, list) else parts if isinstance(parts, str) else ""
    return f"{text.strip()}\n{question}" if text.strip() else question
