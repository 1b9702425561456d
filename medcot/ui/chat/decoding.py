"""How answers are decoded: as in the evaluation, unless somebody unfolds this and changes it."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from medcot.errors import BadInput, Problem
from medcot.settings import EvaluationSettings, build
from medcot.ui import components as c

NAMES = ("max_new_tokens", "temperature", "top_p", "seed")
STEPS = {"max_new_tokens": 1, "temperature": 0.1, "top_p": 0.05, "seed": 1}


@dataclass
class Controls:
    fields: list[gr.Number]
    reset: gr.Button
    state: gr.HTML


def controls() -> Controls:
    start = EvaluationSettings()
    with gr.Accordion("Decoding", open=False, elem_id="decoding"):
        state = c.block(elem_id="decoding-state")
        with gr.Row(elem_classes="mc-fields"):
            fields = [number(name, getattr(start, name)) for name in NAMES]
        reset = gr.Button("Same as evaluation", size="sm", elem_id="decoding-reset", elem_classes="mc-small")
    return Controls(fields, reset, state)


def number(name: str, value: float) -> gr.Number:
    field = EvaluationSettings.model_fields[name]
    whole = isinstance(value, int)
    return gr.Number(
        value,
        label=field.title,
        info=field.description,
        precision=0 if whole else None,
        step=STEPS[name],
        elem_id=f"decoding-{name.replace('_', '-')}",
        min_width=140,
    )


def read(values: tuple[Any, ...]) -> EvaluationSettings:
    """Settings from the fields. Raises BadInput with all that is wrong, in the fields' own names."""
    given = dict(zip(NAMES, values, strict=True))
    empty = [
        Problem(name, "is empty.", "Give a number, or press Same as evaluation.")
        for name in NAMES
        if given[name] is None
    ]
    if empty:
        raise BadInput(empty)
    return build({"evaluation": given}).evaluation


def state(values: tuple[Any, ...], evaluation: EvaluationSettings) -> str:
    """Whether the answers are decoded as in the evaluation, in words."""
    same = tuple(getattr(evaluation, name) for name in NAMES)
    if values == same:
        return '<p class="mc-soft">The same as in the evaluation of this run.</p>'
    told = ", ".join(
        f"{EvaluationSettings.model_fields[name].title} {old:g}"
        for name, old, new in zip(NAMES, same, values, strict=True)
        if old != new
    )
    return f'<p class="mc-changed">Not as in the evaluation, which had: {c.text(told)}.</p>'
