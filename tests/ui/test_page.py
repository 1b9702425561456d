"""What holds for the events of every tab."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest

from medcot.ui import TABS, build_app
from tests.fakes import FakeClient
from tests.ui.test_guard import name_of


@pytest.fixture
def app(runs_dir):
    return build_app(runs_dir, FakeClient())


def named(app, *starts: str) -> dict:
    """The page's events by their functions' names."""
    return {n: e for e in app.fns.values() if e.fn and (n := name_of(e.fn)).startswith(starts)}


def test_a_choice_made_while_another_is_under_way_is_not_lost(app):
    events = named(app, "train.", "form.", "evaluate.")
    chosen = {name: e.trigger_mode for name, e in events.items() if "input" in {how for _, how in e.targets}}
    assert {"train.open_run.OpenRun.open", "form.Form.filled_from", "evaluate.tab.EvaluateTab.sort"} <= chosen.keys()
    assert set(chosen.values()) == {"always_last"}


def test_a_tick_looks_also_where_the_page_has_a_choice_that_is_no_longer_listed(app):
    (tick,) = named(app, "page.Page.watch").values()
    sent = ["gone" if getattr(component, "choices", None) == [] else None for component in tick.inputs]
    assert sent.count("gone") > 3
    with ThreadPoolExecutor() as aside:  # where a browser test ran before, this thread's event loop is Playwright's
        processed = aside.submit(asyncio.run, app.preprocess_data(tick, sent, None)).result()
    assert processed.count("gone") == sent.count("gone")


@pytest.mark.parametrize(("space", "opened"), [("ada/medcot", "Chat"), ("", None)])
def test_a_visitor_of_a_space_lands_on_what_he_may_use(monkeypatch, runs_dir, space, opened):
    if space:
        monkeypatch.setenv("SPACE_ID", space)
    page = build_app(runs_dir, FakeClient())
    tabs = next(block for block in page.blocks.values() if isinstance(block, gr.Tabs))
    assert tabs.selected == opened
    assert opened in {None, *TABS}
