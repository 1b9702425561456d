"""Which facts a text names, and which forbidden statements it makes, by plain matching.

A wording is found where all its words stand close together in one clause, as stems and in any order, and where the
clause negates it no more than the wording itself does. Questions state nothing. docs/evaluation.md says what is missed.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from pydantic import BaseModel, ConfigDict

from medcot.data.facts import Facts, Statement
from medcot.data.repeats import words
from medcot.evaluation.rouge import VARIANT

FIGURES = ("facts_named", "forbidden_stated")
CLOSE = 4  # further words that may stand among a wording's own
REACH = 5  # words before a match in which a negation governs it
NEGATIONS = frozenset("不没沒未无無非勿") | {
    *("not", "no", "never", "without", "neither", "nor", "none", "unlikely", "absent", "absence", "lack", "lacks"),
    *("avoid", "avoids", "avoided", "avoiding", "exclude", "excludes", "excluded", "excluding"),
}
AUXILIARIES = {"is", "are", "was", "were", "be", "been", "can", "could", "may", "might", "must", "should", "would"}
# Several words, or part of one, that negate; and what looks like a negation and is none.
REWRITTEN = (
    (re.compile(r"n['’]t\b|(?<=\bcan)not\b|\b(?:rather than|instead of|as opposed to)\b", re.IGNORECASE), " not"),
    (re.compile(r"\brul(?:es?|ed|ing) out\b", re.IGNORECASE), "exclude"),
    (re.compile(r"\bnot (?:only|just|merely)\b", re.IGNORECASE), ""),
)
SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|[;:；：\n]+")
# A comma ends a clause unless an "or" follows: "no fever, cough or pain" negates all three; but never after "No".
CLAUSE = re.compile(
    r"(?<=\bno),|[,，](?!.{0,60}\bn?or\b)|—|(?=\bnor\b)|\b(?:but|although|though|however|whereas|because|while|yet|so|since"
    r"|unless|until|if|when|which|who)\b",
    re.IGNORECASE,
)


class Found(BaseModel):
    """The names of the listed facts that an answer names and misses, and of the forbidden statements that it makes."""

    model_config = ConfigDict(frozen=True)
    named: list[str]
    missed: list[str]
    forbidden: list[str] | None = None  # if the record forbids anything

    @property
    def figures(self) -> dict[str, float]:
        """The share of facts named, and whether a forbidden statement is made: each only if the record lists such."""
        found, listed = dict[str, float](), len(self.named) + len(self.missed)
        if listed:
            found["facts_named"] = len(self.named) / listed
        if self.forbidden is not None:
            found["forbidden_stated"] = float(bool(self.forbidden))
        return found

    def __str__(self) -> str:
        listed = len(self.named) + len(self.missed)
        parts = {
            f"Facts named, {len(self.named)} of {listed}": self.named,
            "Missed": self.missed,
            "States what it must not": self.forbidden or [],
        }
        return " ".join(f"{what}: {'; '.join(names)}." for what, names in parts.items() if names)


def find(text: str, facts: Facts) -> Found:
    """Look for everything that a record lists in an answer."""
    clauses = [(said, VARIANT.tokenize(clause)) for clause in _clauses(text) if (said := words(clause))]

    def states(statement: Statement) -> bool:
        return any(_states(*clause, _wording(accepted)) for accepted in statement.accept for clause in clauses)

    checked = [(s.name, states(s)) for s in facts.named]
    return Found(
        named=[name for name, stated in checked if stated],
        missed=[name for name, stated in checked if not stated],
        forbidden=[s.name for s in facts.forbidden if states(s)] if facts.forbidden else None,
    )


def columns(found: Iterable[Found | None]) -> dict[str, list[float]]:
    """Every figure of the records, by its name in summary.json; records that list nothing are passed over."""
    figures = [one.figures for one in found if one]
    return {name: column for name in FIGURES if (column := [each[name] for each in figures if name in each])}


@dataclass(frozen=True, slots=True)
class _Wording:
    """Its parts between blanks, each in stems that follow one another ("co-oximetry"; Chinese), and its negations."""

    parts: tuple[tuple[str, ...], ...]
    negations: int

    @property
    def room(self) -> int:
        return sum(map(len, self.parts)) + CLOSE


@lru_cache(maxsize=10_000)
def _wording(text: str) -> _Wording:
    text = _rewritten(text)
    parts = (tuple(VARIANT.tokenize(part)) for part in text.split())
    return _Wording(tuple(filter(None, parts)), sum(word in NEGATIONS for word in words(text)))


def _rewritten(text: str) -> str:
    for pattern, plain in REWRITTEN:
        text = pattern.sub(plain, text)
    return text


def _clauses(text: str) -> Iterator[str]:
    for sentence in SENTENCE.split(text):
        if not sentence.rstrip(" \"'”’)*").endswith(("?", "？")):
            yield from CLAUSE.split(_rewritten(sentence))


def _states(said: list[str], stems: list[str], wording: _Wording) -> bool:
    """Whether a clause holds a wording that it does not negate; being negated twice is not being negated."""
    places = _places(stems, wording)
    return any((_negations(said, start, end) - wording.negations) % 2 == 0 for start, end in places)


def _places(stems: list[str], wording: _Wording) -> Iterator[tuple[int, int]]:
    """Each stretch of a clause, not too long, that begins with one part of the wording and holds all others."""
    starts = [[i for i in range(len(stems)) if tuple(stems[i : i + len(part)]) == part] for part in wording.parts]
    for first in sorted({i for found in starts for i in found}):
        ends = [
            next((i + len(part) for i in found if i >= first), len(stems) + wording.room)
            for part, found in zip(wording.parts, starts, strict=True)
        ]
        if max(ends) - first <= wording.room:
            yield first, max(ends)


def _negations(said: list[str], start: int, end: int) -> int:
    """Count what negates a stretch: before it, within it, and right behind it ("X is not", "X should be avoided")."""
    behind = said[end : end + REACH]
    verb = [word for word in behind if word not in AUXILIARIES][:2] if behind and behind[0] in AUXILIARIES else []
    return sum(word in NEGATIONS for word in [*said[max(0, start - REACH) : end], *verb])
