"""Scores that need no model: ROUGE-L, format, floors, and the paired comparison of two arms."""

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from medcot.data.facts import Facts
from medcot.evaluation import facts as matching
from medcot.evaluation.rouge import VARIANT, Variant, rouge_l, word_count
from medcot.prompts.tags import Parsed, parse

BOOTSTRAP_DRAWS = 10_000
FEWEST_RECORDS = 10  # below, no interval is wide enough to carry a verdict
MOST_DRAWN = 2_000_000  # resampled values in memory at a time


class Written(BaseModel):
    """A part of summary.json. Keys that another version wrote are kept."""

    model_config = ConfigDict(extra="allow", frozen=True)


# An arm's figures by the keys of their rows; `records` is how many were averaged. Another version may add texts.
ArmScores = dict[str, Any]


class Interval(Written):
    """A paired difference with its 95% interval."""

    difference: float
    low: float
    high: float


class Comparison(Interval):
    """One arm against another on the headline: counts of records and a verdict; `measures` holds the other rows."""

    win: int
    tie: int
    loss: int
    verdict: Literal["better", "worse", "not distinguishable"]
    records_needed: int | None = None
    p_value: float | None = None
    measures: dict[str, Interval] = {}

    @property
    def records(self) -> int:
        return self.win + self.tie + self.loss

    @property
    def counts(self) -> str:
        return f"{self.win} higher, {self.tie} equal, {self.loss} lower"


class RecordScore(BaseModel):
    """One output against its reference, ROUGE-L F1 of its answer, its reasoning and both together.

    The last two are None where the reference has no reasoning.
    """

    model_config = ConfigDict(frozen=True)
    answer_rouge_l: float
    reasoning_rouge_l: float | None = None
    both_rouge_l: float | None = None
    strict: bool
    lenient: bool
    truncated: bool
    before_answer: bool  # cut at the token limit within its reasoning
    length_ratio: float  # answer words over reference words
    facts: matching.Found | None = None  # if the record lists any


# The names of means in summary.json that differ from the record's.
SUMMARY_NAMES = {"strict": "format_strict", "lenient": "format_lenient", "before_answer": "truncated_before_answer"}


def score(
    output: str | Parsed,
    reasoning: str,
    answer: str,
    *,
    truncated: bool = False,
    variant: Variant = VARIANT,
    facts: Facts | None = None,
) -> RecordScore:
    """Score newly generated text (never the prompt) against the reference reasoning and answer, and listed facts."""
    parsed = parse(output) if isinstance(output, str) else output
    both = f"{parsed.reasoning}\n{parsed.answer}"
    return RecordScore(
        answer_rouge_l=rouge_l(parsed.answer, answer, variant),
        reasoning_rouge_l=rouge_l(parsed.reasoning, reasoning, variant) if reasoning else None,
        both_rouge_l=rouge_l(both, f"{reasoning}\n{answer}", variant) if reasoning else None,
        strict=parsed.strict,
        lenient=parsed.lenient,
        truncated=truncated,
        before_answer=truncated and not parsed.answer,
        length_ratio=word_count(parsed.answer) / max(1, word_count(answer)),
        facts=matching.find(parsed.answer, facts) if facts else None,
    )


def columns(scores: Sequence[RecordScore]) -> dict[str, list[float]]:
    """Every figure that all records have, by the names of summary.json, and those of facts where a record lists any."""
    whole = (name for name in RecordScore.model_fields if all(getattr(score, name) is not None for score in scores))
    fields = {name: SUMMARY_NAMES.get(name, name) for name in whole if name != "facts"}
    found = {written: [float(getattr(score, name)) for score in scores] for name, written in fields.items()}
    return found | matching.columns(score.facts for score in scores)


def summarise(scores: Sequence[RecordScore]) -> ArmScores:
    """Average over records; `records` is their number."""
    return {**{name: mean(column) for name, column in columns(scores).items()}, "records": len(scores)}


