"""The question box: samples that fill it, and what can be done with it."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from medcot.starter import MORE_QUESTIONS, SAMPLE_QUESTIONS
from medcot.ui import components as c
from medcot.ui.chat.conversation import LONGEST_QUESTION
from medcot.ui.page import QUIET

# A browser keeps what is typed for its own "restore tabs", and may send it to a spelling service, unless told not to.
PRIVATE = gr.InputHTMLAttributes(autocomplete="off", autocorrect="off", spellcheck=False)


@dataclass
class Box:
    text: gr.Textbox
    ask: gr.Button
    follow: gr.Button
    stop: gr.Button
    clear: gr.Button

    @property
    def buttons(self) -> list[Any]:
        return [self.ask, self.follow, self.stop, self.clear]


def box() -> Box:
    text = gr.Textbox(
        label="Question",
        placeholder="Type a medical question, or choose a sample above. No patient data.",
        info="Shift+Enter asks it.",
        lines=3,
        max_lines=10,
        max_length=LONGEST_QUESTION,
        elem_id="question",
        html_attributes=PRIVATE,
        render=False,
    )
    samples(text)
    text.render()  # type: ignore[no-untyped-call]
    with gr.Row(elem_classes="mc-actions"):
        ask = gr.Button("Ask both", variant="primary", elem_id="ask")
        follow = gr.Button("Ask as follow-up", visible=False, elem_id="follow")
        stop = gr.Button("Stop answering", variant="stop", interactive=False, elem_id="stop-answer")
        clear = gr.Button("New conversation", visible=False, elem_id="clear")
    return Box(text, ask, follow, stop, clear)


def samples(question: gr.Textbox) -> None:
    """Buttons by group; a click fills the box and sends nothing."""
    offered = (*SAMPLE_QUESTIONS, *MORE_QUESTIONS)
    groups = dict.fromkeys(group for group, _ in offered)
    with gr.Row(elem_classes="mc-samples"):
        for group in groups:
            with gr.Column(min_width=240):
                c.block(f"<h4>{group.capitalize()}</h4>")
                for text in (q for g, q in offered if g == group):
                    fill = gr.Button(text, size="sm", elem_classes="mc-sample")
                    fill.click(lambda text=text: text, None, question, **QUIET)


def buttons(going: bool, follow_ups: bool, said: bool) -> list[Any]:
    """Ask or Stop can be pressed; a follow-up where there is something to follow."""
    return [
        gr.update(interactive=not going),
        gr.update(interactive=not going, visible=said and follow_ups),
        gr.update(interactive=going),
        gr.update(interactive=not going, visible=said),
    ]
