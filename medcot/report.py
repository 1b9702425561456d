"""report.html of an evaluation: one file, no network, no script; it prints well. Model text is shown as text."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from typing import Any

from medcot.evaluating import plots, table
from medcot.evaluating.arms import title
from medcot.evaluating.words import cautions, counts_text, verdict_text


def render(summary: dict[str, Any], examples: list[dict[str, Any]], samples: list[dict[str, Any]]) -> str:
    """The whole page. Every text from data or a model is escaped."""
    arms, run, source = list(summary["arms"]), escape(summary["run"]), escape(str(summary["data"]["source"]))
    headline = table.measured(summary)[0]
    paired = summary["paired"][table.TUNED_BASE]
    gains = [float(e["gain"]) for e in examples]
    others = "".join(f"<p>{escape(verdict_text(summary, key))}</p>" for key in list(summary["paired"])[1:])
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in cautions(summary))
    origin = (
        f"<p>Tuned is the adapter {escape(summary['adapter'])}, not trained here.</p>" if "adapter" in summary else ""
    )
    sample_part = f"<h2>Sample questions</h2>{''.join(_record(s, arms, '') for s in samples)}" if samples else ""
    shown = "".join(
        _record(e, arms, f"{table.points(e['gain'], headline.form)} · ")
        for e in sorted(examples, key=lambda e: float(e["gain"]))
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>medcot evaluation of {run}</title><style>{style()}</style>
<h1>Base against tuned</h1><p class="soft">{run} · {summary["data"]["records"]} {table.asked(summary)} of {source}
· {escape(summary["metric"])} · {escape(table.decoding_text(summary))}</p>
{origin}<p><strong>For research only.</strong> Not for care, and no statement here has been checked by a clinician.</p>
<div class="verdict"><strong>{escape(verdict_text(summary))}</strong><br><span class="soft">{escape(counts_text(summary))}</span>{others}</div>
{notes}
{scores(summary)}
{plots.differences_plot(gains, paired, table.score_name(summary), headline.form)}
{plots.comparisons_plot(summary, headline.form)}
<h2>Floors{" and ceiling" if summary.get("ceiling") else ""}</h2><p class="soft">{escape(table.score_name(summary).capitalize())} that needs no model at all. A score means little without them.</p>
{floors(summary)}
{sample_part}
<h2>{table.asked(summary).capitalize()}</h2><p class="soft">Sorted by difference, largest loss first.</p>
{shown}
</html>"""


def style() -> str:
    """The report's own style, and that of its pictures, which the page uses too."""
    folder = files("medcot") / "evaluating"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in ("report.css", "plots.css"))


def scores(summary: dict[str, Any]) -> str:
    """The table: a column for every arm, and the difference of tuned and base with its interval."""
    head = "".join(f"<th class=n>{escape(title(arm))}</th>" for arm in summary["arms"])
    body = ""
    for row in table.measured(summary):
        change, interval = table.difference(row, summary)
        cells = "".join(f"<td class=n>{table.figure(row, arm)}</td>" for arm in summary["arms"].values())
        body += f"<tr><td>{row.label}</td>{cells}<td class=n>{change} <small>{interval}</small></td></tr>"
    return (
        f'<div class="wide"><table><tr><th></th>{head}<th class=n>Tuned less base <small>95% interval</small></th></tr>'
        f"{body}</table></div>"
    )


def floors(summary: dict[str, Any]) -> str:
    form = table.measured(summary)[0].form
    rows = [(f"{name.replace('_', ' ')}: {table.FLOORS.get(name, '')}", v) for name, v in summary["floors"].items()]
    if ceiling := summary.get("ceiling"):
        rows.append(("ceiling: the references themselves, cut at the token budget", ceiling["answer_rouge_l"]))
    cells = "".join(f"<tr><td>{escape(name)}</td><td class=n>{value:{form}}</td></tr>" for name, value in rows)
    return f'<div class="wide"><table>{cells}</table></div>'


def _record(row: dict[str, Any], arms: Sequence[str], note: str) -> str:
    reference, shown = row.get("reference"), ""
    if options := row.get("options"):
        items = "".join(f"<div>{escape(letter)}. {escape(text)}</div>" for letter, text in options.items())
        shown += f'<div class="text">{items}</div>'
    if reference:
        letter = f"{reference['letter']}. " if "letter" in reference else ""
        shown += f'<p class="soft">Reference answer</p><div class="text">{escape(letter + reference["answer"])}</div>'
    return (
        f'<details><summary>{note}{escape(row["question"])}</summary>{shown}<div class="pair">'
        f"{''.join(_arm(arm, row[arm]) for arm in arms if arm in row)}</div></details>"
    )


def _arm(arm: str, found: dict[str, Any]) -> str:
    problems = f'<p class="soft">Format: {escape("; ".join(found["problems"]))}</p>' if found["problems"] else ""
    letter = ""
    if "correct" in found:
        stated = found["letter"] or "none"
        letter = f'<p class="soft">Stated letter: {escape(stated)}, {"right" if found["correct"] else "wrong"}</p>'
    return (
        f'<div class="arm"><h4>{escape(title(arm))}</h4>{letter}<span class="soft">Reasoning</span>'
        f'<div class="text">{escape(found["reasoning"]) or "(none)"}</div><span class="soft">Answer</span>'
        f'<div class="text">{escape(found["answer"]) or "(none)"}</div>{problems}</div>'
    )
