"""What the engine needs of a measure, whichever it is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from medcot.evaluating.answers import Answer, Question

Cut = Callable[[str], tuple[str, bool]]  # a text within the token budget, and whether it lost its end
Prompt = Callable[[str, str], str]  # (arm, question) -> the text that the model is given


class Measure(Protocol):
    """Questions with references, and the way from answers to figures."""

    @property
    def kind(self) -> str: ...

    @property
    def questions(self) -> list[Question]: ...

    @property
    def fingerprint(self) -> str:
        """Of the questions with their references: another one is another evaluation."""
        ...

    def check(self, prompt: Prompt, arms: Sequence[str]) -> list[str]:
        """Notes on what a reader should know. Raises BadInput where a score could not mean anything."""
        ...

    def row(self, question: Question, answers: Mapping[str, Answer]) -> dict[str, Any]:
        """One line of examples.jsonl, for however many arms have answered."""
        ...

    def figures(self, rows: list[dict[str, Any]], arms: Sequence[str], seed: int, cut: Cut) -> dict[str, Any]:
        """The measure's part of summary.json: data, metric, arms, floors, paired."""
        ...
