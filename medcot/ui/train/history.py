"""All runs in a table, and two of them side by side: their curves, and the settings in which they differ."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import gradio as gr

from medcot.jobdirs import ALIVE
from medcot.runs import Run
from medcot.settings import differences
from medcot.terminal import duration, size
from medcot.ui import components as c
from medcot.ui.chart import Line, plot, smoothed
from medcot.ui.page import Page, still

HEADINGS = ("State", "Recipe", "Data", "Train loss", "Validation loss", "Time", "Size", "Started (UTC)")


@dataclass(frozen=True)
class HistoryCard:
    table: gr.HTML
    one: gr.Dropdown
    other: gr.Dropdown
    comparison: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.table, self.one, self.other, self.comparison]


def history_card() -> HistoryCard:
    with gr.Column(elem_classes="mc-card mc-history"):
        table = c.block(elem_id="history")
        with gr.Row(elem_classes="mc-fields"):
            one, other = (
                gr.Dropdown([], label=label, value=None, visible=False, filterable=False, elem_id=name)
                for label, name in (("Compare", "compare-one"), ("with", "compare-other"))
            )
        comparison = c.block(elem_id="compared-runs")
    return HistoryCard(table, one, other, comparison)


class History:
    def __init__(self, page: Page):
        self.page = page
        self._sizes: dict[str, tuple[str, int]] = {}

    def look(self, one: object, other: object, seen_mark: str) -> Any:
        """The card's outputs and its mark."""
        runs = self.page.store.list()
        mark = "\n".join([f"{one} {other}", *(self._mark(run) for run in runs)])
        if mark == seen_mark:
            return gr.skip()
        if not runs:
            hidden = gr.update(choices=[], value=None, visible=False)
            return ["", still(hidden, one), still(hidden, other), "", mark]
        ids = [run.id for run in runs]
        kept = [wanted if wanted in ids else None for wanted in (one, other)]
        choices = [(title(run), run.id) for run in runs]
        lists = [
            still(gr.update(choices=choices, value=value, visible=len(runs) > 1), wanted)
            for value, wanted in zip(kept, (one, other), strict=True)
        ]
        rows = "".join(self._row(run) for run in runs)
        table = c.table("runs-table", "All runs, newest first", HEADINGS, rows)
        return [f"<h3>History</h3>{table}", *lists, self.compare(*kept), mark]

    def _mark(self, run: Run) -> str:
        """Changes with a run's state, what is said of it, and each validation."""
        told, seen, state = run.about(), self.page.reader.seen(run), run.shown_status().state
        return f"{run.id} {state} {told.name} {told.note} {len(seen.validations)} {len(run.evaluations())}"

    def _row(self, run: Run) -> str:
        status, seen, told = run.shown_status(), self.page.reader.seen(run), run.about()
        settings = self.page.reader.settings(run)
        seconds = seen.finished.seconds if seen.finished else status.updated - status.started
        cells = (
            c.badge(status.state),
            "not trained here" if run.origin() else c.text(settings.recipe if settings else "–"),
            c.text(settings.data.source.rpartition("/")[2] if settings else "–"),
            f"{seen.steps[-1].loss:.3f}" if seen.steps else "–",
            f"{seen.validations[-1].loss:.3f}" if seen.validations else "–",
            "–" if status.state in ALIVE else duration(seconds),
            size(self._size(run)),
            datetime.fromtimestamp(status.started, UTC).strftime("%Y-%m-%d %H:%M"),
        )
        note = f"<small>{c.text(told.note)}</small>" if told.note else ""
        name = f"<b>{c.text(told.name)}</b> " if told.name else ""
        return (
            f"<tr><th scope=row>{name}{c.text(run.id)}{note}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        )

    def _size(self, run: Run) -> int:
        """Walking a folder costs more than a look may; what has not changed is not walked again."""
        mark = self._mark(run)
        known = self._sizes.get(run.id)
        if known is None or known[0] != mark:
            known = self._sizes[run.id] = (mark, run.size_bytes())
        return known[1]

    def compare(self, one: object, other: object) -> str:
        runs = [self.page.reader.find(wanted) for wanted in (one, other)]
        if not runs[0] or not runs[1]:
            return ""
        if runs[0].id == runs[1].id:
            return '<p class="mc-soft">Choose two different runs.</p>'
        if runs[0].origin() or runs[1].origin():
            return '<p class="mc-soft">One of them was not trained here, so there is nothing to compare.</p>'
        return self._curves(runs[0], runs[1]) + self._differences(runs[0], runs[1])

    def _curves(self, *runs: Run) -> str:
        lines, steps = [], 0
        for side, run in zip("ab", runs, strict=True):
            seen = self.page.reader.seen(run)
            steps = max(steps, seen.total_steps)
            train = smoothed([(s.step, s.loss) for s in seen.steps], seen.total_steps)
            validation = [(v.step, v.loss) for v in seen.validations]
            lines += [
                Line(f"{title(run)}, train, smoothed", f"{side}-train", train, dots=False),
                Line(f"{title(run)}, validation", f"{side}-validation", validation),
            ]
        if not any(line.points for line in lines):
            return '<p class="mc-soft">Neither has reported a loss.</p>'
        return plot(lines, steps)

    def _differences(self, one: Run, other: Run) -> str:
        both = [self.page.reader.settings(run) for run in (one, other)]
        if both[0] is None or both[1] is None:
            return '<p class="mc-soft">The settings of one of them cannot be read.</p>'
        found = differences(both[0], both[1])
        if not found:
            return '<p class="mc-soft">Their settings are the same.</p>'
        rows = "".join(
            f"<tr><th scope=row>{path}</th><td>{c.text(value(a))}</td><td>{c.text(value(b))}</td></tr>"
            for path, a, b in found
        )
        headings = [c.text(title(run)) for run in (one, other)]
        return c.table("differences", "The settings in which they differ", headings, rows)


def title(run: Run) -> str:
    """The name that somebody gave it, with the id."""
    name = run.about().name
    return f"{name} ({run.id})" if name else run.id


def value(setting: Any) -> str:
    if setting is None:
        return "none"
    return ", ".join(setting) if isinstance(setting, tuple) else str(setting)
