"""Train: a form, a job, and what it reports. Nothing trains here; the tab starts a worker and reads its directory."""

from typing import Any

import gradio as gr

from medcot.errors import BadInput
from medcot.ui import components as c
from medcot.ui.page import LATEST, QUIET, Page
from medcot.ui.train import before, history, manage, new_run, queue, running
from medcot.ui.train.keys import Keys

RUN, PLAN = "run", "plan"  # the parts of the right side


def build(page: Page) -> None:
    """The tab's components and events, inside a gr.Tab."""
    with gr.Row(elem_classes="mc-columns"):
        new = new_run.form_column(page)
        with gr.Column(scale=7, elem_classes="mc-now"):
            with gr.Column(elem_classes="mc-card"), gr.Tabs(selected=RUN, elem_classes="mc-parts") as parts:
                with gr.Tab("The run", id=RUN):
                    now = running.run_column()
                    care = manage.manage_part()
                with gr.Tab("Data and plan", id=PLAN):
                    plan = before.plan_column()
            waiting = queue.queue_card()
            with gr.Column(elem_classes="mc-card mc-runs-card"):
                runs = gr.Radio([], label="Runs", visible=False, elem_id="runs", elem_classes="mc-runs")
    past = history.history_card()
    _wire_form(page, new)
    _wire_plan(page, new, plan, parts)
    _wire_run(page, new, runs, now, parts)
    _wire_care(page, new, runs, care)
    _wire_lists(page, waiting, past)


def _wire_form(page: Page, new: new_run.FormColumn) -> None:
    form = new.form

    def as_command(*values: Any) -> list[str]:
        return [c.command(form.command(values, page.runs_dir)), c.warnings(form.cautions(values))]

    def as_toml(*values: Any) -> list[str]:
        return new_run.as_toml(form, values)

    def from_toml(file: str) -> list[Any]:
        return new_run.from_toml(form, file)

    form.recipe.input(form.filled_from, form.recipe, form.components, **LATEST)
    changed = [component.change for component in form.components]
    gr.on(changed, as_command, form.components, [new.command, new.notes], **LATEST)
    new.copy.click(None, js=new_run.COPY)
    saved = new.save.click(as_toml, form.components, [new.problems, new.toml], **QUIET)
    saved.then(None, new.toml, None, js=new_run.SAVE)
    new.load.upload(from_toml, new.load, [new.problems, *form.components], **QUIET)


def _wire_plan(page: Page, new: new_run.FormColumn, plan: before.PlanColumn, parts: gr.Tabs) -> None:
    form = new.form
    tab = before.Before(page, form)
    outputs = [new.problems, *form.components, *plan.outputs]

    def turn() -> Any:
        return gr.Tabs(selected=PLAN)

    new.plan.click(turn, None, parts, **QUIET)
    new.plan.click(tab.look, form.components, outputs, **QUIET)
    kept = new.upload.upload(tab.upload, new.upload, [new.problems, *form.components], **QUIET)
    kept.success(turn, None, parts, **QUIET).then(tab.look, form.components, outputs, **QUIET)
    plan.show.click(tab.tokens, [plan.record, *form.components], plan.tokens, **QUIET)


def _wire_run(page: Page, new: new_run.FormColumn, runs: gr.Radio, now: running.RunColumn, parts: gr.Tabs) -> None:
    form, typed, tab, seen_mark = new.form, new.keys.fields, running.Running(page), gr.State("")
    shown = [runs, *now.outputs, seen_mark]

    def start_run(*values: Any) -> list[Any]:
        try:
            run, guess = new_run.start(page, form, values[len(typed) :], Keys.secrets(values[: len(typed)]))
        except BadInput as bad:
            unchanged = [gr.skip()] * (len(typed) + 1 + len(shown))
            return [c.problems(bad.problems), *form.marked(bad.problems), *unchanged]
        note = c.warnings([guess] if guess else [])
        return [note, *form.marked([]), *[""] * len(typed), gr.Tabs(selected=RUN), *tab.view(run.id).outputs()]

    def turn() -> Any:
        return gr.Tabs(selected=RUN)

    page.demo.load(tab.newest, None, shown, **QUIET)
    page.refresh(tab.look, [runs, seen_mark], shown)
    runs.input(tab.open, runs, shown, **LATEST)
    runs.input(turn, None, parts, **LATEST)
    told = [new.problems, *form.components, *typed, parts, *shown]
    new.start.click(start_run, [*typed, *form.components], told, **QUIET)
    for button, act in ((now.stop, tab.stop), (now.stop_now, tab.stop_now)):
        button.click(act, runs, [now.problems, *shown], **QUIET)
    now.resume.click(tab.resume, [runs, *typed], [now.problems, *typed, *shown], **QUIET)


def _wire_care(page: Page, new: new_run.FormColumn, runs: gr.Radio, care: manage.ManagePart) -> None:
    tab, asked, filled = manage.Manage(page, new.form), gr.State(""), gr.State(manage.Filled())
    runs.change(tab.fill, [runs, filled], [*care.filled, filled], **QUIET)
    care.save.click(tab.save, [runs, care.name, care.note, filled], [care.said, filled], **QUIET)
    care.reuse.click(tab.reuse, runs, [care.said, *new.form.components], **QUIET)
    care.delete.click(tab.ask, runs, [asked, *care.asking], **QUIET)
    care.keep.click(tab.keep, None, care.asking, **QUIET)
    care.really.click(tab.delete, asked, [care.said, *care.asking], **QUIET)


def _wire_lists(page: Page, waiting: queue.QueueCard, past: history.HistoryCard) -> None:
    line, line_mark = queue.Queue(page), gr.State("")
    page.refresh(line.look, [waiting.waiting, line_mark], [*waiting.outputs, line_mark])
    waiting.cancel.click(line.cancel, waiting.waiting, [waiting.problems, *waiting.outputs, line_mark], **QUIET)
    table, table_mark = history.History(page), gr.State("")
    page.refresh(table.look, [past.one, past.other, table_mark], [*past.outputs, table_mark])
    chosen = [past.one.input, past.other.input]
    compared = [past.one, past.other]
    gr.on(chosen, table.compare, compared, past.comparison, **LATEST)
