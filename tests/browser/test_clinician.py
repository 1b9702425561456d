"""What a clinician does in Chat, and what she must not have to fear; on a client that follows a script."""

import csv
import json
import threading

import pytest
from playwright.sync_api import Page, expect

from medcot.data.starter import CHIPS, SAMPLE_QUESTIONS
from medcot.prompts.contract import Exchange
from medcot.runs import comparisons
from medcot.runs.ids import title_of
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.ui import build_app
from medcot.ui.chat.judging import Judged
from medcot.ui.serve import Served
from medcot.workers import protocol as m
from tests.browser.conftest import PATIENCE, listed, pick, viewers, wait_until
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
        expect(page.locator("#chat-head h2")).to_be_visible()
        return page

    return chat_


@pytest.fixture(scope="module")
def first_chat(chromium, tmp_path_factory):
    """For `shared`; loading a page is half of what a test of it takes."""
    client, runs_dir = FakeClient(), tmp_path_factory.mktemp("shared") / "runs"
    write_run(RunStore(runs_dir), RunSettings.model_validate(LLAMA), "finished", adapter=True)
    with viewers(chromium) as open_:
        served = Served(build_app(runs_dir, client))
        page = open_(served.url)
        page.get_by_role("tab", name="Chat", exact=True).click()
        expect(page.locator("#chat-head h2")).to_be_visible()
        yield page, client
        served.close()


@pytest.fixture
def shared(first_chat):
    """One page of Chat and its client for several tests, each of which finds no conversation and an empty box."""
    page, client = first_chat
    vars(client).update(vars(FakeClient(base="Base says this.", tuned=TUNED)) | {"loaded": client.loaded})
    page.set_viewport_size({"width": 1440, "height": 900})
    again = page.get_by_role("button", name="New conversation", exact=True)
    for _ in range(5):  # the end of an answer that was under way brings the button back
        if again.is_visible():
            again.click()
            page.wait_for_timeout(500)
    expect(again).to_be_hidden()
    page.locator("#question textarea").fill("")
    page.evaluate("scrollTo(0, 0)")
    return page, client


def type_and_ask(page: Page, question: str) -> None:
    page.locator("#question textarea").fill(question)
    page.get_by_role("button", name="Ask both", exact=True).click()


def done(page: Page) -> None:
    expect(page.locator("#chat-note")).to_contain_text("Done.")
    expect(page.get_by_role("button", name="Ask both", exact=True)).to_be_enabled()


def unfold(page: Page, name: str) -> None:
    page.locator(f"#{name} > button").click()


def named(store: RunStore, name: str, most: int) -> Run:
    settings = {**LLAMA, "name": name, "evaluation": {"max_new_tokens": most}}
    return write_run(store, RunSettings.model_validate(settings), "finished", adapter=True)


def test_the_last_choice_counts_however_quickly_it_follows_and_no_tick_takes_it_back(chat, run, client, monkeypatch):
    store, gate = RunStore(run.path.parent), threading.Event()
    slow, first = named(store, "slow", 111), named(store, "first", 222)
    judged = Judged.shown

    def slowly(tab, found, **fold):
        if found and found.id == slow.id:
            gate.wait(PATIENCE / 1000)
        return judged(tab, found, **fold)

    monkeypatch.setattr(Judged, "shown", slowly)
    page = chat()
    head, most = page.locator("#chat-head"), page.locator("#decoding-max-new-tokens input")
    expect(head).to_have_text(title_of(first.id))
    unfold(page, "decoding")
    pick(page, slow)
    pick(page, run)
    gate.set()
    expect(most).to_have_value("1280")
    expect(head).to_have_text(title_of(run.id))
    pick(page, slow)
    expect(most).to_have_value("111")
    newest = named(store, "newest", 333)
    expect(listed(page, newest)).to_be_visible()
    expect(head).to_have_text(title_of(slow.id))
    expect(most).to_have_value("111")
    type_and_ask(page, "Why?")
    done(page)
    assert next(r for r in client.requests if isinstance(r, m.LoadRequest)).adapter.name == slow.id


def test_decoding_that_was_set_stays_until_another_run_is_chosen(chat, run, client):
    other = named(RunStore(run.path.parent), "other", 222)
    page = chat()
    most = page.locator("#decoding-max-new-tokens input")
    pick(page, run)
    unfold(page, "decoding")
    expect(most).to_have_value("1280")
    most.fill("77")
    pick(page, run)
    named(RunStore(run.path.parent), "newest", 333)
    expect(page.locator("#runs .mc-run")).to_have_count(3)
    type_and_ask(page, "Why?")
    done(page)
    expect(most).to_have_value("77")
    assert client.requests[-1].max_new_tokens == 77
    pick(page, other)
    expect(most).to_have_value("222")


