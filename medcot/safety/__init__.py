"""Checks of a question before any model answers it: red flags of an emergency, and what could identify a person.

Both are fixed patterns over English text: no model, no network, the same result every time. They err towards showing.
A description of symptoms always brings a notice; how urgent it is depends on whether the question seems to be about a
person at hand or an exam's. A disease that is only named in a textbook question brings none.
"""

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal

import regex

from medcot.errors import Problem

LONGEST_QUESTION = 8000  # characters; longer ones are refused before any pattern is tried
BEFORE = 100  # characters before a sign in which it may be denied
EMERGENCY_NUMBERS = "112, 911 or 999"


@dataclass(frozen=True, slots=True)
class RedFlag:
    """Patterns of one emergency: `described` are signs as people describe them, `named` is the emergency by its name."""

    what: str
    described: tuple[re.Pattern[str], ...]
    named: tuple[re.Pattern[str], ...]
    sources: list[str]
    also: str = ""  # where to turn, beside the emergency number


def _compiled(patterns: list[str], words: dict[str, str]) -> tuple[re.Pattern[str], ...]:
    """Compile patterns after replacing the words in capitals by their own patterns."""
    for word, meaning in words.items():
        patterns = [pattern.replace(word, meaning) for pattern in patterns]
    return tuple(map(re.compile, patterns))


_SIGNS, _PERSONAL = (
    tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    for name in ("red_flags.toml", "identifiers.toml")
)
_ASKED = {name: re.compile("|".join(patterns)) for name, patterns in _SIGNS["asked"].items()}
_IDENTIFIERS = {found["kind"]: _compiled(found["patterns"], _PERSONAL["words"]) for found in _PERSONAL["identifier"]}
RED_FLAGS = [
    RedFlag(**{**flag, **{signs: _compiled(flag[signs], _SIGNS["words"]) for signs in ("described", "named")}})
    for flag in _SIGNS["flag"]
]


@dataclass(frozen=True, slots=True)
class Emergency:
    """The notice above both panels. `now`: the question seems to be about a person at hand."""

    urgency: Literal["now", "if real"]
    flags: tuple[RedFlag, ...]

    @property
    def headline(self) -> str:
        if self.urgency == "now":
            return f"If this is happening now, seek emergency care: call {EMERGENCY_NUMBERS}."
        return f"If this is about a real person, now: call {EMERGENCY_NUMBERS}."

    @property
    def words(self) -> tuple[str, ...]:
        """The text under the headline."""
        named = ", ".join(flag.what for flag in self.flags)
        return (
            f"The question speaks of signs of {named}. Do not wait for the answers below, and do not act on them: "
            "they are a language model's, and nobody has checked them.",
            *dict.fromkeys(flag.also for flag in self.flags if flag.also),
        )

    @property
    def sources(self) -> str:
        """Whose warning signs these are, in a sentence."""
        return f"After {'; '.join(dict.fromkeys(source for flag in self.flags for source in flag.sources))}."


def too_long(question: str) -> Problem | None:
    """What is wrong with a question's length, if anything."""
    if len(question) <= LONGEST_QUESTION:
        return None
    return Problem("question", f"has {len(question)} characters, and {LONGEST_QUESTION} is the most.", "Shorten it.")


def emergency(question: str) -> Emergency | None:
    """The notice that this question brings, or None."""
    text = _normal(question)
    described = [flag for flag in RED_FLAGS if _found(flag.described, text)]
    named = [flag for flag in RED_FLAGS if _found(flag.named, text)]
    flags = tuple(flag for flag in RED_FLAGS if flag in described or flag in named)
    if not flags:
        return None
    if _ASKED["at_hand"].search(_ASKED["taught"].sub(" ", text)):
        return Emergency("now", flags)
    case, textbook = bool(_ASKED["case"].search(text)), bool(_ASKED["textbook"].search(text))
    if described:
        asked = (case and _ASKED["exam"].search(text)) or (textbook and not _ASKED["third"].search(text))
        return Emergency("if real" if asked else "now", flags)
    return None if textbook and not case else Emergency("if real", flags)


def notice(question: str) -> list[str]:
    """The notice in lines, its headline first; none if the question brings none."""
    found = emergency(question)
    return [found.headline, *found.words, found.sources] if found else []


def _normal(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).replace("’", "'").replace("‘", "'").lower()
    return re.sub(r"\s+", " ", plain)


def _found(patterns: tuple[re.Pattern[str], ...], text: str) -> bool:
    found = (match.start() for pattern in patterns for match in pattern.finditer(text))
    return any(not _ASKED["denied"].search(text[max(0, start - BEFORE) : start]) for start in found)


@dataclass(frozen=True, slots=True)
class Identifier:
    """Something in a question that could tell who a person is."""

    kind: str
    text: str


def identifiers(question: str) -> tuple[Identifier, ...]:
    """What in the question could identify a person, each once, in the order of the text.

    Patterns of this project for names, dates and numbers: recognisers of names in running text need a language model
    of hundreds of MB. Phone numbers are libphonenumber's (the package phonenumbers), read as international, US or UK.
    """
    text = unicodedata.normalize("NFKC", question)
    return tuple(dict.fromkeys(Identifier(kind, text[start:end].strip()) for start, end, kind in _places(text)))


def masked(text: str) -> str:
    """The text with the kind of each identifier in its place, as in "[name]"; all else stays as it was written."""
    normal = unicodedata.normalize("NFKC", text)
    places = _places(normal)
    if places and normal != text:
        parts = regex.findall(r"\X", text)  # letters with their accents
        spelt = [unicodedata.normalize("NFKC", part) for part in parts]
        if "".join(spelt) == normal:  # so each place is one in the original too
            starts = [0, *accumulate(map(len, parts))]
            at = [number for number, part in enumerate(spelt) for _ in part]
            places = [(starts[at[start]], starts[at[end - 1] + 1], kind) for start, end, kind in places]
            normal = text
    for start, end, kind in reversed(places):
        normal = f"{normal[:start]}[{kind.partition(' ')[2]}]{normal[end:]}"
    return normal if places else text


def _places(text: str) -> list[tuple[int, int, str]]:
    """(start, end, kind) of each identifier in a normalised text, in its order."""
    read = [(kind, m.span("it")) for kind, every in _IDENTIFIERS.items() for p in every for m in p.finditer(text)]
    found = []
    taken = bytearray(len(text))
    for kind, (start, end) in [*read, *(("a phone number", place) for place in _phones(text))]:
        # The first reading of a stretch of text is kept: a date of birth is not also a date.
        if not any(taken[start:end]):
            taken[start:end] = b"\1" * (end - start)
            found.append((start, end, kind))
    return sorted(found)


def _phones(text: str) -> list[tuple[int, int]]:
    if sum(character.isdigit() for character in text) < 7:
        return []
    from phonenumbers import Leniency, PhoneNumberMatcher

    matches = [m for region in ("US", "GB") for m in PhoneNumberMatcher(text, region, leniency=Leniency.VALID)]
    return [(m.start, m.end) for m in matches]
