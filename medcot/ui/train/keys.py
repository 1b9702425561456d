"""Keys for one run: typed into password fields, handed to its worker's environment, and kept nowhere here."""

from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

VARIABLES = ("WANDB_API_KEY", "HF_TOKEN")


@dataclass(frozen=True)
class Keys:
    """`fields` in the order of VARIABLES. They have no value of their own: what the page serves holds no key."""

    fields: list[gr.Textbox]

    @staticmethod
    def secrets(typed: Sequence[object]) -> dict[str, str]:
        """Environment variables for a worker; an empty field leaves the app's own environment as it is."""
        return {name: key for name, value in zip(VARIABLES, typed, strict=True) if (key := str(value or "").strip())}


def fields() -> Keys:
    with gr.Accordion("Keys for this run only", open=False, elem_classes="mc-more"), gr.Row(elem_classes="mc-fields"):
        made = [
            gr.Textbox(
                label=label,
                info=f"Else {name} of the app's environment. Given to this run's worker, stored nowhere.",
                type="password",
                max_lines=1,
                min_width=200,
                elem_id=f"key-{name.lower().replace('_', '-')}",
            )
            for name, label in zip(VARIABLES, ("Weights & Biases key", "Hugging Face token"), strict=True)
        ]
    return Keys(made)
