"""What the command line shows. Results go to standard output and progress to standard error, so that `--json` leaves
one object and nothing else on the first."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import track
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from medcot.errors import Problem
from medcot.evaluation import summary as results
from medcot.evaluation.answers import ARMS, Reply, Shown, title
from medcot.evaluation.summary import Summary, cautions, judgements, verdict_text
from medcot.runs.export import Exported
from medcot.runs.job_dir import State, Status
from medcot.runs.plan import Audit, Planned
from medcot.runs.run import Run, duration, size
from medcot.runs.snapshot import cannot_be_read, listed
from medcot.safety.foreign import visible
from medcot.workers.protocol import CheckedServer

T = TypeVar("T")


class Terminal(Console):
    """Rich's console for text from elsewhere: none of it is markup, and none of it commands the terminal."""

    def __init__(self, **options: Any):
        super().__init__(markup=False, highlight=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a string's characters visible before it is laid out, since they are wider then."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The same for what is no string, such as a title."""
        for part in super().render(renderable, options):
            yield part if part.control else Segment(visible(part.text), part.style)


out = Terminal()
err = Terminal(stderr=True)
Part = str | tuple[str, str]  # a text, or one with its style


def assembled(*parts: Part) -> Text:
    """One text of several, of which rich would leave out some control characters without a word."""
    return Text.assemble(*(visible(p) if isinstance(p, str) else (visible(p[0]), p[1]) for p in parts))


@contextmanager
def working(words: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done, until it is; yields what changes the words. Without a terminal each stage is a line."""
    if err.is_terminal:
        with err.status(assembled(words)) as status:
            yield lambda stage: status.update(assembled(stage))
        return
    said: list[str] = []

    def line(stage: str) -> None:
        name = stage.partition(",")[0]  # what follows is a speed or a count
        if name not in said[-1:]:
            said.append(name)
            err.print(assembled(stage), soft_wrap=True)

    yield line


def marked(mark: str, style: str, line: str) -> None:
    """Show a line behind a coloured mark, unbroken: a path over two lines cannot be copied."""
    err.print(assembled((mark, style), " ", line), soft_wrap=True)


STATE_COLORS: dict[State, str] = {
    "finished": "green",
    "running": "cyan",
    "queued": "cyan",
    "failed": "red",
    "interrupted": "red",
}


def problems(found: list[Problem]) -> None:
    for problem in found:
        where: list[Part] = [(problem.where, "bold"), ": "] if problem.where else []
        line = f"{problem.what} {problem.fix}".rstrip()
        err.print(assembled(("✗ ", "red"), *where, line), soft_wrap=True)  # a path over two lines cannot be copied


def counted(items: Iterable[T], total: int) -> Iterator[T]:
    """Yield the items under a progress bar; without a terminal, say every ten seconds how many have gone by."""
    if err.is_terminal:
        yield from track(items, "Scoring", total, console=err, transient=True)
        return
    said = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - said > 10:
            said = time.monotonic()
            err.print(f"Scoring: {done} of {total}")
        yield item


def ending(run_id: str, status: Status) -> None:
    """Show how a job ended that did not finish."""
    color = STATE_COLORS.get(status.state, "yellow")
    marked(status.state, color, run_id + (f": {status.error}" if status.error else ""))
    if status.hint:
        err.print(status.hint, soft_wrap=True)


def summary(found: Summary) -> None:
    """Show an evaluation: the verdict first, then the figures beside their floors."""
    said = "\n".join([*judgements(found), verdict_text(found)])
    out.print(Panel(said, title="Base against tuned", expand=False))
    if found.adapter:
        out.print(f"tuned: {found.adapter}, not trained here", soft_wrap=True)
    table = results.scores(found)
    scores(table)
    for key in found.further:
        arm, against = map(title, found.sides(key))
        out.print(f"{arm} against {results.lowered(against)}: {verdict_text(found, key)}")
    floors = results.floors(found)
    for column, score in enumerate(floors.headings[2:], start=2):
        values = ", ".join(f"{row[0]} {row[column]}" for row in floors.rows)
        out.print(f"floors of {score}, no model needed: {values}")
    if found.ceiling:
        out.print(f"ceiling that {found.decoding.max_new_tokens} tokens allow: {results.ceiling(found)}")
    out.print("; ".join((*table.notes, found.tuned_base.counts)), style="dim")
    if seen := results.seen_text(found):
        out.print(seen)
    notes(cautions(found))


def scores(table: results.Table) -> None:
    """Show a table, or if that is too wide for this terminal a line or two for each of its rows."""
    headings = (*(heading.lower() for heading in table.headings[:-1]), table.headings[-1])
    shown = Table(box=None, pad_edge=False)
    for heading in headings:
        shown.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for number, row in enumerate(table.rows):
        shown.add_row(*row, style="dim" if number in table.grey else None)
    if _fits(shown):
        out.print(shown)
        return
    for label, *values, less, interval in table.rows:
        out.print(label, style="bold")
        of_arms = ", ".join(f"{arm} {value}" for arm, value in zip(headings[1:-2], values, strict=True))
        between = f" ({interval})" if interval else ""
        change = f"; tuned less base {less}{between}" if less else ""
        out.print(Padding(f"{of_arms}{change}", (0, 0, 0, 2)))


def _fits(table: Table) -> bool:
    """True if this terminal has the width for a table, which rich would else cut."""
    return out.measure(table, options=out.options.update(max_width=1000)).maximum <= out.width


def answers(question: str, arms: Mapping[str, Shown | Reply]) -> None:
    """Show base's and tuned's output of a question, or that of the one arm there is, reasoning apart from answer."""
    out.print()
    out.print(question, style="bold")
    for arm in [arm for arm in ARMS if arm in arms] or arms:
        shown = arms[arm]
        parts = [assembled((shown.reasoning, "dim"))] if shown.reasoning else []
        parts.append(assembled(shown.answer) if shown.answer else Text("(no answer)", "dim"))
        note = f" · format: {'; '.join(shown.problems)}" if shown.problems else ""
        out.print(Panel(Text("\n\n").join(parts), title=assembled(arm + note), title_align="left"))


def alarm(lines: list[str]) -> None:
    """Show what an emergency in a question calls for, before any answer."""
    if lines:
        headline, *rest = lines
        err.print(Panel("\n".join(rest), title=assembled((headline, "bold red")), border_style="red"))


def notes(lines: list[str]) -> None:
    """Show warnings, which forbid nothing."""
    for line in filter(None, lines):
        marked("!", "yellow", line)


BARS = " ▁▂▃▄▅▆▇█"


def spark(counts: list[int]) -> str:
    """Draw a histogram as one line of bars; the last one ends at the largest value."""
    return "".join(BARS[-(-count * (len(BARS) - 1) // max(counts))] for count in counts)


def lengths(audit: Audit) -> None:
    """Show how long the records are, with a histogram of each part where this terminal is wide enough for it."""
    table = Table("tokens", "mean", "median", "95%", "longest", "from 0 to longest", box=None, pad_edge=False)
    for name, row in audit.lengths.items():
        figures_of = (f"{value:.0f}" for value in (row.mean, row.p50, row.p95, row.max))
        table.add_row(name, *figures_of, spark(audit.histograms[name].counts))
    if not _fits(table):
        table.columns.pop()
    out.print(table)


def plan(planned: Planned, warnings: list[str]) -> None:
    """Show what `medcot plan` found: lengths, what is cut or repeated, and what the run would be."""
    audit, figures = planned.audit, planned.plan
    lengths(audit)
    lines = {
        "columns": ", ".join(f"{part} from {column!r}" for part, column in audit.columns.items()),
        **({"not used": f"{', '.join(map(repr, audit.unused))}, which hold text"} if audit.unused else {}),
        "records": "; ".join([audit.parts, *map(str, audit.sources)]),
        "too long": f"{audit.beyond}; {audit.keeps_all} keeps all",
        "repeated": audit.repeats,
        "trains": f"{figures.trainable_parameters:,} parameters",
        "steps": f"{figures.steps}: {figures}",
    }
    out.print()
    for heading, value in lines.items():
        out.print(f"{heading:10} {value}", soft_wrap=True)
    for pair in audit.near_duplicate_pairs[:3]:
        out.print(f"           held-out {pair.held_out_record}: {pair.held_out_question:.90}")
        out.print(f"           training {pair.train_record}: {pair.train_question:.90}")
    notes(warnings)


def runs(found: list[Run]) -> None:
    """Show each run in two or three lines, which fit where a table's columns would not."""
    for run in found:
        name = run.about().name
        called: list[Part] = [(name, "bold"), (f" {run.id}", "dim")] if name else [(run.id, "bold")]
        out.print(assembled(*called), soft_wrap=True)  # an id that is broken over two lines cannot be copied
        for facts in _facts(run):
            if line := Text(" · ").join([assembled(fact) for fact in facts if fact]):
                out.print(Padding(line, (0, 0, 0, 2)))


def _facts(run: Run) -> Iterator[tuple[Part, ...]]:
    """A run's state and size, its losses and scores, and its files that cannot be read."""
    shown = listed(run)
    status = shown.shown_status
    figures, summary = run.progress(), run.latest_summary()
    color, state = (
        STATE_COLORS.get(status.state, "yellow"),
        ", ".join(filter(None, (status.state, run.silence(status)))),
    )
    steps = f"step {figures['step']} of {figures['total_steps']}" if figures["total_steps"] else ""
    trained = "an adapter from elsewhere, not trained here" if shown.adapter else steps
    yield (state, color), trained, duration(figures["seconds"]), size(run.size_bytes())
    losses = [figures["first_validation_loss"], figures["validation_loss"]]
    changed = " → ".join(f"{loss:.3f}" for loss in losses if loss is not None)
    scores = ""
    if summary:
        arms = (f"{arm} {summary.figure(summary.headline, summary.arms[arm])}" for arm in ARMS)
        scores = f"{summary.headline.label} {', '.join(arms)}"
    yield f"validation loss {changed}" if changed else "", results.lowered(scores) if scores else ""
    yield (cannot_be_read(shown),)


def exported(made: Exported) -> None:
    """Show what an export wrote, what was checked of it, and the commands that run it."""
    out.print(Text(visible(f"{made.path}  {size(made.bytes)}, {made.dtype}")), soft_wrap=True)
    if made.prompts:
        chosen = f"it chooses {made.same_tokens} of the {made.tokens} tokens that base and adapter answer"
        out.print(f"Merged and checked: computing in {made.dtype}, {chosen} to {made.prompts} questions.")
    for file in made.files:
        state = "not kept" if file.refused else size(file.bytes)
        out.print(Text(visible(f"{file.name}  {state}")), style="bold", soft_wrap=True)
        if asked := file.asked:
            same = f"{asked.same_tokens / max(1, asked.tokens):.2%} of {asked.tokens} tokens"
            out.print(f"  llama.cpp: {same} are those of the exported model, {asked.tokens_per_second:.0f} tokens/s")
            out.print(f"  {asked.stopped} of {asked.questions} answers end by themselves; {_figures(asked.scores)}")
            if asked.tuned:
                out.print(f"  tuned, as evaluated: {_figures(asked.tuned)}")
    notes(made.notes)
    for command in made.commands:
        out.print(Text(f"  {visible(command)}"), style="dim", soft_wrap=True)


def checked(found: CheckedServer) -> None:
    """Show what a server answered beside tuned's own answers."""
    asked = f"{found.questions} questions were asked of {found.model} at {found.url}"
    out.print(Text(visible(f"{asked}, {found.tokens_per_second:.0f} tokens/s")), soft_wrap=True)
    out.print(f"{found.stopped} answers end by themselves; {_figures(found.scores)}")
    if found.tuned:
        out.print(f"tuned, as evaluated: {_figures(found.tuned)}")
        alike = f"{found.same_answers} answers are tuned's letter by letter"
        out.print(f"{alike}; {found.same_begun:.0%} of tuned's letters come before the first that differs")
    notes(found.notes)
    if found.problem:
        marked("x", "red", f"Not what was measured: {found.problem}.")


def _figures(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in scores.items()) or "not scored"
