"""report.html of an evaluation and its two plots: one file, no network, no script; it prints well.

The markup is in report.html and plots.html beside this module. Jinja escapes every text from data or a model.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medcot.evaluation import summary as table
from medcot.evaluation.answers import Example, Sample, title
from medcot.evaluation.judge.words import licence_lines
from medcot.evaluation.summary import Summary, cautions, counts_text, judgements, points, seen_text, verdict_text

if TYPE_CHECKING:
    from jinja2 import Template

HERE = Path(__file__).parent
# What the templates call.
WORDS = (title, points, verdict_text, counts_text, seen_text, cautions, judgements, licence_lines)
WIDTH, HEIGHT = 640, 200
MOST_BARS = 400  # more would be thinner than a pixel; the sorted differences are then thinned


@functools.cache
def _template(name: str) -> "Template":
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(autoescape=True, loader=FileSystemLoader(HERE))
    return environment.get_template(name, globals={function.__name__: function for function in WORDS})


def render(summary: Summary, examples: Sequence[Example], samples: Sequence[Sample]) -> str:
    """The whole page."""
    return _template("report.html").render(
        summary=summary,
        examples=examples,
        samples=samples,
        scores=table.scores(summary),
        floors=table.floors(summary),
        ceiling=table.ceiling(summary),
        plots=plots(summary, examples),
        style="\n".join((HERE / name).read_text(encoding="utf-8") for name in ("report.css", "plots.css")),
    )


def plots(summary: Summary, examples: Sequence[Example]) -> str:
    """Draw each record's difference as a bar, sorted, and every comparison's with its interval, one below the other."""
    paired, form, gains = summary.tuned_base, summary.headline.form, sorted(e.gain for e in examples)
    bars = gains[:: -(-len(gains) // MOST_BARS) or 1]
    bottom, top = min(*bars[:1], paired.low, 0.0), max(*bars[-1:], paired.high, 0.0)
    span, step = (top - bottom) or 1.0, WIDTH / max(1, len(bars))
    reach = max(abs(side) for other in summary.paired.values() for side in (other.low, other.high)) or 1.0
    low, high, difference = (points(value, form) for value in (paired.low, paired.high, paired.difference))
    return _template("plots.html").render(
        summary=summary,
        paired=paired,
        form=form,
        bars=bars,
        words=f"{len(gains)} records sorted by difference in {summary.words.score}: {paired.loss} lower, "
        f"{paired.tie} equal, {paired.win} higher; mean {difference}, 95% interval {low} to {high}.",
        width=WIDTH,
        height=HEIGHT,
        step=step,
        bar=max(step - 1, step * 0.7),
        y=lambda value: 4 + (top - value) / span * (HEIGHT - 8),
        percent=lambda value: f"{value / reach * 48:.1f}%",
        place=lambda value: f"{50 + value / reach * 48:.1f}%",
    )
