"""What a summary's judges say, in words: a verdict where there is a licence, and the reasons where there is none."""

from collections.abc import Mapping

from medcot.evaluation.judge.asking import PROMPTS
from medcot.evaluation.judge.figures import BY_PEOPLE, CORRECTED, ROWS
from medcot.evaluation.judge.licence import Judged, Licence
from medcot.evaluation.metrics import FEWEST_RECORDS, ArmScores

HOW = {
    "reference": "against the references",
    "rubric": "against the rubric",
    "pair": "base beside tuned",
    "steps": "the reasoning, step by step",
}
SHARE = {
    "judged_right": "right answers",
    "rubric_points": "points of the rubric",
    "preferred": "answers preferred",
    "wrong_steps": "wrong steps",
}
ORDER = tuple(HOW)
UNLICENSED = "not licensed"
NOTHING = "none"  # of an arm that gave a judge nothing to judge
ROW_OF: dict[str, str] = {row: way for way, rows in ROWS.items() for row in rows}
ROW_OF[CORRECTED] = "reference"


def counts(row: str, judges: Mapping[str, Judged]) -> bool:
    """Whether a row's figures count: they are no judge's, or the judge is licensed."""
    way = ROW_OF.get(row)
    return way is None or (way in judges and judges[way].licence.passed)


def sentences(judges: Mapping[str, Judged], arms: Mapping[str, ArmScores]) -> list[str]:
    """A sentence or two for each judge, in a fixed order."""
    return [_sentence(way, judges[way], arms) for way in ORDER if way in judges]


def _sentence(way: str, judged: Judged, arms: Mapping[str, ArmScores]) -> str:
    who = f"The judge {judged.model}, {HOW[way]}"
    if not judged.licence.passed:
        return f"{who}: {UNLICENSED}, so its figures carry no verdict. {capital('; '.join(judged.licence.reasons))}."
    found = judged.paired.get("tuned-base")
    if found is None:
        return f"{who} (licensed): no record that both arms answered."
    figures = f"{100 * found.difference:+.1f} points (95% interval {100 * found.low:+.1f} to {100 * found.high:+.1f})"
    share, records = SHARE[judged.headline], found.win + found.tie + found.loss
    if found.verdict != "not distinguishable":
        said = f"tuned is {found.verdict} than base in {share}: {figures}."
    elif records < FEWEST_RECORDS:
        said = f"too few records for a verdict ({records} of at least {FEWEST_RECORDS}): {share} differ by {figures}."
    else:
        said = f"not distinguishable at this size: {share} differ by {figures}."
    return f"{who} (licensed): {said}{_corrected(way, arms)}"


def _corrected(way: str, arms: Mapping[str, ArmScores]) -> str:
    if way != "reference" or not all(CORRECTED in found for found in arms.values()):
        return ""
    people = all(BY_PEOPLE in found for found in arms.values())
    by = "what people said" if people else "the errors of its licence's cases"
    return f" The corrected share of wrong answers is by {by}."


def licence_lines(licence: Licence) -> list[str]:
    """Each check in a line: what must hold, and how often it did."""
    lines = [
        f"{PROMPTS['checks'][name]['says']}: {check.passed} of {check.tried}"
        + (f", {check.ours} of them medcot's own cases" if check.ours else "")
        + ("" if check.ok else " (refused)")
        for name, check in licence.checks.items()
        if name in PROMPTS["checks"]
    ]
    if people := licence.people:
        measured = {"Cohen's kappa": people.kappa, "Krippendorff's alpha": people.alpha}
        told = ", ".join(f"{name} {value:.2f}" for name, value in measured.items() if value is not None)
        lines.append(
            f"beside people, {people.judged_by_both} judgements: {told or 'all the same, which tells nothing'}"
        )
    return lines


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
