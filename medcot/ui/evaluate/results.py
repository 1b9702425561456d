"""An evaluation's figures as HTML: verdict, table with intervals, floors, plots, downloads."""

import base64
from pathlib import Path
from typing import Any

from medcot.evaluating import plots, table
from medcot.evaluating.arms import title
from medcot.evaluating.words import cautions, counts_text, verdict_text
from medcot.runs import Evaluation
from medcot.ui import components as c

MOST_INLINE = 4_000_000  # bytes of a download that travels with the page; a larger file is named by its path


def results(evaluation: Evaluation, summary: dict[str, Any]) -> str:
    """The verdict, the table, the floors, the plots and the files."""
    headline = table.measured(summary)[0]
    gains = [float(e["gain"]) for e in evaluation.examples()]
    paired = summary["paired"][table.TUNED_BASE]
    pictures = plots.differences_plot(gains, paired, table.score_name(summary), headline.form)
    pictures += plots.comparisons_plot(summary, headline.form)
    wide = " mc-wide" if len(summary["arms"]) > 3 else ""
    tables = f'<div class="mc-tables{wide}">{scores(summary)}{floors(summary)}</div>'
    return verdict(summary) + tables + f'<div class="mc-plots">{pictures}</div>' + downloads(evaluation)


def verdict(summary: dict[str, Any]) -> str:
    outcome = summary["paired"][table.TUNED_BASE]["verdict"].replace(" ", "-")
    others = [verdict_text(summary, key) for key in list(summary["paired"])[1:]]
    lines = "".join(f"<p>{c.text(line)}</p>" for line in (counts_text(summary), *others, *cautions(summary)))
    return f'<div class="mc-verdict mc-{c.text(outcome)}"><strong>{c.text(verdict_text(summary))}</strong>{lines}</div>'


def scores(summary: dict[str, Any]) -> str:
    caption = (
        f"{summary['data']['records']} {table.asked(summary)}: {summary['metric']}; {table.decoding_text(summary)}"
    )
    headings = (*(c.text(title(arm)) for arm in summary["arms"]), "Tuned less base")
    rows = ""
    for row in table.measured(summary):
        change, interval = table.difference(row, summary)
        small = f" <small>({interval})</small>" if interval else ""
        cells = "".join(f"<td>{table.figure(row, arm)}</td>" for arm in summary["arms"].values())
        rows += f"<tr><th scope=row>{row.label}</th>{cells}<td>{change}{small}</td></tr>"
    return c.table("scores", caption, headings, rows)


def floors(summary: dict[str, Any]) -> str:
    form = table.measured(summary)[0].form
    rows = "".join(
        f"<tr><th scope=row>{c.text(table.FLOORS.get(name, name)).capitalize()}</th><td>{value:{form}}</td></tr>"
        for name, value in summary["floors"].items()
    )
    name = table.score_name(summary)
    found = c.table("floors", f"Floors: {name} without any model", ("Score",), rows)
    if ceiling := summary.get("ceiling"):
        found += (
            f'<p class="mc-soft mc-ceiling">Ceiling: the references themselves, cut at the token budget, score '
            f"{ceiling['answer_rouge_l']:{form}}.</p>"
        )
    return f"<div>{found}</div>"


def downloads(evaluation: Evaluation) -> str:
    links = [
        _link(evaluation.path / name, label, kind)
        for name, label, kind in (
            ("table.csv", "Table as CSV", "text/csv"),
            ("report.html", "Whole report as HTML", "text/html"),
            ("summary.json", "Summary as JSON", "application/json"),
        )
    ]
    return f'<p class="mc-downloads">{"".join(links)}</p>'


def _link(path: Path, label: str, kind: str) -> str:
    """A file as a link that holds it: no route that serves files is needed, so none can be asked for others."""
    try:
        content = path.read_bytes()
    except OSError:
        return ""
    if len(content) > MOST_INLINE:
        return f"<span>{label}: {c.text(path)}</span>"
    data = base64.b64encode(content).decode()
    return f'<a download="{path.parent.name}-{path.name}" href="data:{kind};base64,{data}">{label}</a>'
