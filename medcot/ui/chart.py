"""Plots as inline SVG, without script or network, in the page's colours, light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import TypeVar

from medcot.evaluation.drawing import scale

T = TypeVar("T")
Points = Sequence[tuple[float, float]]
MOST_POINTS = 300  # more make no visible difference to a line
MOST_DOTS = 60
MOST_STRIPS = 90  # places along a plot that tell their values under the pointer
ENOUGH_TO_SMOOTH = 10


@dataclass(frozen=True)
class Line:
    """A line of a plot. `style` names its CSS classes; no two lines differ by colour alone."""

    name: str
    style: str
    points: Points
    dots: bool = True


def loss_plot(train: Points, validation: Points, total_steps: int) -> str:
    """Train loss, raw and smoothed, and validation loss by step, on an axis over the whole run."""
    if not (train or validation):
        note = "<p>The loss appears with the first step.</p>"
        return f'<figure class="mc-plot mc-plot-empty" data-points="0">{note}</figure>'
    lines = [Line("Train loss", "train", train), Line("Validation loss", "validation", validation)]
    if len(train) >= ENOUGH_TO_SMOOTH:
        smooth = Line("Train loss, smoothed", "train", smoothed(train, total_steps), False)
        lines = [Line("Train loss", "raw", train), smooth, lines[1]]
    return plot(lines, total_steps, points=len(train))


def plot(lines: Sequence[Line], total_steps: int = 0, *, points: int = 0, title: str = "") -> str:
    """Lines over optimizer steps, up to `total_steps` at least; a plot with a title is small."""
    drawn = [line for line in lines if line.points]
    frame = Frame.around(drawn, total_steps)
    keys = "".join(f'<span class="mc-key mc-key-{line.style}">{escape(line.name)}</span>' for line in drawn)
    caption = f"<b>{escape(title)}</b>" if title else keys
    axis = "" if title else '<p class="mc-axis">optimizer step</p>'
    unit = "" if title else '<span class="mc-y-name">loss</span>'
    paths = "".join(
        f'<polyline class="mc-line-{line.style}" vector-effect="non-scaling-stroke" '
        f'points="{" ".join("{:.2f},{:.2f}".format(*frame.place(*p)) for p in _thinned(line.points, MOST_POINTS))}"/>'
        for line in drawn
    )
    most = 1 if title else MOST_DOTS
    dots = "".join(_dots(line, frame) for line in drawn if line.dots and len(line.points) <= most)
    return (
        f'<figure class="mc-plot{" mc-plot-small" if title else ""}" role="img" aria-label="{_in_words(drawn)}" '
        f'data-points="{points}"><figcaption>{caption}</figcaption><div class="mc-area">'
        f'{unit}{frame.axes(few=bool(title))}<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f"{paths}</svg>{dots}{_strips(drawn, frame, MOST_STRIPS // 3 if title else MOST_STRIPS)}</div>{axis}</figure>"
    )


def _dots(line: Line, frame: "Frame") -> str:
    spots = [(*frame.place(x, y), x, y) for x, y in line.points]
    return "".join(
        f'<b class="mc-dot mc-dot-{line.style}" style="left:{left:.2f}%;top:{top:.2f}%" '
        f'title="{escape(line.name)}, step {x:g}: {y:.4g}"></b>'
        for left, top, x, y in spots
    )


def _strips(lines: Sequence[Line], frame: "Frame", most: int) -> str:
    """Upright strips over the plot; the one under the pointer is a line and tells each line's value there."""
    steps = sorted({x for line in lines for x, _ in line.points})
    steps = list(_thinned(steps, most))
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(steps)), float(frame.right)]
    at = [dict(line.points) for line in lines]
    found = ""
    for i, x in enumerate(steps):
        values = "; ".join(f"{line.name} {known[x]:.4g}" for line, known in zip(lines, at, strict=True) if x in known)
        left, width = 100 * edges[i] / frame.right, 100 * (edges[i + 1] - edges[i]) / frame.right
        here = 100 * (x - edges[i]) / max(edges[i + 1] - edges[i], 1e-9)
        found += (
            f'<i class="mc-strip" style="left:{left:.2f}%;width:{width:.2f}%;--here:{here:.0f}%;--at:{left:.0f}%" '
            f'data-said="{escape(f"Step {x:g}: {values}")}"></i>'
        )
    return found


@dataclass(frozen=True)
class Frame:
    """The axes: from steps and values to percent of the plot's area."""

    right: int
    bottom: float
    top: float
    marks: list[float]

    @classmethod
    def around(cls, lines: Sequence[Line], total_steps: int) -> "Frame":
        both = [point for line in lines for point in line.points]
        values = [y for _, y in both]
        return cls(max(total_steps, *(int(x) for x, _ in both), 1), *scale(min(values), max(values)))

    def place(self, x: float, y: float) -> tuple[float, float]:
        return 100 * x / self.right, 100 * (self.top - y) / (self.top - self.bottom)

    def axes(self, *, few: bool) -> str:
        """The marks on both axes; only the outermost with `few`."""
        grid = "".join(
            f'<span class="mc-y" style="top:{self.place(0, m)[1]:.2f}%">{m:g}</span>'
            f'<i class="mc-grid" style="top:{self.place(0, m)[1]:.2f}%"></i>'
            for m in (self.marks[:: len(self.marks) - 1] if few else self.marks)
        )
        return grid + "".join(
            f'<span class="mc-x" style="left:{100 * step / self.right:.2f}%">{step}</span>'
            for step in ([0, self.right] if few else _steps(self.right))
        )


def small_plots(series: Sequence[tuple[str, Points]], total_steps: int) -> str:
    """One small plot for each (title, points) that has any."""
    drawn = [plot([Line(title, "train", points)], total_steps, title=title) for title, points in series if points]
    return f'<div class="mc-small-plots">{"".join(drawn)}</div>' if drawn else ""


def smoothed(points: Points, total_steps: int) -> list[tuple[float, float]]:
    """The exponential moving average over about a twelfth of the run, with Adam's bias correction at the start."""
    past = 1 - 1 / min(max(total_steps / 12, 3), 40)
    mean, found = 0.0, []
    for i, (x, y) in enumerate(points, start=1):
        mean = past * mean + (1 - past) * y
        found.append((x, mean / (1 - past**i)))
    return found


def _in_words(lines: Sequence[Line]) -> str:
    return "; ".join(
        escape(f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g} at step {line.points[-1][0]:g}")
        for line in lines
    )


def _steps(right: int) -> list[int]:
    """Round steps from 0 on, and the last one, in place of a round one that its label would run into."""
    size = 10 ** max(0, math.floor(math.log10(right / 3)))
    unit = next(size * m for m in (1, 2, 5, 10) if right / (size * m) <= 6)
    return [*(step for step in range(0, right, unit) if right - step >= right / 10), right]


def _thinned(items: Sequence[T], most: int) -> Sequence[T]:
    stride = max(1, math.ceil(len(items) / most))
    return [*items[::stride], *([items[-1]] if items and (len(items) - 1) % stride else [])]
