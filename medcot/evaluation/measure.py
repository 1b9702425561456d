"""What a measure is: questions with references, the way from answers to figures, and the words for the figures."""

import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

from pydantic import Field, TypeAdapter, model_validator

from medcot.evaluation.answers import Answer, Example, Question, Sample
from medcot.evaluation.in_training import InTraining, Trained, Unseen
from medcot.evaluation.metrics import ArmScores, Comparison, Written
from medcot.settings import DataSettings
from medcot.settings.evaluation import EvaluationOrder

LARGEST = 1e100
Cut = Callable[[str], tuple[str, bool]]  # a text within the token budget, and whether it lost its end
Prompt = Callable[[str, str], str]  # (arm, question) -> the text that the model is given


class Row(NamedTuple):
    """A row of the table: its key under an arm, its name for people, and how its figures are written."""

    key: str
    label: str
    form: str


class Asked(Written):
    """`data` of summary.json: where the questions are from."""

    source: str
    revision: str | None = None
    split: str | None = None  # of a Hub data set
    records: int
    fingerprint: str = ""


class Figures(Written):
    """A measure's part of summary.json."""

    data: Asked
    metric: str
    prompt: str | None = None  # what stands around a question and its options
    arms: dict[str, ArmScores]
    floors: dict[str, float]  # of the headline
    further_floors: dict[str, dict[str, float]] = Field(default_factory=dict)  # of other rows, by their keys
    ceiling: ArmScores | None = None
    paired: dict[str, Comparison]
    in_training: InTraining | None = None  # none in a summary of an older version

    @model_validator(mode="after")
    def _can_be_drawn(self) -> Self:
        """Refuse figures that nothing computes, as the infinite that 1e999 is read as: no axis has a place for them."""
        figures = self.model_dump(include={"arms", "floors", "further_floors", "paired"})
        if any(abs(number) > LARGEST for number in _numbers(figures)):
            raise ValueError("has a figure beyond all measure")
        return self


def _numbers(part: object) -> Iterator[float]:
    """Every number of a part of summary.json."""
    if isinstance(part, int | float):
        yield part
    elif isinstance(part, Mapping | list | tuple):
        for inner in part.values() if isinstance(part, Mapping) else part:
            yield from _numbers(inner)


@dataclass(frozen=True, slots=True)
class Words:
    """What a measure calls its figures and its questions."""

    rows: tuple[Row, ...]
    headline: str  # the key of the row that the verdict is on
    score: str  # what the headline is
    asked: str  # what the questions are
    label: str  # in a list of evaluations
    floors: Mapping[str, str]  # by name, what such a score answers
    meaning: str  # what the headline does not say
    matched: str = ""  # how the figures of facts are found
    elsewhere: str | None = None  # asked and label for an adapter from elsewhere, from which nothing was held out
    test: str = ""  # what a comparison's p_value is of
    prompt: str = ""  # whose wording the questions are put in
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # rows of one kind, by its name
    lower: tuple[str, ...] = ()  # rows of which less is better
    neither: tuple[str, ...] = ()  # rows that are neither better nor worse, as a length


_TABLES = Path(__file__).with_name("measures.toml").read_text(encoding="utf-8")
WORDS = TypeAdapter(dict[str, Words]).validate_python(tomllib.loads(_TABLES))


class Measure(ABC):
    """Another one is a module here that ends in MEASURE, a kind in settings/evaluation.py, and an option that asks."""

    kind: ClassVar[str]
    tracked_as: ClassVar[str]  # in W&B, so that measures do not overwrite each other
    words: ClassVar[Words]
    fingerprint: str  # of the questions with their references: another one is another evaluation
    trained: Trained  # what the model learned from, and which questions were among it

    @classmethod
    @abstractmethod
    def open(
        cls, order: EvaluationOrder, folder: Path, data: DataSettings, trained_on: str | None, adopted: bool
    ) -> "Measure":
        """Read the questions of the evaluation in `folder`. Raises BadInput if they cannot be used.

        `trained_on` is the fingerprint of the run's data in training; `adopted`: its adapter is from elsewhere.
        """

    @property
    @abstractmethod
    def questions(self) -> list[Question]: ...

    @abstractmethod
    def check(self, prompt: Prompt, arms: Sequence[str]) -> list[str]:
        """Collect what a reader should know. Raises BadInput if a score could not mean anything."""

    @abstractmethod
    def example(self, question: Question, answers: Mapping[str, Answer]) -> Example:
        """Make a line of examples.jsonl, for however many arms have answered."""

    def sample(self, question: Question, answers: Mapping[str, Answer]) -> Sample:
        """Make a line of samples.jsonl."""
        return Sample.of(question, answers)

    @abstractmethod
    def figures(self, examples: Sequence[Example], arms: Sequence[str], seed: int, cut: Cut) -> Figures: ...

    @abstractmethod
    def asking(self, kept: Collection[int]) -> "Measure":
        """The measure of some of its questions, by their numbers in their source."""

    def all_figures(self, examples: Sequence[Example], arms: Sequence[str], seed: int, cut: Cut) -> Figures:
        """The figures, and those of the questions that the model was not trained on if it was trained on others."""
        whole, without = self.figures(examples, arms, seed, cut), None
        new = [example for example in examples if example.record not in self.trained.seen]
        if 0 < len(new) < len(examples):
            part = self.asking({example.record for example in new}).figures(new, arms, seed, cut)
            without = Unseen(records=len(new), arms=part.arms, paired=part.paired)
        return whole.model_copy(update={"in_training": self.trained.part(without)})

    @classmethod
    @abstractmethod
    def cautions(cls, figures: Figures) -> list[str]:
        """Name causes other than better answers that could have made the headline."""
