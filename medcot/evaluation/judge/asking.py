"""What a judge is asked, as messages with a key, and how its words are read. The prompts are in judge.toml.

The judge sees a question, what counts, and an answer alone: no tags, no reasoning, no name of an arm.
"""

import hashlib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from medcot.prompts.tags import TAG, parse
from medcot.safety.foreign import parse_json

Way = Literal["reference", "rubric", "pair", "steps"]
UNREADABLE = "unreadable"  # in a verdict's place: no JSON, a refusal, nothing
UNSAID = "cannot say"
_TEXT = Path(__file__).with_name("judge.toml").read_text(encoding="utf-8")
PROMPTS: dict[str, Any] = tomllib.loads(_TEXT)
PROMPTS_HASH = hashlib.sha256(_TEXT.encode()).hexdigest()[:16]
MOST_SHOWN = 24_000  # characters of one text in a prompt; what is longer is cut, and that is said to the judge
MOST_STEPS = 30
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])|(?<=[。！？])")
_OBJECT = re.compile(r"\{[^{}]*\}")
_OWN_TAGS = re.compile(r"</?\s*(?:question|reference|answer|criterion|first|second|step)\s*>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `meaning` maps a verdict's word to what it means here, where that depends on the order."""

    way: Way | Literal["own"]
    user: str
    attempt: int = 0  # asked again on purpose
    meaning: Mapping[str, str] = field(default_factory=dict, hash=False)
    reference: str = ""  # of a judge that is no chat model: what counts, and what is judged
    answer: str = ""

    @property
    def system(self) -> str:
        return str((PROMPTS["own"]["system"] if self.way == "own" else PROMPTS["system"]).strip())

    def key(self, judge: str) -> str:
        """The hash of what is asked, and of whom."""
        asked = [judge, self.system, self.user, self.attempt]
        return hashlib.sha256(json.dumps(asked, ensure_ascii=False).encode("utf-8", "replace")).hexdigest()

    @property
    def characters(self) -> int:
        return len(self.system) + len(self.user)


class Reply(BaseModel):
    """What a judge answered, as it is kept: a line of verdicts.jsonl, under the hash of what was asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    key: str
    text: str
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said: one of its way's verdicts or UNREADABLE, and why, in its own words."""

    said: str
    why: str = ""


def clean(text: str) -> str:
    """A text without tags, its own and those of the prompt, so that nothing in it can close its block."""
    text = _OWN_TAGS.sub("", TAG.sub("", text)).strip()
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]} [cut here: the text is longer]"


def single(
    way: Literal["reference", "rubric", "steps"],
    question: str,
    counts: str,
    judged: str,
    *,
    swapped: bool = False,
    attempt: int = 0,
) -> Ask:
    """Ask about one text: an answer against a reference or a criterion, or a step of a reasoning."""
    prompt = PROMPTS[way]
    counts, judged = clean(counts), clean(judged)
    blocks = list(zip(prompt["blocks"], (counts, judged), strict=True))
    user = _filled(prompt["user"], question, blocks[::-1] if swapped else blocks)
    return Ask(way, user, attempt, {}, counts, judged)


def pair(question: str, reference: str | None, a: str, b: str, *, swapped: bool = False, attempt: int = 0) -> Ask:
    """Ask which of two answers is better; the verdicts are then "a", "b" or "equal", in either order."""
    prompt = PROMPTS["pair"]
    texts = (clean(b), clean(a)) if swapped else (clean(a), clean(b))
    shown = prompt["reference"].format(reference=clean(reference)) if reference else ""
    user = _filled(prompt["user"], question, list(zip(prompt["blocks"], texts, strict=True)), shown)
    meaning = {"first": "b", "second": "a"} if swapped else {"first": "a", "second": "b"}
    return Ask("pair", user, attempt, meaning)


def reworded(text: str) -> Ask:
    """Ask for a text in the judge's own words."""
    return Ask("own", PROMPTS["own"]["user"].strip().format(text=clean(text)))


def _filled(template: str, question: str, blocks: list[tuple[str, str]], reference: str = "") -> str:
    shown = "\n\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in blocks)
    return str(template).strip().format(question=clean(question), blocks=shown, reference=reference)


def read(ask: Ask, text: str) -> Verdict:
    """Read a reply: the last JSON object with a known verdict, else the verdict as the reply's only words."""
    known = PROMPTS[ask.way]["verdicts"]
    text = parse(text).answer or text  # a judge may think first
    for given in _objects(text):
        said = _known(given.get("verdict", given.get("criteria_met")), known)
        if said:
            why = given.get("why", given.get("explanation", ""))
            return Verdict(ask.meaning.get(said, said), " ".join(str(why).split())[:400])
    alone = _known(text.strip(" \n\t\"'`*."), known)
    return Verdict(ask.meaning.get(alone, alone)) if alone else Verdict(UNREADABLE, " ".join(text.split())[:200])


def _objects(text: str) -> Iterator[Mapping[str, object]]:
    """The JSON objects in a text, the last one first."""
    candidates = [text.strip(), *reversed(_OBJECT.findall(text))]
    for candidate in candidates:
        try:
            found = parse_json(candidate)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def _known(said: object, verdicts: list[str]) -> str | None:
    """The verdict that a word means, in any case; True and False mean the first verdict and its opposite."""
    if isinstance(said, bool):
        opposite = next((v for v in ("wrong", "not met") if v in verdicts), None)
        return verdicts[0] if said else opposite
    word = " ".join(str(said).lower().replace("_", " ").split()).strip(" .\"'")
    return word if word in verdicts else None


def steps_of(reasoning: str) -> list[str]:
    """The steps of a reasoning: its lines, or the sentences of one that is a single paragraph; at most MOST_STEPS."""
    lines = [line.strip() for line in reasoning.splitlines() if any(map(str.isalnum, line))]
    if len(lines) == 1:
        lines = [
            part.strip() for part in re.split(r"(?<=[.!?])\s+(?=[A-Z\"'(])|(?<=[。！？])", lines[0]) if part.strip()
        ]
    return lines[:MOST_STEPS]


MOST_STEPS = 30
