"""An adapter from elsewhere in the page: the fields that name one, and what is said of one that was adopted."""

from typing import Any

import gradio as gr

from medcot.runs import Run
from medcot.settings import RunSettings
from medcot.ui import components as c

ITS_OWN = "its own"


def adapter_fields(prefix: str) -> tuple[gr.Textbox, gr.Radio, gr.Textbox]:
    """Name, prompt contract and base, as `medcot ask` has them."""
    name = gr.Textbox(
        label="Adapter",
        info="A folder on this machine, or OWNER/NAME[@revision] on the Hub.",
        elem_id=f"{prefix}-name",
    )
    style: Any = gr.Radio(
        [ITS_OWN, "chat", "plain"],
        value=ITS_OWN,
        label="Prompt contract",
        info="Its own lies beside it. Without one: chat is the base's template, plain the reference's text.",
        elem_id=f"{prefix}-style",
    )
    base = gr.Textbox(
        label="Base",
        info="Only where the adapter's files name none: OWNER/NAME, a folder, or starter.",
        elem_id=f"{prefix}-base",
    )
    return name, style, base


def style_of(chosen: object) -> str | None:
    return None if chosen == ITS_OWN else str(chosen)


def from_elsewhere(run: Run, settings: RunSettings | None) -> str:
    """Which adapter a folder measures, on what; nothing where it was trained here."""
    if (adapter := run.origin()) is None:
        return ""
    how = ""
    if settings:
        asked = settings.data.source.rpartition("/")[2]
        how = f" Base: {settings.model.id}. Prompt contract: {settings.prompt.style}. Records: {asked}."
    return f'<p class="mc-soft mc-told">Tuned is {c.text(adapter)}, not trained here.{c.text(how)}</p>'
