"""The interval holds the truth as often as it says: counted, not assumed."""

import pytest

from benchmarks.coverage import coverage

SIMULATIONS = 1500  # the count's own standard error is then 0.6 points


@pytest.mark.slow
@pytest.mark.parametrize("records", [12, 24, 100])
def test_the_interval_covers_the_truth_in_95_percent_of_evaluations(records):
    assert 0.935 <= coverage("normal", records, SIMULATIONS, seed=2) <= 0.965
