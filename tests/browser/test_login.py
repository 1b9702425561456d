"""The first page where one has to say who one is: behind --auth, and where the page's token is missing."""

import os

import pytest
from playwright.sync_api import expect

from medcot.ui import build_app, login
from medcot.ui.serve import Served
from tests.browser.conftest import PATIENCE
from tests.fakes import FakeClient

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)
LETS_IN = [("dark", 390), ("light", 1440)]  # the others are looked at alone: the page behind takes the most to load


@pytest.fixture
def served(runs_dir):
    page = Served(build_app(runs_dir, FakeClient()), auth=("ada", "a-long-password"))
    yield page
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_fields_are_seen_and_let_in(chromium, served, theme, width):
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=theme)
    page = context.new_page()
    page.goto(served.url)
    expect(page.get_by_text("For research only, not for care.")).to_be_visible()
    expect(page).to_have_title("medcot")
    shown = "e => { const s = getComputedStyle(e); return [s.borderTopColor, s.borderTopWidth, s.backgroundColor]; }"
    grounds = set()
    for name in ("username", "password"):
        field = page.get_by_label(name)
        expect(field).to_be_in_viewport(ratio=1)
        border, thickness, ground = field.evaluate(shown)
        assert thickness != "0px"
        assert len({border, ground, "rgba(0, 0, 0, 0)"}) == 3, "an edge that stands out from its ground"
        grounds.add(ground)
    button = page.get_by_role("button", name="Login")
    expect(button).to_be_in_viewport(ratio=1)
    assert button.evaluate("e => getComputedStyle(e).backgroundColor") not in (*grounds, "rgba(0, 0, 0, 0)")
    if (theme, width) in LETS_IN:
        page.get_by_label("username").fill("ada")
        page.get_by_label("password").fill("a-long-password")
        button.click()
        page.get_by_role("tab", name="Train", exact=True).wait_for()
    context.close()


TOKEN = "the-token-of-this-page"


@pytest.fixture
def with_token(runs_dir, monkeypatch):
    """A page whose visitors are other accounts of this machine."""
    monkeypatch.setattr(login, "account_of", lambda client, server: os.getuid() + 1)
    page = Served(build_app(runs_dir, FakeClient()), token=TOKEN)
    yield page
    page.close()


def test_the_printed_address_opens_the_page_and_reloads_and_a_new_tab_need_no_token(chromium, with_token):
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{with_token.address}&__theme=dark")
    for tab in (page, page, context.new_page()):
        if tab.url == "about:blank":
            tab.goto(with_token.url)
        tab.get_by_role("tab", name="Train", exact=True).wait_for()
        assert "token" not in tab.url
        assert tab.evaluate("document.cookie") == "", "no script reads the cookie"
        tab.reload()
        tab.get_by_role("tab", name="Train", exact=True).wait_for()
    assert "__theme=dark" in page.url
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_without_the_token_the_page_says_where_it_is_and_takes_it(chromium, with_token, theme, width):
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme=theme)
    page = context.new_page()
    page.goto(with_token.url)
    expect(page).to_have_title("medcot")
    expect(page.get_by_text("The address that medcot printed when it was started holds it")).to_be_visible()
    expect(page.get_by_text("For research only, not for care.")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_text("That is not this page's token.")).to_be_visible()
    if (theme, width) in LETS_IN:
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Open").click()
        page.get_by_role("tab", name="Train", exact=True).wait_for()
        assert "token" not in page.url
    context.close()
