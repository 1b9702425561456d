"""A new run: its form, files to and from it, keys, Start, and the command that does the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from medcot.data.uploads import FOLDER
from medcot.errors import BadInput, Problem
from medcot.runs.job_dir import ALIVE
from medcot.runs.pace import Size
from medcot.runs.run import Run
from medcot.settings import DATA_SUFFIXES, PACKED, STARTER, DataSettings, RunSettings, recipes
from medcot.settings.recipes import changed_settings, compose
from medcot.ui import components as c
from medcot.ui.form import Form
from medcot.ui.guard import login_of, may_act, on_space, refusal, visitor_may
from medcot.ui.page import LATEST, QUIET, UNCHANGED, Page, Update, Updates
from medcot.ui.train.cards import Clock, hindrance, off
from medcot.ui.train.open_run import OpenRun, Parts
from medcot.workers import jobs, preflight, reading

KEYS = {"WANDB_API_KEY": "Weights & Biases key", "HF_TOKEN": "Hugging Face token"}
COPY = c.from_file("copy.js", button="copy-command", text="command")
SAVE = c.from_file("download.js", name="medcot-run.toml", kind="application/toml", start="")
# The button takes no second click while the first is under way; then its result is brought into view.
BEGIN = "(...values) => { document.getElementById('start').dataset.busy = 'Starting'; return values; }"
GOTO = c.from_file("train/goto.js")
BEGUN = "() => { delete document.getElementById('start').dataset.busy; }"
STARTED = c.from_file("train/result.js", result="live")
TEXTS: dict[str, str] = c.TEXTS["start"]
HUB = "llama-3.2-3b-medical-cot"  # the recipe whose Hub data is offered
WHICH_DATA = ("source", "config", "revision")


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
        self.clock = Clock(page)
        c.block("<h2>New run</h2>")
        recipe = recipes.recommended(page.device.gpus)
        self.form = form = Form(recipe, self.clock.cards(), off(page.device))
        with form.data_line:
            self.starter, self.hub = (
                c.small_button("Starter records", elem_id="data-starter"),
                c.small_button("A Hub data set", elem_id="data-hub"),
            )
            self.upload = file_button("Upload a data file", [*DATA_SUFFIXES, PACKED], "upload")
            c.block(c.soft(TEXTS["kept"].format(folder=FOLDER)), elem_classes="mc-wide")
        self.keys = key_fields()
        self.problems, self.notes = c.block(elem_id="train-problems"), c.block(elem_id="form-notes")
        self.closed = c.block(elem_id="form-closed")
        with gr.Row(elem_classes="mc-actions mc-bottom"):
            self.begin = gr.Button(self.clock.words(compose(recipe)), variant="primary", elem_id="start")
            self.check = gr.Button("Check data and plan", elem_id="check")
        c.block('<h3 class="mc-minor">The same on the command line</h3>')
        values = tuple(component.value for component in form.components)
        self.describe = gr.Button("Describe", elem_id="describe", elem_classes="mc-hidden")
        self.seen: Any = gr.State(values)  # what is described
        line, _ = form.command(values, page.runs_dir)
        self.command = c.block(c.command(line), elem_id="command")
        with gr.Row(elem_classes="mc-actions"):
            copy, save = (
                c.small_button("Copy the command", elem_id="copy-command"),
                c.small_button("Save as TOML", elem_id="save-toml"),
            )
            load = file_button("Load a TOML file", [".toml"], "load-toml")
        self.toml, self.started = gr.Textbox(visible=False), gr.State(Started())

        self.carded = gr.State(str(form.recipe.choices))
        page.refresh(self.look, [self.carded], [form.recipe, self.carded])
        self._wire([copy, save, load])

    def _wire(self, files: Sequence[Any]) -> None:
        form, run, parts, (copy, save, load) = self.form, self.run, self.parts, files
        fields, shown = form.components, form.outputs
        form.recipe.input(form.filled_from, form.recipe, shown, **LATEST)
        typed = [field for field in fields if isinstance(field, gr.Textbox)]
        gr.on([field.blur for field in typed], self.left, [form.wrong, *fields], [form.wrong, *typed], **LATEST)
        self.page.demo.load(None, None, None, js=GOTO)
        described = [self.command, self.notes, self.begin, self.problems, *shown]
        told = [self.seen, form.wrong, *fields]
        self.describe.click(self.described, told, [self.seen, *described], **LATEST)  # draft.py clicks it
        gr.on([self.page.demo.load, self.carded.change], self.retimed, fields, self.begin, **LATEST)
        self.page.demo.load(self.opened, None, [self.closed, self.begin, self.check, self.upload], **QUIET)
        self.starter.click(self.with_starter, None, [self.problems, *shown], **QUIET)
        self.hub.click(self.with_hub, None, [self.problems, *shown], **QUIET)
        copy.click(None, js=COPY)
        saved = save.click(self.as_toml, fields, [self.problems, self.toml], **QUIET)
        saved.then(None, self.toml, None, js=SAVE)
        load.upload(self.from_toml, load, [self.problems, *shown], **QUIET)
        begun = [self.started, self.problems, *shown, *self.keys, parts.tabs, *run.outputs]
        given = [self.started, *self.keys, *fields]
        started = self.begin.click(self.start, given, begun, js=BEGIN, **QUIET)
        started.then(None, js=BEGUN).then(None, js=STARTED)
        run.resume.click(self.resume, [self.page.run, *self.keys], [run.problems, *self.keys, *run.outputs], **QUIET)

    # ---- how long it takes

    @visitor_may
    def retimed(self, *values: Any) -> Update:
        """Start's words once a run has ended, or the page has come."""
        try:
            return gr.update(value=self.clock.words(self.form.settings(values)))
        except BadInput:
            return gr.update(value=self.clock.words())

    def know(self, values: Sequence[Any], size: Size) -> Updates:
        """Remember how much the form's data was found to be; Start says then how long it takes."""
        settings = self.form.settings(values)
        self.clock.know(settings, size)
        return {self.begin: gr.update(value=self.clock.words(settings))}

    def look(self, carded: str) -> Updates:
        """The cards again, when a run has taught how long one takes."""
        now = self.clock.cards()
        return {} if str(now) == carded else {self.form.recipe: gr.update(choices=now), self.carded: str(now)}

    # ---- filling the form

    @visitor_may
    def opened(self, request: gr.Request) -> Updates:
        """The form, closed to a visitor of a Space, who is told why; each handler checks it by itself too."""
        if may_act(login_of(request)):
            return UNCHANGED
        off = gr.update(interactive=False)
        return {self.closed: c.soft(refusal()), self.begin: off, self.check: off, self.upload: off}

    @visitor_may
    def with_starter(self) -> Updates:
        return self.with_data(compose(STARTER).data)

    @visitor_may
    def with_hub(self) -> Updates:
        return self.with_data(compose(HUB).data)

    def with_data(self, data: DataSettings) -> Updates:
        """The form with this data; all else stays."""
        named = {f"data.{name}": value for name, value in data.model_dump().items() if name in WHICH_DATA}
        return {self.problems: "", **self.form.marked([], named), **self.form.at(data.source)}

    @visitor_may
    def described(self, seen: Sequence[Any], wrong: Sequence[str], *values: Any) -> Updates:
        """The command that does the same, and warnings; what was wrong with a changed field goes once it is right."""
        problems: Sequence[Problem] = ()
        try:
            line, cautions = self.form.command(values, self.page.runs_dir)
            if reason := hindrance(self.form.settings(values), self.page.device):
                cautions.append(TEXTS["not-here"].format(reason=reason))
        except BadInput as bad:
            line, cautions, problems = TEXTS["no-command"], [], bad.problems
        changed = [path for path, then, now in zip(self.form.paths, seen, values, strict=True) if then != now]
        righted = self.form.righted(changed, wrong, problems)
        told: Updates = {self.problems: ""} if righted.get(self.form.wrong) == () else {}
        return {
            self.seen: values,
            self.command: c.command(line),
            self.notes: c.warnings(cautions),
            self.begin: self.retimed(*values),
            **righted,
            **told,
            **self.form.at(dict(zip(self.form.paths, values, strict=True))["data.source"]),
        }

    @visitor_may
    def left(self, field: gr.EventData, wrong: Sequence[str], *values: Any) -> Updates:
        """What is wrong with the field that was left, beside it."""
        try:
            self.form.settings(values)
        except BadInput as bad:
            return self.form.left(field.target, wrong, bad.problems) or UNCHANGED
        return UNCHANGED

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
            settings = reading.settings_of(sent)
            told = TEXTS["loaded"].format(name=sent.name, count=len(changed_settings(settings)), recipe=settings.recipe)
            return {self.problems: c.announced(told), **self.form.filled(settings)}
        except BadInput as bad:
            path = str(sent)
            return self.refused([replace(p, where=sent.name if p.where == path else p.where) for p in bad.problems])
        finally:
            sent.unlink(missing_ok=True)  # the page's own copy

    def refused(self, problems: Sequence[Problem]) -> Updates:
        """All problems under the form, and each beside its field."""
        return {self.problems: c.problems(problems, fields=self.form.ids(problems)), **self.form.marked(problems)}

    def start(self, last: Started, *values: Any) -> Updates:
        """Start the run and open it. The same form sent twice starts one run."""
        typed, filled = values[: len(KEYS)], values[len(KEYS) :]
        try:
            if last.is_under_way(self.page, filled):
                notes = [TEXTS["again"]]
            else:
                settings, told = preflight.prepare(lambda: self.form.settings(filled))
                require_own_token(settings, secrets(typed))
                run = jobs.start_training(self.page.store, settings, secrets(typed))
                notes, last = told.warnings, Started(run.id, filled)
        except BadInput as bad:
            return self.refused(bad.problems)
        return {
            self.started: last,
            self.problems: c.warnings(notes),
            **self.form.marked([]),
            **dict.fromkeys(self.keys, ""),
            **self.parts.show_run(),
            **self.run.view(last.run_id),
        }

    def resume(self, run_id: object, *typed: object) -> Updates:
        """Continue the open run with the typed keys, whose fields are emptied once they are handed on."""
        done = self.run.act(run_id, partial(go_on, keys=secrets(typed)))
        return done if done[self.run.problems] else done | dict.fromkeys(self.keys, "")


def go_on(run: Run, keys: Mapping[str, str]) -> None:
    """Continue a run with the typed keys. Raises BadInput."""
    require_own_token(run.settings(), keys)
    jobs.resume_training(run, secrets=keys)


def require_own_token(settings: RunSettings, typed: Mapping[str, str]) -> None:
    """Raise BadInput on a Space for a backup without a typed token: its own is its owner's, whoever is let in here."""
    if settings.training.backup and on_space() and "HF_TOKEN" not in typed:
        what = "needs a token of yours on a Space."
        raise BadInput.of("training.backup", what, "Type it under Keys for this run only.")


def file_button(label: str, types: list[str], name: str) -> gr.UploadButton:
    return gr.UploadButton(label, file_types=types, size="sm", elem_id=name, elem_classes="mc-copy")
