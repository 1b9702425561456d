"""Reasoning and answer in one text: how they are written between tags, and read from what a model wrote."""

import re
from dataclasses import dataclass

TAGS = ("<think>", "</think>", "<response>", "</response>")
_TAG = re.compile(r"<\s*(/?)\s*(think|response)\s*>", re.IGNORECASE)
_STRICT = re.compile(
    r"\s*<think>((?:(?!</?(?:think|response)>).)+)</think>\s*"
    r"<response>((?:(?!</?(?:think|response)>).)+)</response>\s*",
    re.DOTALL,
)


def completion_text(reasoning: str, answer: str) -> str:
    """The assistant's text, without its end-of-turn token."""
    return f"<think>\n{reasoning.strip()}\n</think>\n<response>\n{answer.strip()}\n</response>"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A model's text in its two parts. Nothing of the text is lost; `problems` says what was wrong with its form."""

    reasoning: str
    answer: str
    problems: tuple[str, ...]

    @property
    def strict(self) -> bool:
        """Exactly one closed <think> and one closed <response>, both with text, nothing outside."""
        return not self.problems

    @property
    def lenient(self) -> bool:
        """Reasoning and answer could both be told apart, whatever was wrong with the tags."""
        return bool(self.reasoning and self.answer)


def parse(text: str) -> Parsed:
    """Split generated text into reasoning and answer, forgivingly and honestly.

    A tag that is missing, unclosed, repeated, nested or misspelt is named in `problems`; a tag where none belongs stays
    in the text as it was written. Text outside any tag counts as answer, except before a `</think>` that was never
    opened.
    """
    if match := _STRICT.fullmatch(text):
        reasoning, answer = (part.strip() for part in match.groups())
        if reasoning and answer:
            return Parsed(reasoning, answer, ())
    return _Parser().run(text)


def begins_strict(text: str) -> bool:
    """Whether text is in the strict form as far as it goes: some ending, or none, would make it whole."""
    endings = ("", "x</response>", "<response>x</response>", "x</think><response>x</response>")
    return any(_STRICT.fullmatch(text + ending) for ending in endings)


class _Parser:
    """Walks the text tag by tag; `place` is where text goes now: "think", "response" or "" outside of both."""

    def __init__(self) -> None:
        self.reasoning: list[str] = []
        self.answer: list[str] = []
        self.problems: list[str] = []
        self.place = ""
        self.depth = 0
        self.seen: list[str] = []
        self.cut = False  # a tag has been taken out since the last text

    def run(self, text: str) -> Parsed:
        position = 0
        for tag in _TAG.finditer(text):
            self._text(text[position : tag.start()])
            position = tag.end()
            closing, name = bool(tag[1]), tag[2].lower()
            if tag[0] not in TAGS:
                self.problems.append(f"{tag[0]} is not written {'</' if closing else '<'}{name}>")
            if self.place:
                self._inside(tag[0], name, closing)
            else:
                self._outside(name, closing)
        self._text(text[position:])
        self._end()
        return Parsed(
            "".join(self.reasoning).strip(), "".join(self.answer).strip(), tuple(dict.fromkeys(self.problems))
        )

    def _text(self, piece: str) -> None:
        if not piece:
            return
        if not self.place and piece.strip():
            self.problems.append("text outside the tags")
        parts = self.reasoning if self.place == "think" else self.answer
        # Where a tag stood between two words, they stay two words.
        if self.cut and parts and not parts[-1][-1].isspace() and not piece[0].isspace():
            parts.append("\n")
        parts.append(piece)
        self.cut = False

    def _inside(self, raw: str, name: str, closing: bool) -> None:
        if name == self.place and closing:
            self.depth -= 1
            if self.depth:
                self._text(raw)
            else:
                self.place, self.cut = "", True
        elif name == self.place:
            self.depth += 1
            self.problems.append(f"<{name}> inside <{name}>")
            self._text(raw)
        elif self.place == "think" and name == "response" and not closing:
            self.problems.append("<think> is not closed")
            self._open(name)
        else:
            self.problems.append(f"{'</' if closing else '<'}{name}> inside <{self.place}>")
            self._text(raw)

    def _outside(self, name: str, closing: bool) -> None:
        self.cut = True
        if not closing:
            self._open(name)
        elif name == "think" and not self.seen:
            self.problems.append("<think> is not opened")
            self.seen.append("think")
            self.reasoning, self.answer = self.answer, []
        else:
            self.problems.append(f"</{name}> closes nothing")

    def _open(self, name: str) -> None:
        if name in self.seen:
            self.problems.append(f"<{name}> is repeated")
        if name == "think" and "response" in self.seen:
            self.problems.append("<think> after <response>")
        self.seen.append(name)
        self.place, self.depth, self.cut = name, 1, True

    def _end(self) -> None:
        if self.place:
            self.problems.append(f"<{self.place}> is not closed")
        for name, parts in (("think", self.reasoning), ("response", self.answer)):
            if name not in self.seen:
                self.problems.append(f"no <{name}> tag")
            elif not "".join(parts).strip():
                self.problems.append(f"<{name}> is empty")
