"""ROUGE-L between two texts of any language.

The variant is always named, because variants differ by more than most models do: rougeL F1 with the Porter stemmer by
default (Lin 2004). On ASCII every figure is that of `rouge_score`, which a test holds. That package deletes all other
letters, so that "pâte" is "pôte" and Chinese is nothing; here a word is any run of letters, marks and digits, and where
a script has no blanks between words, each character is one.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from medcot.data.repeats import WORD, words

SHORTEST_STEMMED = 4  # letters, as rouge_score has it


@dataclass(frozen=True, slots=True)
class Variant:
    """Which ROUGE: rougeL over the whole text or rougeLsum line by line, with the Porter stemmer or without."""

    rouge: Literal["rougeL", "rougeLsum"] = "rougeL"
    stemmer: bool = True

    def __str__(self) -> str:
        return f"{self.rouge} F1, {'stemmer' if self.stemmer else 'no stemmer'}"

    def tokenize(self, text: str) -> list[str]:
        """The words of a text, reduced to their stems if the variant says so."""
        found = words(text)
        return [_stem(word) if len(word) >= SHORTEST_STEMMED else word for word in found] if self.stemmer else found


VARIANT = Variant()


def word_count(text: str) -> int:
    """Count words, and each character of a script without blanks as one."""
    return len(words(text))


@functools.lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return str(_stemmer().stem(word))


@functools.lru_cache(maxsize=1)
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer

    return PorterStemmer()


@functools.lru_cache(maxsize=8)
def _line_by_line(variant: Variant) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([variant.rouge], tokenizer=variant)


def rouge_l(prediction: str, reference: str, variant: Variant = VARIANT) -> float:
    """Compute the variant's F1, 0 to 1; an empty prediction or reference scores 0."""
    if variant.rouge == "rougeLsum":
        return float(_line_by_line(variant).score(reference, prediction)[variant.rouge].fmeasure)
    said, wanted = variant.tokenize(prediction), variant.tokenize(reference)
    common = _common(said, wanted)
    if not common:
        return 0.0
    precision, recall = common / len(said), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    *_, last = _rests(one, other)
    return len(one) - last.bit_count()


def _rests(one: Sequence[str], other: Sequence[str]) -> Iterator[int]:
    """One number for each beginning of `other`, the empty one first: a bit of it is cleared where `one`, up to that
    token, shares one more (Hyyrö 2004). The usual table takes a second for two texts of 1,500 Chinese characters.
    """
    places: dict[str, int] = {}
    for place, token in enumerate(one):
        places[token] = places.get(token, 0) | 1 << place
    whole = rest = (1 << len(one)) - 1
    yield rest
    for token in other:
        matched = rest & places.get(token, 0)
        rest = (rest + matched | rest - matched) & whole
        yield rest


def shared(text: str, reference: str, variant: Variant = VARIANT) -> list[tuple[int, int]]:
    """Where in a text the words stand that it shares with a reference, in one order: those that ROUGE-L counts."""
    places = [match.span() for match in WORD.finditer(text)]
    said = [" ".join(variant.tokenize(text[start:end])) for start, end in places]
    wanted, found = variant.tokenize(reference), list[tuple[int, int]]()
    rests, i, j = list(_rests(wanted, said)), len(said), len(wanted)

    def length(i: int, j: int) -> int:
        return j - (rests[i] & (1 << j) - 1).bit_count()

    while i and j:
        if said[i - 1] == wanted[j - 1]:
            i, j = i - 1, j - 1
            found.append(places[i])
        elif length(i - 1, j) >= length(i, j - 1):
            i -= 1
        else:
            j -= 1
    return found[::-1]
