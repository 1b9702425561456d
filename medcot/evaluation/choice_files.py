"""Multiple-choice files: `question, options, answer_idx`, and the layouts of the published sets.

These are MedQA, MedMCQA, PubMedQA, MMLU (its authors' CSV and the Hub's rows), ARC and the evaluation file of
HuatuoGPT-o1's authors. MedMCQA's authors count the right option, `cop`, from 1; the data set of that name on the Hub
counts from 0. A 0 or a 4 decides which it is; of a file with neither its format does, JSON lines being the authors' and
Parquet the Hub's, and CSV is refused.
"""

import ast
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

from medcot import data
from medcot.data import starter
from medcot.data.files import BadRow
from medcot.errors import BadInput, Problem
from medcot.settings import STARTER, DataSettings, data_suffix

KEPT = "questions.jsonl"  # an evaluation's own copy, so that it can be continued without the file
LEFT_OUT = "left_out"  # in that copy alone: why a published set's record is not asked
MEDMCQA = ("opa", "opb", "opc", "opd")
FIRST_OPTION = {".json": 1, ".jsonl": 1, ".ndjson": 1, ".parquet": 0}  # MedMCQA's number of it, by how it is published
PUBMEDQA = ("yes", "no", "maybe")
MMLU = ("question", "A", "B", "C", "D", "answer")  # its authors' CSV files have no line of names
OPTIONS = ("options", "choices")
# The right option, the surest first. A number counts from 0, `answer_number` from 1.
RIGHT = ("answer_idx", "answer_number", "answerkey", "answer", "label")
PAIRS = (("key", "value"), ("label", "text"))  # an option's letter and text
_LETTER = r"\(?([A-Z])[.):：、]\s*"
_AT_LINES, _ANYWHERE = re.compile(rf"^[^\S\n]*{_LETTER}", re.MULTILINE), re.compile(rf"(?:^|(?<=[\s;,|])){_LETTER}")


@dataclass(frozen=True, slots=True)
class ChoiceQuestion:
    """One question; `options` by letter, `letter` the right one, `record` its number in the file, from 1."""

    record: int
    question: str
    options: dict[str, str]
    letter: str


class QuestionSet(NamedTuple):
    """A file's questions, their fingerprint, and why each record that cannot be asked is left out."""

    asked: list[ChoiceQuestion]
    fingerprint: str
    left_out: dict[int, str]


def load(source: str, *, lenient: bool = False) -> QuestionSet:
    """Read a file, or the starter's questions. Raises BadInput with every bad record.

    `lenient` leaves bad records out instead, since nobody can correct a published set.
    """
    path = str(starter.QUESTIONS) if source == STARTER else source
    found, problems, left_out = [], [], dict[int, str]()
    rows = data.read_rows(DataSettings(source=path), header=_mmlu, whole=True)
    numbered = [(number, _lower(row)) for number, row in rows]
    first = _first_option([row for _, row in numbered], path)
    for number, row in numbered:
        try:
            found.append(_question(number, row, first))
        except BadRow as bad:
            left_out[number] = str(bad)
            problems.append(Problem(f"{Path(path).name}, record {number}", str(bad)))
    if problems and not (lenient and found):
        raise BadInput(data.cut(problems))
    if not found:
        raise BadInput.of("--questions", f"{source} holds no questions.", "Choose a file that does.")
    text = json.dumps([(q.question, q.options, q.letter) for q in found])
    return QuestionSet(found, hashlib.sha256(text.encode()).hexdigest(), left_out)


def as_lines(found: QuestionSet) -> str:
    """Write the questions as a file that `load` reads; the lines of those left out keep everybody's number."""
    rows: dict[int, dict[str, object]] = {number: {LEFT_OUT: why} for number, why in found.left_out.items()}
    rows |= {q.record: {"question": q.question, "options": q.options, "answer_idx": q.letter} for q in found.asked}
    return "".join(json.dumps(rows[number], ensure_ascii=False) + "\n" for number in sorted(rows))


def _lower(row: Any) -> Any:
    """Lower-case the column names; a column that is lower-case already takes precedence."""
    if not isinstance(row, dict):
        return row
    return {**{str(name).lower(): value for name, value in row.items()}, **row}


