"""Grouping by length: every record once, like with like, an order fixed by seed and epoch, and an exact resume."""

import random
import statistics

import pytest

from tests.engine_tools import changed, steps, train

LENGTHS = random.Random(7).choices(range(50, 1401), k=437)


def order(epoch=0, *, seed=1, lengths=LENGTHS, size=16):
    from medcot.engine.train.trainer import GroupedSampler

    sampler = GroupedSampler(lengths, size, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 437])
def test_every_record_comes_once_an_epoch(count):
    assert sorted(order(lengths=LENGTHS[:count])) == list(range(count))


def test_the_order_depends_on_the_seed_and_the_epoch_and_on_nothing_else():
    first = order(3)
    random.seed(99)
    assert order(3) == first
    assert order(4) != first
    assert order(3, seed=2) != first


def test_a_step_holds_like_lengths_the_longest_first_and_an_incomplete_one_last():
    drawn = [LENGTHS[i] for i in order()]
    in_steps = [drawn[i : i + 16] for i in range(0, len(drawn), 16)]
    assert drawn[0] == max(LENGTHS)
    assert [len(s) for s in in_steps] == [16] * 27 + [5]
    assert statistics.mean(max(s) - min(s) for s in in_steps) < 0.1 * (max(LENGTHS) - min(LENGTHS))
    assert in_steps[1:-1] != sorted(in_steps[1:-1], reverse=True), "steps of all lengths are mixed"


def test_grouping_changes_the_order_of_a_run(tmp_path, tiny_settings):
    shuffled, grouped = (
        train(tmp_path / mode, changed(tiny_settings, "training", sampling=mode)) for mode in ("shuffled", "grouped")
    )
    assert [s.loss for s in steps(shuffled)] != [s.loss for s in steps(grouped)]
