"""The forms in which some families of models write their reasoning by themselves: read, and never trained.

A text in such a form is put into <think> tags before it is parsed. Most of the marks are special tokens, so whoever
decodes has to leave those in the text.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Form:
    """A family's marks: before and after its reasoning, and those around its answer, which are left out."""

    opening: str
    closing: str
    around: tuple[str, ...] = ()
    turn: str = ""  # that the family opens anew for its answer; an end of turn alone says nothing
    tokens: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        marks = self.opening + self.closing
        object.__setattr__(self, "tokens", tuple(re.findall(r"<[^<>\s]+>|\[[^][\s]+\]", marks)))

    @property
    def marks(self) -> dict[str, str]:
        """What each mark is to the parser."""
        return {self.opening: "<think>", self.closing + self.turn: "</think>", **dict.fromkeys(self.around, "")}

    def in_tags(self, text: str) -> str:
        """The text with its reasoning between <think> tags."""
        return re.sub("|".join(map(re.escape, self.marks)), lambda mark: self.marks[mark[0]], text)


FORMS = (
    Form("[THINK]", "[/THINK]"),  # Mistral: Magistral, Ministral 3 Reasoning
    Form(  # Cohere: Command R7B, Command A Reasoning
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        ("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"),
    ),
    Form("<|channel>thought", "<channel|>"),  # Gemma 4
    Form("<seed:think>", "</seed:think>"),  # Seed-OSS
    Form("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    Form(  # gpt-oss
        "<|channel|>analysis<|message|>",
        "<|end|>",
        ("<|channel|>final<|message|>", "<|channel|>commentary<|message|>"),
        turn="<|start|>assistant",
    ),
    Form("to=self<|message|>", "<|eom|>", ("to=user<|message|>",), turn="<|start|>assistant"),  # Muse Glimmer
)


def form_of(text: str) -> Form | None:
    """The form that a text begins in, or whose reasoning it ends, if the prompt opened that; None for tags or neither.

    Such marks inside another text are words like any other.
    """
    start = text.lstrip()
    if found := next((form for form in FORMS if start.startswith(tuple(form.marks))), None):
        return found
    unopened = (form for form in FORMS if form.closing + form.turn in text)
    return None if "<think>" in text else next(unopened, None)


def native_tags(tokens: Collection[str]) -> tuple[str, ...]:
    """The tags around a family's own reasoning, by the tokens that its tokenizer has; empty where it has none."""
    return next(((f.opening, f.closing) for f in FORMS if all(token in tokens for token in f.tokens)), ())


def without_half_a_mark(text: str) -> str:
    """The text so far without a mark that has only begun."""
    most = max((_overlap(text, mark) for form in FORMS for mark in form.marks), default=0)
    return text[: len(text) - most]


def _overlap(text: str, mark: str) -> int:
    """How many of the mark's first characters, but not all, the text ends with; a letter or two are a word's."""
    least = 3 if mark[0].isalpha() else 1
    return next((size for size in range(len(mark) - 1, least - 1, -1) if text.endswith(mark[:size])), 0)
