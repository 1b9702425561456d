"""An evaluation's figures as tidy CSV, one a line, and CSV that no spreadsheet takes for formulas."""

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

from medcot.evaluation.in_training import EXACT, NEARLY
from medcot.evaluation.judge.words import UNLICENSED, counts
from medcot.evaluation.measure import Row
from medcot.evaluation.metrics import ArmScores, Comparison
from medcot.evaluation.summary import Summary, scores


def csv_text(summary: Summary) -> str:
    """Write tidy CSV: one figure a line."""
    return csv_of(_lines(summary), end="\n")


def csv_of(rows: Iterable[Iterable[object]], *, end: str) -> str:
    """Write rows as CSV; an apostrophe keeps a cell from being read as a formula."""
    out = io.StringIO()
    csv.writer(out, lineterminator=end).writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    """The value, marked as text if a spreadsheet, which passes over what is not seen, would find a formula's sign."""
    if not isinstance(value, str):
        return value
    first = next((c for c in value if unicodedata.category(c)[0] not in "CZ"), "")
    formula = unicodedata.normalize("NFKC", first)[:1] in {"=", "+", "-", "@"} or value.startswith(("\t", "\r", "\n"))
    return f"'{value}" if formula else value


def _lines(summary: Summary) -> Iterator[tuple[str | float, ...]]:
    yield "kind", "measure", "arm", "value", "low", "high", "note"
    name = summary.headline.key
    for arm, found in summary.arms.items():
        for row in (row for row in summary.rows if row.key in found):
            note = scores(summary).notes[1] if row.key == name else _mark(summary, row.key)
            yield "score", row.key, arm, found[row.key], *_sides(summary, row, found), note
    for row, floors_of in summary.all_floors:
        for floor, value in floors_of.items():
            yield "floor", row.key, floor, value, "", "", summary.words.floors.get(floor, "")
        if summary.ceiling and row.key in summary.ceiling:
            yield "ceiling", row.key, "", summary.ceiling[row.key], "", "", "the references cut at the token budget"
    yield from _marked(summary, _differences("difference", name, summary.paired))
    yield from _licences(summary)
    if not (told := summary.in_training):
        return
    if told.compared is not None:
        for how, numbers in ((EXACT, told.word_for_word), (NEARLY, told.nearly)):
            yield "in training", how, "", len(numbers), "", "", f"questions {', '.join(map(str, numbers))}".rstrip()
    if summary.without:
        for row in summary.told_apart:
            for arm, found in summary.without.arms.items():
                sides = _sides(summary, row, found)
                note = f"{summary.without.records} questions that are not in the training data"
                yield "score, not trained on", row.key, arm, found[row.key], *sides, note
        yield from _differences("difference, not trained on", name, summary.without.paired)


def _sides(summary: Summary, row: Row, found: ArmScores) -> tuple[float | str, float | str]:
    """The interval of an arm's figure; empty if it has none."""
    low, high = [found[key] for key in summary.interval_of(row, found)] or ("", "")
    return low, high


def _mark(summary: Summary, key: str) -> str:
    """That a judge's row does not count."""
    return "" if counts(key, summary.judges) else UNLICENSED


def _marked(summary: Summary, lines: Iterator[tuple[str | float, ...]]) -> Iterator[tuple[str | float, ...]]:
    for line in lines:
        yield (*line[:-1], line[-1] or _mark(summary, str(line[1])))


def _licences(summary: Summary) -> Iterator[tuple[str | float, ...]]:
    for way, judged in summary.judges.items():
        licence = judged.licence
        yield "licence", way, judged.model, float(licence.passed), "", "", "; ".join(licence.reasons)
        for check, tried in licence.checks.items():
            yield "licence", f"{way}.{check}", judged.model, tried.passed / max(1, tried.tried), "", "", ""


def _differences(kind: str, name: str, compared: Mapping[str, Comparison]) -> Iterator[tuple[str | float, ...]]:
    for key, paired in compared.items():
        yield kind, name, key, paired.difference, paired.low, paired.high, f"{paired.verdict}; {paired.counts}"
        for measure, part in paired.measures.items():
            yield kind, measure, key, part.difference, part.low, part.high, ""
