"""The forest plot of an evaluation: each measure's difference and interval around zero, with the floors as ticks."""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from medcot.evaluation.answers import BASE, TUNED, title
from medcot.evaluation.drawing import drawn, mark, unit_of
from medcot.evaluation.measure import Row
from medcot.evaluation.metrics import FEWEST_RECORDS, Interval
from medcot.evaluation.summary import Summary, interval, lowered, points

CLOSE = 2.0  # percent of a plot's width within which two ticks are one
OUTCOMES = {"better": "better", "worse": "worse", "other": "differs", "not distinguishable": "not distinguishable"}


@dataclass(frozen=True)
class Axis:
    """From a difference to percent of the plot's width; zero is in the middle."""

    reach: float
    form: str

    @classmethod
    def around(cls, intervals: Iterable[Interval], further: Iterable[float], form: str) -> "Axis":
        sides = [abs(side) for one in intervals for side in (one.low, one.high, one.difference)]
        return cls(max(*sides, *map(abs, further), 1e-3) * 1.06, form)

    @property
    def unit(self) -> str:
        return "percentage points" if self.form.endswith("%") else ""

    def place(self, value: float) -> float:
        return round(50 + 50 * value / self.reach, 2)

    @property
    def marks(self) -> list[tuple[float, str]]:
        """Round marks on both sides of zero, and zero."""
        step = unit_of(self.reach, 2)
        most = int(self.reach / step)
        values = [number * step for number in range(-most, most + 1)]
        return [(self.place(value), mark(value, self.form)) for value in values]

    def ticks(self, floors: Mapping[int, float]) -> Iterator[tuple[float, str]]:
        """The floors from left to right; those that would lie on each other are one with all their numbers."""
        found: list[tuple[float, list[int]]] = []
        for number, value in sorted(floors.items(), key=lambda pair: pair[1]):
            if found and self.place(value) - found[-1][0] < CLOSE:
                found[-1][1].append(number)
            else:
                found.append((self.place(value), [number]))
        return ((place, ",".join(map(str, sorted(numbers)))) for place, numbers in found)


@dataclass(frozen=True)
class Line:
    """A row of the plot; `outcome` says what the interval allows to be said, `floors` are numbered, less base."""

    name: str
    note: str
    figures: tuple[str, ...]
    known: Interval
    form: str
    outcome: str
    floors: Mapping[int, float] = field(default_factory=dict)

    @property
    def difference(self) -> str:
        return points(self.known.difference, self.form).removesuffix(" points")

    @property
    def sides(self) -> str:
        return interval(self.known.low, self.known.high, self.form)


@dataclass(frozen=True)
class Group:
    """Rows of one kind, on one axis."""

    heading: str
    lines: Sequence[Line]

    @functools.cached_property
    def axis(self) -> Axis:
        floors = [value for line in self.lines for value in line.floors.values()]
        return Axis.around([line.known for line in self.lines], floors, self.lines[0].form)


def forest(summary: Summary) -> Markup:
    """Draw each measure's difference with its interval around zero, the floors as ticks; then further comparisons."""
    groups = [Group(kind, lines) for kind, rows in summary.grouped if (lines := _lines(summary, rows))]
    if len(summary.paired) > 1:
        groups.append(Group(f"Every comparison on {summary.words.score}", _comparisons(summary)))
    known = enumerate(summary.floors, start=1)
    floors = [f"{number} {summary.words.floors.get(name, name.replace('_', ' '))}" for number, name in known]
    ticked = any(line.floors for group in groups for line in group.lines)
    return drawn("forest", groups, floors if ticked else [], OUTCOMES)


def _lines(summary: Summary, rows: Sequence[Row]) -> list[Line]:
    """The rows that have an interval."""
    floors = {row.key: of for row, of in summary.all_floors}
    base, tuned = summary.arms[BASE], summary.arms[TUNED]
    return [
        Line(
            summary.label(row),
            "less is better" if row.key in summary.words.lower else "",
            (format(base[row.key], row.form), format(tuned[row.key], row.form)),
            known,
            row.form,
            _outcome(summary, row, known),
            {number: value - base[row.key] for number, value in enumerate(floors.get(row.key, {}).values(), start=1)},
        )
        for row in rows
        if (known := counted(summary, row)) and all(map(math.isfinite, (known.difference, known.low, known.high)))
    ]


def counted(summary: Summary, row: Row) -> Interval | None:
    """Tuned less base with its interval, if there is one that counts: a judge's may not, and an arm may have none."""
    return summary.compared(row) if summary.difference(row)[1] else None


def _outcome(summary: Summary, row: Row, known: Interval) -> str:
    """Whether the interval allows to say better or worse; other for what is neither, as length."""
    if summary.tuned_base.records < FEWEST_RECORDS or known.low <= 0 <= known.high:
        return "not distinguishable"
    if row.key in summary.words.neither:
        return "other"
    return "better" if (known.difference > 0) != (row.key in summary.words.lower) else "worse"


def _comparisons(summary: Summary) -> list[Line]:
    """Every comparison on the headline."""
    row, lines = summary.headline, []
    for key, paired in summary.paired.items():
        arm, against = summary.sides(key)
        figures = tuple(format(summary.arms[side][row.key], row.form) for side in (against, arm))
        note = f"against {lowered(title(against))}"
        lines.append(Line(title(arm), note, figures, paired, row.form, paired.verdict))
    return lines
