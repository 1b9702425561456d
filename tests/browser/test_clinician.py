"""What a clinician does in Chat, and what she must not have to fear; on a client that follows a script."""

import csv
import json
import threading

import pytest
from playwright.sync_api import Page, expect

from medcot import comparisons
from medcot import messages as m
from medcot.runs import Run, RunStore
from medcot.settings import RunSettings
from medcot.starter import SAMPLE_QUESTIONS
from medcot.ui.chat.choosing import Choosing
from tests.browser.conftest import PATIENCE, wait_until
from tests.fakes import FakeClient, write_run

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)
TUNED = "<think>\nA thought.\n</think>\n<response>\nAn answer.\n</response>"
LLAMA = {"model": {"id": "owner/model"}, "name": "llama"}


@pytest.fixture
def run(runs_dir) -> Run:
    return write_run(RunStore(runs_dir), RunSettings.model_validate(LLAMA), "finished", adapter=True)


@pytest.fixture
def client() -> FakeClient:
    return FakeClient(base="Base says this.", tuned=TUNED)


@pytest.fixture
def chat(serve, open_page, run, client):
    """Opens Chat as a new viewer of one and the same page."""
    url = serve(run.path.parent, client)

    def chat_(width: int = 1440) -> Page:
        page = open_page(url)
        page.set_viewport_size({"width": width, "height": 900})
        page.get_by_role("tab", name="Chat", exact=True).click()
        expect(page.locator("#chat-run input")).not_to_have_value("")
        return page

    return chat_


def type_and_ask(page: Page, question: str, button: str = "Ask both") -> None:
    page.locator("#question textarea").fill(question)
    page.get_by_role("button", name=button, exact=True).click()


def done(page: Page) -> None:
    expect(page.locator("#chat-note")).to_contain_text("Done.")
    expect(page.get_by_role("button", name="Ask both", exact=True)).to_be_enabled()


def unfold(page: Page, name: str) -> None:
    page.locator(f"#{name} > button").click()


def choose(page: Page, run: Run) -> None:
    page.locator("#chat-run input").click()
    page.get_by_role("option", name=run.id, exact=True).click()


def named(store: RunStore, name: str, most: int) -> Run:
    settings = {**LLAMA, "name": name, "evaluation": {"max_new_tokens": most}}
    return write_run(store, RunSettings.model_validate(settings), "finished", adapter=True)


def test_the_last_choice_counts_however_quickly_it_follows_and_no_tick_takes_it_back(chat, run, client, monkeypatch):
    store, gate = RunStore(run.path.parent), threading.Event()
    slow, first = named(store, "slow", 111), named(store, "first", 222)
    judged = Choosing.judged

    def slowly(tab, found):
        if found and found.id == slow.id:
            gate.wait(PATIENCE / 1000)
        return judged(tab, found)

    monkeypatch.setattr(Choosing, "judged", slowly)
    page = chat()
    chosen, most = page.locator("#chat-run input"), page.locator("#decoding-max-new-tokens input")
    expect(chosen).to_have_value(first.id)
    unfold(page, "decoding")
    choose(page, slow)
    choose(page, run)
    gate.set()
    expect(most).to_have_value("1280")
    expect(chosen).to_have_value(run.id)
    choose(page, slow)
    expect(most).to_have_value("111")
    newest = named(store, "newest", 333)
    chosen.click()
    expect(page.get_by_role("option", name=newest.id, exact=True)).to_be_visible()
    page.keyboard.press("Escape")
    expect(chosen).to_have_value(slow.id)
    expect(most).to_have_value("111")
    type_and_ask(page, "Why?")
    done(page)
    assert next(r for r in client.requests if isinstance(r, m.LoadRequest)).adapter.name == slow.id


def test_decoding_that_was_set_stays_when_the_list_of_models_is_left_without_a_choice(chat, run, client):
    other = named(RunStore(run.path.parent), "other", 222)
    page = chat()
    chosen, most = page.locator("#chat-run input"), page.locator("#decoding-max-new-tokens input")
    choose(page, run)
    unfold(page, "decoding")
    expect(most).to_have_value("1280")
    most.fill("77")
    page.keyboard.press("Tab")
    chosen.click()
    expect(page.get_by_role("option", name=other.id, exact=True)).to_be_visible()
    page.locator("#question textarea").click()
    type_and_ask(page, "Why?")
    done(page)
    expect(most).to_have_value("77")
    assert client.requests[-1].max_new_tokens == 77
    choose(page, other)
    expect(most).to_have_value("222")


def test_a_question_asked_by_keyboard_during_a_follow_up_has_the_panels_to_itself(chat, client):
    page = chat()
    type_and_ask(page, "First question?")
    done(page)
    client.hold = threading.Event()
    client.base = "Of the follow-up."
    type_and_ask(page, "Second question?", "Ask as follow-up")
    expect(page.locator("#left-answer")).to_contain_text("Of the follow-up.")
    client.base = "Of the new one."
    page.locator("#question textarea").fill("New question?")
    page.keyboard.press("Shift+Enter")
    expect(page.locator("#left-answer")).to_contain_text("Of the new one.")
    expect(page.get_by_role("button", name="Stop answering", exact=True)).to_be_enabled()
    page.wait_for_timeout(1000)  # nothing of the follow-up comes after it
    expect(page.locator("#left-answer")).to_contain_text("Of the new one.")
    expect(page.locator("#chat-note")).to_contain_text("Answering")
    client.hold.set()
    done(page)
    expect(page.locator("#left-earlier")).to_be_empty()
    type_and_ask(page, "And?", "Ask as follow-up")
    done(page)
    assert [said.question for said in client.requests[-1].base_history] == ["New question?"]


