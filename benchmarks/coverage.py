"""How often the interval of an evaluation holds the true difference: `python benchmarks/coverage.py [SIMULATIONS]`.

For each number of records, evaluations are drawn whose true mean difference is known, and the share of intervals that
hold it is counted. It should be 95%. Three kinds of differences: normal; skewed, as when a few records gain much; and
mostly ties, as where most records score the same. And the share of wrong answers by a judge that is off by 0.2,
corrected by 60 labels of people (prediction-powered inference): how often its interval holds the true share, and how
wide it is beside that of the labels alone.
"""

import sys

import numpy

from medcot.evaluation.judge.estimates import by_people
from medcot.evaluation.metrics import compare

KINDS = {
    "normal": (lambda rng, n: rng.normal(0.02, 0.1, n), 0.02),
    "skewed": (lambda rng, n: rng.exponential(0.05, n) - 0.03, 0.02),
    "mostly ties": (lambda rng, n: rng.normal(0.05, 0.1, n) * (rng.random(n) < 0.4), 0.02),
}
SIZES = (12, 24, 100)
LABELS, OFF, NOISE = 60, 0.2, 0.05
SHARES = (0.2, 0.3, 0.5)  # of wrong answers


def coverage(kind: str, records: int, simulations: int, seed: int = 1) -> float:
    """The share of simulated evaluations whose 95% interval holds the true mean."""
    draw, truth = KINDS[kind]
    rng = numpy.random.default_rng(seed)
    held = 0
    for number in range(simulations):
        found = compare([0.0] * records, draw(rng, records).tolist(), seed=number)
        held += found.low <= truth <= found.high
    return held / simulations


def judged(share: float, answers: int, simulations: int, seed: int = 1) -> tuple[float, float]:
    """(share of intervals that hold the truth, mean width over that of the labels alone)."""
    rng = numpy.random.default_rng(seed)
    held, widths = 0, []
    for _ in range(simulations):
        wrong = rng.random(answers) < share
        called = numpy.where(rng.random(answers) < NOISE, ~wrong, wrong)
        # Of the answers that it would call right, so many more are called wrong that its share is off by 0.2.
        called |= rng.random(answers) < OFF / (1 - (share * (1 - NOISE) + (1 - share) * NOISE))
        labelled = rng.choice(answers, LABELS, replace=False)
        people = {int(n): float(wrong[n]) for n in labelled}
        found = by_people({n: float(c) for n, c in enumerate(called)}, people)
        alone = by_people(people, people)
        assert found
        assert alone
        held += found.low <= share <= found.high
        widths.append((found.high - found.low) / (alone.high - alone.low))
    return held / simulations, float(numpy.mean(widths))


if __name__ == "__main__":
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{simulations} simulations each; the share of 95% intervals that hold the truth")
    for kind in KINDS:
        shares = "  ".join(f"{n} records {coverage(kind, n, simulations):.1%}" for n in SIZES)
        print(f"{kind:12} {shares}")
    print(f"\na judge off by {OFF}, {LABELS} labels: intervals that hold the truth, and width beside the labels alone")
    for share in SHARES:
        cells = "  ".join(
            f"{n} answers {held:.1%}, {width:.2f}"
            for n in (300, 2000)
            for held, width in [judged(share, n, simulations)]
        )
        print(f"{share:.0%} wrong    {cells}")
