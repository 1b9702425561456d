"""What is asked about each record, and the figures that the verdicts make: rows of the table, and their comparison."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from medcot.evaluation import metrics
from medcot.evaluation.answers import BASE, TUNED, Example, Shown, comparisons
from medcot.evaluation.judge import asking
from medcot.evaluation.judge.asking import UNREADABLE, UNSAID, Ask, Verdict, Way, steps_of
from medcot.evaluation.judge.estimates import by_errors
from medcot.evaluation.judge.licence import Compared, Errors
from medcot.evaluation.judge.rubric import Criterion, Rubric
from medcot.evaluation.metrics import ArmScores

HEADLINES: dict[Way, str] = {
    "reference": "judged_right",
    "rubric": "rubric_points",
    "pair": "preferred",
    "steps": "wrong_steps",
}
LOWER_IS_BETTER = {"judged_wrong", "judged_unsaid", "wrong_steps"}
ROWS: dict[Way, tuple[str, ...]] = {
    "reference": ("judged_right", "judged_wrong", "judged_unsaid"),
    "rubric": ("rubric_points",),
    "pair": ("preferred",),
    "steps": ("wrong_steps",),
}
CORRECTED = "judged_wrong_corrected"
BY_PEOPLE = "labelled"  # of an arm: how many of its answers people judged, where they correct the share
OF_REFERENCE = (CORRECTED, f"{CORRECTED}_low", f"{CORRECTED}_high", BY_PEOPLE)
Columns = dict[str, dict[str, dict[int, float]]]  # row -> arm -> record -> value


@dataclass(frozen=True, slots=True)
class Wanted:
    """A verdict that is wanted on a record's answer; `points` are those of its criterion."""

    record: int
    arm: str
    ask: Ask
    points: float = 0.0

    def __str__(self) -> str:
        return f"record {self.record}, {self.arm}"


def wanted(way: Way, examples: Sequence[Example], arms: Sequence[str], rubric: Rubric | None) -> list[Wanted]:
    """Everything that is asked about the arms' answers. What says nothing is not asked about."""
    return [one for example in examples for one in _of_record(way, example, arms, rubric)]


def _of_record(way: Way, example: Example, arms: Sequence[str], rubric: Rubric | None) -> Iterator[Wanted]:
    question, reference = example.question, example.reference.answer
    if way == "pair":
        base, tuned = (example.arms[arm].answer for arm in (BASE, TUNED))
        if has_words(base) and has_words(tuned) and base != tuned:
            for swapped in (False, True):
                ask = asking.pair(question, reference, base, tuned, swapped=swapped)
                yield Wanted(example.record, TUNED, ask)
        return
    for arm in arms:
        shown = example.arms[arm]
        if way == "steps":
            for step in steps_of(shown.reasoning):
                yield Wanted(example.record, arm, asking.single(way, question, reference, step))
        elif has_words(shown.answer):
            if way == "reference":
                yield Wanted(example.record, arm, asking.single(way, question, reference, shown.answer))
            for criterion in rubric.of(question) if rubric and way == "rubric" else ():
                yield _met(example, arm, criterion, shown)


def _met(example: Example, arm: str, criterion: Criterion, shown: Shown) -> Wanted:
    ask = asking.single("rubric", example.question, criterion.criterion, shown.answer)
    return Wanted(example.record, arm, ask, criterion.points)


def has_words(text: str) -> bool:
    return any(map(str.isalnum, text))


def columns(
    way: Way,
    examples: Sequence[Example],
    arms: Sequence[str],
    asked: Sequence[Wanted],
    verdicts: Mapping[Ask, Verdict],
    rubric: Rubric | None,
) -> Columns:
    """Every row's value of each record, by arm. An answer without words is wrong, and gets no points."""
    said: dict[tuple[int, str], list[tuple[str, float]]] = {}
    for one in asked:
        said.setdefault((one.record, one.arm), []).append((verdicts[one.ask].said, one.points))
    found: Columns = {row: {arm: {} for arm in arms} for row in ROWS[way]}
    for example in examples:
        given = {arm: said.get((example.record, arm), []) for arm in arms}
        for row, values in _of_verdicts(way, example, given, rubric).items():
            for arm, value in values.items():
                found[row][arm][example.record] = value
    return found


