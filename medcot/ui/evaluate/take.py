"""Results that leave: the adapter as a zip, and an export as a job with its progress and its own zip."""

from typing import Any

import gradio as gr

from medcot.errors import BadInput
from medcot.hub import WEIGHTS
from medcot.runs.export import Export, exports_of
from medcot.runs.job_dir import ALIVE
from medcot.runs.run import Run, size
from medcot.settings.export import FORMATS, QUANTIZATIONS, ExportOrder, export_order
from medcot.ui import components as c
from medcot.ui.commands import SameCommand, exporting
from medcot.ui.download_route import link
from medcot.ui.guard import visitor_may
from medcot.ui.job_reader import mark
from medcot.ui.page import LATEST, QUIET, Page, Updates
from medcot.workers import jobs

TEXTS: dict[str, str] = c.TEXTS["take"]
MOST_SHOWN = 5  # exports


class TakePanel:
    """`whole` is hidden until a run is chosen that has an adapter."""

    def __init__(self, page: Page):
        self.page, runs = page, page.run
        with gr.Accordion("Download or export", open=False, visible=False, elem_id="take") as self.whole:
            self.adapter = c.block(elem_id="take-adapter")
            choices = [(f"{name}: {about}", name) for name, about in FORMATS.items()]
            shown: dict[str, Any] = {"label": "Export", "elem_id": "export-format", "elem_classes": "mc-choices"}
            self.format = gr.Radio(choices, value=next(iter(FORMATS)), info=TEXTS["export"], **shown)
            kinds = [(f"{name}: {kind.about}", name) for name, kind in QUANTIZATIONS.items() if not kind.tool]
            stored: dict[str, Any] = {"label": "Quantization", "info": TEXTS["quantize"], "elem_id": "export-quantize"}
            self.quantize = gr.Dropdown(kinds, value=[], multiselect=True, visible=False, **stored)
            self.problems = c.block(elem_id="export-problems")
            with gr.Row(elem_classes="mc-actions mc-few"):
                self.start = gr.Button("Start export", elem_id="export")
                self.stop = gr.Button("Stop export", variant="stop", visible=False, elem_id="stop-export")
            self.made = c.block(elem_id="exports")
            SameCommand("export", self.command, [runs, self.format, self.quantize])
        self.mark = gr.State("")
        outputs = [self.adapter, self.made, self.start, self.stop, self.mark]
        page.refresh(self.look, [runs, self.mark], outputs)
        self.start.click(self.start_export, [runs, self.format, self.quantize], [self.problems, *outputs], **QUIET)
        self.format.input(self.show_kind, self.format, self.quantize, **LATEST)
        self.stop.click(self.stop_export, runs, [self.problems, *outputs], **QUIET)

    # ---- reading

    def look(self, run_id: object, seen: str) -> Updates:
        run = self.page.reader.find(run_id)
        return {} if self._mark(run) == seen else self.view(run)

    def _mark(self, run: Run | None) -> str:
        if run is None:
            return "none"
        known = exports_of(run.path)[:MOST_SHOWN]
        return f"{run.id} {run.status().state} {run.has_adapter} {[mark(one) for one in known]}"

    def view(self, run: Run | None) -> Updates:
        """The adapter's link, the exports, and what can be done."""
        now = self._mark(run)
        known = exports_of(run.path)[:MOST_SHOWN] if run else []
        alive = any(one.status().state in ALIVE for one in known)
        return {
            self.adapter: adapter(run) if run else "",
            self.made: "".join(self._export(run, one) for one in known) if run else "",
            self.start: gr.update(interactive=run is not None and not alive),
            self.stop: gr.update(visible=alive),
            self.mark: now,
        }

    def _export(self, run: Run, one: Export) -> str:
        status = one.status()
        try:
            form: str = one.order().format
        except BadInput:
            form = "unreadable"
        head = c.titled(f"Export, {form}", status.state, one.id) + self.page.progress(one)
        return f'<section class="mc-export">{head}{made(run, one) if status.state == "finished" else ""}</section>'

    # ---- acting

    @visitor_may
    def show_kind(self, chosen: object) -> Updates:
        return {self.quantize: gr.update(visible=chosen == "gguf", value=[])}

    def order(self, chosen: object, quantize: object) -> ExportOrder:
        """The order that the fields make. Raises BadInput."""
        return export_order(str(chosen), map(str, quantize) if isinstance(quantize, list) else ())

    def start_export(self, run_id: object, chosen: object, quantize: object) -> Updates:
        run = self.page.reader.find(run_id)
        return {self.problems: c.attempt(lambda: self._start(run, chosen, quantize)), **self.view(run)}

    def _start(self, run: Run | None, chosen: object, quantize: object) -> None:
        if run is None:
            raise BadInput.of("run", "none is chosen.", "Choose a finished one.")
        jobs.start_export(run, self.order(chosen, quantize))

    def stop_export(self, run_id: object) -> Updates:
        run = self.page.reader.find(run_id)
        alive = next((one for one in exports_of(run.path) if one.status().state in ALIVE), None) if run else None
        return {self.problems: c.attempt(lambda: jobs.stop(alive)) if alive else "", **self.view(run)}

    def command(self, run_id: object, chosen: object, quantize: object) -> str:
        if (run := self.page.reader.find(run_id)) is None:
            raise BadInput.of("run", "none is chosen.", "Choose one.")
        return exporting(run, self.order(chosen, quantize))


def adapter(run: Run) -> str:
    """The link to a run's adapter, and what is in the zip; why there is none, if there is none."""
    if run.origin():
        return c.soft(TEXTS["elsewhere"])
    if run.status().state != "finished" or not run.has_adapter:
        return c.soft(TEXTS["unfinished"])
    bytes_ = size((run.adapter_dir / WEIGHTS).stat().st_size)
    button = f'<a class="mc-download" download href="{link(run)}">Adapter as a zip · {bytes_}</a>'
    return f"<p>{button}</p>{c.soft(TEXTS['adapter'])}"


def made(run: Run, one: Export) -> str:
    """What a finished export holds, how it was checked, and its link."""
    said = "".join(map(c.soft, checked(one)))
    if not (files := one.files()):
        return said + c.soft(TEXTS["outside"])
    total = size(sum(file.stat().st_size for file in files))
    rows = "".join(
        c.row(c.text(file.relative_to(one.target).as_posix()), [size(file.stat().st_size)]) for file in files
    )
    listed = c.fold(f"{len(files)} files", c.table(f"files-{one.id}", "Files of the export", ("Size",), rows))
    button = f'<a class="mc-download" download href="{link(run, one.id)}">Export as a zip · {total}</a>'
    return f"<p>{button}</p>{said}{listed}"


def checked(one: Export) -> list[str]:
    """What was checked of an export, and what was not kept, in words; nothing if that cannot be read."""
    if (told := one.made()) is None:
        return []
    said = [TEXTS["checked"].format_map(told.model_dump())] if told.prompts else []
    for file in told.files:
        if file.refused:
            said.append(TEXTS["refused"].format(name=file.name, why=file.refused))
        elif asked := file.asked:
            said.append(TEXTS["asked"].format(name=file.name, **asked.model_dump()))
    return [*said, *told.notes]
