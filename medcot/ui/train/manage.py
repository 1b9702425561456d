"""What one may do with the open run: name it, note something, start anew from its settings, delete it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from medcot import about
from medcot.errors import BadInput
from medcot.terminal import size
from medcot.ui import components as c
from medcot.ui.form import Form
from medcot.ui.page import Page

SHOW, HIDE = gr.update(visible=True), gr.update(visible=False)


class Filled(NamedTuple):
    """What the fields held when they last were a run's own: what differs from it was typed here."""

    run: object = ""
    name: str = ""
    note: str = ""


@dataclass(frozen=True)
class ManagePart:
    part: gr.Accordion
    name: gr.Textbox
    note: gr.Textbox
    save: gr.Button
    reuse: gr.Button
    delete: gr.Button
    question: gr.HTML
    really: gr.Button
    keep: gr.Button
    said: gr.HTML

    @property
    def asking(self) -> list[Any]:
        return [self.question, self.really, self.keep, self.delete]

    @property
    def filled(self) -> list[Any]:
        return [self.part, self.name, self.note, self.said, *self.asking]


def manage_part() -> ManagePart:
    with gr.Accordion("Name, note, settings, delete", open=False, visible=False, elem_id="manage") as part:
        with gr.Row(elem_classes="mc-fields"):
            name = gr.Textbox(label="Shown name", info="The run's id stays as it is.", max_lines=1, elem_id="run-name")
            note = gr.Textbox(label="Note", info="For you and whoever sees this page.", lines=2, elem_id="run-note")
        with gr.Row(elem_classes="mc-actions"):
            save = gr.Button("Save name and note", size="sm", elem_classes="mc-copy")
            reuse = gr.Button("New run from these settings", size="sm", elem_classes="mc-copy")
            delete = gr.Button("Delete this run", size="sm", variant="stop", elem_classes="mc-copy")
        question = c.block(elem_id="delete-question")
        with gr.Row(elem_classes="mc-actions"):
            really = gr.Button(
                "Yes, delete it for good", size="sm", variant="stop", visible=False, elem_classes="mc-copy"
            )
            keep = gr.Button("Keep it", size="sm", visible=False, elem_classes="mc-copy")
        said = c.block(elem_id="manage-said")
    return ManagePart(part, name, note, save, reuse, delete, question, really, keep, said)


class Manage:
    def __init__(self, page: Page, form: Form):
        self.page, self.form = page, form

    def fill(self, run_id: object, filled: Filled) -> Any:
        """What was said of a run that has just been opened; a question about another one is withdrawn.

        Skipped where the fields are that run's already: a page tells of a choice more than once while it loads, and
        what is being typed must stay.
        """
        if run_id == filled.run:
            return gr.skip()
        run = self.page.reader.find(run_id)
        told = run.about() if run else about.About()
        now = Filled(run_id or "", told.name or "", told.note)
        return [gr.update(visible=run is not None), now.name, now.note, "", *self.keep(), now]

    def save(self, run_id: object, name: str, note: str, filled: Filled) -> list[Any]:
        """Words, and what the fields hold. Only what was typed is written: the rest may be said anew elsewhere."""
        run = self.page.reader.find(run_id)
        if run is None:
            return ["", filled]
        if run_id != filled.run:
            return [c.problems(["The fields are still another run's. Wait until they are this one's."]), filled]
        typed = {"name": name if name != filled.name else None, "note": note if note != filled.note else None}
        try:
            about.write(run.path, **typed)
        except BadInput as bad:
            return [c.problems(bad.problems), filled]
        return ['<p class="mc-stage">Saved.</p>', Filled(run_id, name, note)]

    def reuse(self, run_id: object) -> list[Any]:
        """Words, then the form's fields."""
        run = self.page.reader.find(run_id)
        settings = self.page.reader.settings(run) if run else None
        if run is None or settings is None:
            return [c.problems(["The settings of this run cannot be read."]), *[gr.skip()] * len(self.form.components)]
        if run.origin():
            return [c.problems(["It was not trained here."]), *[gr.skip()] * len(self.form.components)]
        words = f'<p class="mc-stage">The form has the settings of {c.text(run.id)}. Nothing was started.</p>'
        return [words, *self.form.filled(settings)]

    def ask(self, run_id: object) -> list[Any]:
        """Which run is meant, so that the answer is about that one, and the question's parts."""
        run = self.page.reader.find(run_id)
        if run is None:
            return ["", *self.keep()]
        what = f"Delete {run.id}, {size(run.size_bytes())}, with its adapter, checkpoints and evaluations?"
        return [run.id, f'<p class="mc-stage">{c.text(what)}</p>', SHOW, SHOW, HIDE]

    def keep(self) -> list[Any]:
        return ["", HIDE, HIDE, SHOW]

    def delete(self, run_id: object) -> list[Any]:
        """Problems, then the question's parts."""
        run = self.page.reader.find(run_id)
        if run is not None:
            try:
                self.page.store.delete(run)
            except BadInput as bad:
                return [c.problems(bad.problems), *self.keep()]
        return ["", *self.keep()]
