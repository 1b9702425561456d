"""Evaluate: base against tuned, with floors and intervals, and every answer to read."""

import gradio as gr

from medcot.settings import DATA_SUFFIXES, EvaluationSettings
from medcot.ui import components as c
from medcot.ui import publish_panel
from medcot.ui.elsewhere import adapter_fields
from medcot.ui.evaluate.orders import HELD_OUT, OWN_CHOICE, STARTER_CHOICE
from medcot.ui.evaluate.records import FILTERS, LOSS, ORDERS
from medcot.ui.evaluate.tab import EvaluateTab
from medcot.ui.page import LATEST, QUIET, Page

TELL_BASE = EvaluationSettings.model_fields["tell_base"]


def build(page: Page) -> None:
    """The tab's components and events, inside a gr.Tab."""
    tab = EvaluateTab(page)
    with gr.Column(elem_classes="mc-card"):
        c.block("<h2>Base against tuned</h2>")
        with gr.Row(elem_classes="mc-fields"):
            runs = gr.Dropdown([], label="Run", visible=False, filterable=False, elem_id="evaluate-run")
            picker = gr.Dropdown([], label="Evaluation", visible=False, filterable=False, elem_id="evaluation")
        with gr.Accordion("What is asked", open=False, elem_id="evaluate-order") as ask:
            what = gr.Radio(
                [HELD_OUT, STARTER_CHOICE, OWN_CHOICE], value=HELD_OUT, label="Questions", elem_classes="mc-choices"
            )
            file = gr.File(
                label="Questions, options, answer_idx",
                file_types=list(DATA_SUFFIXES),
                visible=False,
            )
            told = gr.Checkbox(False, label=TELL_BASE.title, info=TELL_BASE.description)
            further = gr.Dropdown(
                [], label="Further arms", info="Other runs, or checkpoints that this run has kept.", multiselect=True
            )
        with gr.Accordion("Measure an adapter from elsewhere", open=False, elem_id="elsewhere"):
            with gr.Row(elem_classes="mc-fields"):
                adapter = adapter_fields("elsewhere")
            with gr.Row(elem_classes="mc-fields"):
                data = gr.Textbox(
                    label="Records",
                    info="What it is asked, all of it: a file's path, a Hub data set, or starter.",
                    elem_id="elsewhere-data",
                )
                first = gr.Textbox(label="How many", info="The first N; all where empty.", elem_id="elsewhere-records")
            told_of = c.block(elem_id="elsewhere-told")
            with gr.Row(elem_classes="mc-actions"):
                measure = gr.Button("Measure it", size="sm", elem_id="elsewhere-measure", elem_classes="mc-small")
        refused = c.block(elem_id="evaluate-problems")
        with gr.Row(elem_classes="mc-actions"):
            start = gr.Button("Start evaluation", variant="primary", visible=False, elem_id="evaluate")
            resume = gr.Button("Resume evaluation", visible=False, elem_id="resume-evaluation")
            stop = gr.Button("Stop evaluation", variant="stop", visible=False, elem_id="stop-evaluation")
        state = c.block(elem_id="evaluation-state")
        table = c.block(elem_id="results")
        publish = publish_panel.build(page, runs)
    with gr.Column():
        with gr.Row(elem_classes="mc-fields mc-sorting", visible=False) as sorting:
            order = gr.Dropdown(list(ORDERS), value=LOSS, label="Questions", filterable=False, elem_id="sort")
            filters = gr.CheckboxGroup(list(FILTERS), label="Only those", elem_id="filters")
        examples = c.block(elem_id="examples")
        seen_mark, held = gr.State(""), gr.State("")

    buttons = [start, stop, resume]
    shown = [runs, picker, state, table, examples, sorting, further, ask, publish, *buttons, seen_mark, held, told]
    sorted_by = [order, filters]
    chosen = [runs, picker, *sorted_by]
    page.demo.load(tab.newest, sorted_by, shown, **QUIET)
    page.refresh(tab.look, [*chosen, seen_mark, held], shown)
    runs.input(tab.open_run, [runs, *sorted_by, held], shown, **LATEST)
    picker.input(tab.open, [*chosen, held], shown, **LATEST)
    order.input(tab.sort, chosen, examples, **LATEST)
    filters.input(tab.sort, chosen, examples, **LATEST)
    what.input(lambda asked: gr.update(visible=asked == OWN_CHOICE), what, file, **LATEST)
    start.click(tab.start, [runs, *sorted_by, what, file, told, further], [refused, *shown], **QUIET)
    measure.click(tab.measure, [*sorted_by, *adapter, data, first], [told_of, *shown], **QUIET)
    stop.click(tab.stop, chosen, [refused, *shown], **QUIET)
    resume.click(tab.resume, chosen, [refused, *shown], **QUIET)
