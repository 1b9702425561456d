"""What can be done with the open run: name it, write a note, use its settings again, delete it."""

from typing import NamedTuple

import gradio as gr

from medcot.errors import Problem
from medcot.runs.run import About, size
from medcot.ui import components as c
from medcot.ui.form import Form
from medcot.ui.guard import visitor_may
from medcot.ui.page import HIDE, QUIET, SHOW, UNCHANGED, Page, Updates


class Filled(NamedTuple):
    """Field values as last loaded for a run; any difference is the user's edit."""

    run: object = ""
    name: str = ""
    note: str = ""


class Manage:
    """`form` is the one that a new run starts from."""

    def __init__(self, page: Page, form: Form):
        self.page, self.form, runs = page, form, page.run
        with gr.Accordion("Name, note, settings, delete", open=False, visible=False, elem_id="manage") as self.whole:
            with gr.Row(elem_classes="mc-fields"):
                kept, seen_by = "The run's id stays as it is.", "For you and whoever sees this page."
                self.name = gr.Textbox(label="Shown name", info=kept, max_lines=1, elem_id="run-name")
                self.note = gr.Textbox(label="Note", info=seen_by, lines=2, elem_id="run-note")
            with gr.Row(elem_classes="mc-actions"):
                save, reuse = c.small_button("Save name and note"), c.small_button("New run from these settings")
                self.delete = c.small_button("Delete this run", variant="stop")
            self.question = c.block(elem_id="delete-question")
            with gr.Row(elem_classes="mc-actions"):
                self.really = c.small_button("Yes, delete it for good", variant="stop", visible=False)
                self.keep = c.small_button("Keep it", visible=False)
            self.said = c.block(elem_id="manage-said")
        self.asked, self.filled = gr.State(""), gr.State(Filled())

        asking = [self.question, self.really, self.keep, self.delete]
        fields = [self.whole, self.name, self.note, self.said, *asking, self.filled]
        runs.change(self.fill, [runs, self.filled], fields, **QUIET)
        save.click(self.save, [runs, self.name, self.note, self.filled], [self.said, self.filled], **QUIET)
        reuse.click(self.reuse, runs, [self.said, *form.outputs], **QUIET)
        self.delete.click(self.ask, runs, [self.asked, *asking], **QUIET)
        self.keep.click(self.withdraw, None, asking, **QUIET)
        self.really.click(self.delete_run, self.asked, [self.said, *asking], **QUIET)

    @visitor_may
    def fill(self, run_id: object, filled: Filled) -> Updates:
        """Load name and note of a run that was just opened, and withdraw a question about another one.

        Nothing changes if the fields are that run's already: a page sends its choice more than once while it loads,
        and what is being typed must stay.
        """
        if run_id == filled.run:
            return UNCHANGED
        run = self.page.reader.find(run_id)
        known = run.about() if run else About()
        now = Filled(run_id or "", known.name or "", known.note)
        shown: Updates = {self.whole: gr.update(visible=run is not None), self.name: now.name, self.note: now.note}
        return {**shown, self.said: "", **self.withdraw(), self.filled: now}

    def save(self, run_id: object, name: str, note: str, filled: Filled) -> Updates:
        """Write only what was typed here: the rest may have been changed elsewhere meanwhile."""
        run = self.page.reader.find(run_id)
        if run is None:
            return {self.said: ""}
        if run_id != filled.run:
            stale = Problem("", "The fields still show another run. Wait until they show this one.")
            return {self.said: c.problems([stale])}
        typed = {"name": name if name != filled.name else None, "note": note if note != filled.note else None}
        if refused := c.attempt(lambda: run.describe(**typed)):
            return {self.said: refused}
        return {self.said: c.stage("Saved."), self.filled: Filled(run_id, name, note)}

    @visitor_may
    def reuse(self, run_id: object) -> Updates:
        """Fill the form with the run's settings."""
        run = self.page.reader.find(run_id)
        settings = self.page.reader.settings(run)
        if run is None or settings is None:
            return {self.said: c.problems([Problem("", "The settings of this run cannot be read.")])}
        if run.origin():
            return {self.said: c.problems([Problem("", "It was not trained here.")])}
        words = f"The form has the settings of {run.id}. Nothing was started."
        return {self.said: c.stage(words), **self.form.filled(settings)}

    def ask(self, run_id: object) -> Updates:
        """Ask before deleting, and keep which run is meant, so that the answer is about that one."""
        run = self.page.reader.find(run_id)
        if run is None:
            return {self.asked: "", **self.withdraw()}
        what = f"Delete {run.id}, {size(run.size_bytes())}, with its adapter, checkpoints and evaluations?"
        buttons: Updates = {self.really: SHOW, self.keep: SHOW, self.delete: HIDE}
        return {self.asked: run.id, self.question: c.stage(what), **buttons}

    def withdraw(self) -> Updates:
        return {self.question: "", self.really: HIDE, self.keep: HIDE, self.delete: SHOW}

    def delete_run(self, run_id: object) -> Updates:
        run = self.page.reader.find(run_id)
        return {self.said: c.attempt(lambda: self.page.store.delete(run)) if run else "", **self.withdraw()}
