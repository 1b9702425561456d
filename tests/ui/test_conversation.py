"""From replies to turns, without a page."""

import threading
from pathlib import Path

import pytest

from medcot.adapters.open import of_run
from medcot.errors import Problem
from medcot.evaluation.answers import Reply
from medcot.prompts.contract import Exchange
from medcot.runs.store import RunStore
from medcot.safety import LONGEST_QUESTION
from medcot.settings import EvaluationSettings, ModelSettings, PromptSettings, RunSettings
from medcot.settings.evaluation import EndpointSettings
from medcot.ui.chat.panels import ending
from medcot.ui.conversation import STOPPED, Conversation, Question
from medcot.ui.sources import AdapterSource, ServerSource
from medcot.workers import protocol as m
from tests.fakes import FakeClient, write_run


@pytest.fixture
def source(runs_dir):
    return AdapterSource(of_run(write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True)))


TUNED = "<think>\nfirst\n</think>\n<response>\nthen\n</response>"


@pytest.fixture
def ask(source):
    """Ask through a conversation, as a session."""

    def ask_(talk, session, text, **changed):
        decoding = EvaluationSettings(max_new_tokens=50)
        return talk.ask(session, Question(text, **{"source": source, "decoding": decoding, **changed}))

    return ask_


def until_text(turns):
    while not (turn := next(turns)).base:
        pass
    return turn


def test_loads_once_and_streams_the_two_parts(ask):
    client = FakeClient(base="plain text", tuned=TUNED, step=3)
    talk = Conversation(client)
    turns = list(ask(talk, "s", " Why? "))
    assert [t.going for t in turns] == [True] * (len(turns) - 1) + [False]
    assert any(t.loading for t in turns)
    shown = [(t.parts("tuned").reasoning, t.parts("tuned").answer) for t in turns]
    assert ("f", "") in shown
    assert shown[-1] == ("first", "then")
    assert all("<" not in reasoning + answer for reasoning, answer in shown), "a half-written tag was shown"
    assert turns[-1].parts("base").problems
    assert not any(t.parts("base").problems for t in turns[:-1])
    list(ask(talk, "s", "Again?"))
    kinds = [type(r) for r in client.requests]
    assert kinds == [m.LoadRequest, m.AskRequest, m.AskRequest]
    assert isinstance(client.requests[1], m.AskRequest)
    assert client.requests[1].question == "Why?"


def test_a_follow_up_carries_each_arms_own_words_and_a_new_question_none(ask):
    client = FakeClient(base="plain text", tuned=TUNED)
    talk = Conversation(client)
    for text, follow_up in (("First?", False), ("Second?", True), ("Third?", True), ("Anew?", False)):
        list(ask(talk, "s", text, follow_up=follow_up))
    asked = [r for r in client.requests if isinstance(r, m.AskRequest)]
    assert [len(r.base_history) for r in asked] == [0, 1, 2, 0]
    assert asked[2].base_history == [Exchange(q, "plain text") for q in ("First?", "Second?")]
    assert asked[2].tuned_history[0].output == TUNED
    assert [question for question, _ in talk.said("s")] == ["Anew?"]
    assert talk.said("somebody else") == []


def test_a_follow_up_needs_something_to_follow_the_same_model_and_a_contract_that_has_them(ask, runs_dir):
    client = FakeClient(base="x", tuned="y")
    talk = Conversation(client)
    [turn] = ask(talk, "s", "And?", follow_up=True)
    assert "follows nothing" in str(turn.problems[0])
    list(ask(talk, "s", "First?"))
    other = AdapterSource(of_run(write_run(RunStore(runs_dir), RunSettings(name="b"), "finished", adapter=True)))
    [turn] = ask(talk, "s", "And?", follow_up=True, source=other)
    assert "as it was opened then" in str(turn.problems[0])
    client.loaded = client.loaded.model_copy(update={"follow_ups": False})
    assert "plain prompt contract" in str(list(ask(talk, "s", "And?", follow_up=True))[-1].problems[0])


