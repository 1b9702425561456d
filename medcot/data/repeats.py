"""Questions that repeat others: word for word, or nearly, as when a few words or the order of options have changed.

Two questions are nearly the same where at most one word in five differs (two may in any, and more than twelve in none),
in any order, or where one stands almost whole within the other, as when options or an instruction were added. Questions
of fewer than eight words are compared as they are: "What causes gout?" is not "What causes croup?".

What is so similar shares one of its rarest words or some telling trigrams, so only such pairs are compared.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import regex

UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\u30fc"
WORD = regex.compile(rf"[{UNSPACED}]\p{{M}}*|(?V1:[\p{{L}}\p{{M}}\p{{N}}--[{UNSPACED}]]+)")
SHORT = 8  # words, below which questions are the same or not
SHORT_LETTERS = 16  # the same for scripts without blanks, where each character is a word
SIMILAR = 0.8  # the share of words that questions share, and of word trigrams where one stands within the other
FEWEST, MOST = 2, 12  # words that may differ in any longer question, and in none more
TELLING = 3  # trigrams of a question within another that few others have: "which of the following" is in many
FEW = 0.01  # the share of all questions that have such a trigram at most

Trigram = tuple[str, str, str]


def words(text: str) -> list[str]:
    """The words of a text, in one case and one spelling of each character (NFKC): "CO₂" is "co2"."""
    return list[str](WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


class Repeat(NamedTuple):
    """One of the asked questions and one of the others, by their places; `exact`: word for word."""

    asked: int
    other: int
    similarity: float
    exact: bool


@dataclass(frozen=True)
class Text:
    """A question as its words; a word that occurs twice is two members of `bag`."""

    place: int
    words: list[str]

    @cached_property
    def bag(self) -> frozenset[str]:
        if len(once := frozenset(self.words)) == len(self.words):
            return once
        repeated = ((word, count) for word, count in Counter(self.words).items() if count > 1)
        return once.union(f"{word} {n}" for word, count in repeated for n in range(2, count + 1))

    def trigrams(self) -> set[Trigram]:
        return set(zip(self.words, self.words[1:], self.words[2:], strict=False))

    @property
    def is_short(self) -> bool:
        return len(self.words) < SHORT or sum(map(len, self.words)) < SHORT_LETTERS

    @property
    def may_differ(self) -> int:
        """How many words a question that is nearly this one may have otherwise."""
        return 0 if self.is_short else min(MOST, max(FEWEST, round(len(self.words) * (1 - SIMILAR) - 0.5)))


class Index:
    """The asked questions, found by the words and trigrams that are rarest among all."""

    def __init__(self, asked: Sequence[Text], others: Sequence[Text]):
        self.asked = asked
        known = Counter(chain.from_iterable(text.bag for text in (*asked, *others)))
        self.rank = {member: rank for rank, member in enumerate(sorted(known, key=lambda m: (known[m], m)))}
        self.by_word, self.by_trigram = defaultdict[int, list[int]](list), defaultdict[Trigram, list[int]](list)
        for number, text in enumerate(asked):
            for member in self._rarest(text):
                self.by_word[member].append(number)
            for trigram in text.trigrams():
                self.by_trigram[trigram].append(number)
        self.shared = [text.trigrams() & self.by_trigram.keys() for text in others]
        having = Counter({trigram: len(texts) for trigram, texts in self.by_trigram.items()})
        having.update(chain.from_iterable(self.shared))
        few = max(2, int(FEW * (len(asked) + len(others))))
        self.telling = {trigram for trigram, count in having.items() if count <= few}

    def _rarest(self, text: Text) -> list[int]:
        """So many of a question's rarest words that whatever is nearly the same has one of them among its own."""
        return sorted(map(self.rank.__getitem__, text.bag))[: text.may_differ + 1]

    def compared(self, other: Text, shared: set[Trigram]) -> Iterator[Repeat]:
        """The asked questions that say the same as another one, which shares these trigrams with any of them."""
        for number in {number for member in self._rarest(other) for number in self.by_word.get(member, ())}:
            if found := _alike(self.asked[number], other):
                yield found
        having = Counter(number for trigram in shared & self.telling for number in self.by_trigram[trigram])
        for number, count in having.items():
            if count >= TELLING and (found := _within(self.asked[number], other)):
                yield found


def _alike(one: Text, other: Text) -> Repeat | None:
    """Compare the words of two questions in any order."""
    if one.words == other.words:
        return Repeat(one.place, other.place, 1.0, exact=True)
    shorter, longer = sorted((one, other), key=lambda text: len(text.words))
    most = len(longer.words)
    may = 0 if shorter.is_short else longer.may_differ
    if most - len(shorter.words) > may or most - (shared := len(one.bag & other.bag)) > may:
        return None
    return Repeat(one.place, other.place, shared / most, exact=False)


def _within(one: Text, other: Text) -> Repeat | None:
    """Look for the shorter of two questions in the longer."""
    if one.is_short or other.is_short:
        return None
    own, theirs = one.trigrams(), other.trigrams()
    shared = len(own & theirs) / min(len(own), len(theirs))
    if shared < SIMILAR:
        return None
    shorter, longer = sorted((f" {' '.join(text.words)} " for text in (one, other)), key=len)
    return Repeat(one.place, other.place, shared, exact=shorter in longer)


def repeats(others: Sequence[str], asked: Sequence[Iterable[str]]) -> list[Repeat]:
    """Every pair of an asked question, which may have several wordings, and another one that says the same."""
    ours = [Text(place, words(text)) for place, wordings in enumerate(asked) for text in dict.fromkeys(wordings)]
    theirs = [text for place, other in enumerate(others) if (text := Text(place, words(other))).words]
    index = Index([text for text in ours if text.words], theirs)
    best = dict[tuple[int, int], Repeat]()
    for text, shared in zip(theirs, index.shared, strict=True):
        for found in index.compared(text, shared):
            key = found.asked, found.other
            if key not in best or (best[key].exact, best[key].similarity) < (found.exact, found.similarity):
                best[key] = found
    return list(best.values())
