"""summary.json as a type, and the tables that are made from it: figures as text, never markup."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, model_validator

from medcot.evaluation.answers import BASE, TUNED, Example, Sample, title
from medcot.evaluation.choice import ChoiceExample
from medcot.evaluation.in_training import ELSEWHERE, Unseen
from medcot.evaluation.judge import words as judging
from medcot.evaluation.judge.licence import Judged
from medcot.evaluation.measure import Figures, Measure, Row, Words
from medcot.evaluation.metrics import FEWEST_RECORDS, ArmScores, Comparison, Interval, Written
from medcot.evaluation.records import Records
from medcot.settings.evaluation import KINDS

TUNED_BASE = f"{TUNED}-{BASE}"
UNSEEN = ", not trained on"  # behind the name of a figure without the questions of the training data
FURTHER = "Further figures"  # rows that a measure puts into no group
MEASURES: dict[str, type[Measure]] = {kind: import_module(f"medcot.evaluation.{kind}").MEASURE for kind in KINDS}
# The first that fits: only multiple choice has options.
EXAMPLE: TypeAdapter[Example] = TypeAdapter(Annotated[ChoiceExample | Example, Field(union_mode="left_to_right")])
SAMPLE: TypeAdapter[Sample] = TypeAdapter(Sample)


class Decoding(Written):
    max_new_tokens: int
    temperature: float
    top_p: float = 1.0
    seed: int = 42

    def __str__(self) -> str:
        sampled = f"temperature {self.temperature:g}, top-p {self.top_p:g}, seed {self.seed}"
        return f"{self.max_new_tokens} new tokens at most, {sampled if self.temperature else 'greedy'}"


class Heading(Written):
    """Which evaluation of which run; `adapter` is one that was not trained here."""

    model_config = ConfigDict(populate_by_name=True)
    version: Literal[1] = Field(1, alias="schema")
    kind: str = Records.kind
    run: str
    adapter: str | None = None


class Summary(Figures, Heading):
    """summary.json of an evaluation: what the page, the card, the command line and other people's scripts read."""

    decoding: Decoding
    engine: str = "this machine"
    forced: bool = False
    notes: list[str] = Field(default_factory=list)
    seconds: float | None = None
    tokens: dict[str, int] = Field(default_factory=dict)
    judges: dict[str, Judged] = Field(default_factory=dict)  # by the way they were asked

    @model_validator(mode="after")
    def _can_be_shown(self) -> Self:
        """Refuse what other software wrote under this name: whatever passes here can be drawn and printed."""
        try:
            scores(self), floors(self), ceiling(self), cautions(self), seen_text(self), judgements(self)
            for key in self.paired:
                verdict_text(self, key), self.paired[key].counts
            self.tuned_base  # noqa: B018
            for arm in self.arms.values():
                self.figure(self.headline, arm)  # lists of runs show it, whichever rows the table has
        except (ArithmeticError, LookupError, StopIteration, TypeError, ValueError) as error:
            raise ValueError(f"lacks what every evaluation has: {type(error).__name__} {error}") from None
        return self

    @property
    def measure(self) -> type[Measure]:
        return MEASURES.get(self.kind, Records)

    @property
    def tuned_base(self) -> Comparison:
        return self.paired[TUNED_BASE]

    @property
    def further(self) -> list[str]:
        """The keys of all other comparisons."""
        return [key for key in self.paired if key != TUNED_BASE]

    @property
    def words(self) -> Words:
        return self.measure.words

    @property
    def headline(self) -> Row:
        return next(row for row in self.words.rows if row.key == self.words.headline)

    @property
    def rows(self) -> list[Row]:
        """The rows that there are figures for, in the order of the groups; a summary of an older version has fewer."""
        return [row for _, rows in self.grouped for row in rows]

    @property
    def grouped(self) -> list[tuple[str, list[Row]]]:
        """The rows that there are figures for, by kind; those of no kind come last."""
        known, groups = next(iter(self.arms.values())), self.words.groups
        # Of a judge's rows an arm may have none, as where it writes no reasoning to judge.
        judged = {key for found in self.arms.values() for key in found if key in judging.ROW_OF}
        rows = {row.key: row for row in self.words.rows if row.key in known or row.key in judged}
        found = [(kind, [rows.pop(key) for key in keys if key in rows]) for kind, keys in groups.items()]
        return [(kind, members) for kind, members in [*found, (FURTHER, list(rows.values()))] if members]

    @property
    def all_floors(self) -> list[tuple[Row, dict[str, float]]]:
        """The rows that have floors, with them, in the order of the table."""
        of = {**self.further_floors, self.headline.key: self.floors}
        return [(row, of[row.key]) for row in self.rows if row.key in of]

    def score_name(self, row: Row) -> str:
        """What a row's figure is called within a sentence."""
        return self.words.score if row == self.headline else lowered(row.label)

    @property
    def asked(self) -> str:
        """What was asked, for people."""
        return (self.adapter and self.words.elsewhere) or self.words.asked

    def sides(self, key: str) -> tuple[str, str]:
        """The two arms of a comparison's key; arms' names may hold hyphens themselves."""
        return next((a, b) for a in self.arms for b in self.arms if f"{a}-{b}" == key)

    @property
    def without(self) -> Unseen | None:
        """The figures without the questions that the model was trained on."""
        return self.in_training.without if self.in_training else None

    @property
    def told_apart(self) -> list[Row]:
        """The rows that have figures without those questions too."""
        if not self.without:
            return []
        known = {key for arm in self.without.arms.values() for key in arm}
        scored = [self.headline, *(row for row, _ in self.all_floors if row != self.headline)]
        return [row for row in scored if row.key in known]

    def figure(self, row: Row, arm: ArmScores) -> str:
        """Format an arm's figure, with its interval if it has one."""
        if row.key in judging.ROW_OF and row.key not in arm:
            return judging.NOTHING
        value, *sides = (format(arm[key], row.form) for key in (row.key, *self.interval_of(row, arm)))
        return f"{value} ({' to '.join(sides)})" if sides else value

    def interval_of(self, row: Row, arm: ArmScores) -> tuple[str, ...]:
        """The keys of an arm's interval of that row; none if it has none."""
        keys = ("low", "high") if row == self.headline else (f"{row.key}_low", f"{row.key}_high")
        return keys if keys[0] in arm else ()

    def label(self, row: Row) -> str:
        """A row's name for people, marked where a judge has no licence for it."""
        return row.label if judging.counts(row.key, self.judges) else f"{row.label} ({judging.UNLICENSED})"

    def compared(self, row: Row, part: Unseen | None = None) -> Interval | None:
        """Tuned less base with its interval; None if none was computed."""
        compared = (part or self).paired[TUNED_BASE]
        return compared if row == self.headline else compared.measures.get(row.key)

    def difference(self, row: Row, part: Unseen | None = None) -> tuple[str, str]:
        """Format (tuned less base, its interval) of a row; empty where none was computed, or none counts.

        `part`: of the questions that the model was not trained on.
        """
        of = part or self
        if not judging.counts(row.key, self.judges) or any(row.key not in of.arms[arm] for arm in (BASE, TUNED)):
            return "", ""
        found = self.compared(row, part)
        if found is None:
            return points(of.arms[TUNED][row.key] - of.arms[BASE][row.key], row.form), ""
        return points(found.difference, row.form), interval(found.low, found.high, row.form)

    def as_json(self) -> dict[str, Any]:
        """The keys that were written, and no defaults beside them."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    def text(self) -> str:
        return json.dumps(self.as_json(), indent=1, ensure_ascii=False)


def points(value: float, form: str) -> str:
    """Format a difference as its row is written: shares in percentage points."""
    return f"{100 * value:+.1f} points" if form.endswith("%") else f"{value:+{form}}"


def interval(low: float, high: float, form: str) -> str:
    return " to ".join(points(side, form).removesuffix(" points") for side in (low, high))


def lowered(name: str) -> str:
    """Lower-case a title's first letter, for use within a sentence."""
    return name[0].lower() + name[1:]


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows, for whichever face shows it; notes say what the figures are."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    notes: tuple[str, ...] = ()
    grey: frozenset[int] = frozenset()  # the rows that do not count


