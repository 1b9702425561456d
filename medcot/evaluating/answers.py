"""Questions and answers as they pass between a measure and whoever answers."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from medcot.events import Ending
from medcot.tags import Parsed, parse

Kind = Literal["record", "sample"]


class Question(BaseModel):
    """`kind` sample is asked and shown but not scored; `number` tells a kind's questions apart."""

    model_config = ConfigDict(frozen=True)
    kind: Kind
    number: int
    text: str


class Answer(BaseModel):
    """One line of answers.jsonl: newly generated text alone. `seconds` are from its batch's start to its end."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Kind
    number: int
    arm: str
    output: str
    tokens: int
    ended: Ending
    seconds: float

    @property
    def key(self) -> tuple[str, int, str]:
        return self.kind, self.number, self.arm

    @property
    def truncated(self) -> bool:
        return self.ended == "limit"

    def parsed(self) -> Parsed:
        return parse(self.output)


def shown(answer: Answer) -> dict[str, object]:
    """An answer as a reader of examples.jsonl finds it under its arm."""
    parsed = answer.parsed()
    return {
        "output": answer.output,
        "reasoning": parsed.reasoning,
        "answer": parsed.answer,
        "problems": list(parsed.problems),
        "tokens": answer.tokens,
        "seconds": answer.seconds,
        "ended": answer.ended,
        "truncated": answer.truncated,
    }
