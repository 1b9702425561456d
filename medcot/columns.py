"""Which column holds what: guessed from a data set's own column names where the usual ones are not there.

A guess is never silent: it is written into the run's settings, and whoever asked for it is told.
"""

import re
from collections.abc import Iterable
from typing import Any

from medcot.settings import DataSettings

# Names that published data sets use for each part, the likelier first.
NAMES = {
    "question": ("question", "instruction", "prompt", "query", "problem", "input", "user"),
    "reasoning": (
        *("complex_cot", "cot", "chain_of_thought", "reasoning", "rationale", "thought", "thoughts", "thinking"),
        *("think", "explanation", "analysis", "steps"),
    ),
    "answer": ("response", "answer", "final_answer", "output", "completion", "solution", "target", "assistant"),
}
PARTS = tuple(NAMES)


def of(settings: DataSettings) -> dict[str, str]:
    """{part: column} as the settings have it."""
    return {part: str(getattr(settings, f"{part}_column")) for part in PARTS}


def known(rows: Iterable[tuple[int, Any]]) -> list[str]:
    """Every column that any row has, in the order of their first appearance."""
    return list(dict.fromkeys(str(key) for _, row in rows if isinstance(row, dict) for key in row if key is not None))


def fitted(settings: DataSettings, columns: list[str]) -> DataSettings:
    """The settings with a guess for each column that has its usual name there and none in the data.

    A column that somebody named is left alone, right or wrong: a wrong one is refused later, in words.
    """
    wanted = of(settings)
    taken = {column for column in wanted.values() if column in columns}
    for part, column in wanted.items():
        usual = column == DataSettings.model_fields[f"{part}_column"].default
        if column not in columns and usual and (found := guess(part, [c for c in columns if c not in taken])):
            wanted[part] = found
            taken.add(found)
    return settings.model_copy(update={f"{part}_column": column for part, column in wanted.items()})


def guess(part: str, columns: list[str]) -> str | None:
    """The column most likely to hold a part: by its whole name, else by a word of it; None where no name fits."""
    words = {column: re.sub(r"[^a-z0-9]+", "_", column.casefold()).strip("_") for column in columns}
    for fits in (lambda name, own: name == own, lambda name, own: f"_{name}_" in f"_{own}_"):
        for name in NAMES[part]:
            if column := next((c for c, own in words.items() if fits(name, own)), None):
                return column
    return None


def guessed(before: DataSettings, after: DataSettings) -> dict[str, str]:
    """{part: column} of what `fitted` changed."""
    old, new = of(before), of(after)
    return {part: new[part] for part in PARTS if new[part] != old[part]}


def in_words(guesses: dict[str, str]) -> str:
    """One line that shows a guess; empty where there is none."""
    if not guesses:
        return ""
    named = ", ".join(f"{part} from {column!r}" for part, column in guesses.items())
    return f"Columns guessed by their names: {named}. Set data.*_column where that is wrong."