def test_what_is_typed_while_both_answer_waits_in_the_box_and_disturbs_nobody(shared):
    page, client = shared
    client.hold = threading.Event()
    type_and_ask(page, "First question?")
    expect(page.locator("#left-answer")).to_contain_text("Base says this.")
    box = page.locator("#question textarea")
    box.fill("Second question?")
    page.keyboard.press("Enter")
    page.wait_for_timeout(1000)
    expect(page.locator("#chat-note")).to_contain_text("Answering")
    client.hold.set()
    done(page)
    expect(box).to_have_value("Second question?")
    box.press("Enter")
    wait_until(lambda: client.requests[-1].question == "Second question?")
    assert [said.question for said in client.requests[-1].base_history] == ["First question?"]


def test_an_emergency_is_told_above_both_panels_before_any_token(shared):
    page, client = shared
    gate = threading.Event()
    client.before_piece = lambda: gate.wait(PATIENCE / 1000)
    page.set_viewport_size({"width": 390, "height": 900})
    type_and_ask(page, "I have crushing chest pain now")
    notice = page.get_by_role("alert")
    expect(notice).to_contain_text("seek emergency care: call 112, 911 or 999")
    expect(page.locator("#left-answer")).to_contain_text("…")
    for name, side in (("Tuned", "right"), ("Base", "left")):
        page.locator("#side").get_by_label(name).check()
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


