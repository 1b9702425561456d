"""The questions of an evaluation, each opening all arms side by side with the reference; sorted and filtered here."""

from collections.abc import Callable, Sequence
from typing import Any

from medcot.evaluating.arms import TITLES, title
from medcot.runs import Evaluation
from medcot.ui import components as c

MOST_EXAMPLES = 200  # more would make the page heavy; report.html holds them all
LOSS, GAIN, FILE = "Largest loss first", "Largest gain first", "In the order of the file"
ORDERS: dict[str, Callable[[dict[str, Any]], float]] = {
    LOSS: lambda row: float(row["gain"]),
    GAIN: lambda row: -float(row["gain"]),
    FILE: lambda row: float(row["record"]),
}
TRUNCATED, MALFORMED, WORSE = "Cut at the limit", "Format wrong", "Tuned worse"
FILTERS: dict[str, Callable[[dict[str, Any]], bool]] = {
    TRUNCATED: lambda row: any(row[arm]["truncated"] for arm in arms_of(row)),
    MALFORMED: lambda row: bool(row["tuned"]["problems"]),
    WORSE: lambda row: float(row["gain"]) < 0,
}


def arms_of(row: dict[str, Any]) -> list[str]:
    """The arms that answered, base first."""
    return [key for key, value in row.items() if isinstance(value, dict) and "output" in value]


def listing(evaluation: Evaluation, notice: str, order: object, filters: object) -> str:
    """The questions so far that pass every chosen filter, under a notice on the model."""
    rows = evaluation.examples()
    if not rows:
        return ""
    chosen = [name for name in filters if name in FILTERS] if isinstance(filters, list) else []
    kept = [row for row in rows if all(FILTERS[name](row) for name in chosen)]
    kept.sort(key=ORDERS.get(str(order), ORDERS[LOSS]))
    more = len(kept) - MOST_EXAMPLES
    note = f"{len(kept)} of {len(rows)} questions" if chosen else f"{len(rows)} questions"
    note += f", the first {MOST_EXAMPLES} here; report.html holds them all" if more > 0 else ""
    return (
        f'<p class="mc-soft" role="status">{note}. The figure is tuned less base.</p>'
        f'<div class="mc-held-out">{notice}</div>' + "".join(example(row) for row in kept[:MOST_EXAMPLES])
    )


def example(row: dict[str, Any]) -> str:
    arms = arms_of(row)
    shown = "".join(
        f'<section class="mc-arm mc-arm-{arm if arm in TITLES else "further"}"><h4>{c.text(title(arm))}</h4>'
        f"{letter(row[arm])}{parts(row[arm], row[arm]['problems'])}</section>"
        for arm in arms
    )
    gain = f"{row['gain']:+.0f}" if "options" in row else f"{row['gain']:+.3f}"
    return (
        f'<details class="mc-example"><summary><span class="mc-gain">{gain}</span>'
        f"<span>{c.text(row['question'])}</span></summary>{options(row)}"
        f'<div class="mc-pair">{shown}</div>{reference(row)}</details>'
    )


def options(row: dict[str, Any]) -> str:
    if not row.get("options"):
        return ""
    items = "".join(f"<li>{c.text(key)}. {c.text(value)}</li>" for key, value in row["options"].items())
    return f'<ul class="mc-options">{items}</ul>'


def letter(arm: dict[str, Any]) -> str:
    if "correct" not in arm:
        return ""
    outcome = "right" if arm["correct"] else "wrong"
    return f'<p class="mc-format">Stated: {c.text(arm["letter"] or "no letter")}, {outcome}</p>'


def reference(row: dict[str, Any]) -> str:
    found = row["reference"]
    shown = c.passage(f"{found['letter']}. {found['answer']}") if "letter" in found else parts(found, [])
    return f'<section class="mc-arm"><h4>Reference</h4>{shown}</section>'


def parts(arm: dict[str, Any], problems: Sequence[str]) -> str:
    note = f'<p class="mc-format">Format: {c.text("; ".join(problems))}</p>' if problems else ""
    return (
        f"<h5>Reasoning</h5>{c.passage(arm['reasoning'], 'None was written.')}"
        f"<h5>Answer</h5>{c.passage(arm['answer'], 'None was written.')}{note}"
    )
