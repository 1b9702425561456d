"""The list of runs at the side of all tabs: a click, a tick, the keyboard, a phone."""

import re

import pytest
from playwright.sync_api import Page, expect

from medcot.runs.ids import title_of
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from tests.browser.conftest import PATIENCE, listed, pick
from tests.browser.test_accessibility import findings
from tests.browser.test_after import finished
from tests.fakes import FakeClient, write_run

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)
HEADS = {"Train": "#live h3", "Evaluate": "#evaluate-head h2", "Chat": "#chat-head h2"}


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def chosen(page: Page, run) -> None:
    expect(listed(page, run)).to_have_attribute("aria-current", "true")
    expect(page.locator("#runs [aria-current=true]")).to_have_count(1)


def is_over(page: Page, one: str, other: str) -> bool:
    """Whether anything of one element lies over the other's middle."""
    return bool(
        page.evaluate(
            """([one, other]) => {
              const box = document.querySelector(other).getBoundingClientRect();
              const found = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
              return document.querySelector(one).contains(found);
            }""",
            [one, other],
        )
    )


@pytest.fixture
def runs(runs_dir):
    store = RunStore(runs_dir)
    return [write_run(store, RunSettings(), "finished", adapter=True) for _ in range(3)]


def test_a_click_chooses_a_run_for_every_tab_and_the_others_lead_back(serve, open_page, runs_dir, runs):
    page = open_page(serve(runs_dir, FakeClient()))
    chosen(page, runs[2])
    for run, (name, head) in zip(runs, HEADS.items(), strict=True):
        tab(page, name)
        pick(page, run)
        expect(page.locator(head)).to_contain_text(title_of(run.id).partition(" ·")[0])
        expect(page).to_have_url(re.compile(f"run={run.id}"))
    page.go_back()
    chosen(page, runs[1])
    untuned = write_run(RunStore(runs_dir), RunSettings(), "failed")
    pick(page, untuned)
    tab(page, "Chat")
    expect(page.locator("#chat-head")).to_contain_text("it has no adapter")
    page.get_by_role("button", name="Take the newest finished run", exact=True).click()
    chosen(page, runs[2])
    expect(page.locator("#chat-head h2")).to_have_text(title_of(runs[2].id))
    RunStore(runs_dir).delete(runs[2])
    expect(listed(page, runs[2])).to_have_count(0)
    expect(page.locator("#runs [aria-current=true]")).to_have_count(1)


def test_by_keyboard_a_run_is_found_chosen_and_ticked_and_the_focus_stays_when_the_list_is_drawn_anew(
    serve, open_page, runs_dir, runs
):
    page = open_page(serve(runs_dir, FakeClient()))
    chosen(page, runs[2])
    search = page.get_by_label("Search the runs")
    search.focus()
    page.keyboard.press("Tab")
    expect(listed(page, runs[2])).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(listed(page, runs[1])).to_be_focused()
    page.keyboard.press("Enter")
    chosen(page, runs[1])
    runs[0].describe(name="Named meanwhile")
    expect(listed(page, runs[0])).to_contain_text("Named meanwhile")
    expect(listed(page, runs[1])).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.locator(".mc-tick:checked")).to_have_count(1)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    expect(page.locator("#compared thead th")).to_have_count(2)
    search.fill("meanwhile")
    expect(page.locator("#runs .mc-run")).to_have_count(1)
    expect(search).to_be_focused()


def test_many_are_compared_and_the_comparison_stands_in_every_tab_until_it_is_closed(serve, open_page, runs_dir):
    store = RunStore(runs_dir)
    for rank in (4, 8, 16, 32, 64):
        finished(store, f"lora.rank={rank}")
    page = open_page(serve(runs_dir, FakeClient()))
    for number in range(4):
        page.locator(".mc-tick").nth(number).check()
    expect(page.locator("#compared thead th")).to_have_count(4)
    expect(page.locator(".mc-tick").nth(4)).to_be_disabled()
    expect(page.locator("#differences tbody tr")).to_have_text("LoRA rank6432168")
    tab(page, "Chat")
    expect(page.locator("#compared")).to_be_visible()
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("#compared-runs")).to_be_hidden()
    expect(page.locator(".mc-tick").nth(4)).to_be_enabled()


