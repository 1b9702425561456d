"""Which of an evaluation's questions the model was trained on, and the figures without them.

What a run learned from is read again from the source that its settings name, and counts only if its fingerprint is
that of the training. Where it is gone or has changed, nothing is compared, and that is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from medcot.data import Example as Record
from medcot.data import load
from medcot.data.repeats import Repeat, repeats
from medcot.errors import BadInput
from medcot.evaluation.metrics import ArmScores, Comparison, Written
from medcot.settings import DataSettings

EXACT: Literal["word for word"] = "word for word"
NEARLY: Literal["nearly"] = "nearly"
ELSEWHERE = "this adapter was not trained here"


class Seen(Written):
    """The training record that a question repeats."""

    record: int
    how: Literal["word for word", "nearly"]
    similarity: float

    def __str__(self) -> str:
        return f"In the training data: record {self.record}, {self.how}."


class Unseen(Written):
    """The figures of the questions that the model was not trained on."""

    records: int
    arms: dict[str, ArmScores]
    paired: dict[str, Comparison]


class InTraining(Written):
    """`in_training` of summary.json; `compared` is how many training records there were, None if they are not there."""

    compared: int | None
    why: str = ""  # they are not there
    word_for_word: list[int] = Field(default_factory=list)  # numbers of questions
    nearly: list[int] = Field(default_factory=list)
    without: Unseen | None = None

    @property
    def found(self) -> list[int]:
        return sorted([*self.word_for_word, *self.nearly])


@dataclass(frozen=True)
class Trained:
    """The records that a run was trained on, or why they are not known, and which questions were among them."""

    records: list[Record] | None
    why: str = ""
    seen: dict[int, Seen] = field(default_factory=dict)  # by the number of the question

    @classmethod
    def of(cls, data: DataSettings, trained_on: str | None, adopted: bool) -> "Trained":
        """Read a run's records again; `trained_on` is their fingerprint."""
        if adopted:
            return cls(None, ELSEWHERE)
        if trained_on is None:
            return cls(None, "the run does not say what it was trained on")
        try:
            split = load(data)
        except BadInput:  # whose words may name a folder of this machine
            return cls(None, f"the training data {data.source.rpartition('/')[2]} cannot be read again")
        if split.fingerprint != trained_on:
            return cls(None, "the training data has changed since")
        return cls(split.train)

    def looked_for(self, questions: Mapping[int, Sequence[str]]) -> "Trained":
        """Look for questions, each with its wordings, among the records."""
        if self.records is None:
            return self
        numbers, seen = list(questions), dict[int, Seen]()
        learned = [(record.record, turn.question) for record in self.records for turn in record.turns]
        for pair in sorted(repeats([text for _, text in learned], list(questions.values())), key=_closeness):
            how = EXACT if pair.exact else NEARLY
            trained, _ = learned[pair.other]
            seen[numbers[pair.asked]] = Seen(record=trained, how=how, similarity=round(pair.similarity, 3))
        return Trained(self.records, seen=seen)

    def part(self, without: Unseen | None) -> InTraining:
        """The part of summary.json."""
        if self.records is None:
            return InTraining(compared=None, why=self.why)
        numbers = {how: sorted(n for n, seen in self.seen.items() if seen.how == how) for how in (EXACT, NEARLY)}
        found = {"word_for_word": numbers[EXACT], "nearly": numbers[NEARLY]}
        return InTraining(compared=len(self.records), **found, **({"without": without} if without else {}))


def _closeness(pair: Repeat) -> tuple[bool, float]:
    return pair.exact, pair.similarity
