"""The licence of a judge: what it was tried on, how it did, and the reasons where it has none.

A check is failed where so many errors would be rare (once in a thousand) for a judge that errs in one verdict of ten.
So chance refuses almost no fair judge, and a check of few cases refuses only gross ones; docs/evaluation.md says how
gross.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field

from medcot.evaluation.judge.asking import PROMPTS, UNREADABLE, Ask, Verdict, Way
from medcot.evaluation.judge.probes import STABLE, Trial
from medcot.evaluation.metrics import Interval, Written

ALLOWED = 0.1  # errors of a fair judge
RARE = 0.001
FEWEST = 8  # cases, below which a check says nothing
NEEDED = ("references", "others", "repetition", "order")
CHECKS: dict[str, dict[str, str]] = PROMPTS["checks"]
WRONG: dict[Way, str] = {"reference": "wrong", "rubric": "not met", "steps": "wrong", "pair": ""}
CONSTANT = 0.97  # of all verdicts the same one
Verdicts = Mapping[Ask, Verdict]


class Check(Written):
    """How often a judge held what had to hold; `ours` of the cases were medcot's own, where the data had too few."""

    tried: int
    passed: int
    ours: int = 0
    ok: bool

    @property
    def failed(self) -> int:
        return self.tried - self.passed


class Errors(Written):
    """How often right texts were called wrong, and wrong ones not wrong, over the cases that a judge was tried on."""

    right: int
    right_called_wrong: int
    wrong: int
    wrong_called_wrong: int


class Agreement(Written):
    """A judge beside people who judged the same."""

    judged_by_both: int
    kappa: float | None = None
    alpha: float | None = None
    ok: bool = True


class Licence(Written):
    """Whether a judge's figures count on this data."""

    passed: bool
    reasons: list[str]
    checks: dict[str, Check]
    errors: Errors | None = None
    people: Agreement | None = None


class Compared(Interval):
    """One arm against another by a judge."""

    verdict: str
    win: int
    tie: int
    loss: int


class Judged(Written):
    """`judges` of summary.json, by the way it was asked: who judged, its licence, and the comparison of arms."""

    model: str
    server: str = "this machine"
    date: str
    prompts: str  # a hash of what it was asked with
    licence: Licence
    headline: str  # the key of the row that its verdict is on
    paired: dict[str, Compared]
    requests: int
    unreadable: int = 0
    notes: list[str] = Field(default_factory=list)


def licence(way: Way, trials: Sequence[Trial], verdicts: Verdicts, people: Agreement | None = None) -> Licence:
    """Decide whether a judge that gave these verdicts is licensed."""
    checks = {name: found for name in CHECKS if (found := _checked(name, trials, verdicts))}
    reasons = [_refused(name, check) for name, check in checks.items() if not check.ok]
    needed = [name for name in NEEDED if not (name == "others" and way == "steps")]  # a step may stand alone
    reasons += [f"too few cases to try it: {CHECKS[name]['says']}" for name in needed if name not in checks]
    if not any(name in checks for name in ("dose", "drug", "negation", "side", "organ")):
        reasons.append("too few cases to try it: planted faults")
    if people and not people.ok:
        reasons.append(f"disagrees with people: kappa {people.kappa:.2f} over {people.judged_by_both} judgements")
    reasons = [*_in_general(way, trials, verdicts), *reasons] if reasons else reasons
    return Licence(
        passed=not reasons, reasons=reasons, checks=checks, errors=_errors(way, trials, verdicts), people=people
    )


def _checked(name: str, trials: Sequence[Trial], verdicts: Verdicts) -> Check | None:
    tried = [trial for trial in trials if trial.check == name and all(ask in verdicts for ask in trial.asks)]
    if len(tried) < FEWEST:
        return None
    passed = sum(passes(trial, verdicts) for trial in tried)
    # Two verdicts, each with its own errors, differ more often than one errs.
    allowed = 2 * ALLOWED * (1 - ALLOWED) if name in STABLE else ALLOWED
    ok = not _is_rare(len(tried) - passed, len(tried), allowed)
    return Check(tried=len(tried), passed=passed, ours=sum(t.ours for t in tried), ok=ok)


def passes(trial: Trial, verdicts: Verdicts) -> bool:
    """Whether the verdicts on a trial are what they have to be; one that cannot be read never is."""
    said = [verdicts[ask].said for ask in trial.asks]
    if UNREADABLE in said:
        return False
    return all(one in trial.expected for one in said) if trial.expected else len(set(said)) == 1


def _is_rare(failures: int, tried: int, allowed: float) -> bool:
    from scipy.stats import binom

    return failures > 0 and float(binom.sf(failures - 1, tried, allowed)) < RARE


def _refused(name: str, check: Check) -> str:
    return CHECKS[name]["refused"].format(failed=check.failed, tried=check.tried)


def _in_general(way: Way, trials: Sequence[Trial], verdicts: Verdicts) -> list[str]:
    """What is wrong with a judge on the whole, which explains its single failures."""
    raw = [verdicts[ask].said for trial in trials for ask in trial.asks if ask in verdicts]
    if not raw:
        return ["it was not tried"]
    found, (most, count) = [], Counter(raw).most_common(1)[0]
    if (lost := raw.count(UNREADABLE)) > ALLOWED * len(raw):
        found.append(f"no verdict: {lost} of {len(raw)} replies could not be read")
    if count >= CONSTANT * len(raw) and most != UNREADABLE:
        found.append(f"always says {most!r}: in {count} of {len(raw)} verdicts")
    errors = _errors(way, trials, verdicts)
    if errors and not found:
        called, missed = errors.right_called_wrong, errors.wrong - errors.wrong_called_wrong
        if called / errors.right > 0.25 and missed / errors.wrong > 0.25:
            found.append(f"random: it fails {called} of {errors.right} right texts, passes {missed} of {errors.wrong}")
    return found


def _errors(way: Way, trials: Sequence[Trial], verdicts: Verdicts) -> Errors | None:
    """Count the errors over the texts whose verdict is known; None where two are compared."""
    counts = Counter[tuple[str, bool]]()
    for trial in trials:
        if trial.truth and trial.asks[0] in verdicts:
            counts[trial.truth, verdicts[trial.asks[0]].said == WRONG[way]] += 1
    right, wrong = (counts[truth, True] + counts[truth, False] for truth in ("good", "bad"))
    if not (right and wrong):
        return None
    return Errors(
        right=right, right_called_wrong=counts["good", True], wrong=wrong, wrong_called_wrong=counts["bad", True]
    )