def test_an_emergency_is_told_above_both_panels_before_any_token(chat, client):
    gate = threading.Event()
    client.before_piece = lambda: gate.wait(PATIENCE / 1000)
    page = chat(width=390)
    type_and_ask(page, "I have crushing chest pain now")
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("seek emergency care: call 112, 911 or 999")
    expect(page.locator("#left-answer")).to_contain_text("…")
    for side in ("left", "right"):
        assert notice.bounding_box()["y"] < page.locator(f"#panel-{side}").bounding_box()["y"]
    gate.set()
    done(page)
    expect(notice).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a phone's width holds it all"
    type_and_ask(page, SAMPLE_QUESTIONS[0][1])
    expect(page.locator("#emergency")).to_contain_text("If this is about a real person, now")
    done(page)
    type_and_ask(page, "Why is the sky blue?")
    done(page)
    expect(page.locator(".mc-emergency")).to_have_count(0)


def test_identifiers_are_held_back_until_the_second_click(chat, client):
    page = chat()
    type_and_ask(page, "Patient John Smith, MRN 00482913, coughs. Why?")
    expect(page.get_by_role("alert")).to_contain_text("a name: John Smith")
    expect(page.get_by_role("alert")).to_contain_text("a record number: 00482913")
    assert client.requests == []
    page.locator("#question textarea").fill("Patient Jane Doe coughs. Why?")
    page.get_by_role("button", name="Ask both", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Jane Doe")
    assert client.requests == [], "the second click is for the same question"
    page.get_by_role("button", name="Ask both", exact=True).click()
    done(page)


def test_a_follow_up_keeps_what_was_said_and_a_new_conversation_forgets_it(chat, client):
    page = chat()
    expect(page.get_by_role("button", name="Ask as follow-up", exact=True)).to_be_hidden()
    type_and_ask(page, "First question?")
    done(page)
    expect(page.locator("#right-reasoning")).to_be_hidden()
    unfold(page, "right-fold")
    expect(page.locator("#right-reasoning")).to_have_text("A thought.")
    type_and_ask(page, "Second question?", "Ask as follow-up")
    expect(page.locator("#left-earlier")).to_contain_text("First question?")
    done(page)
    expect(page.locator("#right-earlier")).to_contain_text("An answer.")
    asked = [r for r in client.requests if isinstance(r, m.AskRequest)]
    assert asked[1].tuned_history == [m.Said(question="First question?", output=TUNED)]
    page.get_by_role("button", name="New conversation", exact=True).click()
    expect(page.locator("#question textarea")).to_have_value("")
    expect(page.get_by_text("First question?")).to_have_count(0)
    expect(page.locator("#right-answer")).to_contain_text("Appears here")
    expect(page.get_by_role("button", name="Ask as follow-up", exact=True)).to_be_hidden()


def test_by_keyboard_alone_with_the_decoding_changed_and_put_back(chat, client):
    page = chat()
    page.locator("#decoding > button").focus()
    page.keyboard.press("Enter")
    field = page.locator("#decoding-max-new-tokens input")
    field.focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("77")
    page.keyboard.press("Tab")
    expect(page.locator("#decoding-state")).to_contain_text("Not as in the evaluation, which had: New tokens 1280")
    page.locator("#question textarea").focus()
    page.keyboard.type("Why?")
    page.keyboard.press("Shift+Enter")
    done(page)
    assert client.requests[-1].max_new_tokens == 77
    page.locator("#decoding-reset").focus()
    page.keyboard.press("Enter")
    expect(field).to_have_value("1280")
    expect(page.locator("#decoding-state")).to_contain_text("The same as in the evaluation")
    page.locator("#question textarea").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Ask both", exact=True)).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#left-ending")).to_contain_text("Finished")
    wait_until(lambda: client.requests[-1].max_new_tokens == 1280)


def test_copied_text_carries_the_words_not_for_care(chat):
    page = chat()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    type_and_ask(page, "Why?")
    done(page)
    page.locator("#panel-right").get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#right-copied")).to_contain_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("Tuned")
    assert "Reasoning:\nA thought.\n\nAnswer:\nAn answer.\n\nFor research only, not for care." in copied


