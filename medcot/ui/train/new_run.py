"""The form of a new run, files to and from it, Start, and the command that does the same."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from medcot import columns, jobs, preflight, recipes
from medcot.errors import BadInput
from medcot.runs import Run
from medcot.settings import DATA_SUFFIXES
from medcot.ui import components as c
from medcot.ui.form import Form
from medcot.ui.page import Page
from medcot.ui.train import keys
from medcot.uploads import FOLDER

LLAMA_GIB = 7.0  # what the 3B recipes need in 4-bit, with room for the driver
COPY = "() => navigator.clipboard.writeText(document.querySelector('#command pre').innerText)"
SAVE = """(text) => {
  if (!text) return;
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'application/toml'}));
  link.download = 'medcot-run.toml';
  link.click();
  URL.revokeObjectURL(link.href);
}"""


def start(page: Page, form: Form, values: tuple[Any, ...], secrets: dict[str, str]) -> tuple[Run, str]:
    """The run, and what was guessed for it. Raises BadInput with all that is wrong with settings, model and data."""
    settings, split = preflight.prepare(lambda: form.settings(values))
    return jobs.start_training(page.store, settings, secrets), columns.in_words(split.guessed)


def preselected(page: Page) -> str:
    """The recipe that fits this machine."""
    fits = any(gpu.memory_gib >= LLAMA_GIB for gpu in page.device.gpus)
    return "llama-3.2-3b-medical-cot" if fits else "starter"


@dataclass(frozen=True)
class FormColumn:
    form: Form
    keys: keys.Keys
    upload: gr.UploadButton
    notes: gr.HTML
    problems: gr.HTML
    plan: gr.Button
    start: gr.Button
    command: gr.HTML
    copy: gr.Button
    load: gr.UploadButton
    save: gr.Button
    toml: gr.Textbox


def form_column(page: Page) -> FormColumn:
    """The form, Start, and the command that does the same."""
    with gr.Column(scale=5, elem_classes="mc-card"):
        c.block("<h2>New run</h2>")
        form = Form(preselected(page))
        with gr.Row(elem_classes="mc-actions"):
            upload = gr.UploadButton(
                "Upload a data file",
                file_types=list(DATA_SUFFIXES),
                size="sm",
                elem_id="upload",
                elem_classes="mc-copy",
            )
        c.block(
            f'<p class="mc-soft">An uploaded file is kept in {c.text(page.runs_dir / FOLDER)} on the machine '
            "that serves this page, until somebody removes it there. Upload no patient data.</p>"
        )
        typed = keys.fields()
        problems, notes = c.block(elem_id="train-problems"), c.block(elem_id="form-notes")
        with gr.Row(elem_classes="mc-actions"):
            begin = gr.Button("Start training", variant="primary", elem_id="start")
            plan = gr.Button("Check data and plan", elem_id="check")
        c.block("<h4>The same on the command line</h4>")
        line = form.command([component.value for component in form.components], page.runs_dir)
        command = c.block(c.command(line), elem_id="command")
        with gr.Row(elem_classes="mc-actions"):
            copy = gr.Button("Copy the command", size="sm", elem_classes="mc-copy")
            save = gr.Button("Save as TOML", size="sm", elem_classes="mc-copy", elem_id="save-toml")
            load = gr.UploadButton(
                "Load a TOML file", file_types=[".toml"], size="sm", elem_id="load-toml", elem_classes="mc-copy"
            )
        toml = gr.Textbox(visible=False)
    return FormColumn(form, typed, upload, notes, problems, plan, begin, command, copy, load, save, toml)


def as_toml(form: Form, values: tuple[Any, ...]) -> list[str]:
    """Problems, and the text of the file; empty where something has to be mended first."""
    try:
        return ["", recipes.to_toml(form.settings(values))]
    except BadInput as bad:
        return [c.problems(bad.problems), ""]


def from_toml(form: Form, file: str) -> list[Any]:
    """Problems, and the form's fields as the file has them; the fields stay where it is wrong."""
    sent = Path(file)
    try:
        return ["", *form.filled(recipes.compose(None, sent))]
    except BadInput as bad:
        found = [replace(p, where=sent.name if p.where == str(sent) else p.where) for p in bad.problems]
        return [c.problems(found), *form.marked(found)]
    finally:
        sent.unlink(missing_ok=True)  # the page's own copy
