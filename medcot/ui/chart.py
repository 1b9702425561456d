"""Plots as inline SVG, without script or network, in the page's colours, light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Literal, TypeVar

from medcot.evaluation.drawing import scale, unit_of
from medcot.runs.run import duration

T = TypeVar("T")
Points = Sequence[tuple[float, float]]
MOST_POINTS = 300  # more make no visible difference to a line
MOST_DOTS = 60
MOST_STRIPS = 90  # places along a plot that tell their values under the pointer
ENOUGH_TO_SMOOTH = 10


@dataclass(frozen=True)
class Look:
    """How a plot is drawn: over optimizer steps or over time, and whether equal factors have equal heights."""

    over: Literal["step", "time"] = "step"
    log: bool = False

    @property
    def axis(self) -> str:
        return "optimizer step" if self.over == "step" else "time at work"

    def said(self, x: float) -> str:
        """A place on the axis, in a sentence."""
        return f"Step {x:g}" if self.over == "step" else f"After {duration(x)}"

    def marks(self, right: float) -> list[tuple[float, str]]:
        """Round places from 0 on, and the last one, in place of a round one that its label would run into."""
        if self.over == "step":
            unit = max(1.0, unit_of(right, 6))
        else:
            days = MOMENTS[-1] * math.ceil(right / MOMENTS[-1] / 6)
            unit = next((unit for unit in MOMENTS if right / unit <= 6), days)
        places = [k * unit for k in range(math.ceil(right / unit)) if right - k * unit >= right / 8] + [right]
        return [(x, f"{x:.0f}" if self.over == "step" else duration(x)) for x in places]


BY_STEP = Look()
MOMENTS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 18_000, 36_000, 86_400)  # seconds between marks


@dataclass(frozen=True)
class Line:
    """A line of a plot. `style` names its CSS classes; no two lines differ by colour alone."""

    name: str
    style: str
    points: Points
    dots: bool = True


def loss_plot(
    train: Points, validation: Points, total_steps: int, look: Look = BY_STEP, kept: float | None = None
) -> str:
    """Train loss, raw and smoothed, and validation loss with its best, on an axis over the whole run.

    `kept` is the place of the validation whose adapter was kept.
    """
    if not (train or validation):
        note = "<p>The loss appears with the first step.</p>"
        return f'<figure class="mc-plot mc-plot-empty" data-points="0">{note}</figure>'
    lines = [Line("Train loss", "train", train), Line("Validation loss", "validation", validation)]
    if len(train) >= ENOUGH_TO_SMOOTH:
        smooth = Line("Train loss, smoothed", "train", smoothed(train, total_steps), False)
        lines = [Line("Train loss", "raw", train), smooth, lines[1]]
    return plot(lines, total_steps if look.over == "step" else 0, points=len(train), look=look, kept=kept)


def plot(
    lines: Sequence[Line],
    right: float = 0,
    *,
    points: int = 0,
    title: str = "",
    look: Look = BY_STEP,
    kept: float | None = None,
) -> str:
    """Lines over steps or time, up to `right` at least; a plot with a title is small."""
    drawn = [line for line in lines if line.points]
    frame = Frame.around(drawn, right, look)
    best = "" if title else "".join(_best(line, frame, kept) for line in drawn if line.style == "validation")
    keys = "".join(f'<span class="mc-key mc-key-{line.style}">{escape(line.name)}</span>' for line in drawn)
    caption = f"<b>{escape(title)}</b>" if title else keys + best.partition("<b")[0]
    axis = "" if title else f'<p class="mc-axis">{look.axis}</p>'
    unit = "" if title else f'<span class="mc-y-name">loss{", log scale" if frame.log else ""}</span>'
    paths = "".join(
        f'<polyline class="mc-line-{line.style}" vector-effect="non-scaling-stroke" '
        f'points="{" ".join("{:.2f},{:.2f}".format(*frame.place(*p)) for p in _thinned(line.points, MOST_POINTS))}"/>'
        for line in drawn
    )
    most = 1 if title else MOST_DOTS
    dots = "".join(_dots(line, frame) for line in drawn if line.dots and len(line.points) <= most)
    dots += "".join(best.partition("<b")[1:])
    return (
        f'<figure class="mc-plot{" mc-plot-small" if title else ""}" role="img" aria-label="{_in_words(drawn, look)}" '
        f'data-points="{points}"><figcaption>{caption}</figcaption><div class="mc-area">'
        f'{unit}{frame.axes(few=bool(title))}<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f"{paths}</svg>{dots}{_strips(drawn, frame, MOST_STRIPS // 3 if title else MOST_STRIPS)}</div>{axis}</figure>"
    )


def _best(line: Line, frame: "Frame", kept: float | None) -> str:
    """The reading that was kept, else where a line is lowest: for the legend, and as a ring in the plot; of one
    reading that was not kept, nothing."""
    chosen = [point for point in line.points if point[0] == kept]
    if len(line.points) < 2 and not chosen:
        return ""
    x, y = chosen[0] if chosen else min(line.points, key=lambda point: point[1])
    left, top = frame.place(x, y)
    said = f"{'Kept' if chosen else 'Best'}, {y:.4g}, {frame.look.said(x).lower()}"
    style, line_at = ("kept", f'<b class="mc-kept" style="left:{left:.2f}%"></b>') if chosen else ("best", "")
    ring = f'<b class="mc-best" style="left:{left:.2f}%;top:{top:.2f}%" title="{said}"></b>'
    return f'<span class="mc-key mc-key-{style}">{said}</span>{ring}{line_at}'


def _dots(line: Line, frame: "Frame") -> str:
    spots = [(*frame.place(x, y), x, y) for x, y in line.points]
    return "".join(
        f'<b class="mc-dot mc-dot-{line.style}" style="left:{left:.2f}%;top:{top:.2f}%" '
        f'title="{escape(line.name)}, {frame.look.said(x).lower()}: {y:.4g}"></b>'
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
            f'data-said="{escape(f"{frame.look.said(x)}: {values}")}"></i>'
        )
    return found


@dataclass(frozen=True)
class Frame:
    """The axes: from steps or seconds, and values, to percent of the plot's area."""

    right: float
    bottom: float
    top: float
    marks: list[float]
    look: Look
    log: bool = False

    @classmethod
    def around(cls, lines: Sequence[Line], right: float, look: Look) -> "Frame":
        both = [point for line in lines for point in line.points]
        values, right = [y for _, y in both], max(right, *(x for x, _ in both), 1)
        if look.log and min(values) > 0:
            marks = log_marks(min(values), max(values))
            return cls(right, math.log10(marks[0]), math.log10(marks[-1]), marks, look, True)
        return cls(right, *scale(min(values), max(values)), look)

    def place(self, x: float, y: float) -> tuple[float, float]:
        height = math.log10(y) if self.log else y
        return 100 * x / self.right, 100 * (self.top - height) / (self.top - self.bottom)

    def axes(self, *, few: bool) -> str:
        """The marks on both axes; only the outermost with `few`."""
        places = [(m, self.place(0, m)[1]) for m in (self.marks[:: len(self.marks) - 1] if few else self.marks)]
        grid = "".join(
            f'<span class="mc-y" style="top:{top:.2f}%">{m:g}</span><i class="mc-grid" style="top:{top:.2f}%"></i>'
            for m, top in places
        )
        marks = self.look.marks(self.right)
        return grid + "".join(
            f'<span class="mc-x" style="left:{100 * x / self.right:.2f}%">{label}</span>'
            for x, label in (marks[:: max(1, len(marks) - 1)] if few else marks)
        )


