"""Ticked runs side by side: their curves, what is known of each, and the settings in which they differ."""

from collections.abc import Iterator, Sequence
from datetime import datetime

import gradio as gr

from medcot.evaluation.drawing import signed
from medcot.evaluation.summary import Summary
from medcot.runs.job_dir import ALIVE, JobDir
from medcot.runs.run import duration, size
from medcot.runs.snapshot import Listed
from medcot.settings.build import differences
from medcot.ui import components as c
from medcot.ui.chart import Line, plot, smoothed
from medcot.ui.form import shown
from medcot.ui.page import Page, Updates

STYLES = "abcd"  # of the curves, one for each run
MOST = len(STYLES)
NOTHING = "–"
# Brings the comparison into view when it comes, and not again when it changes.
APPEAR = """(shown) => {
  if (shown && !medcot.compared) document.getElementById('comparison-card')?.scrollIntoView();
  medcot.compared = Boolean(shown);
}"""


def ticked(chosen: object) -> list[str]:
    """The ids that a browser sent as ticked; each is looked up like any other choice."""
    return list(dict.fromkeys(str(chosen or "").split("/")))[:MOST] if chosen else []


class Comparison:
    """The card above all tabs; it is there while two runs are ticked."""

    def __init__(self, page: Page):
        self.page = page
        with gr.Column(elem_classes="mc-card mc-compared", visible=False, elem_id="comparison-card") as self.whole:
            with gr.Row(elem_classes="mc-actions"):
                c.block("<h2>Runs compared</h2>")
                close = c.small_button("Close", elem_id="close-comparison")
            self.shown = c.block(elem_id="compared-runs")
        self.mark = gr.State("")
        page.refresh(self.look, [page.ticked, self.mark], [page.ticked, self.whole, self.shown, self.mark])
        self.shown.change(None, self.shown, None, js=APPEAR)
        close.click(None, None, page.ticked, js="() => ''")

    def look(self, chosen: object, seen_mark: str) -> Updates:
        mark = f"{chosen} {self.page.reader.mark()}" if chosen else ""
        if mark == seen_mark:
            return {}
        wanted = ticked(chosen)
        runs = [run for one in wanted if (run := self.page.reader.look().find(one))]
        is_shown = len(runs) > 1
        # One that was deleted has no row any more, in which a person could take its tick away.
        kept: Updates = {self.page.ticked: "/".join(run.id for run in runs)} if len(runs) < len(wanted) else {}
        return {
            **kept,
            self.whole: gr.update(visible=is_shown),
            self.shown: self.compared(runs) if is_shown else "",
            self.mark: mark,
        }

    def compared(self, runs: Sequence[Listed]) -> str:
        return self._curves(runs) + self._facts(runs) + self._differences(runs)

    def _curves(self, runs: Sequence[Listed]) -> str:
        """Train and validation loss of two runs; of more, the validation loss alone, since more lines are none."""
        lines, steps = [], 0
        for side, run in zip(STYLES, runs, strict=False):
            seen = self.page.reader.seen(run.run)
            steps = max(steps, seen.total_steps)
            train, validation = seen.losses
            if len(runs) == 2:
                mean = smoothed(train, seen.total_steps)
                lines.append(Line(f"{run.title}, train, smoothed", f"{side}-train", mean, dots=False))
            lines.append(Line(f"{run.title}, validation", f"{side}-validation", validation))
        return plot(lines, steps) if any(line.points for line in lines) else c.soft("None has reported a loss.")

    def _facts(self, runs: Sequence[Listed]) -> str:
        told = [dict(self._told(run)) for run in runs]
        names = dict.fromkeys(name for known in told for name in known)
        rows = "".join(c.row(c.text(name), [c.text(known.get(name, NOTHING)) for known in told]) for name in names)
        caption = "What is known of them; of an evaluation, tuned less base, with its 95% interval"
        return c.table("compared", caption, [c.text(run.title) for run in runs], rows)

    def _told(self, listed: Listed) -> Iterator[tuple[str, str]]:
        """(name, value) of what is known of a run."""
        run, (job, status), settings = listed.run, listed.shown, self.page.reader.settings(listed.run)
        seen = self.page.reader.seen(run)
        yield "State", status.state.capitalize()
        began = datetime.fromtimestamp(status.started).astimezone()
        yield "Started", f"{began:%Y-%m-%d %H:%M}" if status.started else NOTHING
        yield "Recipe", "not trained here" if listed.adapter else settings.recipe if settings else NOTHING
        yield "Data", settings.data.source.rpartition("/")[2] if settings else NOTHING
        if step := seen.steps.newest:
            yield "Train loss", f"{step.loss:.3f}"
        if validation := seen.validations.newest:
            yield "Validation loss", f"{validation.loss:.3f}"
        yield "Time", NOTHING if status.state in ALIVE else self._worked(job)
        yield "Size", size(run.size_bytes())
        if summary := run.latest_summary():
            yield from measured(summary)

    def _worked(self, job: JobDir) -> str:
        """How long a job took, or was worked on before it ended otherwise."""
        seen = self.page.reader.seen(job)
        seconds = seen.finished.seconds if seen.finished else seen.worked
        return duration(seconds) if seconds > 0 else NOTHING

    def _differences(self, runs: Sequence[Listed]) -> str:
        settings = [found for run in runs if (found := self.page.reader.settings(run.run))]
        if len(settings) < len(runs):
            return c.soft("The settings of one of them cannot be read.")
        differing = differences(*settings)
        if not differing:
            return c.soft("Their settings are the same.")
        rows = "".join(
            c.row(c.place(path), [c.text("none" if value is None else shown(value)) for value in values])
            for path, *values in differing
        )
        headings = [c.text(run.title) for run in runs]
        return c.table("differences", "The settings in which they differ", headings, rows)


def measured(summary: Summary) -> Iterator[tuple[str, str]]:
    """(name, difference with its interval) of each row of an evaluation that has an interval."""
    for row in summary.rows:
        difference, interval = summary.difference(row)
        if interval:
            yield summary.label(row), str(signed(f"{difference} ({interval})"))