def _mmlu(first: Sequence[str]) -> Sequence[str] | None:
    """MMLU's columns, if a file's first line is one of its records."""
    return MMLU if len(first) == len(MMLU) and first[-1].strip() in MMLU[1:-1] else None


def _first_option(rows: list[Any], path: str) -> int:
    """Tell whether MedMCQA's `cop` counts options from 0 or from 1. Raises BadInput if a file does both or neither."""
    counted = (row for row in rows if isinstance(row, dict) and _is_medmcqa(row))
    numbers = {number for row in counted if (number := _number(row.get("cop"))) is not None}
    if {0, len(MEDMCQA)} <= numbers:
        what = "counts `cop` both from 0 and from 1: there is a 0 and a 4."
        raise BadInput.of(Path(path).name, what, "Give the right option's letter as `answer_idx`.")
    if numbers & {0, len(MEDMCQA)}:
        return int(0 not in numbers)
    suffix = data_suffix(Path(path).name)
    if numbers and suffix not in FIRST_OPTION:
        what = "does not tell whether `cop` counts from 1, as in MedMCQA's own files, or from 0, as on the Hub:"
        fix = "Rename it: `answer_idx` counts from 0, `answer_number` from 1."
        raise BadInput.of(Path(path).name, f"{what} there is no 0 and no 4.", fix)
    return FIRST_OPTION.get(suffix, 1)


def _is_medmcqa(row: Mapping[str, Any]) -> bool:
    return all(name in row for name in MEDMCQA) and all(row.get(name) is None for name in RIGHT[:2])


def _number(value: Any) -> int | None:
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, float) and value.is_integer():  # as pandas writes a column with a gap
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _question(number: int, row: Any, first: int) -> ChoiceQuestion:
    """Parse a record; `first` is MedMCQA's number of the first option. Raises BadRow if something is wrong with it."""
    if isinstance(row, BadRow):
        raise row
    if isinstance(row, dict) and row.keys() == {LEFT_OUT}:
        raise BadRow(str(row[LEFT_OUT]))
    if not isinstance(row, dict):
        raise BadRow("is no object with question, options and answer_idx.")
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        raise BadRow("has no text `question`.")
    row = _as_plain(row, first)
    options = _options(next((row[name] for name in OPTIONS if row.get(name) is not None), None))
    right = _right(row, options)
    if all(key.isdecimal() for key in options):
        letters = dict(zip(sorted(options, key=int), ascii_uppercase, strict=False))
        options, right = {letters[key]: options[key] for key in letters}, letters[right]
    question = _with_context(question.strip(), row.get("context") or row.get("contexts"))
    if any(map(data.has_surrogate, [question, *options.values()])):
        raise BadRow(f"{data.SURROGATE}. {data.FIX_SURROGATE}")
    return ChoiceQuestion(number, question, options, right)


def _as_plain(row: Mapping[str, Any], first: int) -> dict[str, Any]:
    """Convert MedMCQA (opa to opd, cop from `first`), PubMedQA (final_decision) and MMLU's columns to `options`."""
    if any(row.get(name) is not None for name in OPTIONS):
        return dict(row)
    if all(name in row for name in MEDMCQA):
        right = _number(row.get("cop"))
        counted = {"answer_idx": right - first} if right is not None and _is_medmcqa(row) else {}
        return {**row, "options": [row[name] for name in MEDMCQA], **counted}
    if row.get("final_decision") in PUBMEDQA:
        return {**row, "options": list(PUBMEDQA), "answer_idx": PUBMEDQA.index(row["final_decision"])}
    lettered = {letter: row[letter.lower()] for letter in ascii_uppercase if row.get(letter.lower()) not in (None, "")}
    return {**row, "options": lettered} if len(lettered) > 1 else dict(row)


