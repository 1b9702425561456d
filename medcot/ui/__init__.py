"""The page: a list of runs, and three tabs. No model library is loaded here, and nothing typed is kept."""

from medcot.ui import fast_import  # noqa: F401  # isort: skip  # must be the first to import gradio

import os
from pathlib import Path
from typing import Any

import gradio as gr

from medcot.data import uploads
from medcot.ui import components, guard, train
from medcot.ui.api import Api
from medcot.ui.chat.tab import ChatTab
from medcot.ui.evaluate.tab import EvaluateTab
from medcot.ui.page import Page
from medcot.ui.side.comparison import Comparison
from medcot.ui.side.run_list import RunList
from medcot.ui.sources import Client, ServerSource
from medcot.ui.theme import CSS, login_message, theme
from medcot.ui.thrift import be_thrifty
from medcot.workers.client import ServiceClient

TABS = {"Train": train.build, "Evaluate": EvaluateTab, "Chat": ChatTab}
SCRIPT_FILES = ("watch.js", "address.js", "clicks.js", "side/side.js")
SCRIPTS = "".join(f"<script>{components.from_file(name)}</script>" for name in SCRIPT_FILES)
FAVICON = Path(__file__).parent / "favicon.svg"
SESSIONS = 200  # pages whose state is kept at once
UPLOADS_STAY = 3600  # seconds in gradio's temporary folder; runs and evaluations use copies


def build_app(runs_dir: Path, client: Client | None = None, server: ServerSource | None = None) -> gr.Blocks:
    """Build the page over one runs folder; `client` is the model's process, `server` what else Chat may ask."""
    # A closed page is noticed this soon, and its place in line freed; those behind would wait for gradio's 15 seconds.
    os.environ.setdefault("GRADIO_HEARTBEAT_INTERVAL", "1")
    demo = gr.Blocks(title="medcot", analytics_enabled=False, delete_cache=(UPLOADS_STAY, UPLOADS_STAY))
    with demo:
        page = Page(demo, runs_dir, client or ServiceClient(runs_dir.expanduser().resolve()), server)
        notice = f'<p class="mc-research" role="note">{components.RESEARCH_ONLY}</p>'
        components.block(notice, elem_classes="mc-sticky")
        components.block(components.header(page.device.name))
        if guard.on_space():
            guard.build_notices(runs_dir)
        with gr.Row(elem_classes="mc-frame"):
            RunList(page)
            with gr.Column(elem_classes="mc-main"):
                Comparison(page)
                page.tabs.render()
        with page.tabs:
            for title, build in TABS.items():
                with gr.Tab(title, id=title) as tab:
                    build(page)
                tab.select(None, js=f"() => medcot.at('tab', '{title.lower()}')")
        demo.load(None, js="() => medcot.go()")
        Api(page)
        page.watch()
    guard.guard(demo)
    demo.state_session_capacity = SESSIONS
    be_thrifty(demo)
    demo.runs_dir = page.store.root  # type: ignore[attr-defined]  # what may be downloaded lies there
    demo.api_open = False  # like demo.queue(api_open=False), which would build the whole server a second time
    return demo


def mount(web: Any, page: gr.Blocks, **where: Any) -> None:
    """Serve the page at the root of `web`, with what would store, report or publish its contents switched off."""
    off = ("run_history", "enable_monitoring", "ssr_mode", "mcp_server", "show_error", "pwa")
    look: dict[str, Any] = {
        "theme": theme(),
        "css": CSS,
        "head": SCRIPTS,
        "favicon_path": str(FAVICON),
        "footer_links": [],
    }
    limits = {"auth_message": login_message(), "max_file_size": uploads.MOST_BYTES, **dict.fromkeys(off, False)}
    gr.mount_gradio_app(web, page, path="/", **look, **limits, **where)
