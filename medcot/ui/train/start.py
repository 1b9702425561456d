"""A new run: its form, files to and from it, keys, Start, and the command that does the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from medcot.data import columns
from medcot.data.uploads import FOLDER
from medcot.errors import BadInput, Problem
from medcot.runs.job_dir import ALIVE
from medcot.settings import DATA_SUFFIXES, PACKED, recipes
from medcot.settings.recipes import changed_settings, compose
from medcot.ui import components as c
from medcot.ui.form import Form
from medcot.ui.guard import visitor_may
from medcot.ui.page import LATEST, QUIET, Page, Updates
from medcot.ui.train.open_run import OpenRun, Parts
from medcot.workers import jobs, preflight

KEYS = {"WANDB_API_KEY": "Weights & Biases key", "HF_TOKEN": "Hugging Face token"}
COPY = c.from_file("train/copy_command.js")
SAVE = c.from_file("download.js", name="medcot-run.toml", kind="application/toml", start="")
# The button takes no second click while the first is under way; then its result is brought into view.
BEGIN = "(...values) => { document.getElementById('start').dataset.busy = 'Starting'; return values; }"
BEGUN = c.from_file("train/begun.js")
TEXTS: dict[str, str] = c.TEXTS["start"]


@dataclass(frozen=True)
class Started:
    """The run that this page started last, and the form that it was started from."""

    run_id: str = ""
    form: tuple[Any, ...] = ()

    def is_under_way(self, page: Page, values: tuple[Any, ...]) -> bool:
        """True if the same form is sent again while its run is alive, as by two fast clicks."""
        run = page.reader.find(self.run_id)
        return run is not None and run.status().state in ALIVE and self.form == values


def key_fields() -> list[gr.Textbox]:
    """One password field for each of KEYS. They have no value: what the page serves holds no key."""
    with gr.Accordion("Keys for this run only", open=False, elem_classes="mc-more"), gr.Row(elem_classes="mc-fields"):
        ids = {name: f"key-{name.lower().replace('_', '-')}" for name in KEYS}
        look: dict[str, Any] = {"type": "password", "max_lines": 1, "min_width": 200}
        infos = {name: TEXTS["key"].format(name=name) for name in KEYS}
        return [gr.Textbox(label=KEYS[name], info=infos[name], elem_id=ids[name], **look) for name in KEYS]


def secrets(typed: Sequence[object]) -> dict[str, str]:
    """Environment variables for a worker; an empty field leaves the app's own environment as it is."""
    return {name: key for name, value in zip(KEYS, typed, strict=True) if (key := c.stripped(value))}


