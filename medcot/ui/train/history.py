"""All runs in a table, two of them side by side, and the queue of waiting jobs."""

from datetime import datetime
from typing import Any

import gradio as gr

from medcot.errors import BadInput
from medcot.runs.export import Export
from medcot.runs.ids import name_of
from medcot.runs.job_dir import ALIVE, JobDir
from medcot.runs.run import Run, duration, size
from medcot.runs.snapshot import Listed, cannot_be_read
from medcot.settings.build import differences
from medcot.ui import components as c
from medcot.ui.chart import Line, plot, smoothed
from medcot.ui.form import shown
from medcot.ui.guard import visitor_may
from medcot.ui.page import HIDE, LATEST, QUIET, SHOW, Page, Updates, still
from medcot.ui.train.open_run import OpenRun
from medcot.workers import jobs

HEADINGS = ("State", "Recipe", "Data", "Train loss", "Validation loss", "Time", "Size", "Started")
TO_COMPARISON = "run => { document.getElementById('compare-one')?.scrollIntoView(); return run; }"


class History:
    """A table of all runs, and two chosen runs compared: their curves, and the settings in which they differ."""

    def __init__(self, page: Page, opened: OpenRun):
        self.page = page
        self._sizes: dict[str, tuple[Listed, int, int]] = {}
        with gr.Column(elem_classes="mc-card mc-history"):
            self.table = c.block(elem_id="history")
            with gr.Row(elem_classes="mc-fields"):
                hidden: dict[str, Any] = {"value": None, "visible": False, "filterable": False}
                self.one: Any = gr.Dropdown([], label="Compare", elem_id="compare-one", **hidden)
                self.other: Any = gr.Dropdown([], label="with", elem_id="compare-other", **hidden)
            self.comparison = c.block(elem_id="compared-runs")
        self.mark, both = gr.State(""), [self.one, self.other]
        page.refresh(self.look, [*both, self.mark], [self.table, *both, self.comparison, self.mark])
        gr.on([self.one.input, self.other.input], self.compare, both, self.comparison, **LATEST)
        opened.compare.click(self.begin_with, opened.runs, [*both, self.comparison], js=TO_COMPARISON, **QUIET)

    def look(self, one: object, other: object, seen_mark: str) -> Updates:
        runs, mark = self.page.reader.look().runs, f"{one} {other} {self.page.reader.mark()}"
        if mark == seen_mark:
            return {}
        ids, choices = [run.id for run in runs], [(run.title, run.id) for run in runs]
        kept = [wanted if wanted in ids else None for wanted in (one, other)]
        lists: Updates = {
            component: still(gr.update(choices=choices, value=value, visible=len(runs) > 1), wanted)
            for component, value, wanted in zip((self.one, self.other), kept, (one, other), strict=True)
        }
        rows = "".join(self._row(run) for run in runs)
        table = "<h3>History</h3>" + c.table("runs-table", "All runs, newest first", HEADINGS, rows) if runs else ""
        return {self.table: table, **lists, self.comparison: self.compare(*kept), self.mark: mark}

    @visitor_may
    def begin_with(self, run_id: object) -> Updates:
        """The open run beside the newest other one; a person chooses further."""
        others = (run.id for run in self.page.reader.look().runs if run.id != run_id and not run.adapter)
        two = (run_id, next(others, None))
        return {self.one: two[0], self.other: two[1], self.comparison: self.compare(*two)}

    def _row(self, listed: Listed) -> str:
        run, status, seen, about = listed.run, listed.shown_status, self.page.reader.seen(listed.run), listed.about
        settings, step, validation = self.page.reader.settings(run), seen.steps.newest, seen.validations.newest
        seconds = seen.finished.seconds if seen.finished else status.updated - status.started
        cells = (
            c.badge(status.state),
            "not trained here" if listed.adapter else c.text(settings.recipe if settings else "–"),
            c.text(settings.data.source.rpartition("/")[2] if settings else "–"),
            f"{step.loss:.3f}" if step else "–",
            f"{validation.loss:.3f}" if validation else "–",
            "–" if status.state in ALIVE else duration(seconds),
            size(self._size(listed, seen.validated)),
            datetime.fromtimestamp(status.started).astimezone().strftime("%Y-%m-%d %H:%M") if status.started else "–",
        )
        note = f"<small>{c.text(about.note)}</small>" if about.note else ""
        strange = f"<small>{c.text(cannot_be_read(listed))}</small>" if listed.unreadable else ""
        run_id = c.text(run.id)
        link = f'<a class="mc-open-run" href="?tab=train&amp;run={run_id}" data-run="{run_id}">'
        name = f"{link}{c.text(about.name or name_of(run.id))}</a> <small>{run_id}</small>"
        return c.row(f"{name}{note}{strange}", cells)

    def _size(self, listed: Listed, validated: int) -> int:
        """The run's bytes, counted again only if it has changed: walking a folder is slow for a look."""
        known = self._sizes.get(listed.id)
        if known is None or known[0] is not listed or known[1] != validated:
            known = self._sizes[listed.id] = (listed, validated, listed.run.size_bytes())
        return known[2]

    @visitor_may
    def compare(self, one: object, other: object) -> str:
        runs = self.page.reader.look()
        first, second = runs.find(one), runs.find(other)
        if not first or not second:
            return ""
        if first.id == second.id:
            return c.soft("Choose two different runs.")
        if first.adapter or second.adapter:
            return c.soft("One of them was not trained here, so there is nothing to compare.")
        return self._curves(first, second) + self._differences(first, second)

    def _curves(self, *runs: Listed) -> str:
        lines, steps = [], 0
        for side, run in zip("ab", runs, strict=True):
            seen = self.page.reader.seen(run.run)
            steps = max(steps, seen.total_steps)
            train, validation = seen.losses
            lines += [
                Line(f"{run.title}, train, smoothed", f"{side}-train", smoothed(train, seen.total_steps), dots=False),
                Line(f"{run.title}, validation", f"{side}-validation", validation),
            ]
        return plot(lines, steps) if any(line.points for line in lines) else c.soft("Neither has reported a loss.")

    def _differences(self, one: Listed, other: Listed) -> str:
        settings, others = self.page.reader.settings(one.run), self.page.reader.settings(other.run)
        if settings is None or others is None:
            return c.soft("The settings of one of them cannot be read.")
        differing = differences(settings, others)
        if not differing:
            return c.soft("Their settings are the same.")
        rows = "".join(
            c.row(c.place(path), [c.text("none" if value is None else shown(value)) for value in values])
            for path, *values in differing
        )
        headings = [c.text(run.title) for run in (one, other)]
        return c.table("differences", "The settings in which they differ", headings, rows)


