"""An evaluation as HTML: verdict, table with intervals, floors, plots and downloads; then each question's answers."""

import base64
import os
import re
from collections.abc import Callable
from pathlib import Path

from medcot.errors import Problem
from medcot.evaluation import summary as table
from medcot.evaluation.answers import TITLES, TUNED, Example, Reference, Shown, title
from medcot.evaluation.report import plots
from medcot.evaluation.summary import Summary, cautions, counts_text, judgements, seen_text, verdict_text
from medcot.runs.run import SUMMARY, Evaluation
from medcot.ui import components as c

MOST_INLINE = 4_000_000  # bytes of a download inside the page; of a larger file the path is shown
DOWNLOADS: dict[str, tuple[str, str]] = c.TEXTS["evaluate"]["downloads"]
MOST_EXAMPLES = 200  # of more the page would become slow; report.html has them all
LOSS = "Largest loss first"
ORDERS: dict[str, Callable[[Example], float]] = {
    LOSS: lambda row: row.gain,
    "Largest gain first": lambda row: -row.gain,
    "In the order of the file": lambda row: row.record,
}
FILTERS: dict[str, Callable[[Example], bool]] = {
    "Cut at the limit": lambda row: any(shown.truncated for shown in row.arms.values()),
    "Format wrong": lambda row: bool(row.arms[TUNED].problems),
    "Tuned worse": lambda row: row.gain < 0,
    "In the training data": lambda row: row.in_training is not None,
    "Forbidden statement": lambda row: any(shown.found.forbidden for shown in row.arms.values() if shown.found),
}


def results(evaluation: Evaluation, summary: Summary) -> str:
    """The verdict, the table, the floors, the plots and the files."""
    wide = " mc-wide" if len(summary.arms) > 3 else ""
    tables = f'<div class="mc-tables{wide}">{scores(summary)}{floors(summary)}</div>'
    drawn = f'<div class="mc-plots">{plots(summary, evaluation.examples())}</div>'
    links = "".join(_link(evaluation.path / name, label, kind) for name, (label, kind) in DOWNLOADS.items())
    return f'{verdict(summary)}{tables}{drawn}<p class="mc-downloads">{links}</p>'


def spoilt(evaluation: Evaluation, examples: int) -> str:
    """The files of an evaluation that do not hold what they should; empty if all do."""
    found = []
    if os.path.lexists(evaluation.path / SUMMARY) and evaluation.summary() is None:
        found.append(Problem(SUMMARY, "holds no figures that can be read.", "Put the file back, or measure again."))
    if left_out := max(0, evaluation.example_lines() - examples):
        left = "holds nothing that can be read" if not examples else f"has {left_out} lines that cannot be read"
        found.append(Problem("examples.jsonl", f"{left}; they are left out.", "Put the file back, or measure again."))
    return c.problems(found, "A part of this evaluation cannot be read")


def verdict(summary: Summary) -> str:
    outcome = summary.tuned_base.verdict.replace(" ", "-")
    others = [verdict_text(summary, key) for key in summary.further]
    said = (counts_text(summary), *others, seen_text(summary), *cautions(summary))
    lines = "".join(f"<p>{c.text(line)}</p>" for line in said if line)
    judged = "".join(f"<p>{c.text(line)}</p>" for line in judgements(summary))
    whole = f"{judged}<strong>{c.text(verdict_text(summary))}</strong>{lines}"
    return f'<div class="mc-verdict mc-{c.text(outcome)}">{whole}</div>'


def scores(summary: Summary) -> str:
    found, rows = table.scores(summary), ""
    asked, metric, decoding = found.notes
    for number, (label, *arms, change, interval) in enumerate(found.rows):
        figures, _, unit = _signed(change).partition(" ")
        cells = [*arms, f'{figures} <small class="mc-unit">{unit}</small>', _signed(interval)]
        rows += c.row(label, cells, grey=number in found.grey)
    return c.table("scores", f"{asked}: {metric}; {decoding}", [*map(c.text, found.headings[1:])], rows)


def _signed(figures: str) -> str:
    """Figures with a true minus, which is as wide as the plus."""
    return re.sub(r"(?<!\w)-(?=[\d.])", "−", c.text(figures))


def floors(summary: Summary) -> str:
    known = table.floors(summary)
    rows = "".join(c.row(c.text(words or name).capitalize(), values) for name, words, *values in known.rows)
    scored = known.headings[2:]
    headings = [c.text(name[0].upper() + name[1:]) for name in scored] if len(scored) > 1 else ["Score"]
    found = c.table("floors", f"Floors: {', '.join(scored)} without any model", headings, rows)
    if summary.ceiling:
        words = f"Ceiling: the references themselves, cut at the token budget, score {table.ceiling(summary)}."
        found += f'<p class="mc-soft mc-ceiling">{words}</p>'
    return f"<div>{found}</div>"


def _link(path: Path, label: str, kind: str) -> str:
    """A link that holds the file itself, so that no route serves files and none can be asked for another."""
    try:
        content = path.read_bytes()
    except OSError:
        return ""
    if len(content) > MOST_INLINE:
        return f"<span>{label}: {c.text(path)}</span>"
    data = base64.b64encode(content).decode()
    return f'<a download="{c.text(f"{path.parent.name}-{path.name}")}" href="data:{kind};base64,{data}">{label}</a>'


# ---- the questions


def listing(evaluation: Evaluation, notice: str, order: object, filters: object) -> str:
    """The questions so far that pass every chosen filter, sorted, below a notice on the model."""
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


def example(row: Example) -> str:
    arms = "".join(
        f'<section class="mc-arm mc-arm-{arm if arm in TITLES else "further"}"><h4>{c.text(title(arm))}</h4>'
        f"{_note(row.note(arm))}{_judged(shown)}{parts(shown)}"
        f"{_note('Format: ' + '; '.join(shown.problems) if shown.problems else '')}</section>"
        for arm, shown in row.arms.items()
    )
    options = "".join(f"<li>{c.text(f'{letter}. {text}')}</li>" for letter, text in row.options.items())
    listed = f'<ul class="mc-options">{options}</ul>' if options else ""
    summary = (
        f'<span class="mc-gain">{_signed(f"{row.gain:{row.gain_form}}")}</span><span>{c.text(row.question)}</span>'
    )
    seen = _note(str(row.in_training or ""))
    return c.fold(summary, f'{seen}{listed}<div class="mc-pair">{arms}</div>{reference(row.reference)}')


def _note(words: str) -> str:
    return f'<p class="mc-format">{c.text(words)}</p>' if words else ""


def _judged(shown: Shown) -> str:
    """The judge's words, folded."""
    lines = "".join(f"<li>{c.text(line)}</li>" for line in shown.judged)
    return c.fold("The judge's words", f"<ul>{lines}</ul>") if lines else ""


def reference(right: Reference) -> str:
    shown = c.passage(str(right)) if right.reasoning is None else parts(right)
    return f'<section class="mc-arm"><h4>Reference</h4>{shown}</section>'


def parts(said: Shown | Reference) -> str:
    reasoning, answer = (c.passage(part or "", "None was written.") for part in (said.reasoning, said.answer))
    return f"<h5>Reasoning</h5>{reasoning}<h5>Answer</h5>{answer}"
