"""From rows to checked examples.

Rows come from the starter set, a local file or the Hub. Every record is checked before anything starts, and every
problem is reported at once with its record number, as a person counts them: from 1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcot.data import columns, turns
from medcot.data.facts import FIX_FACTS, BadFacts, Facts, facts_of
from medcot.data.files import FIX_SURROGATE, SURROGATE, BadRow, has_surrogate
from medcot.data.nested import flat
from medcot.data.rows import cut, read_rows
from medcot.errors import BadInput, Problem
from medcot.prompts.tags import Turn
from medcot.settings import DataSettings


@dataclass(frozen=True, slots=True)
class Example:
    """One checked record; `record` is its number in its source, from 1.

    Question, reasoning and answer are the first turn's. Without any reasoning a record can only be measured.
    """

    record: int
    question: str
    reasoning: str
    answer: str
    untagged: bool = False  # whether tags around reasoning or answer were taken off
    facts: Facts | None = None  # not part of a fingerprint: they change what is scored, not what is asked
    system: str = ""  # the record's own system message
    more: tuple[Turn, ...] = ()  # the turns after the first

    @classmethod
    def of(cls, record: int, turns: Sequence[Turn], untagged: bool, facts: Facts | None, system: str) -> "Example":
        first, *more = turns
        return cls(record, first.question, first.reasoning, first.answer, untagged, facts, system, tuple(more))

    @property
    def turns(self) -> tuple[Turn, ...]:
        return Turn(self.question, self.reasoning, self.answer), *self.more

    def texts(self) -> list[str]:
        """Every text of the record."""
        said = [text for turn in self.turns for text in (turn.question, turn.reasoning, turn.answer)]
        return [*said, self.system] if self.system else said

    def mapped(self, change: Callable[[str], str]) -> "Example":
        """The record with each of its texts changed."""
        turns = [Turn(change(t.question), change(t.reasoning), change(t.answer)) for t in self.turns]
        return Example.of(self.record, turns, self.untagged, self.facts, change(self.system))


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
        unread = list(_unread(rows, wanted, source))
        # Where no conversation can be read, that is the reason why no column holds reasoning.
        raise BadInput(cut(unread) if len(unread) == len(rows) else missing)
    examples, problems = [], []
    for number, row in rows:
        where, read = f"{Path(source).name}, record {number}", turns.read(row, wanted, settings)
        problems += [Problem(where, wrong) for wrong in read.problems]
        if read.problems or not read.turns:
            continue
        if has_surrogate(system := columns.system_of(row, settings)):
            problems.append(Problem(where, f"{SURROGATE} in its system message. {FIX_SURROGATE}"))
        try:
            facts = facts_of(row, settings)
            examples.append(Example.of(number, read.turns, read.untagged, facts, system))
        except BadFacts as bad:
            problems.append(Problem(where, f"{settings.facts_column} {bad}.", FIX_FACTS))
    if problems:
        raise BadInput(cut(problems))
    if not examples:
        what = f"each of the {len(rows)} records of {source} lacks text, and data.empty_records=skip leaves none."
        raise BadInput.of("data.source", what, f"Fill {', '.join(wanted.values())}, or name other columns.")
    return examples


def _unread(rows: list[tuple[int, Any]], wanted: dict[str, str], source: str) -> Iterator[Problem]:
    """A problem for each record of which a wanted column is of a conversation that cannot be read."""
    for number, row in rows:
        texts = [(column, row.get(column)) for column in wanted.values()] if isinstance(row, dict) else []
        if what := next((f"{column} {text}" for column, text in texts if isinstance(text, BadRow)), None):
            yield Problem(f"{Path(source).name}, record {number}", what)


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
