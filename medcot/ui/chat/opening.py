"""Another model than a finished run: an adapter's folder, or its name on the Hub."""

from dataclasses import dataclass

import gradio as gr

from medcot.adapters import Adapter
from medcot.ui import components as c
from medcot.ui.elsewhere import adapter_fields


@dataclass
class Other:
    name: gr.Textbox
    style: gr.Radio
    base: gr.Textbox
    open: gr.Button
    problems: gr.HTML


def controls() -> Other:
    with gr.Accordion("Ask another adapter", open=False, elem_id="other"):
        with gr.Row(elem_classes="mc-fields"):
            name, style, base = adapter_fields("other")
        problems = c.block(elem_id="other-problems")
        with gr.Row(elem_classes="mc-actions"):
            button = gr.Button("Open adapter", size="sm", elem_id="other-open", elem_classes="mc-small")
    return Other(name, style, base, button, problems)


def by_place(adapter: Adapter) -> Adapter:
    """The same under a name that no other has: many a folder is called final, and one may be called as a run is."""
    return adapter if "/" in adapter.name else adapter.model_copy(update={"name": str(adapter.path)})


def opened(adapter: Adapter) -> str:
    """Which contract and base it will be asked with."""
    if (contract := adapter.contract) is None:
        how = f"{adapter.prompt.style}, as chosen here, because none lies beside it"
    else:
        system = f", system text “{contract.system}”" if contract.system else ", no system text"
        how = f"{contract.style}{system}, ends with {contract.eos_token}"
    stops = " It also ends at </response>." if adapter.prompt.style == "plain" else ""
    return (
        f'<p class="mc-soft" role="status">Chosen: {c.text(adapter.name)}. Base: {c.text(adapter.base.id)}. '
        f"Prompt contract: {c.text(how)}.{c.text(stops)} The first question loads and checks it.</p>"
    )
