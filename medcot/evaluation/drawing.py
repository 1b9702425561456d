"""What the plots and tables of an evaluation are drawn with: templates, round scales, figures at their points.

The markup is in the .html files of this folder. Jinja escapes every text from data or a model.
"""

import functools
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from medcot.evaluation.answers import title
from medcot.evaluation.rouge import shared
from medcot.evaluation.summary import points

if TYPE_CHECKING:
    from jinja2 import Template

HERE = Path(__file__).parent


@functools.cache
def template(name: str) -> "Template":
    """A template of this folder, with what its figures are written with."""
    from jinja2 import Environment, FileSystemLoader

    environment = Environment(autoescape=True, loader=FileSystemLoader(HERE))
    environment.filters |= {"signed": signed, "at_point": at_point, "marked": marked}
    return environment.get_template(name, globals={"title": title, "points": points})


def drawn(name: str, *values: object) -> Markup:
    """A figure of plots.html."""
    return Markup(getattr(template("plots.html").module, name)(*values))  # the template escapes


def signed(figures: str) -> Markup:
    """Escape figures and give them a true minus, which is as wide as the plus."""
    return Markup(re.sub(r"(?<![\w&])-(?=[\d.])", "−", str(escape(figures))))


def at_point(figure: str) -> Markup:
    """A figure in two parts, so that a column lines up at its decimal points; an interval in brackets goes below."""
    value, _, sides = figure.partition(" (")
    whole = re.match(r"\D*\d*", value)[0]  # type: ignore[index]  # matches any text
    below = Markup("<small>{}</small>").format(signed(sides.removesuffix(")"))) if sides else ""
    return Markup("{}<i>{}</i>{}").format(signed(value)[: len(whole)], value[len(whole) :], below)


def marked(text: str, reference: str, start: int = 0, end: int | None = None) -> Markup:
    """A part of a text, escaped, with the words marked that it shares with a reference."""
    end, parts, done = len(text) if end is None else end, list[Markup](), start
    for first, last in _joined(text, shared(text, reference)):
        first, last = max(first, start), min(last, end)
        if first < last:
            parts += [escape(text[done:first]), Markup("<mark>{}</mark>").format(text[first:last])]
            done = last
    return Markup("").join([*parts, escape(text[done:end])])


def _joined(text: str, places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The same places, with those as one between which there are only blanks."""
    whole: tuple[int, int] | None = None
    for first, last in places:
        if whole and not text[whole[1] : first].strip():
            whole = whole[0], last
            continue
        if whole:
            yield whole
        whole = first, last
    if whole:
        yield whole


def unit_of(span: float, most: int) -> float:
    """The smallest step of 1, 2 or 5 times a power of ten that divides a span into at most so many parts."""
    size = 10.0 ** math.floor(math.log10(span / most))
    return next(size * m for m in (1, 2, 5, 10, 20) if span / (size * m) <= most)


def mark(value: float, form: str) -> str:
    """A value beside an axis: shares in percentage points."""
    return f"{100 * value if form.endswith('%') else value:+.4g}" if value else "0"


def scale(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round limits around the values, and the marks between them."""
    unit = unit_of(max(high - low, abs(high) * 0.05, 1e-9), 4)
    first, last = math.floor(low / unit + 1e-9), math.ceil(high / unit - 1e-9)
    last = max(last, first + 1)
    return first * unit, last * unit, [float(f"{k * unit:.6g}") for k in range(first, last + 1)]
