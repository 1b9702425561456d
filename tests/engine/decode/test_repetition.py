"""A text that goes round in circles is told from one that only repeats itself."""

import random

import pytest

from medcot.engine.decode.decoder import LEAST_TOKENS, LONGEST_CYCLE, is_repeating

RANDOM = random.Random(5)
START = [RANDOM.randrange(1000) for _ in range(200)]


@pytest.mark.parametrize("cycle", [1, 2, 7, 40, LONGEST_CYCLE])
def test_a_cycle_is_found_as_soon_as_it_has_been_told_often_enough(cycle):
    rounds = max(3, -(-LEAST_TOKENS // cycle))
    tokens = [*START, *list(range(2000, 2000 + cycle)) * rounds]
    assert is_repeating(tokens)
    enough = max(LEAST_TOKENS, 3 * cycle)
    assert not is_repeating(tokens[: len(START) + enough - 1])


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [5],
        START,
        [*START, *[7] * (LEAST_TOKENS - 1)],
        [*START, *list(range(50)) * 2],  # said twice is emphasis
        [*START, *[t for i in range(40) for t in (1, 2, 3, 100 + i)]],  # a list, each item its own
        [*START, *list(range(LONGEST_CYCLE + 1)) * 3],
        [*[7] * 100, *START],
    ],
)
def test_what_is_no_loop(tokens):
    assert not is_repeating(tokens)