def log_marks(low: float, high: float) -> list[float]:
    """Marks of 1, 2 and 5 times powers of ten around positive values, whole decades alone if these are many."""
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    marks = [float(f"{m}e{k}") for k in decades for m in ((1, 2, 5) if len(decades) < 7 else (1,))]
    first = max(i for i, mark in enumerate(marks) if mark <= low)
    last = min(i for i, mark in enumerate(marks) if mark >= high)
    return marks[first : max(last, first + 1) + 1]


def small_plots(series: Sequence[tuple[str, Points]], right: float, look: Look = BY_STEP) -> str:
    """One small plot for each (title, points) that has any."""
    drawn = [plot([Line(title, "train", points)], right, title=title, look=look) for title, points in series if points]
    return f'<div class="mc-small-plots">{"".join(drawn)}</div>' if drawn else ""


def smoothed(points: Points, total_steps: int) -> list[tuple[float, float]]:
    """The exponential moving average over about a twelfth of the run, with Adam's bias correction at the start."""
    past = 1 - 1 / min(max(total_steps / 12, 3), 40)
    mean, found = 0.0, []
    for i, (x, y) in enumerate(points, start=1):
        mean = past * mean + (1 - past) * y
        found.append((x, mean / (1 - past**i)))
    return found


def _in_words(lines: Sequence[Line], look: Look) -> str:
    return "; ".join(
        escape(f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}, {where}")
        for line in lines
        if (where := look.said(line.points[-1][0]).lower())
    )


def _thinned(items: Sequence[T], most: int) -> Sequence[T]:
    stride = max(1, math.ceil(len(items) / most))
    return [*items[::stride], *([items[-1]] if items and (len(items) - 1) % stride else [])]
