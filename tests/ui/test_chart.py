"""The plot holds every reading, and survives none."""

from medcot.ui.chart import MOST_DOTS, MOST_POINTS, loss_plot


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