def _of_verdicts(
    way: Way, example: Example, given: Mapping[str, list[tuple[str, float]]], rubric: Rubric | None
) -> dict[str, dict[str, float]]:
    if way == "reference":
        word = {arm: verdicts[0][0] if verdicts else "wrong" for arm, verdicts in given.items()}
        return {
            "judged_right": {arm: float(said == "right") for arm, said in word.items()},
            "judged_wrong": {arm: float(said == "wrong") for arm, said in word.items()},
            "judged_unsaid": {arm: float(said in (UNSAID, UNREADABLE)) for arm, said in word.items()},
        }
    if way == "pair":
        tuned = _preferred(example, [said for said, _ in given[TUNED]])
        return {"preferred": {BASE: 1 - tuned, TUNED: tuned}}
    if way == "steps":
        told = {arm: [said for said, _ in verdicts if said in ("right", "wrong")] for arm, verdicts in given.items()}
        return {"wrong_steps": {arm: words.count("wrong") / len(words) for arm, words in told.items() if words}}
    possible = rubric.possible(example.question) if rubric else 0.0
    if not possible:
        return {}
    reached = {arm: sum(points for said, points in verdicts if said == "met") for arm, verdicts in given.items()}
    return {"rubric_points": {arm: points / possible for arm, points in reached.items()}}


def _preferred(example: Example, said: list[str]) -> float:
    """1 if tuned is preferred in both orders, 0 if base is, else a half. An answer without words loses to one with."""
    if said:
        return 1.0 if said == ["b", "b"] else 0.0 if said == ["a", "a"] else 0.5
    worded = [has_words(example.arms[arm].answer) for arm in (BASE, TUNED)]
    return 0.5 if worded[0] == worded[1] else float(worded[1])


def arm_figures(found: Columns, errors: Errors | None) -> dict[str, ArmScores]:
    """The mean of each row, by arm; the share of wrong answers also corrected, with its interval."""
    arms = dict[str, ArmScores]()
    for row, by_arm in found.items():
        for arm, values in by_arm.items():
            if values:
                arms.setdefault(arm, {})[row] = metrics.mean(list(values.values()))
    for arm, values in found.get("judged_wrong", {}).items():
        if values and errors and (estimate := by_errors(list(values.values()), errors)):
            add_estimate(arms[arm], estimate)
    return arms


def add_estimate(scores: ArmScores, estimate: tuple[float, float, float]) -> None:
    scores |= dict(zip((CORRECTED, f"{CORRECTED}_low", f"{CORRECTED}_high"), estimate, strict=True))


def compared(found: Columns, arms: Sequence[str], seed: int) -> dict[str, dict[str, Compared]]:
    """Each comparison of arms, by row: over the records that both have."""
    result: dict[str, dict[str, Compared]] = {}
    for key, (arm, against) in comparisons(arms).items():
        for row, by_arm in found.items():
            both = [record for record in by_arm.get(arm, {}) if record in by_arm.get(against, {})]
            if both:
                values = [[by_arm[name][record] for record in both] for name in (against, arm)]
                result.setdefault(key, {})[row] = _compare(row, *values, seed=seed)
    return result


def _compare(row: str, base: list[float], tuned: list[float], *, seed: int) -> Compared:
    one = metrics.compare(base, tuned, seed=seed)
    opposite = {"better": "worse", "worse": "better"}
    verdict = opposite.get(one.verdict, one.verdict) if row in LOWER_IS_BETTER else one.verdict
    kept = one.model_dump(include={"difference", "low", "high", "win", "tie", "loss"})
    return Compared(**kept, verdict=verdict)
