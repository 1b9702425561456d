"""What the command line shows: progress while a job runs, tables when it is done. Results go to standard output,
progress to standard error, so that `--json` leaves one object and nothing else on the first."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from medcot.errors import Problem
from medcot.evaluating import table as results
from medcot.evaluating.arms import title
from medcot.evaluating.words import cautions, verdict_text
from medcot.events import Arrangement
from medcot.jobdirs import State, Status
from medcot.runs import Run

out = Console(highlight=False, soft_wrap=False)
err = Console(stderr=True, highlight=False)

STATE_COLORS: dict[State, str] = {
    "finished": "green",
    "running": "cyan",
    "queued": "cyan",
    "failed": "red",
    "interrupted": "red",
}


def problems(found: list[Problem] | list[str]) -> None:
    for problem in found:
        if isinstance(problem, Problem):
            where = f"[bold]{escape(problem.where)}[/bold]"
            line = f"{where}: {escape(problem.what)} {escape(problem.fix)}".rstrip()
        else:
            line = escape(problem)
        err.print(f"[red]✗[/red] {line}", soft_wrap=True)  # a path that is broken over two lines cannot be copied


def duration(seconds: float | None) -> str:
    """6:05, or 1:06:05; empty while unknown."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """Bytes as a person reads them: 512 B, 20 kB, 1.5 GB."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.1f} {unit}" if value < 10 and unit != "B" else f"{value:.0f} {unit}"


def ending(run_id: str, status: Status) -> None:
    """How a job ended, when it did not finish."""
    color = STATE_COLORS.get(status.state, "yellow")
    err.print(
        f"[{color}]{status.state}[/{color}] {run_id}" + (f": {escape(status.error)}" if status.error else ""),
        soft_wrap=True,
    )
    if status.hint:
        err.print(escape(status.hint), soft_wrap=True)


def summary(found: dict[str, Any]) -> None:
    """The comparison: the verdict first, then the figures beside their floors."""
    out.print(Panel(escape(verdict_text(found)), title="Base against tuned", expand=False))
    if "adapter" in found:
        out.print(f"tuned: {found['adapter']}, not trained here", markup=False, soft_wrap=True)
    shown = Table(box=None, pad_edge=False)
    for heading in ("", *(title(arm).lower() for arm in found["arms"]), "tuned less base", "95% interval"):
        shown.add_column(heading, justify="left" if not heading else "right")
    for row in results.measured(found):
        cells = (results.figure(row, arm) for arm in found["arms"].values())
        shown.add_row(row.label, *cells, *results.difference(row, found))
    out.print(shown)
    for key in list(found["paired"])[1:]:
        out.print(f"{results.versus(key, found)}: {escape(verdict_text(found, key))}")
    form = results.measured(found)[0].form
    floors = ", ".join(f"{name.replace('_', ' ')} {value:{form}}" for name, value in found["floors"].items())
    out.print(f"floors of {results.score_name(found)}, no model needed: {floors}")
    if ceiling := found.get("ceiling"):
        out.print(
            f"ceiling that {found['decoding']['max_new_tokens']} tokens allow: {ceiling['answer_rouge_l']:{form}}"
        )
    paired = found["paired"][results.TUNED_BASE]
    out.print(
        f"{found['data']['records']} {results.asked(found)}; "
        f"{found['metric']}; {results.decoding_text(found)}; "
        f"{paired['win']} higher, {paired['tie']} equal, {paired['loss']} lower",
        style="dim",
    )
    notes(cautions(found))


def answers(question: str, arms: dict[str, dict[str, Any]]) -> None:
    """Both outputs of a question, reasoning apart from answer."""
    out.print()
    out.print(f"[bold]{escape(question)}[/bold]")
    for arm in ("base", "tuned"):
        shown = arms[arm]
        parts = [f"[dim]{escape(shown['reasoning'])}[/dim]"] if shown["reasoning"] else []
        parts.append(escape(shown["answer"]) or "[dim](no answer)[/dim]")
        note = f" · format: {'; '.join(shown['problems'])}" if shown["problems"] else ""
        out.print(Panel("\n\n".join(parts), title=arm + escape(note), title_align="left"))


