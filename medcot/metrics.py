"""Scores that need no model: ROUGE-L, format, floors, and the paired comparison of two arms.

Plain functions on plain text. The variant is named everywhere, because variants differ by more than most models do:
rougeL F1 with the Porter stemmer unless another is asked for, as computed by `rouge_score` (Lin 2004). English words
are its tokens. Chinese text is scored by character and other scripts beyond Latin by word, because the default
tokenizer would delete them and score two unrelated sentences alike.
"""

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from medcot.tags import Parsed, parse

BOOTSTRAP_DRAWS = 10_000
# Letters of another script: not one Greek letter by itself, nor µ, ², ₂ or Ω, which stand in English medical text too.
_BEYOND_LATIN = re.compile(r"[^\W\d_a-zA-ZÀ-ɏ\u00aa-\u00ba\u0370-\u03ff\u2070-\u209f\u2100-\u214f]|[\u0370-\u03ff]{2}")
FEWEST_RECORDS = 10  # below, no interval is wide enough to carry a verdict
MOST_DRAWN = 2_000_000  # resampled values in memory at a time


@dataclass(frozen=True, slots=True)
class Variant:
    """Which ROUGE: rougeL over the whole text or rougeLsum line by line, with the Porter stemmer or without."""

    rouge: Literal["rougeL", "rougeLsum"] = "rougeL"
    stemmer: bool = True

    def __str__(self) -> str:
        return f"{self.rouge} F1, {'stemmer' if self.stemmer else 'no stemmer'}"


VARIANT = Variant()


@dataclass(frozen=True, slots=True)
class RecordScore:
    """One output against its reference, ROUGE-L F1 of its answer, its reasoning and both together.

    `before_answer` is an output that met its token limit before it said anything outside of its reasoning;
    `length_ratio` is answer words over reference words.
    """

    answer_rouge_l: float
    reasoning_rouge_l: float
    both_rouge_l: float
    strict: bool
    lenient: bool
    truncated: bool
    before_answer: bool
    length_ratio: float


# What summary.json calls a mean, where it is not the record's own name for it.
SUMMARY_NAMES = {
    "strict": "format_strict",
    "lenient": "format_lenient",
    "before_answer": "truncated_before_answer",
}


class _UnicodeTokenizer:
    """For text beyond the Latin script: each Chinese character a token, and words of any script."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[㐀-鿿豈-﫿]|[^\W_㐀-鿿豈-﫿]+", text.lower())


@functools.lru_cache(maxsize=8)
def _scorer(variant: Variant, beyond_latin: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    tokenizer = _UnicodeTokenizer() if beyond_latin else None
    return RougeScorer([variant.rouge], use_stemmer=variant.stemmer, tokenizer=tokenizer)


def rouge_l(prediction: str, reference: str, variant: Variant = VARIANT) -> float:
    """The variant's F1, 0 to 1; an empty prediction or reference scores 0."""
    if not prediction.strip() or not reference.strip():
        return 0.0
    scorer = _scorer(variant, bool(_BEYOND_LATIN.search(reference)))
    return float(scorer.score(reference, prediction)[variant.rouge].fmeasure)


def word_count(text: str) -> int:
    """Words, and Chinese characters each as one."""
    return len(_UnicodeTokenizer().tokenize(text))


def score(
    output: str | Parsed, reasoning: str, answer: str, *, truncated: bool = False, variant: Variant = VARIANT
) -> RecordScore:
    """Score newly generated text (never the prompt) against the reference reasoning and answer."""
    parsed = parse(output) if isinstance(output, str) else output
    return RecordScore(
        rouge_l(parsed.answer, answer, variant),
        rouge_l(parsed.reasoning, reasoning, variant),
        rouge_l(f"{parsed.reasoning}\n{parsed.answer}", f"{reasoning}\n{answer}", variant),
        parsed.strict,
        parsed.lenient,
        truncated,
        truncated and not parsed.answer,
        word_count(parsed.answer) / max(1, word_count(answer)),
    )


def summarise(scores: Sequence[RecordScore]) -> dict[str, float]:
    """Means over records, by the names of summary.json; `records` is their number."""
    columns = {
        SUMMARY_NAMES.get(name, name): _mean([float(getattr(s, name)) for s in scores])
        for name in RecordScore.__slots__
    }
    return {**columns, "records": len(scores)}


def floors(records: Sequence[tuple[str, str, str]], variant: Variant = VARIANT) -> dict[str, float]:
    """Answer scores that need no model, over (question, reasoning, answer) records.

    echo: the question as answer; shuffled: the next record's answer, 0 where there is no other; empty: nothing;
    gold_reasoning: the reference reasoning as answer. A model's score means little without them beside it.
    """
    answers = [answer for _, _, answer in records]
    return {
        "echo": _mean([rouge_l(question, answer, variant) for question, _, answer in records]),
        "shuffled": _mean(
            [rouge_l(other, answer, variant) for other, answer in zip(answers[1:] + answers[:1], answers, strict=True)]
        )
        if len(answers) > 1
        else 0.0,
        "empty": _mean([rouge_l("", answer, variant) for answer in answers]),
        "gold_reasoning": _mean([rouge_l(reasoning, answer, variant) for _, reasoning, answer in records]),
    }


def compare(base: Sequence[float], tuned: Sequence[float], *, seed: int = 42) -> dict[str, Any]:
    """Paired difference tuned - base of per-record scores, with a 95% bootstrap interval.

    The interval is Hesterberg's expanded percentile interval ("What Teachers Should Know About the Bootstrap", 2015):
    its percentiles lie further out by as much as Student's t exceeds the normal, and the sample's spread that of its
    resamples. `benchmarks/coverage.py` counts how often it holds the truth.

    With fewer than FEWEST_RECORDS the verdict is always "not distinguishable". `records_needed` estimates how many
    would tell a difference of this size with 80% power: (2.8 standard deviations / mean) squared, where
    2.8 = 1.96 + 0.84 (normal quantiles for a two-sided 5% test and for 80%).
    """
    import numpy
    from scipy.stats import bootstrap, norm, t

    differences = numpy.asarray(tuned, dtype=float) - numpy.asarray(base, dtype=float)
    mean = float(differences.mean())
    low = high = mean
    count = len(differences)
    if count > 1:
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
    verdict = "better" if low > 0 else "worse" if high < 0 else "not distinguishable"
    if count < FEWEST_RECORDS:
        verdict = "not distinguishable"
    spread = float(differences.std(ddof=1)) if count > 1 else math.nan
    needed = math.ceil((2.8 * spread / mean) ** 2) if mean and not math.isnan(spread) else None
    return {
        "difference": mean,
        "low": low,
        "high": high,
        "win": win,
        "tie": count - win - loss,
        "loss": loss,
        "verdict": verdict,
        "records_needed": needed,
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0
