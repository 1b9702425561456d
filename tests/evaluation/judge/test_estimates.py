"""What a judge's verdicts estimate, against a truth that is known."""

import random

import numpy
import pytest

from medcot.evaluation.judge.estimates import agreement, by_errors, by_people
from medcot.evaluation.judge.licence import Errors


def test_a_share_is_corrected_for_the_judges_errors():
    errors = Errors(right=100, right_called_wrong=10, wrong=100, wrong_called_wrong=90)
    found = by_errors([1.0] * 34 + [0.0] * 66, errors)  # 0.3 * 0.9 + 0.7 * 0.1
    assert found.value == pytest.approx(0.3)
    assert found.low < 0.3 < found.high
    blind = Errors(right=100, right_called_wrong=50, wrong=100, wrong_called_wrong=60)
    assert by_errors([1.0, 0.0], blind) is None
    assert by_errors([], errors) is None


def test_a_judge_without_errors_is_left_as_it_is():
    found = by_errors([1.0] * 3 + [0.0] * 7, Errors(right=9, right_called_wrong=0, wrong=9, wrong_called_wrong=9))
    assert found.value == pytest.approx(0.3)


def test_people_correct_a_judge_that_is_far_off():
    rng = random.Random(5)
    truth = {n: float(rng.random() < 0.3) for n in range(4000)}
    judge = {n: t if rng.random() < 0.8 else 1.0 for n, t in truth.items()}  # says wrong too often
    people = {n: truth[n] for n in range(400)}
    found, real = by_people(judge, people), sum(truth.values()) / len(truth)
    assert sum(judge.values()) / len(judge) - real > 0.1
    assert abs(found.value - real) < 0.04
    assert found.low < real < found.high


def test_a_good_judge_makes_the_interval_of_few_labels_narrower_and_a_useless_one_does_not_widen_it():
    rng = numpy.random.default_rng(3)
    truth = rng.random(1000) < 0.4
    people = {n: float(truth[n]) for n in range(60)}
    widths = {}
    for name, share in (("good", 0.05), ("useless", 0.5)):
        judge = {n: float(t != (rng.random() < share)) for n, t in enumerate(truth)}
        found = by_people(judge, people)
        widths[name] = found.high - found.low
    alone = by_people(people, people)
    assert widths["good"] < 0.6 * (alone.high - alone.low)
    assert widths["useless"] < 1.1 * (alone.high - alone.low)


def test_it_is_the_papers_formula_where_the_weight_is_one():
    """theta = mean(judge, N) + mean(people - judge, n): equation 5 of Angelopoulos and others (2023)."""
    truth = [float(n % 3 == 0) for n in range(400)]
    judge = dict(enumerate(truth))
    people = {n: truth[n] for n in range(200)}
    found = by_people(judge, people)
    covariance, n, more = numpy.cov(truth[:200], truth[:200])[0, 1], 200, 200
    weight = covariance / ((1 + n / more) * numpy.var(truth, ddof=1))
    expected = weight * numpy.mean(truth[200:]) + numpy.mean([(1 - weight) * t for t in truth[:200]])
    assert found.value == pytest.approx(expected)


def test_few_labels_are_not_used():
    assert by_people(dict.fromkeys(range(100), 1.0), dict.fromkeys(range(9), 1.0)) is None


def test_agreement_is_chance_corrected():
    judge = {n: "right" if n % 2 else "wrong" for n in range(20)}
    same = agreement(judge, {"a": judge})
    assert (same.kappa, same.alpha, same.ok, same.judged_by_both) == (1.0, 1.0, True, 20)
    opposite = {n: "wrong" if n % 2 else "right" for n in range(20)}
    against = agreement(judge, {"a": opposite})
    assert (against.kappa, against.ok) == (-1.0, False)
    assert agreement(judge, {"a": {n: opposite[n] for n in range(9)}}).ok  # too few to tell
    assert agreement(judge, {"a": {99: "right"}}) is None
    nothing = agreement(dict.fromkeys(range(20), "right"), {"a": dict.fromkeys(range(20), "right")})
    assert (nothing.kappa, nothing.ok) == (None, False) or nothing.kappa == 1.0


def test_cohens_kappa_is_the_textbooks():
    """20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: kappa 0.4."""
    pairs = [("y", "y")] * 20 + [("y", "n")] * 5 + [("n", "y")] * 10 + [("n", "n")] * 15
    found = agreement({n: a for n, (a, _) in enumerate(pairs)}, {"r": {n: b for n, (_, b) in enumerate(pairs)}})
    assert found.kappa == pytest.approx(0.4)
    assert found.ok