def reopened(source, **changed):
    return AdapterSource(source.adapter.model_copy(update=changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"path": Path("/y/final")},
        {"base": ModelSettings(id="owner/other")},
        {"contract": None, "prompt": PromptSettings(style="plain")},
    ],
)
def test_what_is_called_the_same_but_lies_elsewhere_or_is_asked_in_another_way_is_loaded_anew(ask, source, changed):
    client = FakeClient(base="x", tuned="y")
    talk, other = Conversation(client), reopened(source, **changed)
    for chosen in (source, source, other, other, source):
        assert list(ask(talk, "s", "Why?", source=chosen))[-1].answered
    assert loads(client) == [source.adapter, other.adapter, source.adapter]
    [refused] = ask(talk, "s", "And?", source=other, follow_up=True)
    assert "as it was opened then" in str(refused.problems[0])


def loads(client):
    return [r.adapter for r in client.requests if isinstance(r, m.LoadRequest)]


def test_a_server_is_connected_to_once_and_anew_where_it_is_asked_in_another_way(ask):
    client = FakeClient(base="x", tuned="y")
    talk, named = Conversation(client), EndpointSettings(url="http://127.0.0.1:9", base="b", tuned="t")
    for style in ("chat", "chat", "plain"):
        assert list(ask(talk, "s", "Why?", source=ServerSource(named, style)))[-1].answered
    assert [r.style for r in client.requests if isinstance(r, m.ConnectRequest)] == ["chat", "plain"]


def test_after_a_load_that_failed_the_model_before_is_loaded_again(ask, source):
    client = FakeClient(base="x", tuned="y")
    talk = Conversation(client)
    list(ask(talk, "s", "Why?"))
    client.problems = ("It has no weights.",)
    refused = list(ask(talk, "s", "Why?", source=reopened(source, name="bad")))[-1]
    assert refused.problems == (Problem("", "It has no weights."),)
    client.problems = ()
    assert list(ask(talk, "s", "Why?"))[-1].answered
    assert [adapter.name for adapter in loads(client)] == [source.name, "bad", source.name]


def test_a_model_whose_page_went_away_while_it_was_loaded_is_not_loaded_twice(ask):
    client = FakeClient(base="x", tuned="y")
    talk = Conversation(client)
    turns = ask(talk, "gone", "Why?")
    while not client.loaded:
        next(turns)
    turns.close()
    list(ask(talk, "next", "Why?"))
    assert len(loads(client)) == 1


def test_a_new_question_during_a_follow_up_begins_a_conversation_of_its_own(ask):
    client = FakeClient(base="x" * 20, tuned="y" * 20)
    talk = Conversation(client)
    list(ask(talk, "s", "First?"))
    client.hold = threading.Event()
    follow = ask(talk, "s", "Second?", follow_up=True)
    until_text(follow)
    new = ask(talk, "s", "Anew?")
    assert next(new).note.startswith("Waiting"), "until the one before has really stopped"
    [last] = follow
    assert (last.replaced, last.going, last.answered) == (True, False, None)
    client.hold.set()
    *_, done = new
    assert done.answered.base.ended == "finished"
    assert not done.replaced
    assert [question for question, _ in talk.said("s")] == ["Anew?"]


def test_a_question_that_is_given_up_is_not_shown_and_not_remembered_and_its_place_is_kept_until_it_ends(ask):
    client = FakeClient(base="x" * 20, tuned="y" * 20)
    client.hold = threading.Event()
    talk = Conversation(client)
    turns = ask(talk, "s", "Why?")
    until_text(turns)
    talk.give_up("s")
    assert client.cancelled == [client.requests[-1].id]
    assert next(ask(talk, "next", "Why?")).note == "Waiting: yours is next."
    [last] = turns
    assert last.replaced
    assert talk.said("s") == []


