"""The one table of an evaluation, for the page, the report, the command line and CSV: figures, never markup."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medcot.evaluating.arms import BASE, TUNED, title

TUNED_BASE = f"{TUNED}-{BASE}"


@dataclass(frozen=True, slots=True)
class Measured:
    """A row: its key under an arm, its name for people, and how its figures are written."""

    key: str
    label: str
    form: str


RECORDS = (
    Measured("answer_rouge_l", "Answer ROUGE-L", ".3f"),
    Measured("reasoning_rouge_l", "Reasoning ROUGE-L", ".3f"),
    Measured("both_rouge_l", "Both ROUGE-L", ".3f"),
    Measured("format_strict", "Format, strict tags", ".0%"),
    Measured("format_lenient", "Format, parts told apart", ".0%"),
    Measured("truncated", "Cut at the token limit", ".0%"),
    Measured("truncated_before_answer", "Cut before its answer", ".0%"),
    Measured("length_ratio", "Answer length / reference", ".2f"),
    Measured("tokens", "Tokens an answer", ".0f"),
    Measured("seconds", "Seconds an answer", ".1f"),
)
CHOICE = (
    Measured("accuracy", "Right letter", ".1%"),
    Measured("unparsed", "No letter stated (counts as wrong)", ".1%"),
    Measured("truncated", "Cut at the token limit", ".0%"),
    Measured("tokens", "Tokens an answer", ".0f"),
    Measured("seconds", "Seconds an answer", ".1f"),
)
FLOORS = {
    "echo": "the question as answer",
    "shuffled": "another record's answer",
    "empty": "nothing",
    "gold_reasoning": "the reference reasoning as answer",
    "chance": "a letter drawn by lot",
    "most_common_letter": "the most frequent letter every time",
}


def is_choice(summary: Mapping[str, Any]) -> bool:
    return summary.get("kind") == "choice"


def score_name(summary: dict[str, Any]) -> str:
    """What the headline compares."""
    return "accuracy" if is_choice(summary) else "answer ROUGE-L"


def asked(summary: Mapping[str, Any]) -> str:
    """What was asked, for people. Records are held out from a training that was here."""
    return "questions" if is_choice(summary) else "records" if "adapter" in summary else "held-out records"


def measured(summary: Mapping[str, Any]) -> list[Measured]:
    """The rows that this summary has figures for; one of an older version has fewer."""
    known = next(iter(summary["arms"].values()))
    return [row for row in (CHOICE if is_choice(summary) else RECORDS) if row.key in known]


def figure(row: Measured, arm: dict[str, Any]) -> str:
    """An arm's figure, with Wilson's interval where it is an accuracy."""
    value = format(arm[row.key], row.form)
    return f"{value} ({arm['low']:.1%} to {arm['high']:.1%})" if row.key == "accuracy" else value


def points(value: float, form: str) -> str:
    """A difference as its row is written: shares in points of a hundred."""
    return f"{100 * value:+.1f} points" if form.endswith("%") else f"{value:+{form}}"


def difference(row: Measured, summary: dict[str, Any], key: str = TUNED_BASE) -> tuple[str, str]:
    """(difference, its interval) of a row in one comparison; empty where there is none."""
    paired = summary["paired"][key]
    headline = row.key in ("answer_rouge_l", "accuracy")
    found = paired if headline else paired.get("measures", {}).get(row.key)
    if found is None:
        arm, against = (summary["arms"][name] for name in sides(key, summary))
        return points(arm[row.key] - against[row.key], row.form), ""
    low, high = (points(found[side], row.form).removesuffix(" points") for side in ("low", "high"))
    return points(found["difference"], row.form), f"{low} to {high}"


def sides(key: str, summary: dict[str, Any]) -> tuple[str, str]:
    """The two arms of a comparison's key; arms' names may hold hyphens themselves."""
    return next((a, b) for a in summary["arms"] for b in summary["arms"] if f"{a}-{b}" == key)


def versus(key: str, summary: dict[str, Any]) -> str:
    """A comparison's key for people."""
    arm, against = sides(key, summary)
    return f"{title(arm)} against {title(against)[0].lower()}{title(against)[1:]}"


def decoding_text(summary: dict[str, Any]) -> str:
    decoding = summary["decoding"]
    how = (
        "greedy"
        if decoding["temperature"] == 0
        else f"temperature {decoding['temperature']:g}, top-p {decoding['top_p']:g}, seed {decoding['seed']}"
    )
    return f"{decoding['max_new_tokens']} new tokens at most, {how}"


def csv_text(summary: Mapping[str, Any]) -> str:
    """Tidy CSV: one figure a line (kind, measure, arm, value, low, high, note)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("kind", "measure", "arm", "value", "low", "high", "note"))
    writer.writerows(_lines(summary))
    return out.getvalue()


def _lines(summary: Mapping[str, Any]) -> Iterator[Sequence[Any]]:
    metric, name = summary["metric"], measured(summary)[0].key
    for arm, found in summary["arms"].items():
        for row in measured(summary):
            interval = (found["low"], found["high"]) if row.key == "accuracy" else ("", "")
            yield "score", row.key, arm, found[row.key], *interval, metric if row.key == name else ""
    for floor, value in summary["floors"].items():
        yield "floor", name, floor, value, "", "", FLOORS.get(floor, "")
    if ceiling := summary.get("ceiling"):
        yield "ceiling", name, "", ceiling[name], "", "", "the references cut at the token budget"
    for key, paired in summary["paired"].items():
        note = f"{paired['verdict']}; {paired['win']} higher, {paired['tie']} equal, {paired['loss']} lower"
        yield "difference", name, key, paired["difference"], paired["low"], paired["high"], note
        for measure, found in paired.get("measures", {}).items():
            yield "difference", measure, key, found["difference"], found["low"], found["high"], ""
