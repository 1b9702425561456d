"""From rows to checked examples, a split, and a fingerprint.

Rows come from the starter set, a local file or the Hub. Every record is checked before anything starts, and every
problem is reported at once with its record number, as a person counts them: from 1.
"""

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from medcot import columns, starter
from medcot.errors import BadInput, Problem
from medcot.hub import load_hub_rows
from medcot.settings import DATA_SUFFIXES, STARTER, DataSettings, is_local_data

MOST_PROBLEMS = 20  # of single records; the rest is counted
HALF_CHARACTER = "holds half a character (a lone surrogate)"
MEND_EMPTY = "Fill or remove the record, or set data.empty_records=skip."


@dataclass(frozen=True, slots=True)
class Example:
    """One checked record; `record` is its number in its source, from 1."""

    record: int
    question: str
    reasoning: str
    answer: str


@dataclass(frozen=True, slots=True)
class Split:
    """Training and held-out examples of one source, and the fingerprint of all that went in."""

    train: list[Example]
    held_out: list[Example]
    fingerprint: str
    skipped: list[int] = field(default_factory=list)  # empty records that the settings pass over
    guessed: dict[str, str] = field(default_factory=dict)  # {part: column} that nobody named

    @property
    def held_out_hashes(self) -> list[str]:
        """SHA-256 of each held-out question, so that a later evaluation can prove that it asks the same ones."""
        return [hashlib.sha256(e.question.encode()).hexdigest() for e in self.held_out]


def load(settings: DataSettings, *, whole: bool = False) -> Split:
    """Read, check and split the data; `whole` trains on nothing and holds out every record, in order.

    Raises BadInput with every problem found.
    """
    return _split_rows(list(read_rows(settings)), settings, whole)


def load_fitted(settings: DataSettings, *, whole: bool = False) -> tuple[DataSettings, Split]:
    """As `load`, with columns guessed where the usual names are not there; the settings returned hold the guess."""
    rows = list(read_rows(settings))
    fitted = columns.fitted(settings, columns.known(rows))
    return fitted, replace(_split_rows(rows, fitted, whole), guessed=columns.guessed(settings, fitted))


def _split_rows(rows: list[tuple[int, Any]], settings: DataSettings, whole: bool) -> Split:
    examples = check(rows, settings)
    kept = {e.record for e in examples}
    parts = Split([], examples, _fingerprint([], examples)) if whole else split(examples, settings)
    return replace(parts, skipped=[number for number, _ in rows if number not in kept])


def read_rows(settings: DataSettings) -> Iterator[tuple[int, Any]]:
    """(record number, row) pairs of a source. Raises BadInput where it is missing or unreadable."""
    if not is_local_data(settings.source):
        yield from enumerate(load_hub_rows(settings), start=1)
        return
    path = starter.RECORDS if settings.source == STARTER else _path(settings.source)
    reader = {".jsonl": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}.get(
        path.suffix.lower()
    )
    if reader is None:
        raise BadInput(
            Problem("data.source", f"{path} is none of {', '.join(DATA_SUFFIXES)}.", "Convert it to one of them.")
        )
    try:
        yield from reader(path)
    except FileNotFoundError:
        raise BadInput(
            Problem(
                "data.source",
                f"there is no file {path}.",
                "Check the path; a Hub data set is named OWNER/NAME.",
            )
        ) from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or no path at all
        raise BadInput(Problem("data.source", f"{path} cannot be read: {error}.")) from None


def _path(source: str) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # ~somebody, whom this machine does not know
        return Path(source)


def _read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """A line that is not JSON comes out as its JSONDecodeError, for `check` to tell with the other records' faults."""
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate((line for line in lines if line.strip()), start=1):
            try:
                yield number, json.loads(line)
            except json.JSONDecodeError as error:
                yield number, error