class Start:
    def __init__(self, page: Page, run: OpenRun, parts: Parts):
        self.page, self.run, self.parts = page, run, parts
        advice = "" if page.device.gpus else f'<p class="mc-soft">{TEXTS["no-gpu"]}</p>'
        c.block(f"<h2>New run</h2>{advice}")
        self.form = form = Form(recipes.recommended(page.device.gpus))
        with gr.Row(elem_classes="mc-actions"):
            self.upload = file_button("Upload a data file", [*DATA_SUFFIXES, PACKED], "upload")
        c.block(c.soft(TEXTS["kept"].format(folder=page.runs_dir / FOLDER)))
        self.keys = key_fields()
        self.problems, self.notes = c.block(elem_id="train-problems"), c.block(elem_id="form-notes")
        with gr.Row(elem_classes="mc-actions mc-bottom"):
            start = gr.Button("Start training", variant="primary", elem_id="start")
            self.check = gr.Button("Check data and plan", elem_id="check")
        c.block("<h4>The same on the command line</h4>")
        line, _ = form.command([component.value for component in form.components], page.runs_dir)
        self.command = c.block(c.command(line), elem_id="command")
        with gr.Row(elem_classes="mc-actions"):
            copy, save = (
                c.small_button("Copy the command", elem_id="copy-command"),
                c.small_button("Save as TOML", elem_id="save-toml"),
            )
            load = file_button("Load a TOML file", [".toml"], "load-toml")
        self.toml, self.started = gr.Textbox(visible=False), gr.State(Started())

        fields, shown = form.components, form.outputs
        form.recipe.input(form.filled_from, form.recipe, shown, **LATEST)
        described = [self.command, self.notes, self.problems, *shown]
        gr.on([field.change for field in fields], self.described, [form.wrong, *fields], described, **LATEST)
        copy.click(None, js=COPY)
        saved = save.click(self.as_toml, fields, [self.problems, self.toml], **QUIET)
        saved.then(None, self.toml, None, js=SAVE)
        load.upload(self.from_toml, load, [self.problems, *shown], **QUIET)
        begun = [self.started, self.problems, *shown, *self.keys, parts.tabs, *run.outputs]
        start.click(self.start, [self.started, *self.keys, *fields], begun, js=BEGIN, **QUIET).then(None, js=BEGUN)
        run.resume.click(self.resume, [run.runs, *self.keys], [run.problems, *self.keys, *run.outputs], **QUIET)

    @visitor_may
    def described(self, changed: gr.EventData, wrong: Sequence[str], *values: Any) -> Updates:
        """The command that does the same, and warnings; what was wrong with the changed field goes once it is right."""
        problems: Sequence[Problem] = ()
        try:
            line, cautions = self.form.command(values, self.page.runs_dir)
        except BadInput as bad:
            line, cautions, problems = TEXTS["no-command"], [], bad.problems
        righted = self.form.righted(changed.target, wrong, problems)
        told: Updates = {self.problems: ""} if righted.get(self.form.wrong) == () else {}
        return {self.command: c.command(line), self.notes: c.warnings(cautions), **righted, **told}

    @visitor_may
    def as_toml(self, *values: Any) -> Updates:
        """The text of the file; empty if a setting has to be fixed first."""
        try:
            return {self.problems: "", self.toml: recipes.to_toml(self.form.settings(values))}
        except BadInput as bad:
            return {self.problems: c.refused(bad), self.toml: ""}

    def from_toml(self, file: str) -> Updates:
        """The form as the file has it; the fields stay if the file is wrong."""
        sent = Path(file)
        try:
            settings = compose(None, sent)
            told = TEXTS["loaded"].format(name=sent.name, count=len(changed_settings(settings)), recipe=settings.recipe)
            return {self.problems: c.announced(told), **self.form.filled(settings)}
        except BadInput as bad:
            path = str(sent)
            return self.refused([replace(p, where=sent.name if p.where == path else p.where) for p in bad.problems])
        finally:
            sent.unlink(missing_ok=True)  # the page's own copy

    def refused(self, problems: Sequence[Problem]) -> Updates:
        """All problems under the form, and each beside its field."""
        return {self.problems: c.problems(problems), **self.form.marked(problems)}

    def start(self, last: Started, *values: Any) -> Updates:
        """Start the run and open it. The same form sent twice starts one run."""
        typed, filled = values[: len(KEYS)], values[len(KEYS) :]
        try:
            if last.is_under_way(self.page, filled):
                note = TEXTS["again"]
            else:
                settings, split = preflight.prepare(lambda: self.form.settings(filled))
                run = jobs.start_training(self.page.store, settings, secrets(typed))
                note, last = columns.in_words(split.guessed), Started(run.id, filled)
        except BadInput as bad:
            return self.refused(bad.problems)
        return {
            self.started: last,
            self.problems: c.warnings([note] if note else []),
            **self.form.marked([]),
            **dict.fromkeys(self.keys, ""),
            **self.parts.show_run(),
            **self.run.view(last.run_id),
        }

    def resume(self, run_id: object, *typed: object) -> Updates:
        """Continue the open run with the typed keys, whose fields are emptied once they are handed on."""
        done = self.run.act(run_id, partial(jobs.resume_training, secrets=secrets(typed)))
        return done if done[self.run.problems] else done | dict.fromkeys(self.keys, "")


def file_button(label: str, types: list[str], name: str) -> gr.UploadButton:
    return gr.UploadButton(label, file_types=types, size="sm", elem_id=name, elem_classes="mc-copy")