def test_identifiers_are_held_back_until_the_second_click(shared):
    page, client = shared
    type_and_ask(page, "Patient John Smith, MRN 00482913, coughs. Why?")
    expect(page.get_by_role("alert")).to_contain_text("a name: John Smith")
    expect(page.get_by_role("alert")).to_contain_text("a record number: 00482913")
    assert client.requests == []
    expect(page.locator("#question textarea")).to_have_value("Patient John Smith, MRN 00482913, coughs. Why?")
    page.locator("#question textarea").fill("Patient Jane Doe coughs. Why?")
    page.get_by_role("button", name="Ask both", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Jane Doe")
    assert client.requests == [], "the second click is for the same question"
    page.get_by_role("button", name="Ask both", exact=True).click()
    done(page)


def test_a_second_question_keeps_what_was_said_and_a_new_conversation_forgets_it(shared):
    page, client = shared
    expect(page.get_by_role("button", name="New conversation", exact=True)).to_be_hidden()
    type_and_ask(page, "First question?")
    done(page)
    expect(page.locator("#question textarea")).to_have_value("")
    expect(page.locator("#asked")).to_have_text("First question?")
    expect(page.locator("#right-reasoning")).to_be_hidden()
    unfold(page, "right-fold")
    expect(page.locator("#right-reasoning")).to_have_text("A thought.")
    type_and_ask(page, "Second question?")
    expect(page.locator("#earlier")).to_contain_text("First question?")
    done(page)
    expect(page.locator("#earlier .mc-arm-tuned")).to_contain_text("An answer.")
    asked = [r for r in client.requests if isinstance(r, m.AskRequest)]
    assert asked[1].tuned_history == [Exchange("First question?", TUNED)]
    page.get_by_role("button", name="New conversation", exact=True).click()
    expect(page.locator("#question textarea")).to_be_focused()
    expect(page.get_by_text("First question?")).to_have_count(0)
    expect(page.locator("#right-answer")).to_contain_text("Appears here")
    expect(page.get_by_role("button", name="New conversation", exact=True)).to_be_hidden()


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_box_and_button_are_in_view_from_the_beginning_and_answers_after_asking(shared, width, height):
    page, _ = shared
    page.set_viewport_size({"width": width, "height": height})
    box, ask = page.locator("#question textarea"), page.get_by_role("button", name="Ask both", exact=True)
    expect(box).to_be_in_viewport(ratio=1)
    expect(ask).to_be_in_viewport(ratio=1)
    page.get_by_role("button", name=CHIPS[SAMPLE_QUESTIONS[2][1]], exact=True).click()
    expect(box).to_have_value(SAMPLE_QUESTIONS[2][1])
    expect(box).to_be_in_viewport(ratio=1)
    ask.click()
    done(page)
    expect(page.locator("#asked")).to_be_in_viewport(ratio=1)
    expect(page.locator("#left-answer .mc-text")).to_be_in_viewport(ratio=1)
    covered = page.locator(".mc-composer").bounding_box()["y"]
    assert page.locator("#left-answer .mc-text").bounding_box()["y"] < covered, "and not behind the box"
    expect(box).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize(("key", "text"), [("Enter", "Why?\n"), ("a", "Why?a")])
def test_shift_and_a_key_only_write(shared, key, text):
    page, client = shared
    page.locator("#question textarea").fill("Why?")
    page.keyboard.press(f"Shift+{key}" if key == "Enter" else key)
    expect(page.locator("#question textarea")).to_have_value(text)
    assert client.requests == []


@pytest.mark.parametrize(
    ("count", "words"), [(10, ""), (7000, "7,000 of 8,000"), (8000, "8,000 of"), (20_000, "20,000")]
)
def test_a_long_question_is_counted_and_never_cut(shared, count, words):
    (page, client), text = shared, "ä" * count
    box = page.locator("#question textarea")
    box.focus()
    page.keyboard.insert_text(text)
    expect(page.locator("#question-count")).to_contain_text(words)
    page.keyboard.press("Enter")
    if count > 8000:
        expect(page.locator("#chat-note")).to_contain_text("8000 is the most")
        expect(box).to_have_value(text)
        assert client.requests == []
    else:
        done(page)
        assert client.requests[-1].question == text
        expect(page.locator("#question-count")).to_have_text("")


def test_each_panel_says_what_its_arm_does_and_that_it_has_ended_before_the_other(shared):
    page, client = shared
    client.hold, client.base = threading.Event(), "Short."
    type_and_ask(page, "Why?")
    expect(page.locator("#panel-left .mc-state")).to_have_text("Finished · 6 tokens")
    expect(page.locator("#left-reasoning")).to_have_text("None was written.")
    expect(page.locator("#panel-right .mc-state")).to_contain_text("Answering")
    client.hold.set()
    done(page)
    expect(page.locator("#panel-right .mc-state")).to_have_text("Finished · 10 tokens")


def test_on_a_phone_a_switch_shows_base_or_tuned_and_blinded_a_or_b(chat):
    page = chat(390)
    type_and_ask(page, "Why?")
    done(page)
    left, right, switch = page.locator("#panel-left"), page.locator("#panel-right"), page.locator("#side")
    expect(left).to_be_visible()
    expect(right).to_be_hidden()
    switch.get_by_label("Tuned").check()
    expect(left).to_be_hidden()
    expect(right).to_be_visible()
    unfold(page, "comparison")
    page.get_by_label("Compare blinded, and store what I judge").check()
    type_and_ask(page, "Blinded?")
    expect(page.locator("#judgement")).to_be_visible()
    switch.get_by_label("A", exact=True).check()
    expect(left).to_be_visible()
    for side, name in (("left", "A"), ("right", "B")):
        switch.get_by_label(name, exact=True).check()
        expect(page.locator(f"#{side}-reasoning")).to_be_visible()


def test_a_failed_question_comes_back_into_an_empty_box(shared):
    page, client = shared
    box = page.locator("#question textarea")
    client.problems = ("It broke.",)
    type_and_ask(page, "Why?")
    expect(page.locator("#chat-note")).to_contain_text("It broke.")
    expect(box).to_have_value("Why?")


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
    page.keyboard.press("Enter")
    done(page)
    assert client.requests[-1].max_new_tokens == 77
    page.locator("#decoding-reset").focus()
    page.keyboard.press("Enter")
    expect(field).to_have_value("1280")
    expect(page.locator("#decoding-state")).to_contain_text("The same as in the evaluation")
    page.locator("#question textarea").focus()
    page.keyboard.type("Again?")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Ask both", exact=True)).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#left-ending")).to_contain_text("Finished")
    wait_until(lambda: client.requests[-1].max_new_tokens == 1280)


def test_copied_text_carries_the_words_not_for_care(shared):
    page, _ = shared
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
    heads = [page.locator(f"#panel-{side} h2") for side in ("left", "right")]
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
    expect(page.get_by_role("button", name="Next question", exact=True)).to_be_in_viewport()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as CSV", exact=True).click()
    [row] = csv.DictReader(download.value.path().read_text(encoding="utf-8-sig").splitlines())
    assert (row["id"], row["better_answer"]) == (kept.id, kept.a)
    page.get_by_role("button", name="Next question", exact=True).click()
    expect(page.locator("#left-answer")).to_contain_text("Appears here")
    expect(page.locator("#question textarea")).to_be_focused()


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
    type_and_ask(page, "And?")
    expect(page.locator("#earlier .mc-asked")).to_contain_text("<script>window.pwned=2</script>")
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