def _read_json(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise BadInput(
            Problem(
                path.name,
                f"is not JSON: {error.msg} in line {error.lineno}.",
                "A file with one object a line is named .jsonl.",
            )
        ) from None
    if not isinstance(rows, list):
        raise BadInput(Problem(path.name, "holds one JSON value, not a list of records.", "Wrap the records in [ ]."))
    yield from enumerate(rows, start=1)


def _read_csv(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = file.readline()
        # Spreadsheets write semicolons where the comma is the decimal mark.
        delimiter = next((mark for mark in ";\t" if mark in header and "," not in header), ",")
        file.seek(0)
        number = 0
        try:
            for number, row in enumerate(csv.DictReader(file, delimiter=delimiter, strict=True), start=1):
                yield number, row
        except csv.Error as error:
            what = f"is not CSV: {error}."
            fix = "Close the quotes that open there, and double those inside a text."
            raise BadInput(Problem(f"{path.name}, record {number + 1}", what, fix)) from None


def _read_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow.lib
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.lib.ArrowInvalid as error:
        raise BadInput(Problem("data.source", f"{path} is not a Parquet file: {error}.")) from None
    yield from enumerate(table.to_pylist(), start=1)


def check(rows: list[tuple[int, Any]], settings: DataSettings) -> list[Example]:
    """Examples from rows. Raises BadInput naming missing columns once, and each bad record with its number."""
    source = settings.source
    if not rows:
        raise BadInput(Problem("data.source", f"{source} holds no records.", "Choose a file or split that does."))
    wanted = columns.of(settings)
    known = columns.known(rows)
    names = ", ".join(repr(name) for name in sorted(known)) or "none"
    missing = [
        Problem(
            f"data.{part}_column",
            f"no record of {source} has a column {column!r}; there is {names}.",
            f"Name the right one: --set data.{part}_column={columns.guess(part, known) or 'NAME'}",
        )
        for part, column in wanted.items()
        if column not in known and known
    ]
    if missing:
        raise BadInput(missing)
    examples, problems = [], []
    for number, row in rows:
        wrong = _row_problem(row, list(wanted.values()))
        if wrong and settings.empty_records == "skip" and _is_empty(row, list(wanted.values())):
            continue
        if wrong:
            problems.append(Problem(f"{Path(source).name}, record {number}", wrong))
        else:
            question, reasoning, answer = (row[c].strip() for c in wanted.values())
            examples.append(Example(number, question, reasoning, answer))
    if problems:
        raise BadInput(cut(problems))
    return examples


def _is_empty(row: Any, needed: list[str]) -> bool:
    """Whether a record is well made and lacks the text of a column, which a person may choose to pass over."""
    if not isinstance(row, dict) or None in row:
        return False
    return any(row.get(c) is None or (isinstance(row[c], str) and not row[c].strip()) for c in needed)


def _row_problem(row: Any, needed: list[str]) -> str | None:
    if isinstance(row, json.JSONDecodeError):
        return f"is not JSON: {row.msg} at character {row.pos + 1}. Mend or remove the line."
    if not isinstance(row, dict):
        return f"is a JSON {type(row).__name__}, not an object with columns."
    if None in row:
        return "has more fields than the file has columns. Put text that holds commas in quotes."
    absent = [c for c in needed if row.get(c) is None]
    if absent:
        return f"has no {', '.join(absent)}. {MEND_EMPTY}"
    not_text = [c for c in needed if not isinstance(row[c], str)]
    if not_text:
        return f"{', '.join(not_text)} is not text. Make it a string."
    empty = [c for c in needed if not row[c].strip()]
    if empty:
        return f"has an empty {', '.join(empty)}. {MEND_EMPTY}"
    broken = [c for c in needed if half_character(row[c])]
    return f"{HALF_CHARACTER} in {', '.join(broken)}. Mend its encoding." if broken else None


def half_character(text: str) -> bool:
    """Whether there is what no file in UTF-8 can hold."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def cut(problems: list[Problem]) -> list[Problem]:
    """As many problems of single records as a person reads, and how many more there are."""
    more = len(problems) - MOST_PROBLEMS
    return (
        problems
        if more <= 0
        else [*problems[:MOST_PROBLEMS], Problem("data.source", f"and {more} more records like these.")]
    )


def split(examples: list[Example], settings: DataSettings) -> Split:
    """Hold out the first records, or the first after a seeded shuffle; train on the rest, in order.

    The shuffle is the one of `datasets.Dataset.shuffle(seed=...)`: NumPy's default generator's permutation.
    """
    order = list(range(len(examples)))
    if settings.held_out_from == "shuffled":
        import numpy

        order = numpy.random.default_rng(settings.shuffle_seed).permutation(len(examples)).tolist()
    if len(examples) <= settings.held_out:
        raise BadInput(
            Problem(
                "data.held_out",
                f"{settings.held_out} of {len(examples)} records would be held out, which leaves none to train on.",
                "Hold out fewer, or bring more records.",
            )
        )
    held_out = [examples[i] for i in order[: settings.held_out]]
    train = [examples[i] for i in order[settings.held_out :]][: settings.limit]
    return Split(train, held_out, _fingerprint(train, held_out))


def _fingerprint(train: list[Example], held_out: list[Example]) -> str:
    digest = hashlib.sha256(b"%d held out\n" % len(held_out))
    for example in [*held_out, *train]:
        digest.update(json.dumps([example.question, example.reasoning, example.answer]).encode())
    return digest.hexdigest()
