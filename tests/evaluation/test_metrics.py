"""Scores: against rouge_score itself, by hand where it cannot help; comparisons that claim no more than they know."""

import random

import pytest
from rouge_score.rouge_scorer import RougeScorer

from medcot.evaluation import metrics
from tests.conftest import make_records

DIRECT = RougeScorer(["rougeL"], use_stemmer=True)


def direct(prediction: str, reference: str) -> float:
    return DIRECT.score(reference, prediction)["rougeL"].fmeasure


def test_a_record_is_scored_by_its_parts():
    score = metrics.score(
        "<think>\nVitamin C is low.\n</think>\n<response>\nScurvy is likely, so give vitamin C.\n</response>",
        "vitamin C is low",
        "Scurvy, so give vitamin C",
    )
    assert score.reasoning_rouge_l == 1.0
    assert score.answer_rouge_l == direct("Scurvy is likely, so give vitamin C.", "Scurvy, so give vitamin C")
    assert (score.strict, score.lenient, score.truncated) == (True, True, False)
    assert score.length_ratio == pytest.approx(7 / 5)


def test_an_output_without_tags_is_an_answer_in_no_format():
    score = metrics.score("Scurvy", "r", "Scurvy", truncated=True)
    assert (score.answer_rouge_l, score.reasoning_rouge_l) == (1.0, 0.0)
    assert (score.strict, score.lenient, score.truncated) == (False, False, True)


def test_summaries_are_means_over_records():
    scores = [metrics.score("<think>a</think><response>b</response>", "a", "b"), metrics.score("", "a", "b")]
    summary = metrics.summarise(scores)
    assert summary == {
        "answer_rouge_l": 0.5,
        "reasoning_rouge_l": 0.5,
        "format_strict": 0.5,
        "format_lenient": 0.5,
        "truncated": 0.0,
        "both_rouge_l": 0.5,
        "truncated_before_answer": 0.0,
        "length_ratio": 0.5,
        "records": 2,
    }


def floors_directly(records: list[dict[str, str]]) -> dict[str, float]:
    answers = [r["Response"] for r in records]
    n = len(records)
    return {
        "echo": sum(direct(r["Question"], r["Response"]) for r in records) / n,
        "shuffled": sum(direct(answers[(i + 1) % n], answers[i]) for i in range(n)) / n,
        "empty": 0.0,
        "gold_reasoning": sum(direct(r["Complex_CoT"], r["Response"]) for r in records) / n,
    }


def floors_of(records: list[dict[str, str]]) -> dict[str, float]:
    return metrics.floors([(r["Question"], r["Complex_CoT"], r["Response"]) for r in records])


def test_floors_against_rouge_score():
    records = make_records(9)
    assert floors_of(records) == pytest.approx(floors_directly(records), abs=1e-9)


def test_floors_of_one_record_and_of_none():
    assert floors_of(make_records(1))["shuffled"] == 0.0, "its own answer is no other record's"
    assert metrics.floors([]) == {"echo": 0.0, "shuffled": 0.0, "empty": 0.0, "gold_reasoning": 0.0}


# ---- paired comparison


def test_base_against_base_is_exactly_nothing():
    scores = [random.Random(3).random() for _ in range(50)]
    found = metrics.compare(scores, scores)
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)
    assert (found.win, found.tie, found.loss) == (0, 50, 0)
    assert found.verdict == "not distinguishable"
    assert found.records_needed is None


def test_a_clear_gain_a_clear_loss_and_noise():
    rng = random.Random(4)
    base = [rng.uniform(0.1, 0.3) for _ in range(60)]
    better = [b + rng.uniform(0.0, 0.1) for b in base]
    gain, loss = metrics.compare(base, better), metrics.compare(better, base)
    assert gain.verdict == "better"
    assert loss.verdict == "worse"
    assert 0 < gain.low < gain.difference < gain.high < 0.1
    assert loss.difference == pytest.approx(-gain.difference)
    assert (gain.win, loss.loss) == (60, 60)
    noise = metrics.compare(base, [b + rng.choice([-0.1, 0.1]) for b in base])
    assert noise.verdict == "not distinguishable"
    assert noise.low < 0 < noise.high
    assert noise.records_needed > 60


def test_wins_ties_and_losses_are_counted_record_by_record():
    found = metrics.compare([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.2, 0.3, 0.4, 0.4, 0.5, 0.1])
    assert (found.win, found.tie, found.loss) == (3, 2, 1)


def test_the_interval_is_that_of_the_mean_and_narrows_with_more_records():
    rng = random.Random(5)
    differences = [rng.gauss(0.0, 0.1) for _ in range(400)]
    few, many = (metrics.compare([0.0] * n, differences[:n]) for n in (25, 400))
    for found, n in ((few, 25), (many, 400)):
        half = (found.high - found.low) / 2
        spread = (sum((d - found.difference) ** 2 for d in differences[:n]) / (n - 1)) ** 0.5
        assert half == pytest.approx(1.96 * spread / n**0.5, rel=0.15)
    assert many.high - many.low < (few.high - few.low) / 2


def test_the_same_seed_gives_the_same_interval_and_another_a_slightly_different_one():
    rng = random.Random(6)
    tuned = [rng.random() for _ in range(30)]
    base = [rng.random() for _ in range(30)]
    first = metrics.compare(base, tuned, seed=1)
    assert metrics.compare(base, tuned, seed=1) == first
    other = metrics.compare(base, tuned, seed=2)
    assert other.low != first.low
    assert other.low == pytest.approx(first.low, abs=0.02)


def test_one_record_decides_nothing():
    found = metrics.compare([0.1], [0.9])
    assert found.verdict == "not distinguishable"
    assert found.difference == pytest.approx(0.8)


def test_a_gain_that_is_the_same_on_every_record_is_a_gain():
    found = metrics.compare([0.25] * 10, [0.5] * 10)
    assert (found.difference, found.low, found.high, found.verdict) == (0.25, 0.25, 0.25, "better")


def test_scores_of_unlike_number_are_not_compared():
    with pytest.raises(ValueError, match="shape"):
        metrics.compare([0.1, 0.2], [0.1, 0.2, 0.3])


# ---- for other people's code


def test_the_evaluate_metric_scores_the_answer_part():
    from medcot.evaluation.rouge_metric import MedcotRougeL

    metric = MedcotRougeL()
    found = metric.compute(
        predictions=["<think>x</think><response>Give vitamin C</response>", "no tags"],
        references=["give vitamin C", "tags"],
    )
    assert found["answer_rouge_l"] == pytest.approx((1.0 + direct("no tags", "tags")) / 2)
    assert found["format_strict"] == 0.5


def test_a_handful_of_records_carries_no_verdict():
    few = metrics.compare([0.1] * 9, [0.2, 0.21, 0.22] * 3)
    assert few.low > 0
    assert few.verdict == "not distinguishable"
    assert metrics.compare([0.1] * 12, [0.2, 0.21, 0.22] * 4).verdict == "better"
