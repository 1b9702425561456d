"""The plot holds every reading, and survives none."""

import re
from itertools import pairwise

import pytest

from medcot.runs.events import Kept, Step, Validation
from medcot.runs.run import duration
from medcot.ui.chart import MOST_DOTS, MOST_POINTS, MOST_STRIPS, Look, log_marks, loss_plot
from medcot.ui.job_reader import Seen
from medcot.ui.train.curves import curves, elapsed


def test_nothing_yet_is_said_in_words():
    assert "appears with the first step" in loss_plot([], [], 10)


def test_points_and_words_of_both_lines():
    plot = loss_plot([(1, 3.0), (2, 2.5)], [(0, 3.5)], 10)
    assert plot.count("mc-dot-train") == 2
    assert 'aria-label="Train loss from 3 to 2.5, step 2; Validation loss from 3.5 to 3.5, step 0"' in plot


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


def test_the_best_validation_is_ringed_and_said():
    plot = loss_plot([(1, 3.0)], [(0, 3.5), (10, 1.25), (20, 1.5)], 20)
    assert "Best, 1.25, step 10" in plot
    assert plot.count("mc-best") == 1
    assert 'class="mc-best" style="left:50.00%' in plot
    assert "mc-best" not in loss_plot([(1, 3.0)], [(0, 3.5)], 20), "one reading is no best"


@pytest.mark.parametrize("validation", [[(0, 3.5), (10, 1.25), (20, 1.5)], [(20, 1.5)]])
def test_the_kept_step_is_marked_whether_or_not_its_loss_is_the_lowest(validation):
    plot = loss_plot([(1, 3.0)], validation, 20, kept=20)
    assert '<span class="mc-key mc-key-kept">Kept, 1.5, step 20</span>' in plot
    assert 'class="mc-kept" style="left:100.00%"' in plot
    assert "mc-key-best" not in plot


@pytest.mark.parametrize("seconds", [1, 59, 61, 340, 3600, 86_400, 9_000_000])
def test_time_is_marked_at_round_moments_and_at_the_end(seconds):
    plot = loss_plot([(0, 2.0), (seconds, 1.0)], [], 10, Look("time"))
    marks = re.findall(r'class="mc-x" [^>]*>([\d:]+)<', plot)
    assert marks[0] == "0:00"
    assert marks[-1] == duration(seconds)
    assert 2 <= len(marks) <= 8
    assert f"After {duration(seconds)}: Train loss 1" in plot
    assert "time at work" in plot


@pytest.mark.parametrize(("low", "high"), [(1.5, 2.9), (0.03, 8.0), (1e-6, 1e3), (2.0, 2.0), (1.0, 10.0)])
def test_a_log_scale_has_round_marks_around_all_values_and_equal_heights_for_equal_factors(low, high):
    marks = log_marks(low, high)
    assert marks[0] <= low
    assert marks[-1] >= high
    assert marks[0] < marks[-1]
    assert len(marks) <= 12
    assert all(f"{mark:.0e}"[0] in "125" for mark in marks)
    places = re.search(
        r'mc-line-train"[^>]*points="([^"]+)"', loss_plot([(1, 1.0), (2, 10.0), (3, 100.0)], [], 3, Look(log=True))
    )
    heights = [float(pair.split(",")[1]) for pair in places[1].split()]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.02)


def test_values_that_have_no_logarithm_are_drawn_on_a_plain_scale():
    plot = loss_plot([(1, 0.0), (2, 1.0)], [], 2, Look(log=True))
    assert ">loss<" in plot
    assert "nan" not in plot


def seen_at(times: list[float]) -> Seen:
    seen = Seen()
    rest = {
        "total_steps": 9,
        "epoch": 0.1,
        "learning_rate": 1e-3,
        "tokens_seen": 9,
        "tokens_per_second": 9.0,
        "gpu_memory_gib": 0.0,
    }
    for step, time in enumerate(times, start=1):
        seen.fold(Step(step=step, time=time, loss=1.0, grad_norm=None, eta_seconds=0.0, **rest))
    seen.fold(Validation(step=len(times), time=times[-1] + 1, loss=2.0))
    return seen


def test_time_at_work_leaves_out_the_night_between_two_parts_of_a_run():
    seen = seen_at([100.0, 110.0, 120.0, 50_000.0, 50_010.0])
    assert elapsed(seen.steps.points) == {1: 0, 2: 10, 3: 20, 4: 30, 5: 40}
    seen.fold(Kept(step=5, loss=2.0))
    (train, validation), series, kept = curves(seen, Look("time"))
    assert [x for x, _ in train] == pytest.approx([0, 10, 20, 30, 40], abs=2)
    assert validation == [(train[-1][0], 2.0)] == [(kept, 2.0)]
    assert [x for x, _ in dict(series)["Learning rate"]] == [x for x, _ in train]
    assert curves(seen, Look())[0][0] == [(step, 1.0) for step in range(1, 6)]


def test_one_reading_or_none_has_a_time():
    assert elapsed([]) == {}
    assert curves(seen_at([5.0]), Look("time"))[0][0] == [(0, 1.0)]
