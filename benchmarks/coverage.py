"""How often the interval of an evaluation holds the true difference: `python benchmarks/coverage.py [SIMULATIONS]`.

For each number of records, evaluations are drawn whose true mean difference is known, and the share of intervals that
hold it is counted. It should be 95%. Three kinds of differences: normal; skewed, as when a few records gain much; and
mostly ties, as where most records score the same.
"""

import sys

import numpy

from medcot.evaluation.metrics import compare

KINDS = {
    "normal": (lambda rng, n: rng.normal(0.02, 0.1, n), 0.02),
    "skewed": (lambda rng, n: rng.exponential(0.05, n) - 0.03, 0.02),
    "mostly ties": (lambda rng, n: rng.normal(0.05, 0.1, n) * (rng.random(n) < 0.4), 0.02),
}
SIZES = (12, 24, 100)


def coverage(kind: str, records: int, simulations: int, seed: int = 1) -> float:
    """The share of simulated evaluations whose 95% interval holds the true mean."""
    draw, truth = KINDS[kind]
    rng = numpy.random.default_rng(seed)
    held = 0
    for number in range(simulations):
        found = compare([0.0] * records, draw(rng, records).tolist(), seed=number)
        held += found.low <= truth <= found.high
    return held / simulations


if __name__ == "__main__":
    simulations = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print(f"{simulations} simulations each; the share of 95% intervals that hold the truth")
    for kind in KINDS:
        shares = "  ".join(f"{n} records {coverage(kind, n, simulations):.1%}" for n in SIZES)
        print(f"{kind:12} {shares}")