def scores(summary: Summary) -> Table:
    """Make a row for each figure: its name, each arm's, tuned less base, and the interval of that."""
    headings = ("", *map(title, summary.arms), "Tuned less base", "95% interval")
    rows, grey = list[tuple[str, ...]](), set[int]()
    for row in summary.rows:
        if not judging.counts(row.key, summary.judges):
            grey.add(len(rows))
        figures = (summary.figure(row, arm) for arm in summary.arms.values())
        rows.append((summary.label(row), *figures, *summary.difference(row)))
        if summary.without and row in summary.told_apart:
            figures = (summary.figure(row, summary.without.arms[arm]) for arm in summary.arms)
            rows.append((f"{row.label}{UNSEEN}", *figures, *summary.difference(row, summary.without)))
    how = [summary.words.prompt] if summary.prompt and summary.words.prompt else []
    notes = (f"{summary.data.records} {summary.asked}", "; ".join([summary.metric, *how]), str(summary.decoding))
    return Table(headings, rows, notes, frozenset(grey))


def floors(summary: Summary) -> Table:
    """Make a row for each answer that needs no model: its name, the answer, and its scores, named in the headings."""
    words, found = summary.words.floors, summary.all_floors
    rows = [
        (name.replace("_", " "), words.get(name, ""), *(f"{of[name]:{row.form}}" for row, of in found))
        for name in summary.floors
    ]
    return Table(("floor", "answer", *(summary.score_name(row) for row, _ in found)), rows)


