"""What answers beside the base: the tuned model, or a file that the run was exported to and found good.

A browser sends a quantization and never a path; files are those that this program's own exports of the run name.
"""

from typing import Any

import gradio as gr

from medcot.errors import BadInput
from medcot.evaluation.answers import TUNED
from medcot.runs.export import Shipped, shipped
from medcot.runs.run import Run
from medcot.settings.export import can_run_files
from medcot.ui import components as c
from medcot.ui.guard import visitor_may
from medcot.ui.page import LATEST, Page, Updates

TEXTS: dict[str, Any] = c.TEXTS["beside"]


class Beside:
    """A choice that is there only where the run has such a file; else it says what keeps one from being asked.

    `models` is the list in which the model is chosen.
    """

    def __init__(self, page: Page, models: gr.Dropdown):
        self.page = page
        shown: dict[str, Any] = {"label": TEXTS["label"], "visible": False, "elem_id": "chat-beside"}
        self.choice = gr.Radio([(TEXTS["tuned"], TUNED)], value=TUNED, **shown)
        self.missing, self.mark = c.block(elem_id="chat-beside-missing"), gr.State("")
        outputs = [self.choice, self.missing, self.mark]
        models.change(self.open, [models, self.choice], outputs, **LATEST)
        page.refresh(self.look, [models, self.choice, self.mark], outputs)

    def look(self, run_id: object, chosen: object, seen: str) -> Updates:
        view = self.view(run_id, chosen)
        return {} if view[self.mark] == seen else view

    @visitor_may
    def open(self, run_id: object, chosen: object) -> Updates:
        return self.view(run_id, chosen)

    def view(self, run_id: object, chosen: object) -> Updates:
        """The choice for a run; what was chosen stays, if the run has it."""
        run = self.page.reader.find(run_id)
        files = shipped(run.path) if run else []
        offered = offered_of(files)
        choices = [(TEXTS["tuned"], TUNED), *((TEXTS["file"].format(kind=f.title), f.quantization) for f in offered)]
        kept = {} if chosen in [value for _, value in choices] else {"value": TUNED}
        told = c.soft(missing(files)) if files and not offered else ""
        return {
            self.choice: gr.update(choices=choices, visible=bool(offered), **kept),
            self.missing: told,
            self.mark: f"{run_id} {choices} {told}",
        }

    def file(self, run: Run, chosen: object) -> Shipped | None:
        """The file that was chosen; None for tuned. Raises BadInput if it is not there any more, or never was."""
        if chosen in (TUNED, None):
            return None
        found = next((f for f in offered_of(shipped(run.path)) if f.quantization == chosen), None)
        if found is None:
            raise BadInput.of(TEXTS["label"], "this file is not there any more.", "Choose tuned, or export again.")
        return found


def offered_of(files: list[Shipped]) -> list[Shipped]:
    """The files that can be asked here: checked, and with llama.cpp to run them."""
    return [file for file in files if file.checked] if can_run_files() else []


def missing(files: list[Shipped]) -> str:
    """Why none of these files can be asked."""
    why = TEXTS["unchecked" if can_run_files() else "no-llama"]
    return str(why).format(kind=", ".join(file.title for file in files))
