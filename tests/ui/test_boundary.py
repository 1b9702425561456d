"""Whatever a handler raises: words in the page, which stays as it was, and the other cards go on."""

from types import SimpleNamespace

import gradio as gr
import pytest

from medcot.errors import BadInput, Busy
from medcot.runs.store import RunStore
from medcot.ui import build_app, guard
from medcot.ui.page import NONE, Page
from medcot.workers import preflight
from tests.fakes import FakeClient
from tests.ui.test_guard import name_of

UNEXPECTED = [KeyError("x"), OSError(5, "Input/output error"), RuntimeError(), MemoryError(), UnicodeError("bad")]
UNEXPECTED += [BadInput.of("data.source", "is missing."), Busy("the device is taken")]


@pytest.fixture
def told(monkeypatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(guard.gr, "Warning", lambda words, **_: said.append(words))
    return said


def event(outputs=("one", "two"), api_visibility="private"):
    return SimpleNamespace(outputs=list(outputs), api_visibility=api_visibility)


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
def test_a_handler_that_fails_says_what_and_where_to_look_and_changes_nothing(error, told):
    def fail(value):
        raise error

    assert guard.bounded(event(), fail)(1) == gr.skip()
    assert guard.bounded(event(outputs=()), fail)(1) is None
    assert str(error) in told[0]
    assert "traceback" in told[0]


def test_an_answer_that_breaks_off_keeps_what_was_shown(told):
    def fail():
        yield "a"
        raise KeyError("x")

    assert list(guard.bounded(event(), fail)()) == ["a", gr.skip()]
    assert "KeyError: 'x'" in told[0]


def test_a_closed_stream_is_nothing_unexpected(told):
    def answer():
        yield from "abc"

    stream = guard.bounded(event(), answer)()
    assert next(stream) == "a"
    stream.close()
    assert told == []


def test_another_program_gets_the_words_as_its_error(told):
    def fail():
        raise KeyError("x")

    with pytest.raises(gr.Error, match="KeyError: 'x'"):
        guard.bounded(event(api_visibility="public"), fail)()


def test_on_a_space_a_text_that_may_be_another_visitors_is_not_shown(told, monkeypatch):
    def fail():
        raise KeyError("what somebody typed")

    monkeypatch.setenv("SPACE_ID", "ada/medcot")
    guard.bounded(event(), guard.visitor_may(fail))()
    assert "KeyError" in told[0]
    assert "somebody" not in told[0]


def test_no_event_of_the_page_raises_whatever_it_stands_on_does(runs_dir, monkeypatch, told):
    app = build_app(runs_dir, FakeClient())

    def fail(*_, **__):
        raise KeyError("x")

    for owner, name in ((RunStore, "list"), (preflight, "prepare"), (preflight, "check"), (FakeClient, "request")):
        monkeypatch.setattr(owner, name, fail)
    for each in [e for e in app.fns.values() if e.fn and name_of(e.fn).startswith(("train.", "evaluate.", "chat."))]:
        done = each.fn(*[None] * len(each.inputs))
        if hasattr(done, "__next__"):
            list(done)
    assert any("KeyError" in words for words in told)


def test_a_card_that_fails_leaves_the_others_and_is_asked_again(runs_dir, capsys):
    with gr.Blocks() as demo:
        page = Page(demo, runs_dir, FakeClient())
        one, other = gr.Textbox(), gr.Textbox()
    broken = [True]

    def fail(value):
        if broken:
            raise OSError(5, "Input/output error")
        return {one: value}

    with demo:
        page.refresh(fail, [one], [one])
        page.refresh(lambda value: {other: value}, [other], [other])
        page.watch()
    (look,) = [e.fn for e in demo.fns.values() if e.fn and name_of(e.fn).endswith("look")]
    first = look("", NONE, "a", "b")
    assert 'value=""' in first.pop(page._looked), "it is looked at again"
    assert first.pop(other) == "b"
    (shown,) = first.values()
    assert "Input/output error" in shown
    again = look(shown, NONE, "a", "b")
    assert 'value=""' in again.pop(page._looked)
    assert again == {other: "b"}, "said once"
    assert capsys.readouterr().err.count("Traceback") == 1
    broken.clear()
    after = look(shown, NONE, "a", "b")
    assert 'value=""' not in after.pop(page._looked)
    assert (after.pop(one), after.pop(other)) == ("a", "b")
    assert list(after.values()) == [""]
