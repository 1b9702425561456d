"""From rows to checked examples.

Rows come from the starter set, a local file or the Hub. Every record is checked before anything starts, and every
problem is reported at once with its record number, as a person counts them: from 1.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcot.data import columns
from medcot.data.facts import FIX_FACTS, BadFacts, Facts, facts_of
from medcot.data.files import FIX_SURROGATE, SURROGATE, BadRow, Row, has_surrogate
from medcot.data.nested import flat
from medcot.data.rows import cut, read_rows
from medcot.errors import BadInput, Problem
from medcot.prompts.tags import parse, unwrapped
from medcot.settings import DataSettings

FIX_EMPTY = "Fill or remove the record, or set data.empty_records=skip."


@dataclass(frozen=True, slots=True)
class Example:
    """One checked record; `record` is its number in its source, from 1; without `reasoning` it can only be measured."""

    record: int
    question: str
    reasoning: str
    answer: str
    untagged: bool = False  # whether tags around reasoning or answer were taken off
    facts: Facts | None = None  # not part of a fingerprint: they change what is scored, not what is asked


def read_records(settings: DataSettings) -> list[tuple[int, Any]]:
    """(record number, row) pairs, each row with all of its text in columns. Raises BadInput as `read_rows` does."""
    return [(number, flat(row)) for number, row in read_rows(settings)]


def columns_of(settings: DataSettings) -> tuple[list[str], DataSettings]:
    """The source's columns, those with the most text first, and the settings with a guess for each part.

    Where one part and one column are left over, they belong together. Raises BadInput as `read_rows` does.
    """
    rows = read_records(settings)
    names, fitted = columns.known(rows), columns.fitted(settings, rows)
    used = columns.of(fitted)
    missing = [part for part, column in used.items() if column not in names]
    free = [name for name in columns.unused(rows, fitted) if name not in used.values()]
    if len(missing) == len(free) == 1:
        fitted = fitted.model_copy(update={f"{missing[0]}_column": free[0]})
    return names, fitted


def check(rows: list[tuple[int, Any]], settings: DataSettings, *, measured: bool = False) -> list[Example]:
    """Examples from rows; those that are only `measured` may all be without reasoning.

    Raises BadInput naming missing columns once, and each bad record with its number.
    """
    source, known = settings.source, columns.known(rows)
    if not rows:
        raise BadInput.of("data.source", f"{source} holds no records.", "Choose a file or split that does.")
    wanted = columns.of(settings)
    default = columns.is_default("reasoning", settings.reasoning_column)
    if measured and default and settings.reasoning_column not in known:
        del wanted["reasoning"]
    if missing := _missing_columns(settings, wanted, known):
        raise BadInput(missing)
    examples, problems = [], []
    for number, row in rows:
        where = f"{Path(source).name}, record {number}"
        written = _parts(row, wanted) if isinstance(row, dict) else {}
        parts = _untagged(written, wanted)
        if wrong := _row_problem(row, parts, settings.context_column):
            if settings.empty_records == "refuse" or not _is_empty(parts):
                problems.append(Problem(where, wrong))
            continue
        try:
            examples.append(_example(number, row, parts, settings, untagged=parts != written))
        except BadFacts as bad:
            problems.append(Problem(where, f"{settings.facts_column} {bad}.", FIX_FACTS))
    if problems:
        raise BadInput(cut(problems))
    if not examples:
        what = f"each of the {len(rows)} records of {source} lacks text, and data.empty_records=skip leaves none."
        raise BadInput.of("data.source", what, f"Fill {', '.join(wanted.values())}, or name other columns.")
    return examples


def _missing_columns(settings: DataSettings, wanted: dict[str, str], known: list[str]) -> list[Problem]:
    """A problem for each column that the settings name and no record has; none where no column is known at all."""
    there, found = ", ".join(f"{name!r:.60}" for name in sorted(known)), []
    further = {part: column for part, column in columns.named(settings).items() if part not in columns.PARTS}
    for part, column in {**wanted, **further}.items():
        if known and column not in known:
            what = f"no record of {settings.source} has a column {column!r}; there is {there}."
            near = columns.guess(part, [c for c in known if c not in wanted.values()]) if part in wanted else None
            fix = f"Name the right one: --set data.{part}_column={near or 'NAME'}"
            if part in further:
                fix = "Name the right one, or none."
            elif part == "reasoning" and not near:
                fix += " (a training needs reasoning; an evaluation of an adapter from elsewhere does without)"
            page = f"Choose the right one{f', perhaps {near!r}' if near else ''}."
            found.append(Problem(f"data.{part}_column", what, fix, page=None if part in further else page))
    return found


def _parts(row: Row, wanted: dict[str, str]) -> Row:
    """What stands in each wanted column, by its name; reasoning and answer that share a column told apart by tags."""
    answer, thought = wanted["answer"], wanted.get("reasoning")
    parts = {column: _as_text(row.get(column), steps=column == thought != answer) for column in wanted.values()}
    if thought == answer and isinstance(parts[answer], str):
        parsed = parse(parts[answer])
        parts[f"<think> in {answer}"], parts[answer] = parsed.reasoning, parsed.answer
    return parts


def _untagged(parts: Row, wanted: dict[str, str]) -> Row:
    """The parts without tags around reasoning and answer: what is trained on writes them itself."""
    answer, thought = wanted["answer"], wanted.get("reasoning")
    if thought in (None, answer) or not all(isinstance(parts.get(c), str) for c in (thought, answer)):
        return parts
    texts = parts[thought].strip(), parts[answer].strip()
    plain = unwrapped(*texts)
    return parts if plain == texts else {**parts, thought: plain[0], answer: plain[1]}


def _as_text(value: Any, *, steps: bool) -> Any:
    """A list of one text, or of the steps of a reasoning, as one text; no number as nothing; else what it is."""
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return "\n".join(text.strip() for text in value) if steps or len(value) == 1 else value
    return None if isinstance(value, float) and value != value else value


def _example(number: int, row: Row, parts: Row, settings: DataSettings, *, untagged: bool) -> Example:
    question, answer = parts[settings.question_column].strip(), parts[settings.answer_column].strip()
    context = row.get(settings.context_column) if settings.context_column else None
    if columns.is_text(context):
        question = f"{question}\n\n{str(context).strip()}"
    shared = settings.reasoning_column == settings.answer_column
    reasoning = parts.get(f"<think> in {settings.answer_column}" if shared else settings.reasoning_column, "")
    return Example(number, question, reasoning.strip(), answer, untagged, facts_of(row, settings))


def _is_empty(parts: Row) -> bool:
    """Whether a record is well formed and only lacks the text of a column, so that it may be skipped."""
    empty = (value is None or (isinstance(value, str) and not columns.is_text(value)) for value in parts.values())
    return any(empty) and not any(isinstance(value, BadRow) for value in parts.values())


def _row_problem(row: Any, parts: Row, context: str | None) -> str | None:
    if isinstance(row, BadRow):
        return str(row)
    if not isinstance(row, dict):
        return f"is a JSON {type(row).__name__}, not an object with columns."
    if unread := next((f"{column} {value}" for column, value in parts.items() if isinstance(value, BadRow)), None):
        return unread
    if absent := [column for column, value in parts.items() if value is None]:
        return f"has no {', '.join(absent)}. {FIX_EMPTY}"
    texts = {**parts, context: row[context]} if context and row.get(context) is not None else parts
    if not_text := [column for column, value in texts.items() if not isinstance(value, str)]:
        return f"{', '.join(not_text)} is not text. Make it a string."
    if empty := [_in_words(column, value) for column, value in parts.items() if not columns.is_text(value)]:
        return f"has an empty {', '.join(empty)}. {FIX_EMPTY}"
    broken = [column for column, value in texts.items() if has_surrogate(value)]
    return f"{SURROGATE} in {', '.join(broken)}. {FIX_SURROGATE}" if broken else None


def _in_words(column: str, value: str) -> str:
    return f"{column} ({value.strip()!r:.20} is no text)" if value.strip() else column
