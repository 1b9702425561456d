"""From replies to turns, without a page."""

import threading

import pytest

from medcot import messages as m
from medcot.adapters import of_run
from medcot.runs import RunStore
from medcot.settings import EvaluationSettings, RunSettings
from medcot.ui.chat.conversation import LONGEST_QUESTION, STOPPED, Conversation, Question, ending
from medcot.ui.chat.sources import AdapterSource
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
    assert asked[2].base_history == [m.Said(question=q, output="plain text") for q in ("First?", "Second?")]
    assert asked[2].tuned_history[0].output == TUNED
    assert [question for question, _ in talk.said("s")] == ["Anew?"]
    assert talk.said("somebody else") == []


def test_a_follow_up_needs_something_to_follow_the_same_model_and_a_contract_that_has_them(ask, runs_dir):
    client = FakeClient(base="x", tuned="y")
    talk = Conversation(client)
    [turn] = ask(talk, "s", "And?", follow_up=True)
    assert "follows nothing" in turn.problems[0]
    list(ask(talk, "s", "First?"))
    other = AdapterSource(of_run(write_run(RunStore(runs_dir), RunSettings(name="b"), "finished", adapter=True)))
    [turn] = ask(talk, "s", "And?", follow_up=True, source=other)
    assert "Choose that model" in turn.problems[0]
    client.loaded = client.loaded.model_copy(update={"follow_ups": False})
    assert "plain prompt contract" in list(ask(talk, "s", "And?", follow_up=True))[-1].problems[0]


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
    assert words in turn.problems[0]
    assert not turn.going
    assert not client.requests


def test_no_run_and_a_refusal_of_the_worker_are_told(ask):
    [turn] = ask(Conversation(FakeClient()), "s", "", source=None)
    assert len(turn.problems) == 2
    refused = list(ask(Conversation(FakeClient(problems=("The device is in use.",))), "s", "Why?"))[-1]
    assert refused.problems == ("The device is in use.",)


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
    final = m.ArmAnswer(
        text="", reasoning="", answer="", problems=[], tokens=30, ended=ended, seconds=2, first_token_seconds=0.25
    )
    said = ending(final, 50)
    assert words in said
    assert said.endswith("30 tokens · first token after 0.2 s · 15 tokens per second")
