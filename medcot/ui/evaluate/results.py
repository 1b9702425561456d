"""The figures of an evaluation as HTML: verdict, forest plot, bars, the tables behind them, and downloads."""

import base64
import os
from pathlib import Path

from medcot.errors import Problem
from medcot.evaluation import summary as table
from medcot.evaluation.drawing import at_point, signed
from medcot.evaluation.forest import forest
from medcot.evaluation.report import bars
from medcot.evaluation.summary import Summary, cautions, counts_text, judgements, seen_text, verdict_text
from medcot.runs.run import SUMMARY, Evaluation
from medcot.safety.foreign import visible
from medcot.ui import components as c

MOST_INLINE = 4_000_000  # bytes of a download inside the page; a larger file is left to the command line
DOWNLOADS: dict[str, tuple[str, str]] = c.TEXTS["evaluate"]["downloads"]


def results(evaluation: Evaluation, summary: Summary) -> str:
    """The verdict and the plots, then the tables, folded, and the files."""
    wide = " mc-wide" if len(summary.arms) > 3 else ""
    tables = f'<div class="mc-tables{wide}">{scores(summary)}{floors(summary)}</div>'
    plots = f'<div class="mc-plots">{forest(summary)}{bars(summary, evaluation.examples())}</div>'
    links = "".join(_link(evaluation.path / name, label, kind) for name, (label, kind) in DOWNLOADS.items())
    fold = c.fold("All figures in a table, with floors and ceiling", tables)
    return f'{verdict(summary)}{plots}<div id="tables">{fold}</div><p class="mc-downloads">{links}</p>'


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
    """What may be said of the headline, and how that is limited."""
    outcome = summary.tuned_base.verdict.replace(" ", "-")
    others = [verdict_text(summary, key) for key in summary.further]
    told = (counts_text(summary), *others, seen_text(summary), *cautions(summary))
    lines = "".join(f"<p>{_signed(line)}</p>" for line in told if line)
    judged = "".join(f"<p>{_signed(line)}</p>" for line in judgements(summary))
    whole = f"{judged}<strong>{_signed(verdict_text(summary))}</strong>{lines}"
    return f'<div class="mc-verdict mc-{c.text(outcome)}">{whole}</div>'


def scores(summary: Summary) -> str:
    """Every arm's figures, aligned at their decimal points."""
    found, rows = table.scores(summary), ""
    asked, metric, decoding = found.notes
    kinds = {summary.label(group[0]): kind for kind, group in summary.grouped}
    span = len(found.headings)
    for number, (label, *figures, interval) in enumerate(found.rows):
        if label in kinds:
            rows += f'<tr class="mc-kind"><th scope="rowgroup" colspan="{span}">{c.text(kinds[label])}</th></tr>'
        rows += c.row(c.text(label), [*map(_at_point, figures), _signed(interval)], grey=number in found.grey)
    return c.table("scores", f"{asked}: {metric}; {decoding}", [*map(c.text, found.headings[1:])], rows)


def _signed(figures: str) -> str:
    return str(signed(visible(figures)))


def _at_point(figure: str) -> str:
    return f'<span class="at-point">{at_point(visible(figure))}</span>'


def floors(summary: Summary) -> str:
    """What needs no model, and what the references themselves reach."""
    known = table.floors(summary)
    rows = "".join(
        c.row(c.text(words or name).capitalize(), map(_at_point, values)) for name, words, *values in known.rows
    )
    scored = known.headings[2:]
    headings = [c.text(name[0].upper() + name[1:]) for name in scored] if len(scored) > 1 else ["Score"]
    found = c.table("floors", f"Floors, which are answers without any model: {', '.join(scored)}", headings, rows)
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