def ceiling(summary: Summary) -> str:
    """Format what the references score, cut at the token budget; empty if there is no ceiling."""
    reached = summary.ceiling or {}
    found = [(row, f"{reached[row.key]:{row.form}}") for row, _ in summary.all_floors if row.key in reached]
    if len(found) == 1:
        return found[0][1]
    return ", ".join(f"{summary.score_name(row)} {value}" for row, value in found)


def verdict_text(summary: Summary, key: str = TUNED_BASE) -> str:
    """Put a comparison in a sentence that claims no more than its interval or test allows."""
    paired, (arm, against) = summary.paired[key], map(title, summary.sides(key))
    name, form = summary.words.score, summary.headline.form
    test = f"; {summary.words.test} p = {paired.p_value:.3g}" if paired.p_value is not None else ""
    sides = interval(paired.low, paired.high, form)
    figures = f"{points(paired.difference, form)} (95% interval {sides}{test})"
    if paired.verdict != "not distinguishable":
        return f"{arm} scores {paired.verdict} than {lowered(against)} on {name}: {figures}."
    of = "" if key == TUNED_BASE else f"{arm} against {lowered(against)}: "
    if (had := paired.records) < FEWEST_RECORDS:
        return f"{of}Too few records for a verdict ({had} of at least {FEWEST_RECORDS}): {name} differs by {figures}."
    wanted = paired.records_needed or 0
    needed = f" About {wanted} records would tell such a difference (80% power)." if wanted > had else ""
    return f"{of}Not distinguishable at this size: {name} differs by {figures}.{needed}"


def judgements(summary: Summary) -> list[str]:
    """What the judges say of tuned against base, or why they have no say."""
    return judging.sentences(summary.judges, summary.arms)


def counts_text(summary: Summary) -> str:
    matched = f" {summary.words.matched}" if summary.further_floors else ""
    return f"Question by question: {summary.tuned_base.counts}. {summary.words.meaning}{matched}"


def seen_text(summary: Summary) -> str:
    """Say how many questions the model was trained on; empty for an older version's summary."""
    if not (told := summary.in_training) or told.why == ELSEWHERE:  # which a note says
        return ""
    asked = summary.data.records
    if told.compared is None:
        return f"Whether questions stand in the training data is not known: {told.why}."
    held = f"held against {told.compared:,} training records"
    if not told.found:
        return f"None of the {asked} questions stands in the training data, word for word or nearly ({held})."
    how = f"{len(told.word_for_word)} word for word, {len(told.nearly)} nearly; {held}"
    remembered = f"{len(told.found)} of {asked} questions stand in the training data ({how})"
    if not (without := summary.without):
        return f"{remembered}: all of them, so what is measured is remembering."
    better = points(without.paired[TUNED_BASE].difference, summary.headline.form)
    sides = interval(without.paired[TUNED_BASE].low, without.paired[TUNED_BASE].high, summary.headline.form)
    without_them = f"without them {summary.words.score} differs by {better} (95% interval {sides})"
    return f"{remembered}, so what is measured is partly remembering; {without_them}."


def cautions(summary: Summary) -> list[str]:
    """Warn of what could have made the headline other than better answers."""
    forced = ["The prompt contract did not have to match: this evaluation was forced."] if summary.forced else []
    cut = {title(arm): found["truncated"] for arm, found in summary.arms.items() if found["truncated"] > 0.1}
    limits = [f"{arm} was cut at the token limit in {share:.0%} of the records." for arm, share in cut.items()]
    return [*forced, *summary.notes, *summary.measure.cautions(summary), *limits]