def alarm(lines: list[str]) -> None:
    """What a question that tells of an emergency brings, before any answer; empty where it brings nothing."""
    if lines:
        headline, *rest = lines
        err.print(Panel("\n".join(map(escape, rest)), title=f"[bold red]{escape(headline)}", border_style="red"))


def notes(lines: list[str]) -> None:
    """What should be known and forbids nothing; empty lines are none."""
    for line in filter(None, lines):
        err.print(f"[yellow]![/yellow] {escape(line)}", soft_wrap=True)


BARS = " ▁▂▃▄▅▆▇█"


def spark(histogram: dict[str, Any]) -> str:
    """A histogram as one line of bars; the last character ends at the largest value."""
    counts = histogram["counts"]
    return "".join(BARS[-(-count * (len(BARS) - 1) // max(counts))] for count in counts)


def plan(found: dict[str, Any]) -> None:
    """What `medcot plan` found: lengths, what is cut or repeated, and what the run would be."""
    audit, figures = found["audit"], found["plan"]
    arrangement = Arrangement.model_validate({k: figures[k] for k in Arrangement.model_fields})
    counts, repeated = audit["records"], (audit["duplicates"], audit["near_duplicates"])
    table = Table("tokens", "mean", "median", "95%", "longest", "from 0 to longest", box=None, pad_edge=False)
    for name, row in audit["lengths"].items():
        figures_of = (f"{row[k]:.0f}" for k in ("mean", "p50", "p95", "max"))
        table.add_row(name, *figures_of, spark(audit["histograms"][name]))
    out.print(table)
    named = ", ".join(f"{part} from {column!r}" for part, column in audit["columns"].items())
    lines = {
        "columns": named,
        "records": f"{counts['train']} to train on, {counts['held_out']} held out",
        "cut": f"{audit['truncated_share']:.1%} lose the end of their answer at {audit['max_length']} tokens; "
        f"{audit['keeps_all']} keeps all",
        "repeated": f"{repeated[0]} questions; {repeated[1]} held-out ones nearly repeat a training question",
        "trains": f"{figures['trainable_parameters']:,} parameters",
        "steps": f"{figures['steps']}: {arrangement}",
    }
    out.print()
    for heading, value in lines.items():
        out.print(f"{heading:10} {value}", markup=False, soft_wrap=True)
    for pair in audit["near_duplicate_pairs"][:3]:
        out.print(f"           held-out {pair['held_out_record']}: {pair['held_out_question']:.90}", markup=False)
        out.print(f"           training {pair['train_record']}: {pair['train_question']:.90}", markup=False)
    notes(found["problems"])


def run_table(runs: list[Run]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("run", "state", "step", "validation loss", "answer ROUGE-L base → tuned", "time", "size"):
        table.add_column(heading, no_wrap=heading == "run")
    for run in runs:
        status, figures = run.shown_status(), run.metrics()
        color = STATE_COLORS.get(status.state, "yellow")
        losses = [figures["first_validation_loss"], figures["validation_loss"]]
        found = figures["summary"]
        rouge = " → ".join(f"{found['arms'][arm]['answer_rouge_l']:.3f}" for arm in ("base", "tuned")) if found else ""
        name = run.about().name
        table.add_row(
            run.id
            + (f"\n[bold]{escape(name)}[/bold]" if name else "")
            + ("\n[dim]an adapter from elsewhere, not trained here[/dim]" if run.origin() else ""),
            f"[{color}]{status.state}[/{color}]",
            "" if run.origin() else f"{figures['step']}/{figures['total_steps']}",
            " → ".join(f"{loss:.3f}" for loss in losses if loss is not None),
            rouge,
            duration(figures["seconds"]),
            size(run.size_bytes()),
        )
    return table
