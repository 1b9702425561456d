"""The plot holds every reading, and survives none."""

import re
from itertools import pairwise

import pytest

from medcot.ui.chart import MOST_DOTS, MOST_POINTS, MOST_STRIPS, loss_plot


def test_nothing_yet_is_said_in_words():
    assert "appears with the first step" in loss_plot([], [], 10)


def test_points_and_words_of_both_lines():
    plot = loss_plot([(1, 3.0), (2, 2.5)], [(0, 3.5)], 10)
    assert plot.count("mc-dot-train") == 2
    assert 'aria-label="Train loss from 3 to 2.5 at step 2; Validation loss from 3.5 to 3.5 at step 0"' in plot


def test_equal_losses_and_a_single_one_have_a_scale():
    for points in ([(1, 2.0)], [(1, 2.0), (2, 2.0)], [(1, 0.0)]):
        assert "polyline" in loss_plot(points, [], 2)


def test_many_readings_are_thinned_and_keep_their_last():
    many = [(float(n), 1 / n) for n in range(1, 5001)]
    plot = loss_plot(many, [], 5000)
    drawn = plot.split('class="mc-line-train"')[1].split('points="')[1].split('"')[0].split()
    assert len(many) > MOST_POINTS + 1 >= len(drawn) > MOST_DOTS
    assert drawn[-1].startswith("100.00,")
    assert "mc-dot-train" not in plot


@pytest.mark.parametrize("total", [1, 2, 3, 5, 7, 37, 60, 99, 100, 617, 1234, 20_000, 987_654])
def test_steps_are_marked_at_round_numbers_and_at_the_end_and_never_close_together(total):
    plot = loss_plot([(1, 2.0)], [], total)
    marks = [int(mark) for mark in re.findall(r'class="mc-x" [^>]*>(\d+)<', plot)]
    assert marks[0] == 0
    assert marks[-1] == total
    assert len(marks) <= 8
    unit = marks[1] if len(marks) > 2 else total
    assert str(unit).rstrip("0") in ("1", "2", "5") or len(marks) == 2
    assert all(b - a >= total / 10 for a, b in pairwise(marks))


@pytest.mark.parametrize("readings", [1, 2, 60, 61, 500, 5000])
def test_values_are_told_under_the_pointer_at_any_number_of_points_and_the_strips_cover_the_plot(readings):
    plot = loss_plot([(float(n), 1 / n) for n in range(1, readings + 1)], [(readings, 3.5)], readings)
    strips = re.findall(r'mc-strip" style="left:([\d.]+)%;width:([\d.]+)%[^"]*" data-said="([^"]+)"', plot)
    assert len(strips) == min(readings, len(strips)) <= MOST_STRIPS + 1
    assert strips[-1][2].startswith(f"Step {readings}: Train loss")
    assert strips[-1][2].endswith("Validation loss 3.5")
    assert sum(float(width) for _, width, _ in strips) == pytest.approx(100, abs=1)
    assert ">loss<" in plot
