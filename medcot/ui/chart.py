"""Plots as inline SVG: no script, no network, and they follow the page's colours in light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

Points = Sequence[tuple[float, float]]
MOST_POINTS = 300  # a line of more looks the same
MOST_DOTS = 60
ENOUGH_TO_SMOOTH = 10


@dataclass(frozen=True)
class Line:
    """`style` names the classes that draw it; no two lines differ by colour alone."""

    name: str
    style: str
    points: Points
    dots: bool = True


def loss_plot(train: Points, validation: Points, total_steps: int) -> str:
    """Train loss as it is and smoothed, and validation loss, by step. The axis spans the whole run."""
    if not (train or validation):
        note = "<p>The loss appears with the first step.</p>"
        return f'<figure class="mc-plot mc-plot-empty" data-points="0">{note}</figure>'
    lines = [Line("Train loss", "train", train), Line("Validation loss", "validation", validation)]
    if len(train) >= ENOUGH_TO_SMOOTH:
        lines = [
            Line("Train loss", "raw", train),
            Line("Train loss, smoothed", "train", smoothed(train, total_steps), False),
            lines[1],
        ]
    return plot(lines, total_steps, points=len(train))


def plot(lines: Sequence[Line], total_steps: int = 0, *, points: int = 0, title: str = "") -> str:
    """Lines over one axis of optimizer steps, which goes to `total_steps` at least; with a title it is a small one."""
    drawn = [line for line in lines if line.points]
    frame = Frame.around(drawn, total_steps)
    keys = "".join(f'<span class="mc-key mc-key-{line.style}">{escape(line.name)}</span>' for line in drawn)
    caption = f"<b>{escape(title)}</b>" if title else keys
    axis = "" if title else '<p class="mc-axis">optimizer step</p>'
    paths = "".join(
        f'<polyline class="mc-line-{line.style}" vector-effect="non-scaling-stroke" '
        f'points="{" ".join("{:.2f},{:.2f}".format(*frame.place(*p)) for p in _thinned(line.points))}"/>'
        for line in drawn
    )
    dots = "".join(
        _dots(line, frame) for line in drawn if line.dots and len(line.points) <= (1 if title else MOST_DOTS)
    )
    return (
        f'<figure class="mc-plot{" mc-plot-small" if title else ""}" role="img" aria-label="{_in_words(drawn)}" '
        f'data-points="{points}"><figcaption>{caption}</figcaption><div class="mc-area">{frame.axes(few=bool(title))}'
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">'
        f"{paths}</svg>{dots}</div>{axis}</figure>"
    )


def _dots(line: Line, frame: "Frame") -> str:
    spots = [(*frame.place(x, y), x, y) for x, y in line.points]
    return "".join(
        f'<b class="mc-dot mc-dot-{line.style}" style="left:{left:.2f}%;top:{top:.2f}%" '
        f'title="{escape(line.name)}, step {x:g}: {y:.4g}"></b>'
        for left, top, x, y in spots
    )


@dataclass(frozen=True)
class Frame:
    """From steps and values to percent of the plot's area."""

    right: int
    bottom: float
    top: float
    marks: list[float]

    @classmethod
    def around(cls, lines: Sequence[Line], total_steps: int) -> "Frame":
        both = [point for line in lines for point in line.points]
        values = [y for _, y in both]
        return cls(max(total_steps, *(int(x) for x, _ in both), 1), *_scale(min(values), max(values)))

    def place(self, x: float, y: float) -> tuple[float, float]:
        return 100 * x / self.right, 100 * (self.top - y) / (self.top - self.bottom)

    def axes(self, *, few: bool) -> str:
        """The marks on both axes; `few` leaves the outermost."""
        grid = "".join(
            f'<span class="mc-y" style="top:{self.place(0, m)[1]:.2f}%">{m:g}</span>'
            f'<i class="mc-grid" style="top:{self.place(0, m)[1]:.2f}%"></i>'
            for m in (self.marks[:: len(self.marks) - 1] if few else self.marks)
        )
        return grid + "".join(
            f'<span class="mc-x" style="left:{100 * step / self.right:.2f}%">{step}</span>'
            for step in _steps(self.right, 1 if few else 4)
        )


def small_plots(series: Sequence[tuple[str, Points]], total_steps: int) -> str:
    """One small plot for each (title, points) that has any."""
    drawn = [plot([Line(title, "train", points)], total_steps, title=title) for title, points in series if points]
    return f'<div class="mc-small-plots">{"".join(drawn)}</div>' if drawn else ""


def smoothed(points: Points, total_steps: int) -> list[tuple[float, float]]:
    """The running mean over about a twelfth of the run, free of the pull to zero at its start (as Adam corrects it)."""
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


def _scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round limits around the values, and the marks between."""
    span = max(high - low, abs(high) * 0.05, 1e-9)
    size = 10.0 ** math.floor(math.log10(span / 3))
    unit = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= 4)
    first, last = math.floor(low / unit), math.ceil(high / unit)
    last = max(last, first + 1)
    return first * unit, last * unit, [float(f"{k * unit:.6g}") for k in range(first, last + 1)]


def _steps(right: int, parts: int) -> list[int]:
    wanted = [round(right * k / parts) for k in range(parts + 1)]
    return [wanted[0], *(b for a, b in pairwise(wanted) if b != a)]


def _thinned(points: Points) -> Points:
    stride = max(1, math.ceil(len(points) / MOST_POINTS))
    return [*points[::stride], *([points[-1]] if points and (len(points) - 1) % stride else [])]
