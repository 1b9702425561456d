"""What holds for the events of every tab."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest
from gradio.context import LocalContext

from medcot.runs.job_dir import JobDir
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.ui import TABS, build_app
from medcot.ui.page import NONE
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
    assert {"form.Form.filled_from", "evaluate.records.RecordList.sort"} <= chosen.keys()
    assert set(chosen.values()) == {"always_last"}


def test_nothing_on_the_page_asks_by_a_clock(app):
    assert not [block for block in app.blocks.values() if isinstance(block, gr.Timer)]
    assert not [event for event in app.fns.values() if any(kind == "tick" for _, kind in event.targets)]


def test_a_recipe_that_fills_all_fields_is_not_followed_by_a_request_for_each(app):
    """Each carried the whole form, and held the page up for ten seconds."""
    changes = {e.fn and name_of(e.fn): [how for _, how in e.targets].count("change") for e in app.fns.values() if e.fn}
    assert changes["train.start.Start.described"] == 0
    assert max(changes.values()) < 10


def test_a_card_that_cannot_be_drawn_is_looked_at_again(app):
    (look,) = named(app, "page.Page.watch").values()
    answer = look.fn(None, *[None] * (len(look.inputs) - 1))
    shown = next(value for component, value in answer.items() if 'id="looked"' in str(value))
    assert 'value=""' in shown, "no card has been given its run yet"


def test_a_look_is_had_also_where_the_page_has_a_choice_that_is_no_longer_listed(app):
    (look,) = named(app, "page.Page.watch").values()
    sent = ["gone" if getattr(component, "choices", None) == [] else None for component in look.inputs]
    assert sent.count("gone") > 2
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


@pytest.fixture
def two(runs_dir):
    """A run that can be measured and asked, and a newer one at work."""
    store = RunStore(runs_dir)
    return write_run(store, RunSettings(), "finished", adapter=True), write_run(store, RunSettings(), "running", pid=1)


@pytest.mark.parametrize(("tab", "space"), [("", ""), ("train", ""), ("chat", ""), ("evaluate", ""), ("", "a/b")])
def test_the_page_opens_with_the_run_of_its_address_else_with_one_that_fits_the_tab(page, two, monkeypatch, tab, space):
    monkeypatch.setattr(JobDir, "worker_alive", lambda self, pid: True)
    tuned, at_work = two
    if space:
        monkeypatch.setenv("SPACE_ID", space)

    def opened(run=""):
        held = LocalContext.request.set(gr.Request(query_params={"tab": tab, "run": run}))
        try:
            return page.first()[page.run]
        finally:
            LocalContext.request.reset(held)

    assert [opened(run.id) for run in two] == [run.id for run in two]
    fits = at_work if tab in ("", "train") and not space else tuned
    assert opened() == opened("../x") == fits.id


def test_a_run_that_is_gone_gives_way_to_one_at_work_then_to_one_that_waits_then_to_the_newest(page, monkeypatch):
    monkeypatch.setattr(JobDir, "worker_alive", lambda self, pid: True)
    assert page.chosen("gone") == NONE
    old = write_run(page.store, RunSettings(), "finished")
    cancelled = write_run(page.store, RunSettings(), "stopped")
    assert page.chosen("gone") == old.id
    queued = write_run(page.store, RunSettings(), "queued", pid=1)
    write_run(page.store, RunSettings(), "finished")
    assert page.chosen("gone") == queued.id
    running = write_run(page.store, RunSettings(), "running", pid=1)
    assert page.chosen(None) == running.id
    assert page.chosen(cancelled.id) == cancelled.id


def test_where_the_chosen_run_is_gone_all_cards_and_the_page_are_given_another(runs_dir):
    run = write_run(RunStore(runs_dir), RunSettings(), "finished")
    (look,) = named(build_app(runs_dir, FakeClient()), "page.Page.watch").values()
    sent = ["gone" if part.elem_id == "run" else part.value for part in look.inputs[1:]]
    answer = look.fn(None, *sent)
    assert next(value for part, value in answer.items() if part.elem_id == "run") == run.id
    assert run.id in next(value for part, value in answer.items() if part.elem_id == "live")