def test_stop_cancels_by_id_and_only_ones_own(ask):
    client = FakeClient(base="x" * 50, tuned="y" * 50)
    talk = Conversation(client)
    turns = ask(talk, "mine", "Why?")
    until_text(turns)
    talk.stop("somebody else")
    assert not client.cancelled
    talk.stop("mine")
    last = list(turns)[-1]
    assert client.cancelled == [client.requests[-1].id]
    assert last.note.startswith(STOPPED)


def test_a_page_that_goes_away_cancels_and_frees_the_order(ask):
    client = FakeClient(base="x" * 50, tuned="y" * 50)
    talk = Conversation(client)
    turns = ask(talk, "gone", "Why?")
    until_text(turns)
    turns.close()
    assert client.cancelled == [client.requests[-1].id]
    assert not list(ask(talk, "next", "Why?"))[-1].problems


def test_a_page_that_is_forgotten_leaves_the_line_at_once_though_nobody_reads_on(ask):
    client = FakeClient(base="x" * 50, tuned="y" * 50)
    client.hold = threading.Event()
    talk = Conversation(client)
    first, second, third = (ask(talk, name, "Why?") for name in ("first", "second", "third"))
    until_text(first)
    assert next(second).note == "Waiting: yours is next."
    assert next(third).note == "Waiting: 2 questions are ahead of yours."
    talk.forget("second")
    assert next(third).note == "Waiting: yours is next."
    talk.forget("first")
    assert client.cancelled == [client.requests[-1].id]
    assert talk.said("first") == []
    client.hold.set()
    assert list(third)[-1].answered
    assert list(second)[-1].note == STOPPED


def test_the_line_is_first_come_first_served(ask):
    client = FakeClient(base="x" * 20, tuned="y")
    client.hold = threading.Event()
    talk = Conversation(client)
    first = ask(talk, "0", "0")
    until_text(first)
    waiting = [ask(talk, str(i), str(i)) for i in range(1, 6)]
    notes = [next(turns).note for turns in waiting]
    assert notes[0] == "Waiting: yours is next."
    assert [note.split()[1] for note in notes[1:]] == ["2", "3", "4", "5"]
    client.hold.set()
    list(first)
    threads = [threading.Thread(target=list, args=(turns,)) for turns in reversed(waiting)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    asked = [r.question for r in client.requests if isinstance(r, m.AskRequest)]
    assert asked == ["0", "1", "2", "3", "4", "5"]


def test_who_waits_can_give_up(ask):
    client = FakeClient(base="x", tuned="y")
    client.hold = threading.Event()
    talk = Conversation(client)
    first = ask(talk, "a", "Why?")
    until_text(first)
    second = ask(talk, "b", "How?")
    assert next(second).note.startswith("Waiting")
    talk.stop("b")
    assert list(second)[-1].note == STOPPED
    client.hold.set()
    assert list(first)[-1].answered


@pytest.mark.parametrize(
    ("question", "words"), [("", "is empty"), ("  \n", "is empty"), ("x" * (LONGEST_QUESTION + 1), "is the most")]
)
def test_what_cannot_be_asked_is_refused_in_words_before_the_worker_hears_of_it(ask, question, words):
    client = FakeClient()
    [turn] = ask(Conversation(client), "s", question)
    assert words in str(turn.problems[0])
    assert not turn.going
    assert not client.requests


def test_no_run_and_a_refusal_of_the_worker_are_told(ask):
    [turn] = ask(Conversation(FakeClient()), "s", "", source=None)
    assert len(turn.problems) == 2
    refused = list(ask(Conversation(FakeClient(problems=("The device is in use.",))), "s", "Why?"))[-1]
    assert refused.problems == (Problem("", "The device is in use."),)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ("finished", "Finished"),
        ("limit", "Cut at the limit of 50 new tokens"),
        ("looping", "round in circles"),
        ("stopped", "Stopped"),
    ],
)
def test_why_an_answer_ended_and_how_fast_it_came(ended, words):
    final = Reply(text="", tokens=30, ended=ended, seconds=2, first_token_seconds=0.25)
    said = ending(final, 50)
    assert words in said
    assert said.endswith("30 tokens · first token after 0.2 s · 15 tokens per second")