class Queue:
    """The job that has the device, and those that wait for it, in order; a waiting job can be cancelled."""

    def __init__(self, page: Page):
        self.page = page
        with gr.Column(elem_classes="mc-card mc-queue"):
            self.now = c.block(elem_id="queue")
            listed: dict[str, Any] = {"label": "Waiting, the next first", "visible": False, "elem_classes": "mc-runs"}
            self.waiting = gr.Radio([], elem_id="waiting", **listed)
            hidden: dict[str, Any] = {"visible": False, "elem_classes": "mc-copy"}
            self.cancel = gr.Button("Cancel the chosen job", elem_id="cancel-waiting", **hidden)
            self.problems = c.block(elem_id="queue-problems")
        self.mark = gr.State("")
        outputs = [self.now, self.waiting, self.cancel, self.mark]
        page.refresh(self.look, [self.waiting, self.mark], outputs)
        self.cancel.click(self.cancel_chosen, self.waiting, [self.problems, *outputs], **QUIET)

    def look(self, chosen: object, seen_mark: str) -> Updates:
        waiting, busy = self.page.reader.look().waiting(), self.page.reader.busy()
        mark = " ".join([str(busy and busy.path), *(str(job.path) for job in waiting)])
        if mark == seen_mark:
            return {}
        at_work = f"At work: {self._label(busy)}." if busy else "The device is in use by a chat, or about to be free."
        choices = [(self._label(job), job.path.name) for job in waiting]
        kept = chosen if chosen in [k for _, k in choices] else None  # never another: Cancel is about the chosen one
        listed = still(gr.update(choices=choices, value=kept, visible=bool(waiting)), chosen)
        queue = f"<h3>Queue</h3>{c.soft(at_work)}" if waiting else ""
        return {self.now: queue, self.waiting: listed, self.cancel: SHOW if waiting else HIDE, self.mark: mark}

    def cancel_chosen(self, chosen: object) -> Updates:
        problems = c.attempt(lambda: self._stop(chosen))
        return {self.problems: problems, **self.look(chosen, "changed")}

    def _stop(self, chosen: object) -> None:
        job = next((job for job in self.page.reader.look().waiting() if job.path.name == chosen), None)
        if job is None:
            what = "is no longer waiting." if chosen else "none is chosen."
            raise BadInput.of("job", what, "Choose one.")
        jobs.stop(job)

    def _label(self, job: JobDir) -> str:
        run_id = job.id if isinstance(job, Run) else job.path.parents[1].name
        listed = self.page.reader.look().find(run_id)
        title = listed.title if listed else run_id
        if isinstance(job, Run):
            return f"Training {title}"
        return f"{'Export' if isinstance(job, Export) else 'Evaluation'} of {title}"
