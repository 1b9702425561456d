"""One list of all runs for every tab: a click chooses the run of the page, ticks choose those to compare."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from medcot.evaluation.drawing import signed
from medcot.evaluation.summary import Summary
from medcot.runs.ids import name_of, when
from medcot.runs.job_dir import ALIVE, JobDir
from medcot.runs.run import Evaluation, Run
from medcot.runs.snapshot import Listed, Snapshot, cannot_be_read
from medcot.ui import components as c
from medcot.ui.guard import visitor_may
from medcot.ui.page import LOOK, QUIET, Page, Updates
from medcot.ui.side.comparison import MOST
from medcot.ui.train.stages import percent

PAGE = 50  # runs that are listed at once
MOST_SEARCHES = 50  # that are remembered
CHOOSE = c.from_file("side/choose.js", most=str(MOST))  # tells which run was clicked, and which are ticked
TICKED = "ids => { medcot.ticked = ids; medcot.draw(); document.getElementById('look').click(); }"


class RunList:
    def __init__(self, page: Page):
        self.page = page
        self._rows: dict[str, tuple[Listed, object, str]] = {}
        self._found: tuple[int, dict[str, list[Listed]]] = (-1, {})
        with gr.Column(elem_classes="mc-card mc-side", elem_id="run-list", min_width=0):
            c.block(c.from_file("side/head.html"))
            look: dict[str, Any] = {"label": "Search the runs", "placeholder": "Search", "elem_id": "search-runs"}
            search = gr.Textbox(container=False, max_lines=1, **look)
            # Until its first look a page shows no empty list beside its tabs, and leaves room for one that is not.
            unseen = f'<ul data-runs="{len(page.store.list())}"></ul>'
            self.list = c.block(unseen, elem_id="runs", script=CHOOSE)
            self.more = c.small_button("Show more", visible=False, elem_id="more-runs")
        self.mark, most = gr.State(""), gr.State(PAGE)
        page.refresh(self.look, [page.run, search, most, self.mark], [self.list, self.more, self.mark])
        self.list.click(None, None, page.run, js="() => medcot.picked")
        self.list.select(None, None, page.ticked, js="() => medcot.ticked")
        page.ticked.change(None, page.ticked, None, js=TICKED)
        search.change(None, js=LOOK)
        self.more.click(self.further, most, most, **QUIET).then(None, js=LOOK)

    @visitor_may
    def further(self, most: int) -> int:
        return most + PAGE

    def look(self, run_id: object, search: str, most: int, seen_mark: str) -> Updates:
        """The newest runs that were searched for, and the chosen one, which the browser marks."""
        folder = self.page.reader.look()
        found = self._search(folder, str(search or ""))
        shown = found[:most] + [listed for listed in found[most:] if listed.id == run_id]
        at_work = [percent(self.page.reader.seen(job)) for job, _ in folder.alive]
        mark = f"{search} {most} {[one.id for one in shown[most:]]} {self.page.reader.mark()} {at_work}"
        if mark == seen_mark:
            return {}
        count = f"{len(found)} of {len(folder.runs)}" if search else f"{len(folder.runs)}"
        return {
            self.list: self.drawn(shown, count, len(folder.runs)),
            self.more: gr.update(visible=len(found) > most),
            self.mark: mark,
        }

    def _search(self, folder: Snapshot, search: str) -> list[Listed]:
        """The runs that fit, newest first; a folder that has not changed is searched once for all who look."""
        version, known = self._found
        if version != folder.version or len(known) >= MOST_SEARCHES:
            self._found = version, known = folder.version, {}
        if search not in known:
            known[search] = [listed for listed in folder.runs if fits(listed, search)]
        return known[search]

    def drawn(self, shown: Sequence[Listed], count: str, of: int) -> str:
        """The rows, and how many there are; `data-runs` hides the whole list where there is no run."""
        words = f"{count} {'run' if of == 1 else 'runs'}." + (" Tick two or more to compare." if len(shown) > 1 else "")
        listed = f'<ul class="mc-run-rows" data-runs="{of}">{"".join(map(self.row, shown))}</ul>'
        return f'<nav aria-label="Runs">{listed}</nav><p class="mc-soft" role="status">{words}</p>'

    def row(self, listed: Listed) -> str:
        """A link, and the box to tick beside it."""
        run_id, title = c.text(listed.id), c.text(listed.title)
        box = f'<input type="checkbox" class="mc-tick" value="{run_id}" title="Compare" aria-label="Compare {title}">'
        return f'<li><a class="mc-run" href="?run={run_id}" data-run="{run_id}">{self._told(listed)}</a>{box}</li>'

    def _told(self, listed: Listed) -> str:
        """What a row says, which is read again only if the run has changed or is at work."""
        job = next((job for job, status in listed.jobs if status.state in ALIVE), None)
        seen = self.page.reader.seen(job) if job else None
        key = (seen.validated, percent(seen)) if seen else None
        known = self._rows.get(listed.id)
        if known is None or known[0] is not listed or known[1] != key:
            known = self._rows[listed.id] = (listed, key, self._read(listed, job))
        return known[2]

    def _read(self, listed: Listed, job: JobDir | None) -> str:
        name = listed.about.name or name_of(listed.id)
        # Which of its namesakes it is: a name that was given does not say when, the others do.
        which = (listed.about.name and when(listed.id)) or listed.title.removeprefix(name).removeprefix(" · ")
        seen = self.page.reader.seen(listed.run)
        loss = f"Validation loss {validation.loss:.3f}" if (validation := seen.validations.newest) else ""
        lines = [loss, gain(listed.run.latest_summary())]
        told = "".join(f"<span>{line}</span>" for line in lines if line)
        strange = f'<span class="mc-strange">{c.text(cannot_be_read(listed))}</span>' if listed.unreadable else ""
        state, bar = self._state(listed, job)
        return f"<b>{c.text(name)}</b><span>{state} {c.text(which)}</span>{bar}{told}{strange}"

    def _state(self, listed: Listed, job: JobDir | None) -> tuple[str, str]:
        """The training's state, or that of what is at work on the run; and a bar for what is under way."""
        if job is None:
            return ("Not trained here" if listed.adapter else c.badge(listed.status.state)), ""
        status, far = job.status(), percent(self.page.reader.seen(job))
        kind = "" if isinstance(job, Run) else "Evaluation " if isinstance(job, Evaluation) else "Export "
        words = f"{kind}{status.state}".capitalize() + (f", {far}%" if far else "")
        return f'<span class="mc-badge mc-{status.state}">{words}</span>', c.bar(far / 100) if far else ""


def fits(listed: Listed, search: str) -> bool:
    """Whether all words that were typed are in a run's name, id, note or state."""
    held = f"{listed.title} {listed.id} {listed.about.note} {listed.shown_status.state}".casefold()
    return all(word in held for word in search.casefold().split())


def gain(summary: Summary | None) -> str:
    """What an evaluation found, as HTML: tuned less base, with its interval."""
    if summary is None:
        return ""
    difference, interval = summary.difference(summary.headline)
    sides = f" <i>({signed(interval)})</i>" if interval else ""
    return f"{c.text(summary.words.score.removeprefix('answer '))} {signed(difference)}{sides}"
