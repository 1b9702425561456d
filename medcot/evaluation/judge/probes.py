"""What a judge is tried on before its figures count: cases of this data whose verdict is known beforehand.

A case has a right text and a wrong one. Where one text is judged at a time, a check asks about one of the two; where
two are compared, it asks which of them is better.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from medcot.evaluation.judge import asking
from medcot.evaluation.judge.asking import PROMPTS, Ask, Way
from medcot.evaluation.judge.faults import FAULTS, plant

MANY, SOME = 24, 12  # cases of a check
RIGHT = 72  # references, which also tell how often a judge calls what is right wrong
OWN = Path(__file__).with_name("probes.jsonl")
FILLER: dict[str, str] = {name: text.strip("\n") for name, text in PROMPTS["filler"].items()}
PASSES = {"reference": "right", "rubric": "met", "steps": "right"}  # the verdict on a right text
FAILS = {"reference": ("wrong", "partly"), "rubric": ("not met",), "steps": ("wrong",)}
STABLE = ("repetition", "order")  # checks that compare two verdicts


class Known(NamedTuple):
    """A question with its right answer; `ours` if it is one of medcot's own, for data that has too few places."""

    question: str
    answer: str
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """Texts whose verdict is known. `reference` is what the judge is told counts."""

    check: str
    known: Known
    good: str
    bad: str
    reference: str


@dataclass(frozen=True, slots=True)
class Trial:
    """One or two requests, and the verdicts that pass: `expected` for each, or the same twice where that is empty."""

    check: str
    asks: tuple[Ask, ...]
    expected: tuple[str, ...]
    truth: Literal["good", "bad", ""] = ""  # what was asked about, where one text was and its verdict is known
    ours: bool = False


def known_answers(own: Sequence[tuple[str, str]]) -> list[Known]:
    """The data's questions and answers, each once, and medcot's own after them."""
    found = {question: Known(question, answer) for question, answer in own}
    lines = map(json.loads, OWN.read_text(encoding="utf-8").splitlines())
    return [*found.values(), *(Known(line["question"], line["answer"], ours=True) for line in lines)]


def trials(way: Way, known: Sequence[Known], reworded: Mapping[str, str]) -> list[Trial]:
    """All trials of a way. `reworded` has wrong answers in the judge's own words, as far as it gave them."""
    cases = list(_cases(way, known, reworded))
    return [trial for case in cases for trial in _tried(way, case)] + list(_stable(way, cases))


def to_reword(way: Way, known: Sequence[Known]) -> list[str]:
    """The wrong answers that the judge is asked to reword, to see whether it then prefers its own style."""
    return [case.bad for case in _wrong(way, known)[:SOME]]


def _wrong(way: Way, known: Sequence[Known]) -> list[Case]:
    """Right answers with wrong ones: another record's, or for a step, which can stand alone, one with a fault."""
    if way == "steps":
        faulty = [case for kind in FAULTS for case in _faulty(kind, known)]
        return faulty[:MANY]
    own = [one for one in known if not one.ours]
    pool = own if len(own) >= MANY else list(known)
    others = [*pool[1:], *pool[:1]]
    cases = [Case("others", k, k.answer, other.answer, k.answer) for k, other in zip(pool, others, strict=True)]
    return [case for case in cases if case.bad != case.good][:MANY]


def _faulty(kind: str, known: Sequence[Known]) -> list[Case]:
    planted = ((one, plant(kind, one.answer)) for one in known)
    return [Case(kind, one, one.answer, text, one.answer) for one, text in planted if text][:SOME]


def _cases(way: Way, known: Sequence[Known], reworded: Mapping[str, str]) -> Iterator[Case]:
    wrong = _wrong(way, known)
    yield from _right(way, known, wrong)
    if way != "steps":
        yield from wrong
    faulty = {kind: _faulty(kind, known) for kind in FAULTS}
    for of_kind in faulty.values():
        yield from of_kind
    for case in wrong[:SOME]:
        yield _as("length", case, bad=f"{case.bad}\n\n{FILLER['length']}")
        yield _as("long", case, good=f"{FILLER['length']}\n\n{case.good}")
        yield _as("tone", case, bad=f"{FILLER['before']}{case.bad}{FILLER['after']}")
        if own := reworded.get(case.bad):
            yield _as("own", case, bad=own)
    # The reference is the faulty text, so the answer that agrees with it is the right one here.
    mixed = itertools.chain(*zip(*(of_kind[:3] for of_kind in faulty.values() if len(of_kind) > 2), strict=False))
    for case in itertools.islice(mixed, SOME):
        yield Case("heed", case.known, case.bad, case.good, case.bad)


def _right(way: Way, known: Sequence[Known], wrong: Sequence[Case]) -> Iterator[Case]:
    """References: in pairs against the wrong answers, alone as many as there are."""
    if way == "pair":
        yield from (_as("references", case) for case in wrong)
        return
    own = [one for one in known if not one.ours]
    for one in (own if len(own) >= MANY else known)[:RIGHT]:
        yield Case("references", one, one.answer, one.answer, one.answer)


def _as(check: str, case: Case, *, good: str | None = None, bad: str | None = None) -> Case:
    return Case(check, case.known, good or case.good, bad or case.bad, case.reference)


def _tried(way: Way, case: Case) -> Iterator[Trial]:
    ours = case.known.ours
    if way == "pair":
        swapped = len(case.good) % 2 == 1  # about half of them, and the same ones each time
        yield Trial(case.check, (_pair(case, swapped=swapped),), ("a",), ours=ours)
        return
    side = PROMPTS["checks"][case.check]["side"]
    expected = (PASSES[way],) if side == "good" else FAILS[way]
    yield Trial(case.check, (_one(way, case, side),), expected, side, ours)


def _stable(way: Way, cases: Sequence[Case]) -> Iterator[Trial]:
    """Ask again, and in the other order; half about right texts, half about faulty ones."""
    whole = [case for case in cases if case.check == "references"][:SOME]
    faulty = [case for case in cases if case.check in FAULTS][:: max(1, len(FAULTS))][:SOME]
    for case, side in [*((c, "good") for c in whole), *((c, "bad") for c in faulty)]:
        first = _pair(case) if way == "pair" else _one(way, case, side)
        again = _pair(case, attempt=1) if way == "pair" else _one(way, case, side, attempt=1)
        other = _pair(case, swapped=True) if way == "pair" else _one(way, case, side, swapped=True)
        yield Trial("repetition", (first, again), ())
        yield Trial("order", (first, other), ())


def _pair(case: Case, *, swapped: bool = False, attempt: int = 0) -> Ask:
    return asking.pair(case.known.question, case.reference, case.good, case.bad, swapped=swapped, attempt=attempt)


def _one(way: Way, case: Case, side: str, *, swapped: bool = False, attempt: int = 0) -> Ask:
    assert way != "pair"
    counts = f"{PROMPTS['rubric']['agreement']}{case.reference}" if way == "rubric" else case.reference
    judged = case.good if side == "good" else case.bad
    return asking.single(way, case.known.question, counts, judged, swapped=swapped, attempt=attempt)
