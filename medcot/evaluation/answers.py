"""Questions, how they are decoded, answers, and the lines of examples.jsonl and samples.jsonl that show them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from medcot.evaluation.facts import Found
from medcot.evaluation.in_training import Seen
from medcot.prompts.tags import Parsed, parse

Arm = Literal["base", "tuned"]  # the two of every comparison; an evaluation may have more
BASE: Arm = "base"
TUNED: Arm = "tuned"
ARMS = (BASE, TUNED)
TOLD = "base-told"
TITLES = {BASE: "Base", TOLD: "Base told the format", TUNED: "Tuned"}
FORMAT_HINT = """\
First think step by step between <think> and </think>. Then give the final answer between <response> and </response>."""


def title(arm: str) -> str:
    """An arm's name for people; further adapters keep the name they were given."""
    return TITLES.get(arm, arm)


def asked_as(arm: str, question: str) -> str:
    """Phrase the question for this arm."""
    return f"{question.strip()}\n\n{FORMAT_HINT}" if arm == TOLD else question


def comparisons(arms: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Map each comparison's key to its arms, the first measured against the second; tuned-base comes first."""
    pairs: list[tuple[str, str]] = [(TUNED, BASE)]
    if TOLD in arms:
        pairs += [(TUNED, TOLD), (TOLD, BASE)]
    pairs += [(arm, BASE) for arm in arms if arm not in TITLES]
    return {f"{arm}-{against}": (arm, against) for arm, against in pairs}


Ending = Literal["finished", "limit", "looping", "stopped"]  # how an answer ended
Kind = Literal["record", "sample"]


class Question(BaseModel):
    """A sample is asked and shown but not scored; `number` tells a kind's questions apart."""

    model_config = ConfigDict(frozen=True)
    kind: Kind
    number: int
    text: str
    group: str = ""


class Answer(BaseModel):
    """One line of answers.jsonl; `seconds` are from its batch's start to its end.

    `output` is newly generated text alone, but for a `<think>` that the prompt has opened.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Kind
    number: int
    arm: str
    output: str
    tokens: int
    ended: Ending
    seconds: float

    @classmethod
    def of(cls, question: Question, arm: str, reply: "Reply") -> "Answer":
        """The line of a reply to an evaluation's question."""
        said = reply.model_dump(include={"tokens", "ended", "seconds"})
        return cls(kind=question.kind, number=question.number, arm=arm, output=reply.text, **said)

    @property
    def key(self) -> tuple[str, int, str]:
        return self.kind, self.number, self.arm

    @property
    def truncated(self) -> bool:
        return self.ended == "limit"

    def parsed(self) -> Parsed:
        return parse(self.output)


@dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are chosen; temperature 0 is greedy, and then top_p and seed have no effect."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 42
    end_loops: bool = False  # end a sequence that only repeats itself; an evaluation leaves it to the limit


class Reply(BaseModel):
    """One arm's answer for a reader; seconds from the question to its first and its last token."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    text: str
    ended: Ending
    tokens: int
    first_token_seconds: float = 0.0
    seconds: float = 0.0

    @cached_property
    def parsed(self) -> Parsed:
        return parse(self.text)

    @property
    def reasoning(self) -> str:
        return self.parsed.reasoning

    @property
    def answer(self) -> str:
        return self.parsed.answer

    @property
    def problems(self) -> list[str]:
        return list(self.parsed.problems)

    def whole(self) -> dict[str, object]:
        """The text and what it consists of, for JSON."""
        return {"text": self.text, **asdict(self.parsed), **self.model_dump(exclude={"text"})}


class Shown(BaseModel):
    """An answer in its parts, with the scores that a measure gives it as further keys."""

    model_config = ConfigDict(frozen=True, extra="allow")
    output: str
    reasoning: str = ""
    answer: str = ""
    problems: list[str] = []
    tokens: int = 0
    seconds: float = 0.0
    ended: str = ""
    truncated: bool = False

    @classmethod
    def of(cls, answer: Answer, **scores: object) -> Self:
        own = answer.model_dump(include={"output", "tokens", "seconds", "ended"})
        return cls.model_validate({**own, **asdict(answer.parsed()), "truncated": answer.truncated, **scores})

    @property
    def scores(self) -> Mapping[str, Any]:
        return self.model_extra or {}

    @property
    def judged(self) -> list[str]:
        """What judges said of it and why, by the way they were asked."""
        said = self.scores.get("judged")
        words = said if isinstance(said, dict) else {}
        return [
            f"{way}: {one.get('said')}{'. ' if one.get('why') else ''}{one.get('why', '')}"
            for way, listed in words.items()
            for one in (listed if isinstance(listed, list) else [])
            if isinstance(one, dict)
        ]

    @property
    def found(self) -> Found | None:
        """Which facts the answer names, if its question lists any."""
        facts = self.scores.get("facts")
        return Found.model_validate(facts) if facts else None


class Reference(BaseModel):
    """The right answer: a text with its reasoning, or an option with its letter."""

    reasoning: str | None = None
    letter: str | None = None
    answer: str

    def __str__(self) -> str:
        return f"{self.letter}. {self.answer}" if self.letter else self.answer


class Sample(BaseModel):
    """One line of samples.jsonl: a question, and what each arm answered under the arm's name."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, Annotated[Shown | Any, Field(union_mode="left_to_right")]] = Field(init=False)
    group: str = ""
    question: str

    @classmethod
    def of(cls, question: Question, answers: Mapping[str, Answer]) -> Self:
        shown = {arm: Shown.of(answer) for arm, answer in answers.items()}
        return cls.model_validate({"group": question.group, "question": question.text, **shown})

    @property
    def arms(self) -> dict[str, Shown]:
        """The arms that answered, base first."""
        return {name: shown for name, shown in self.__pydantic_extra__.items() if isinstance(shown, Shown)}

    def note(self, arm: str) -> str:
        """What a measure read from this arm's answer, if its text alone does not show it."""
        return str(self.arms[arm].found or "")


class Example(Sample):
    """One line of examples.jsonl; a measure may have its own kind."""

    gain_form: ClassVar[str] = "+.3f"
    record: int
    options: dict[str, str] = {}
    in_training: Seen | None = None
    reference: Reference
    gain: FiniteFloat  # tuned less base on the headline

    @model_validator(mode="after")
    def _has_both_arms(self) -> Self:
        if missing := [arm for arm in ARMS if arm not in self.arms]:
            raise ValueError(f"no answer of {' and '.join(missing)}")
        return self
