"""Reasoning and answer in one text: written between tags, and parsed from a model's output."""

import re
from dataclasses import dataclass, replace

from medcot.prompts.native import form_of, without_half_a_mark

TAGS = ("<think>", "</think>", "<response>", "</response>")
TAG = re.compile(r"<\s*(/?)\s*(think|response)\s*>", re.IGNORECASE)
_TAG_BEGUN = re.compile(r"<[/a-z]{0,9}$")
_STRICT = re.compile(
    r"\s*<think>((?:(?!</?(?:think|response)>).)+)</think>\s*"
    r"<response>((?:(?!</?(?:think|response)>).)+)</response>\s*",
    re.DOTALL,
)


def completion_text(reasoning: str, answer: str, *, opened: str = "") -> str:
    """The assistant's text, without its end-of-turn token; after `opened`, if the prompt ends with the opened tag."""
    opening = f"{TAGS[0]}\n"
    head = opening.removeprefix(opened) if opening.startswith(opened) else ""
    return f"{head}{reasoning.strip()}\n</think>\n<response>\n{answer.strip()}\n</response>"


@dataclass(frozen=True, slots=True)
class Turn:
    """A question with its reasoning and answer; one without reasoning is read by later turns, and not learned."""

    question: str
    reasoning: str
    answer: str

    @property
    def output(self) -> str:
        """The assistant's whole text, as a later turn finds it."""
        if self.reasoning:
            return completion_text(self.reasoning, self.answer)
        return f"{TAGS[2]}\n{self.answer.strip()}\n{TAGS[3]}"


def unwrapped(reasoning: str, answer: str) -> tuple[str, str]:
    """Both texts without the tags that some data holds around them, which `completion_text` writes again.

    An answer that begins with the very reasoning, as models write it, loses that. Tags inside a text stay.
    """
    reasoning = _unwrapped(reasoning, "think")
    closing = next((tag for tag in TAG.finditer(answer) if _is(tag, "/", "think")), None)
    if closing and _unwrapped(answer[: closing.end()], "think") == reasoning:
        answer = answer[closing.end() :]
    return reasoning, _unwrapped(answer, "response")


def _unwrapped(text: str, name: str) -> str:
    """The text without an opening tag at its start and a closing one at its end, unless it holds further tags."""
    text = text.strip()
    start, end, tags = 0, len(text), list(TAG.finditer(text))
    if tags and tags[0].start() == start and _is(tags[0], "", name):
        start = tags.pop(0).end()
    if tags and tags[-1].end() == end and _is(tags[-1], "/", name):
        end = tags.pop().start()
    return text if tags else text[start:end].strip()


def _is(tag: re.Match[str], slash: str, name: str) -> bool:
    return (tag[1], tag[2].lower()) == (slash, name)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A model's text in its two parts. Nothing of the text is lost; `problems` says what was wrong with its form."""

    reasoning: str
    answer: str
    problems: tuple[str, ...]

    @property
    def strict(self) -> bool:
        """True for exactly one closed <think> and one closed <response>, both with text, and nothing outside."""
        return not self.problems

    @property
    def lenient(self) -> bool:
        """True if reasoning and answer were both found, whatever was wrong with the tags."""
        return bool(self.reasoning and self.answer)


def parse(text: str) -> Parsed:
    """Split generated text into reasoning and answer, forgivingly and honestly.

    A tag that is missing, unclosed, repeated, nested or misspelt is named in `problems`; a tag where none belongs stays
    in the text as it was written. Text outside any tag counts as answer, except before a `</think>` that was never
    opened. A text in its family's own form (`medcot.prompts.native`) is read as if it had <think> tags.
    """
    if match := _STRICT.fullmatch(text):
        reasoning, answer = (part.strip() for part in match.groups())
        if reasoning and answer:
            return Parsed(reasoning, answer, ())
    if (form := form_of(text)) is None:
        return _Parser().run(text)
    found = _Parser().run(form.in_tags(text))
    other = [f"{mark} is not written {tag}" for mark, tag in form.marks.items() if tag and mark in text][:1]
    return replace(found, problems=(*other, *found.problems))


def without_half_a_tag(text: str) -> str:
    """The text so far without a tag, or a mark of a family's own form, that has only begun."""
    return without_half_a_mark(_TAG_BEGUN.sub("", text))


def begins_strict(text: str) -> bool:
    """Whether the text can still become strict: it is a prefix of a text in the strict form."""
    endings = ("", "x</response>", "<response>x</response>", "x</think><response>x</response>")
    return any(_STRICT.fullmatch(text + ending) for ending in endings)


class _Parser:
    """A parser that goes tag by tag; `place` is the open tag: "think", "response" or "" outside of both."""

    def __init__(self) -> None:
        self.reasoning: list[str] = []
        self.answer: list[str] = []
        self.problems: list[str] = []
        self.place = ""
        self.depth = 0
        self.seen: list[str] = []
        self.cut = False  # a tag was removed since the last text

    def run(self, text: str) -> Parsed:
        position = 0
        for tag in TAG.finditer(text):
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
        reasoning, answer = "".join(self.reasoning).strip(), "".join(self.answer).strip()
        return Parsed(reasoning, answer, tuple(dict.fromkeys(self.problems)))

    def _text(self, piece: str) -> None:
        if not piece:
            return
        if not self.place and piece.strip():
            self.problems.append("text outside the tags")
        parts = self.reasoning if self.place == "think" else self.answer
        # A tag between two words separates them, so they must not be joined.
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
