"""Two pictures of an evaluation as inline SVG, alike in the page and the report: no script, colours from the page.

Every text in them is a figure or a name that is escaped here.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

from medcot.evaluating.arms import title
from medcot.evaluating.table import points, score_name, sides

WIDTH, HEIGHT = 640.0, 200.0
MOST_BARS = 400  # more would be thinner than a pixel; the sorted differences are then thinned


def differences_plot(gains: Sequence[float], paired: dict[str, Any], name: str, form: str) -> str:
    """Each record's difference as a bar, sorted, with the mean and its interval across; empty where there is none."""
    if not gains:
        return ""
    stride = -(-len(gains) // MOST_BARS)
    bars = sorted(gains)[::stride]
    bottom: float = min(bars[0], paired["low"], 0.0)
    top: float = max(bars[-1], paired["high"], 0.0)
    span, step = (top - bottom) or 1.0, WIDTH / len(bars)

    def y(value: float) -> float:
        return 4 + (top - value) / span * (HEIGHT - 8)

    zero = y(0.0)
    drawn = "".join(
        f'<rect class="{"gain" if g > 0 else "loss"}" x="{i * step:.2f}" width="{max(step - 1, step * 0.7):.2f}" '
        f'y="{min(y(g), zero):.2f}" height="{abs(y(g) - zero):.2f}"/>'
        for i, g in enumerate(bars)
        if g
    )
    low, high, mean = y(paired["low"]), y(paired["high"]), y(paired["difference"])
    words = (
        f"{len(gains)} records sorted by difference in {name}: {paired['loss']} lower, {paired['tie']} equal, "
        f"{paired['win']} higher; mean {points(paired['difference'], form)}, 95% interval "
        f"{points(paired['low'], form)} to {points(paired['high'], form)}."
    )
    return (
        f'<figure class="plot-differences"><svg viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" role="img" '
        f'aria-label="{escape(words)}" preserveAspectRatio="none">'
        f'<rect class="band" x="0" width="{WIDTH:.0f}" y="{high:.2f}" height="{max(low - high, 0.5):.2f}"/>{drawn}'
        f'<line class="zero" x1="0" x2="{WIDTH:.0f}" y1="{zero:.2f}" y2="{zero:.2f}"/>'
        f'<line class="mean" x1="0" x2="{WIDTH:.0f}" y1="{mean:.2f}" y2="{mean:.2f}"/></svg>'
        f"<figcaption>{escape(words)} The dashed line is the mean, the band its interval; the bars reach "
        f"from {points(bars[0], form)} to {points(bars[-1], form)}.</figcaption></figure>"
    )


def comparisons_plot(summary: dict[str, Any], form: str) -> str:
    """Every comparison's difference with its interval, one below the other: a run's checkpoints make a curve."""
    found = summary["paired"]
    if len(found) < 2:
        return ""
    reach = max(abs(p[side]) for p in found.values() for side in ("low", "high")) or 1.0
    rows = "".join(_comparison(key, p, reach, summary, form) for key, p in found.items())
    return (
        f'<figure class="plot-comparisons"><div role="list">{rows}</div><figcaption>Difference in '
        f"{score_name(summary)} with its 95% interval; the line in the middle is none.</figcaption></figure>"
    )


def _comparison(key: str, paired: dict[str, Any], reach: float, summary: dict[str, Any], form: str) -> str:
    def x(value: float) -> float:
        return 50 + value / reach * 48

    arm, against = (escape(title(name)) for name in sides(key, summary))
    low, high, mean = x(paired["low"]), x(paired["high"]), x(paired["difference"])
    return (
        f'<div class="comparison" role="listitem"><span>{arm}<small> against {against.lower()}</small></span>'
        f'<i aria-hidden="true"><b class="zero"></b><b class="range" style="left:{low:.1f}%;width:{high - low:.1f}%">'
        f'</b><b class="mean" style="left:{mean:.1f}%"></b></i>'
        f"<em>{points(paired['difference'], form)}</em></div>"
    )