def test_a_blinded_comparison_is_told_judged_kept_counted_and_exported(chat, run):
    page = chat()
    file = comparisons.path_of(run)
    unfold(page, "comparison")
    expect(page.locator("#comparison")).to_contain_text("When you press Save judgement, and not before")
    switch = page.get_by_label("Compare blinded, and store what I judge")
    expect(switch).not_to_be_checked()
    switch.check()
    type_and_ask(page, SAMPLE_QUESTIONS[2][1])
    done(page)
    heads = [page.locator(f"#panel-{side} h3") for side in ("left", "right")]
    assert [h.inner_text().strip() for h in heads] == ["A", "B"]
    expect(page.get_by_text("Format:")).to_have_count(0)
    assert not file.exists(), "nothing is kept before it is saved"
    page.get_by_role("button", name="Save judgement", exact=True).click()
    expect(page.locator("#judge-problems")).to_contain_text("Better reasoning: is not judged")
    for name in ("reasoning", "answer", "safe"):
        page.locator(f"#judge-{name}").get_by_label("A", exact=True).check()
    page.get_by_label("B could harm").check()
    page.locator("#judge-comment textarea").fill("Plainer.")
    page.get_by_role("button", name="Save judgement", exact=True).click()
    expect(page.locator("#chat-note")).to_contain_text("Saved. A was")
    [kept] = comparisons.read(run)
    other = {"base": "tuned", "tuned": "base"}[kept.a]
    assert (kept.question, kept.group) == (SAMPLE_QUESTIONS[2][1], "diabetes")
    assert (kept.base.text, kept.tuned.text) == ("Base says this.", TUNED)
    assert (kept.judgement.answer, kept.judgement.safe, kept.judgement.clear) == (kept.a, kept.a, None)
    assert (kept.judgement.harm, kept.judgement.comment) == ((other,), "Plainer.")
    expect(heads[0]).to_contain_text({"base": "Base", "tuned": "Tuned"}[kept.a])
    expect(page.locator("#judgement")).to_be_hidden()
    expect(page.locator("#comparison-groups")).to_contain_text("Diabetes")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as CSV", exact=True).click()
    [row] = csv.DictReader(download.value.path().read_text(encoding="utf-8-sig").splitlines())
    assert (row["id"], row["better_answer"]) == (kept.id, kept.a)


def test_the_demonstration_model_is_compared_only_when_asked_for(chat, run, client):
    write_run(RunStore(run.path.parent), RunSettings(name="newer"), "finished", adapter=True)
    page = chat()
    unfold(page, "comparison")
    page.get_by_label("Compare blinded, and store what I judge").check()
    type_and_ask(page, "Why?")
    expect(page.locator("#chat-note")).to_contain_text("off for the demonstration model")
    assert client.requests == []
    page.get_by_label("Also with the demonstration model").check()
    page.get_by_role("button", name="Ask both", exact=True).click()
    done(page)
    expect(page.locator("#judgement")).to_be_visible()


HOSTILE = " ".join(
    (
        "<img src=http://192.0.2.1/a.png onerror=window.pwned=1><script>window.pwned=2</script>",
        "<style>*{display:none}</style> ![x](http://192.0.2.1/b.png) [link](http://192.0.2.1/c)",
        "<a href=javascript:window.pwned=3>a</a> <iframe src=//192.0.2.1>",
        "<think>tags <think>within</think> tags</think> ${window.pwned=4} &lt;b&gt;",
    )
)


def test_hostile_text_is_text_in_its_own_order_and_a_very_long_one_stays_whole(chat, client):
    page = chat()
    client.base, client.tuned = (
        f"{HOSTILE} \u202eevil\u202c end",
        f"<think>{HOSTILE}</think><response>{HOSTILE}</response>",
    )
    type_and_ask(page, HOSTILE)
    done(page)
    expect(page.locator("#left-answer .mc-text")).to_contain_text("<iframe src=//192.0.2.1>")
    expect(page.locator("#left-answer .mc-text")).to_contain_text("‹U+202E›evil‹U+202C› end")
    type_and_ask(page, "And?", "Ask as follow-up")
    expect(page.locator("#left-earlier .mc-asked")).to_contain_text("<script>window.pwned=2</script>")
    done(page)
    assert page.locator(".mc-text img, .mc-text a, .mc-text iframe, .mc-text script, .mc-asked *").count() == 0
    client.base, client.tuned, client.step = "word " * 20_000, TUNED, 10_000
    type_and_ask(page, "Long?")
    page.wait_for_function("document.querySelector('#left-answer .mc-text')?.textContent.length >= 99999")
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_closed_tab_frees_its_place_and_two_viewers_see_only_their_own(chat, client):
    client.hold = threading.Event()
    first, second, third = chat(), chat(), chat()
    for number, page in enumerate((first, second, third)):
        type_and_ask(page, f"question of viewer {number}")
        note = ("Answering", "yours is next", "2 questions are ahead")[number]
        expect(page.locator("#chat-note")).to_contain_text(note)
    second.close()
    expect(third.locator("#chat-note")).to_contain_text("yours is next")
    first.close()
    expect(third.locator("#chat-note")).to_contain_text("Answering")
    client.hold.set()
    done(third)
    asked = [r.question for r in client.requests if isinstance(r, m.AskRequest)]
    assert asked == ["question of viewer 0", "question of viewer 2"]
    assert "viewer 0" not in third.content()
    stored = third.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert "viewer" not in json.dumps(stored)
