"""Chat: one question to base and tuned, side by side. What is typed lives in the page alone, unless it is judged."""

from typing import Any

import gradio as gr

from medcot.ui import api
from medcot.ui import components as c
from medcot.ui.chat import decoding, judging, opening, question, results
from medcot.ui.chat.choosing import Choosing
from medcot.ui.chat.panels import OPEN_ORDER, SIDES, panel
from medcot.ui.chat.tab import ChatTab
from medcot.ui.page import LATEST, QUIET, Page

PRIVACY = (
    "Your questions and the answers live in this page alone: nothing is stored, and they are gone on reload. Only a "
    "judgement that you save in a blinded comparison is kept."
)


def build(page: Page) -> None:
    """The tab's components and events, inside a gr.Tab."""
    models = Choosing(page)
    tab = ChatTab(page, models)
    with gr.Column(elem_classes="mc-card"):
        c.block("<h2>Ask base and tuned the same question</h2>")
        nobody = c.block()
        runs = gr.Dropdown([], label="Model", visible=False, filterable=False, elem_id="chat-run")
        memory = c.block()
        other, controls, blind = opening.controls(), decoding.controls(), judging.switch()
        box = question.box()
        note = c.block(elem_id="chat-note")
        c.block(f'<p class="mc-soft">{PRIVACY}</p>')
    emergency = c.block(elem_id="emergency")
    with gr.Row(elem_classes="mc-columns"):
        left, right = (panel(side, arm) for side, arm in zip(SIDES, OPEN_ORDER, strict=True))
    form = judging.form()
    seen_mark, opened, decoded_for = gr.State(""), gr.State([]), gr.State()

    model = [nobody, left.notice, right.notice, memory, blind.demo_too, blind.results, blind.export, seen_mark]
    asked = [note, emergency, *left.live, *right.live, *box.buttons, form.card]
    turned = [runs, *controls.fields, controls.state, decoded_for, *model]
    inputs = [runs, opened, box.text, blind.on, blind.demo_too, *controls.fields]
    page.demo.load(models.first, None, turned, **QUIET)
    page.refresh(models.look, [runs, opened, seen_mark], [runs, *model])
    runs.input(models.chosen, [runs, opened, decoded_for], turned, **LATEST)
    # Who may ask when is the conversation's business: it tells those who wait that they do.
    free: dict[str, Any] = {"concurrency_limit": None, **QUIET}
    gr.on([box.ask.click, box.text.submit], tab.ask, inputs, asked, **free)
    box.follow.click(tab.follow, inputs, asked, **free)
    box.stop.click(tab.stop, None, None, **QUIET)
    box.clear.click(tab.clear, None, [box.text, *asked], **QUIET)
    page.demo.unload(tab.forget)
    api.build(page, tab.conversation)

    changed = [field.change for field in controls.fields]
    gr.on(changed, models.decoding_state, [runs, opened, *controls.fields], controls.state, **LATEST)
    controls.reset.click(models.same_as_evaluation, [runs, opened], [*controls.fields, controls.state], **QUIET)
    blind.export.click(tab.csv, runs, blind.csv, **QUIET).then(None, blind.csv, blind.csv, js=results.DOWNLOAD, **QUIET)
    saved = [note, form.problems, form.card, *form.fields, left.head, right.head, blind.results, blind.export]
    form.save.click(tab.save, form.fields, saved, **QUIET)
    other.open.click(
        models.open_other,
        [opened, other.name, other.style, other.base],
        [opened, other.problems, *turned],
        **QUIET,
    )