def _options(value: Any) -> dict[str, str]:
    """{key: text}, the keys as they are written, or letters for a list. Raises BadRow if there are no two of them."""
    if isinstance(value, str):  # as a CSV file holds it
        value = _from_text(value)
    if isinstance(value, dict) and all(isinstance(value.get(name), list) for name in ("label", "text")):
        value = [{"label": k, "text": v} for k, v in zip(value["label"], value["text"], strict=False)]  # ARC
    if isinstance(value, list):
        pair = next((p for p in PAIRS if value and all(isinstance(v, dict) and {*p} <= v.keys() for v in value)), None)
        value = {v[pair[0]]: v[pair[1]] for v in value} if pair else dict(zip(ascii_uppercase, value, strict=False))
    # Parquet fills an object's missing letters with nulls.
    given = value.items() if isinstance(value, dict) else ()
    options = {str(k).strip().upper(): str(v).strip() for k, v in given if v is not None}
    letters = all(k in ascii_uppercase and len(k) == 1 for k in options)
    if len(options) < 2 or not all(options.values()) or not (letters or all(k.isdecimal() for k in options)):
        raise BadRow("has no `options`: a list, or an object by letter, of at least two texts.")
    return options


def _from_text(text: str) -> Any:
    """Options written as one text: JSON, a list as Python prints it, or "A. ... B. ..."; None if it is none of them."""
    for read in (json.loads, ast.literal_eval):
        try:
            if isinstance(value := read(text), dict | list):
                return value
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return _lettered(text.strip(), _AT_LINES) or _lettered(text.strip(), _ANYWHERE)


def _lettered(text: str, mark: re.Pattern[str]) -> dict[str, str] | None:
    """The parts of a text that begins with A and has the next letter at each mark; None if it has not."""
    marks = list(mark.finditer(text))
    letters = "".join(found[1] for found in marks)
    if len(marks) < 2 or marks[0].start() or letters != ascii_uppercase[: len(letters)]:
        return None
    ends = [*(found.start() for found in marks[1:]), len(text)]
    return {m[1]: text[m.end() : end].strip(" \n\t;,|") for m, end in zip(marks, ends, strict=True)}


def _right(row: Mapping[str, Any], options: dict[str, str]) -> str:
    """The right option's key. Raises BadRow if none, several, or two that differ are stated."""
    name = next((name for name in RIGHT if row.get(name) is not None), "answer_idx")
    letter = _stated(name, row.get(name), options)
    if letter is None:
        raise BadRow(f"has no `answer_idx` that is one of {', '.join(options)}, and no `answer` that is one of them.")
    told = _by_text(row["answer"], options) if isinstance(row.get("answer"), str) else []
    if len(told) == 1 and told[0] != letter and row["answer"].strip().upper() not in options:
        raise BadRow(f"says {letter} in `{name}`, and in `answer` the text of {told[0]}. Correct one of them.")
    return letter


def _stated(name: str, value: Any, options: dict[str, str]) -> str | None:
    """The key that a key, a number from 0 or an option's text states; None if it is none of these."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    text = str(value).strip()
    texts = _by_text(text, options)
    letters = re.findall(r"[A-Z]", text) if re.fullmatch(r"(?:[A-Z]|[\s,;/&+]|and)+", text) and not texts else []
    several = value if isinstance(value, list) else [letter for letter in letters if letter in options]
    if len(several) > 1:
        raise BadRow(
            f"has several right options in `{name}` ({text:.40}), and a question here has one. Remove the record."
        )
    number = _number(value)
    if "".join(options).isdecimal() and number is not None and str(number) in options:
        return str(number)
    if number is not None and name == "answer_number":
        number -= 1
    if number is not None and not (name != "answer_idx" and texts):
        # A number counts all places, also one whose option is null and dropped.
        letter = ascii_uppercase[number] if 0 <= number < len(ascii_uppercase) else ""
        return letter if letter in options else None
    if (letter := text.upper().strip("(). :")) in options:
        if name == "answer" and texts and texts != [letter]:
            raise BadRow(f"says {text!r} in `answer`, which is a letter and the text of {texts[0]}. Give `answer_idx`.")
        return letter
    return texts[0] if len(texts) == 1 else None


def _by_text(text: str, options: dict[str, str]) -> list[str]:
    """The letters of the options that have a text, with or without the letter before it."""
    wanted = text.strip().casefold()
    return [k for k, v in options.items() if wanted in (v.casefold(), f"{k}. {v}".casefold(), f"({k}) {v}".casefold())]


def _with_context(question: str, context: Any) -> str:
    """Put PubMedQA's abstract before the question, as its authors do."""
    parts = context.get("contexts") if isinstance(context, dict) else context
    text = "\n".join(map(str, parts)) if isinstance(parts, list) else parts if isinstance(parts, str) else ""
    return f"{text.strip()}\n{question}" if text.strip() else question