def test_of_very_many_runs_fifty_are_listed_and_then_more(serve, open_page, runs_dir):
    store = RunStore(runs_dir)
    first = write_run(store, RunSettings(name="the first"), "finished")
    for _ in range(59):
        write_run(store, RunSettings(), "finished")
    page = open_page(serve(runs_dir, FakeClient()))
    expect(page.locator("#runs .mc-run")).to_have_count(50)
    page.get_by_label("Search the runs").fill("the first")
    expect(listed(page, first)).to_be_visible()
    expect(page.locator("#runs")).to_contain_text("1 of 60 runs")
    page.get_by_label("Search the runs").fill("")
    page.get_by_role("button", name="Show more", exact=True).click()
    expect(page.locator("#runs .mc-run")).to_have_count(60)
    expect(page.get_by_role("button", name="Show more", exact=True)).to_be_hidden()


@pytest.mark.parametrize(("name", "main"), [("Train", "#start"), ("Evaluate", "#evaluate"), ("Chat", "#ask")])
def test_on_a_phone_it_is_behind_one_button_and_gives_way_to_what_was_chosen(
    serve, open_page, runs_dir, runs, name, main
):
    page = open_page(serve(runs_dir, FakeClient()))
    page.set_viewport_size({"width": 390, "height": 844})
    tab(page, name)
    side, button = page.locator("#run-list"), page.locator(".mc-head .mc-side-toggle")
    expect(side).to_be_hidden()
    expect(page.locator(main)).to_be_in_viewport(ratio=1)
    expect(listed(page, runs[2])).to_have_attribute("aria-current", "true")  # the list has come
    assert not is_over(page, "#run-list", main)
    button.click()
    expect(side).to_be_visible()
    expect(page.get_by_role("heading", name="Runs", exact=True)).to_be_in_viewport(ratio=1)
    expect(listed(page, runs[2])).to_be_focused()
    pick_behind = page.locator(".mc-main")
    assert pick_behind.evaluate("e => e.inert"), "what lies under it takes no click and no focus"
    page.keyboard.press("Escape")
    expect(side).to_be_hidden()
    expect(button).to_be_focused()
    button.click()
    listed(page, runs[0]).click()
    expect(side).to_be_hidden()
    expect(page.locator(HEADS[name])).to_contain_text(title_of(runs[0].id).partition(" ·")[0])
    expect(page.locator(main)).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_drawer_stays_open_while_somebody_searches_and_ticks_in_it(serve, open_page, runs_dir, runs):
    page = open_page(serve(runs_dir, FakeClient()))
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator(".mc-head .mc-side-toggle").click()
    search, rows = page.locator("#search-runs").locator("input, textarea"), page.locator("#runs .mc-run")
    search.fill("starter")
    expect(page.locator("#runs")).to_contain_text("3 of 3 runs")
    expect(search).to_be_focused()
    for number in (0, 1):
        page.locator("#runs .mc-tick").nth(number).check()
    write_run(RunStore(runs_dir), RunSettings(recipe="starter"), "finished")
    expect(rows).to_have_count(4)
    expect(page.locator("#run-list")).to_be_visible()


def test_it_can_be_folded_and_stays_so_and_an_empty_page_has_none(serve, open_page, runs_dir):
    page = open_page(serve(runs_dir, FakeClient()))
    expect(page.locator("#demo")).to_be_visible()
    side, button = page.locator("#run-list"), page.locator(".mc-head .mc-side-toggle")
    expect(side).to_be_hidden()
    expect(button).to_be_hidden()
    write_run(RunStore(runs_dir), RunSettings(), "finished")
    expect(side).to_be_visible()
    side.get_by_role("button", name="Hide", exact=True).click()
    expect(side).to_be_hidden()
    page.reload()
    expect(button).to_be_visible()
    expect(side).to_be_hidden()
    button.click()
    expect(side).to_be_visible()
    assert button.get_attribute("aria-expanded") == "true"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_found_on_the_drawer_and_on_a_comparison(serve, open_page, runs_dir, runs, scheme):
    page = open_page(f"{serve(runs_dir, FakeClient())}/?__theme={scheme}")
    chosen(page, runs[2])
    for number in range(2):
        page.locator(".mc-tick").nth(number).check()
    expect(page.locator("#compared")).to_be_visible()
    found = findings(page)
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator(".mc-head .mc-side-toggle").click()
    expect(page.locator("#run-list")).to_be_visible()
    assert found + findings(page) == []
