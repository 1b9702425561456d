"""Facts that a right answer names and statements that it must not make, as a record of a data file lists them.

A record's list holds wordings ("carbon monoxide|CO poisoning"), facts with a name of their own ({"fact": "carbon
monoxide", "accept": ["CO poisoning"]}), and what is forbidden ({"forbidden": "it is harmless", "accept": [...]}).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from medcot.data import starter
from medcot.data.files import SURROGATE, has_surrogate
from medcot.safety.foreign import parse_json
from medcot.settings import STARTER, DataSettings

KINDS = ("fact", "forbidden")
FIX_FACTS = 'Write a list such as ["aspirin|acetylsalicylic acid", {"forbidden": "wait and see"}].'


class BadFacts(ValueError):
    """Something else than a list of facts; says what it is."""


@dataclass(frozen=True, slots=True)
class Statement:
    """Something that an answer may say, in any of the accepted wordings; its name is what people read."""

    name: str
    accept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a record lists."""

    named: tuple[Statement, ...]
    forbidden: tuple[Statement, ...]


def read_facts(listed: object) -> Facts | None:
    """Read a record's list, or its JSON text; None if it lists nothing. Raises BadFacts."""
    if isinstance(listed, str) and listed.strip():
        try:
            listed = parse_json(listed)
        except ValueError:
            raise BadFacts("is text, not a JSON list") from None
    if listed is None or listed == [] or isinstance(listed, str):
        return None
    if not isinstance(listed, list):
        raise BadFacts(f"is of type {type(listed).__name__}, not a list")
    found = [_statement(item, f"item {number}") for number, item in enumerate(listed, start=1)]
    named, forbidden = (tuple(statement for k, statement in found if k == kind) for kind in KINDS)
    return Facts(named, forbidden)


def _statement(item: object, where: str) -> tuple[str, Statement]:
    given: Mapping[str, Any] = {"fact": item} if isinstance(item, str) else item if isinstance(item, dict) else {}
    given = {key: value for key, value in given.items() if value is not None}  # Parquet fills what is absent
    kinds = [kind for kind in KINDS if kind in given]
    if len(kinds) != 1 or not given.keys() <= {*kinds, "accept"}:
        raise BadFacts(f"has as {where} neither a text nor an object of one of {', '.join(KINDS)}, and accept")
    name, accept = given[kinds[0]], given.get("accept", [])
    if "accept" not in given and isinstance(name, str):
        name, *_ = accept = name.split("|")
    texts = (name, *accept) if isinstance(accept, list) and accept else ()
    if not texts or not all(isinstance(text, str) and any(map(str.isalnum, text)) for text in texts):
        raise BadFacts(f"has as {where} one without words: every wording is a text with a word in it")
    if any(map(has_surrogate, texts)):
        raise BadFacts(f"{SURROGATE} in {where}")
    return kinds[0], Statement(name.strip(), tuple(text.strip() for text in accept))


def facts_of(row: Mapping[str, Any], settings: DataSettings) -> Facts | None:
    """What a row lists in the column that the settings name; the starter's facts lie beside it. Raises BadFacts."""
    if column := settings.facts_column:
        if any(name.startswith(f"{column}.") for name in row):  # its fields became columns of their own
            raise BadFacts("is an object, not a list")
        return read_facts(row.get(column))
    return starter_facts().get(row[settings.question_column]) if settings.source == STARTER else None


@cache
def starter_facts() -> dict[str, Facts]:
    """The facts of the held-out starter records and of the sample questions, by question."""
    lines = starter.FACTS.read_text(encoding="utf-8").splitlines()
    found = ((row["Question"], read_facts(row["Facts"])) for row in map(json.loads, lines))
    return {question: facts for question, facts in found if facts}
