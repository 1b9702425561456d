"""What holds for the events of every tab."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from medcot.ui import build_app, guard
from tests.fakes import FakeClient


@pytest.fixture
def app(runs_dir):
    return build_app(runs_dir, FakeClient())


def named(app, *starts: str) -> dict:
    """The page's events by their functions' names."""
    return {n: e for e in app.fns.values() if e.fn and (n := guard.name_of(e.fn)).startswith(starts)}


def test_a_choice_made_while_another_is_under_way_is_not_lost(app):
    events = named(app, "train.", "form.", "evaluate.")
    chosen = {name: e.trigger_mode for name, e in events.items() if "input" in {how for _, how in e.targets}}
    assert {"train.running.Running.open", "form.Form.filled_from", "evaluate.tab.EvaluateTab.sort"} <= chosen.keys()
    assert set(chosen.values()) == {"always_last"}


def test_a_tick_looks_also_where_the_page_has_a_choice_that_is_no_longer_listed(app):
    (tick,) = named(app, "page.Page.watch").values()
    sent = ["gone" if getattr(component, "choices", None) == [] else None for component in tick.inputs]
    assert sent.count("gone") > 3
    with ThreadPoolExecutor() as aside:  # where a browser test ran before, this thread's event loop is Playwright's
        processed = aside.submit(asyncio.run, app.preprocess_data(tick, sent, None)).result()
    assert processed.count("gone") == sent.count("gone")
