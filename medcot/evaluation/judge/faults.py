"""Planted faults: a right text with one kind of thing changed so that it is wrong. The words are in faults.toml."""

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

_WORDS: dict[str, Any] = tomllib.loads(Path(__file__).with_name("faults.toml").read_text(encoding="utf-8"))
_UNITS = r"(?:mg|mcg|µg|μg|micrograms?|milligrams?|grams?|g|kg|mL|ml|units?|IU|mmol|mEq)"
_DOSE = re.compile(rf"(?<![\w.,/])(\d+(?:[.,]\d+)?)(?=(?:\s*(?:to|-|–)\s*\d+(?:[.,]\d+)?)?\s?{_UNITS}\b)")
_SIDE = re.compile(rf"\b(left|right)(?=[\s-](?:{'|'.join(map(re.escape, _WORDS['side']['before']))}))", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def dose(text: str) -> str:
    """Every dose times ten."""

    def tenfold(found: re.Match[str]) -> str:
        number = found[1].replace(",", "") if re.fullmatch(r"\d+,\d{3}", found[1]) else found[1].replace(",", ".")
        return f"{float(number) * 10:.6g}"

    return _DOSE.sub(tenfold, text)


def side(text: str) -> str:
    """Left for right and right for left, where they mean a side."""
    return _SIDE.sub(lambda found: _cased("right" if found[1].lower() == "left" else "left", found[1]), text)


def drug(text: str) -> str:
    """Another drug in the place of each that is known."""
    return _exchanged("drug", text)


def organ(text: str) -> str:
    """Another organ in the place of each that is known."""
    return _exchanged("organ", text)


def negation(text: str) -> str:
    """The opposite in the first sentence that can be negated, or loses its negation."""
    sentences = _SENTENCE.split(text)
    for number, sentence in enumerate(sentences):
        if (changed := _negated(sentence)) != sentence:
            return " ".join([*sentences[:number], changed, *sentences[number + 1 :]])
    return text


def _negated(sentence: str) -> str:
    for already in _WORDS["negation"]["already"]:
        if already in sentence:
            return sentence.replace(already, " ", 1)
    found = re.search(rf"\b(?:{'|'.join(_WORDS['negation']['verbs'])})\b(?! (?:no|never|not|un\w+)\b)", sentence)
    if found is None:
        return sentence
    words = found[0].split(" ", 1)  # "should be" becomes "should not be"
    return sentence[: found.start()] + " ".join([words[0], "not", *words[1:]]) + sentence[found.end() :]


@cache
def _pattern(kind: str) -> tuple[re.Pattern[str], Mapping[str, str]]:
    exchange = {word.lower(): other for word, other in _WORDS[kind].items()}
    longest_first = sorted(exchange, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b", re.IGNORECASE), exchange


def _exchanged(kind: str, text: str) -> str:
    pattern, exchange = _pattern(kind)
    return pattern.sub(lambda found: _cased(exchange[found[0].lower()], found[0]), text)


def _cased(word: str, like: str) -> str:
    return word[0].upper() + word[1:] if like[0].isupper() else word


FAULTS: Mapping[str, Callable[[str], str]] = {
    "dose": dose,
    "drug": drug,
    "negation": negation,
    "side": side,
    "organ": organ,
}


def plant(kind: str, text: str) -> str | None:
    """The text with a fault of that kind; None if it has no place for one."""
    changed = FAULTS[kind](text)
    return changed if changed != text else None
