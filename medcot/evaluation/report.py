"""report.html of an evaluation: one file, no network, no script; it prints well. And the bars of its records.

The markup is in report.html and plots.html beside this module. Jinja escapes every text from data or a model.
"""

from collections.abc import Sequence

from markupsafe import Markup

from medcot.evaluation import summary as table
from medcot.evaluation.answers import Example, Sample
from medcot.evaluation.drawing import HERE, drawn, mark, scale, template
from medcot.evaluation.forest import forest
from medcot.evaluation.judge.words import licence_lines
from medcot.evaluation.summary import Summary, cautions, counts_text, judgements, points, seen_text, verdict_text

WIDTH, HEIGHT = 640, 200
MOST_BARS = 400  # more would be thinner than a pixel; the sorted differences are then thinned


def render(summary: Summary, examples: Sequence[Example], samples: Sequence[Sample]) -> str:
    """The whole page."""
    return template("report.html").render(
        summary=summary,
        examples=examples,
        samples=samples,
        scores=table.scores(summary),
        floors=table.floors(summary),
        ceiling=table.ceiling(summary),
        forest=forest(summary),
        bars=bars(summary, examples),
        said={
            "verdict": verdict_text(summary),
            "counts": counts_text(summary),
            "seen": seen_text(summary),
            "cautions": cautions(summary),
            "judgements": judgements(summary),
        },
        licences=[licence_lines(judged.licence) for judged in summary.judges.values()],
        further=[verdict_text(summary, key) for key in summary.further],
        style="\n".join((HERE / name).read_text(encoding="utf-8") for name in ("report.css", "plots.css")),
    )


def bars(summary: Summary, examples: Sequence[Example]) -> Markup:
    """Draw each record's difference, sorted, with the mean and its interval on top; a bar leads to its record."""
    paired, form = summary.tuned_base, summary.headline.form
    shown = sorted(examples, key=lambda e: e.gain)[:: -(-len(examples) // MOST_BARS) or 1]
    gains = [example.gain for example in shown]
    bottom, top, marks = scale(min(*gains[:1], paired.low, 0.0), max(*gains[-1:], paired.high, 0.0))
    step = WIDTH / max(1, len(shown))
    axis = [(100 * (top - value) / (top - bottom), mark(value, form)) for value in marks]
    name = f"Difference in {summary.words.score}, record by record"
    names = {"words": in_words(summary), "axis": name, "form": form}
    size = {"width": WIDTH, "height": HEIGHT, "step": step, "bar": max(step - 1, step * 0.7)}

    def y(value: float) -> float:
        return (top - value) / (top - bottom) * HEIGHT

    return drawn("bars", shown, paired, names, axis, size, y)


def in_words(summary: Summary) -> str:
    """What the bars show, for those who do not see them."""
    paired, form = summary.tuned_base, summary.headline.form
    low, high, mean = (points(value, form) for value in (paired.low, paired.high, paired.difference))
    return (
        f"{paired.records} records sorted by difference in {summary.words.score}: {paired.loss} lower, "
        f"{paired.tie} equal, {paired.win} higher; mean {mean}, 95% interval {low} to {high}."
    )
