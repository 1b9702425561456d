"""What holds for the events of every tab."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
from gradio.context import LocalContext

from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.ui import ADDRESSED, TABS, build_app
from tests.fakes import FakeClient, write_run
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
    assert {"train.open_run.OpenRun.open", "form.Form.filled_from", "evaluate.records.RecordList.sort"} <= chosen.keys()
    assert set(chosen.values()) == {"always_last"}


def test_nothing_on_the_page_asks_by_a_clock(app):
    assert not [block for block in app.blocks.values() if isinstance(block, gr.Timer)]
    assert not [event for event in app.fns.values() if any(kind == "tick" for _, kind in event.targets)]


def test_a_card_that_cannot_be_drawn_is_looked_at_again(app):
    (look,) = named(app, "page.Page.watch").values()
    answer = look.fn(None, *[None] * (len(look.inputs) - 1))
    shown = next(value for component, value in answer.items() if 'id="looked"' in str(value))
    assert 'value=""' in shown, "no card has been given its run yet"


def test_a_look_is_had_also_where_the_page_has_a_choice_that_is_no_longer_listed(app):
    (look,) = named(app, "page.Page.watch").values()
    sent = ["gone" if getattr(component, "choices", None) == [] else None for component in look.inputs]
    assert sent.count("gone") > 3
    with ThreadPoolExecutor() as aside:  # where a browser test ran before, this thread's event loop is Playwright's
        processed = aside.submit(asyncio.run, app.preprocess_data(look, sent, None)).result()
    assert processed.count("gone") == sent.count("gone")


@pytest.mark.parametrize(("space", "opened"), [("ada/medcot", "Chat"), ("", None)])
def test_a_visitor_of_a_space_lands_on_what_he_may_use(monkeypatch, runs_dir, space, opened):
    if space:
        monkeypatch.setenv("SPACE_ID", space)
    page = build_app(runs_dir, FakeClient())
    tabs = next(block for block in page.blocks.values() if isinstance(block, gr.Tabs))
    assert tabs.selected == opened
    assert opened in {None, *TABS}


def test_the_page_opens_with_the_run_and_the_evaluation_that_its_address_names(app, runs_dir):
    older, _ = (write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True) for _ in range(2))
    first = older.new_evaluation()
    for evaluation in (first, older.new_evaluation()):
        evaluation.write_status("finished", job="evaluate")
    opened = named(app, "train.open_run.OpenRun.newest", "evaluate.tab.EvaluateTab.newest", "chat.picker.Picker.first")
    assert len(opened) == 3
    request = gr.Request(query_params={"run": older.id, "evaluation": first.id})
    held = LocalContext.request.set(request)
    try:
        chosen = {
            component.elem_id: update["value"]
            for event in opened.values()
            for component, update in event.fn(*[None] * len(event.inputs)).items()
            if component.elem_id in ADDRESSED
        }
    finally:
        LocalContext.request.reset(held)
    assert chosen == {"runs": older.id, "evaluate-run": older.id, "chat-run": older.id, "evaluation": first.id}