def floor_outputs(records: Sequence[tuple[str, str, str]]) -> dict[str, list[str]]:
    """Answers that need no model, to each of (question, reasoning, answer) records.

    echo: the question as answer; shuffled: the next record's answer, nothing if there is no other; empty: nothing;
    gold_reasoning: the reference reasoning as answer, where all have one. A model's score means little without them.
    """
    answers, nothing = [answer for _, _, answer in records], [""] * len(records)
    thoughts = [reasoning for _, reasoning, _ in records]
    return {
        "echo": [question for question, _, _ in records],
        "shuffled": answers[1:] + answers[:1] if len(answers) > 1 else nothing,
        "empty": nothing,
        **({"gold_reasoning": thoughts} if all(thoughts) else {}),
    }


def floors(records: Sequence[tuple[str, str, str]], variant: Variant = VARIANT) -> dict[str, float]:
    """Score the outputs of `floor_outputs` as answers."""
    answers = [answer for _, _, answer in records]
    return {
        name: mean([rouge_l(output, answer, variant) for output, answer in zip(said, answers, strict=True)])
        for name, said in floor_outputs(records).items()
    }


def facts_floors(records: Sequence[tuple[str, str, str]], facts: Sequence[Facts | None]) -> dict[str, dict[str, float]]:
    """The figures of facts that the outputs of `floor_outputs` reach, by figure and floor; empty without facts."""
    found = dict[str, dict[str, float]]()
    for floor, said in floor_outputs(records).items():
        outputs = zip(said, facts, strict=True)
        for figure, column in matching.columns(matching.find(output, f) for output, f in outputs if f).items():
            found.setdefault(figure, {})[floor] = mean(column)
    return found


def compare(base: Sequence[float], tuned: Sequence[float], *, seed: int = 42) -> Comparison:
    """Compute the paired difference tuned - base of per-record scores, with a 95% bootstrap interval.

    The interval is Hesterberg's expanded percentile interval ("What Teachers Should Know About the Bootstrap", 2015),
    which corrects for Student's t and for the resamples' smaller spread; `benchmarks/coverage.py` counts how often it
    holds the truth. With fewer than FEWEST_RECORDS the verdict is always "not distinguishable". `records_needed`
    estimates how many would show a difference of this size with 80% power: (2.8 standard deviations / mean) squared,
    where 2.8 = 1.96 + 0.84 (normal quantiles for a two-sided 5% test and for 80%).
    """
    import numpy
    from scipy.stats import bootstrap, norm, t

    differences = numpy.asarray(tuned, dtype=float) - numpy.asarray(base, dtype=float)
    low = high = mean = float(differences.mean())
    count, spread = len(differences), math.nan
    if count > 1:
        spread = float(differences.std(ddof=1))
        outside = norm.cdf(-math.sqrt(count / (count - 1)) * t.ppf(0.975, count - 1))
        interval = bootstrap(
            (differences,),
            numpy.mean,
            n_resamples=BOOTSTRAP_DRAWS,
            batch=max(1, MOST_DRAWN // count),
            confidence_level=1 - 2 * float(outside),
            method="percentile",
            rng=numpy.random.default_rng(seed),
        ).confidence_interval
        low, high = float(interval.low), float(interval.high)
    win, loss = int((differences > 0).sum()), int((differences < 0).sum())
    clear = count >= FEWEST_RECORDS and (low > 0 or high < 0)
    verdict = "not distinguishable" if not clear else "better" if low > 0 else "worse"
    needed = math.ceil((2.8 * spread / mean) ** 2) if mean and not math.isnan(spread) else None
    counts = {"win": win, "tie": count - win - loss, "loss": loss}
    return Comparison(difference=mean, low=low, high=high, **counts, verdict=verdict, records_needed=needed)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Compute Wilson's 95% interval of a proportion; (0, 1) without trials."""
    from scipy.stats import binomtest

    if trials == 0:
        return 0.0, 1.0
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean; 0 of nothing."""
    return math.fsum(values) / len(values) if values else 0.0
