"""Asking and judging in the Chat tab, without a page."""

import threading

import gradio as gr
import pytest

from medcot.runs import comparisons
from medcot.settings import RunSettings
from medcot.ui import sessions
from medcot.workers import protocol as m
from tests.fakes import write_run
from tests.ui.conftest import DECODING, SESSION, ask


def test_a_question_to_nobody_is_refused_in_words(chat):
    write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    *_, last = ask(chat, None)
    assert "none is chosen" in last[chat.note]
    assert chat.page.client.requests == []


def test_what_is_asked_by_keyboard_takes_the_panels_from_the_question_under_way(chat):
    """Enter works while the buttons are greyed."""
    run = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    client = chat.page.client
    client.base = client.tuned = "An answer."
    ask(chat, run.id, text="First?")
    client.hold = threading.Event()
    second = chat.ask(SESSION, run.id, [], "Second?", False, True, *DECODING)
    next(second)
    new = chat.ask(SESSION, run.id, [], "Anew?", True, True, *DECODING)
    assert "yours is next" in next(new)[chat.note]
    assert list(second) == [gr.skip()], "nothing more is drawn of it; and the last one is drawn once more at its end"
    client.hold.set()
    *_, done = new
    assert done[chat.form.card]["visible"], "to be judged"
    trial = chat.trials.save("s", ("A", "A", *[None] * (len(comparisons.ASPECTS) - 2), False, False, ""))
    assert (trial.question, trial.answered.base.ended) == ("Anew?", "finished")


def told(chat):
    """How many exchanges each question was sent with."""
    return [len(r.base_history) for r in chat.page.client.requests if isinstance(r, m.AskRequest)]


def test_a_second_question_continues_the_conversation_and_another_model_begins_its_own(chat):
    one, other = (write_run(chat.page.store, RunSettings(name=name), "finished", adapter=True) for name in ("a", "b"))
    chat.page.client.base = chat.page.client.tuned = "An answer."
    for run, text in ((one, "First?"), (one, "Second?"), (other, "Third?")):
        shown = ask(chat, run.id, text=text)
        assert f">{text}</p>" in shown[0][chat.pair.asked]
    assert told(chat) == [0, 1, 0]
    assert "A new conversation" in shown[0][chat.pair.asked], "it is said that what was before is not heard"
    assert shown[0][chat.pair.earlier] == ""
    chat.clear(SESSION)
    ask(chat, other.id, text="Fourth?")
    assert told(chat) == [0, 1, 0, 0]


def test_a_contract_without_follow_ups_is_asked_each_question_alone(chat):
    run = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    client = chat.page.client
    client.base = client.tuned = "An answer."
    ask(chat, run.id, text="First?")
    client.loaded = client.loaded.model_copy(update={"follow_ups": False})
    chat.clear(SESSION)
    for text in ("Second?", "Third?"):
        ask(chat, run.id, text=text)
    assert told(chat) == [0, 0, 0]


@pytest.mark.parametrize("text", ["", "  \n ", "x" * 8001])
def test_what_cannot_be_asked_leaves_the_answers_and_the_box_as_they_are(chat, text):
    run = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    chat.page.client.base = chat.page.client.tuned = "An answer."
    ask(chat, run.id, text="First?")
    [shown] = ask(chat, run.id, text=text)
    assert "question" in shown[chat.note]
    assert not {chat.box.moved, chat.pair.asked, chat.pair.panels[0].answer} & shown.keys()


def test_a_question_leaves_the_box_when_it_is_sent_and_comes_back_where_it_was_not_answered(chat):
    run = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    client = chat.page.client
    client.base = client.tuned = "An answer."
    first, *_, last = ask(chat, run.id, text="First?")
    assert (first[chat.box.moved], last[chat.box.moved]) == ("-First?", "")
    client.problems = ("It broke.",)
    *_, last = ask(chat, run.id, text="Second?")
    assert last[chat.box.moved] == "+Second?"


def test_during_a_training_it_is_said_who_has_the_device_and_nothing_of_a_command_or_a_folder(chat):
    run = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    client = chat.page.client
    client.kind, client.problems = "busy", ("In use by the run x. Stop it: medcot stop x --runs-dir /somewhere",)
    *_, last = ask(chat, run.id)
    assert "Ask when it is free." in last[chat.note]
    assert not any(word in last[chat.note] for word in ("medcot", "--", "/some", "fixed first"))


def test_a_question_that_is_held_back_or_refused_ends_the_one_under_way(chat):
    """Its warning would be gone with the next piece, and a second press would send it."""
    run = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    client = chat.page.client
    client.base = client.tuned = "An answer."
    client.hold = threading.Event()
    for text, told in (("Patient John Smith coughs. Why?", "John Smith"), (" ", "is empty")):
        going = chat.ask(SESSION, run.id, [], "First?", False, True, *DECODING)
        next(going)
        [shown] = ask(chat, run.id, text=text)
        assert told in shown[chat.note]
        assert (shown[chat.box.ask]["interactive"], shown[chat.box.stop]["interactive"]) == (True, False)
        assert list(going) == [gr.skip()]


def test_an_emergency_is_told_also_where_the_question_is_held_back(chat):
    run = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    [shown] = ask(chat, run.id, text="Patient John Smith has crushing chest pain right now, please help")
    assert "Not sent" in shown[chat.note]
    assert "112, 911 or 999" in shown[chat.pair.emergency]


def test_pages_that_go_without_a_sign_are_forgotten_when_many_others_have_come(chat, monkeypatch):
    monkeypatch.setattr(sessions, "MOST_SESSIONS", 3)
    run = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    chat.page.client.base = chat.page.client.tuned = "An answer."
    for number in range(6):
        session = gr.Request(session_hash=f"made up {number}")
        for text, blinded in (("Why?", True), ("Patient John Smith coughs. Why?", False)):
            list(chat.ask(session, run.id, [], text, blinded, True, *DECODING))
    newest = [f"made up {number}" for number in (3, 4, 5)]
    assert list(chat.conversation._said) == list(chat._warned) == list(chat.trials) == newest
