"""The page: three tabs over the run directory. No model library is loaded here, and nothing typed is kept."""

from medcot.ui import quick  # noqa: F401  # isort: skip  # has to be what imports gradio first

import os
from pathlib import Path
from typing import Any

import gradio as gr

from medcot import uploads
from medcot.device import device
from medcot.runs import RunStore
from medcot.service import ServiceClient
from medcot.ui import chat, components, evaluate, guard, space, train
from medcot.ui.chat.sources import ServerSource
from medcot.ui.page import TICK_SECONDS, Client, Page
from medcot.ui.reading import Reader
from medcot.ui.theme import CSS, theme

TABS = (("Train", train), ("Evaluate", evaluate), ("Chat", chat))
UPLOADS_STAY = 3600  # seconds, in gradio's temporary folder; what a run or an evaluation uses is a copy of its own


def build_app(runs_dir: Path, client: Client | None = None, server: ServerSource | None = None) -> Any:
    """The whole page over one runs folder; `client` is the model's process, `server` what else Chat may ask."""
    # How soon a closed page is noticed, and its place in line freed; gradio's own 15 seconds are long for those behind.
    os.environ.setdefault("GRADIO_HEARTBEAT_INTERVAL", "1")
    here, store = device(), RunStore(runs_dir)
    with gr.Blocks(title="medcot", analytics_enabled=False, delete_cache=(UPLOADS_STAY, UPLOADS_STAY)) as demo:
        components.block(components.research_line(), elem_classes="mc-sticky")
        components.block(components.header(here.name, bool(here.gpus)))
        if guard.on_space():
            space.build(runs_dir)
        page = Page(
            demo,
            gr.Timer(TICK_SECONDS),
            store,
            runs_dir,
            Reader(store),
            client or ServiceClient(runs_dir.expanduser().resolve()),
            here,
            server,
        )
        with gr.Tabs():
            for title, tab in TABS:
                with gr.Tab(title):
                    tab.build(page)
        page.watch()
    guard.guard(demo)
    demo.api_open = False  # as demo.queue(api_open=False) would, which builds the whole server once more
    return demo


def launch_arguments() -> dict[str, Any]:
    """For `launch`: the look, and everything off that would store, report or publish what passes through the page."""
    return {
        "theme": theme(),
        "css": CSS,
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "mcp_server": False,
        "show_error": False,
        "share": False,
        "pwa": False,
        "max_file_size": uploads.MOST_BYTES,
    }
