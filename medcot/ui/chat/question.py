"""The question: samples, its box, how the answers are decoded, and what is said before any model answers."""

import json
from collections.abc import Sequence
from typing import Any

import gradio as gr

from medcot import safety
from medcot.data.starter import CHIPS
from medcot.errors import BadInput, Problem
from medcot.safety import LONGEST_QUESTION
from medcot.settings import EvaluationSettings, build
from medcot.ui import components as c
from medcot.ui.page import QUIET, Updates

# Without these, a browser keeps what is typed to restore tabs, and may send it to a spelling service.
PRIVATE = gr.InputHTMLAttributes(autocomplete="off", autocorrect="off", spellcheck=False)
STEPS = {"max_new_tokens": 1, "temperature": 0.1, "top_p": 0.05, "seed": 1}  # the decoding settings that Chat offers
NAMES = tuple(STEPS)
NEW = "New conversation"
TEXTS: dict[str, str] = c.TEXTS["chat"]["question"]


class Samples:
    """Chips that fill the box; they send nothing."""

    def __init__(self) -> None:
        with gr.Row(elem_classes="mc-samples", elem_id="samples"):
            self.chips = {text: c.small_button(short, "mc-sample") for text, short in CHIPS.items()}

    def wire(self, box: gr.Textbox) -> None:
        for text, chip in self.chips.items():
            chip.click(None, None, box, js=c.from_file("chat/sample.js", text=json.dumps(text)), **QUIET)


class QuestionBox:
    """The box, which stays in view below the conversation, with its buttons and what is said of the question."""

    def __init__(self) -> None:
        words: dict[str, Any] = {"label": TEXTS["label"], "placeholder": TEXTS["placeholder"]}
        # With one line and not more, Enter would send and there were no line breaks; longer text makes it grow.
        size: dict[str, Any] = {"lines": 1, "max_lines": 8}
        self.text = gr.Textbox(**words, **size, elem_id="question", html_attributes=PRIVATE)
        self.count = c.block(elem_id="question-count")
        # "-" and the question when it is sent, "+" and the question when it could not be asked.
        self.moved = gr.Textbox(visible="hidden", lines=2, html_attributes=PRIVATE)
        with gr.Row(elem_classes="mc-actions"):
            self.ask = gr.Button("Ask both", variant="primary", elem_id="ask")
            self.stop = gr.Button("Stop answering", variant="stop", visible=False, elem_id="stop-answer")
            self.clear = gr.Button(NEW, visible=False, elem_id="clear")
        self.buttons = [self.ask, self.stop, self.clear]
        told = {"most": str(LONGEST_QUESTION), **{name: json.dumps(TEXTS[name]) for name in ("near", "over")}}
        self.text.change(None, self.text, self.count, js=c.from_file("chat/count.js", **told), **QUIET)
        taken = [self.text, self.moved]
        self.moved.change(None, taken, self.text, js=c.from_file("chat/sent.js"), **QUIET)

    def enabled(self, going: bool, said: bool = False) -> Updates:
        """Enable Ask, or show Stop; and offer a new conversation where one was begun."""
        return {
            self.ask: gr.update(interactive=not going),
            self.stop: gr.update(interactive=going, visible=going),
            self.clear: gr.update(value=NEW, interactive=not going, visible=said),
        }


class Decoding:
    """How answers are decoded: as in the evaluation, unless somebody changes it here."""

    def __init__(self) -> None:
        start = EvaluationSettings()
        with gr.Accordion("Decoding", open=False, elem_id="decoding"):
            self.state = c.block(elem_id="decoding-state")
            with gr.Row(elem_classes="mc-fields"):
                self.fields = [number(name, getattr(start, name)) for name in NAMES]
            self.reset = c.small_button("Same as evaluation", "mc-small", elem_id="decoding-reset")
        self.outputs = [*self.fields, self.state]

    def filled(self, evaluation: EvaluationSettings) -> Updates:
        values = [getattr(evaluation, name) for name in NAMES]
        return {**dict(zip(self.fields, values, strict=True)), self.state: self.described(values, evaluation)}

    def described(self, values: Sequence[Any], evaluation: EvaluationSettings) -> str:
        """Whether the answers are decoded as in the evaluation, in words."""
        same = [getattr(evaluation, name) for name in NAMES]
        if list(values) == same:
            return c.soft("The same as in the evaluation of this run.")
        changed = ", ".join(
            f"{EvaluationSettings.model_fields[name].title} {old:g}"
            for name, old, new in zip(NAMES, same, values, strict=True)
            if old != new
        )
        return f'<p class="mc-changed">Not as in the evaluation, which had: {c.text(changed)}.</p>'


def number(name: str, value: float) -> gr.Number:
    field = EvaluationSettings.model_fields[name]
    kind: dict[str, Any] = {"precision": 0 if isinstance(value, int) else None, "step": STEPS[name], "min_width": 140}
    name_on_page = f"decoding-{name.replace('_', '-')}"
    return gr.Number(value, label=field.title, info=field.description, elem_id=name_on_page, **kind)


def read(values: Sequence[Any]) -> EvaluationSettings:
    """Settings from the decoding fields. Raises BadInput with all that is wrong, in the fields' own names."""
    given = dict(zip(NAMES, values, strict=True))
    fix = "Give a number, or press Same as evaluation."
    if empty := [Problem(name, "is empty.", fix) for name in NAMES if given[name] is None]:
        raise BadInput(empty)
    return build({"evaluation": given}).evaluation


def emergency(question: str) -> str:
    """The emergency notice that a question brings, above both panels; empty if it brings none."""
    found = safety.emergency(question)
    if found is None:
        return ""
    words = "".join(f"<p>{c.text(line)}</p>" for line in found.words)
    kind, role = ("now", "alert") if found.urgency == "now" else ("if-real", "note")
    return (
        f'<section class="mc-emergency mc-{kind}" role="{role}"><strong>{c.text(found.headline)}</strong>{words}'
        f'<p class="mc-sources">{c.text(found.sources)}</p></section>'
    )


def identifiers(question: str, stored: bool) -> str:
    """A warning about what in the question could identify a person; empty if nothing is found."""
    found = safety.identifiers(question)
    if not found:
        return ""
    items = "".join(f"<li>{c.text(i.kind)}: <strong>{c.text(i.text)}</strong></li>" for i in found)
    kept = " The blinded comparison is on: what you judge is stored." if stored else ""
    return (
        '<div class="mc-identifiers" role="alert"><strong>Not sent: this could identify a person</strong>'
        f"<ul>{items}</ul><p>Take it out. If it names nobody, press the button again to send it as it is.{kept}</p>"
        "</div>"
    )
