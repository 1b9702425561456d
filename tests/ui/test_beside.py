"""An exported file in tuned's place: offered where it can be asked, and never by a path."""

import pytest

from medcot.evaluation.answers import TUNED
from medcot.settings import RunSettings
from medcot.workers import protocol as m
from tests.fakes import write_run, write_shipped
from tests.ui.conftest import DECODING, SESSION


@pytest.fixture
def run(chat):
    return write_run(chat.page.store, RunSettings(), "finished", adapter=True)


def ask(chat, run, beside, text="Why?", blinded=False):
    chat.page.client.base = chat.page.client.tuned = "An answer."
    return list(chat.ask(SESSION, run.id, [], text, blinded, True, *DECODING[:-1], beside))


def offered(chat, run, chosen=TUNED):
    view = chat.picker.beside.view(run and run.id, chosen)
    choice = view[chat.picker.beside.choice]
    return [value for _, value in choice["choices"]], choice["visible"], view[chat.picker.beside.missing]


def loads(chat):
    return [request for request in chat.page.client.requests if isinstance(request, m.LoadRequest)]


def test_a_run_without_files_has_no_choice_and_nothing_is_said_of_any(chat, run, tmp_path):
    assert offered(chat, run) == ([TUNED], False, "")
    assert offered(chat, None) == ([TUNED], False, "")
    write_shipped(run, tmp_path / "shipped", "q8_0", refused="babbles")
    assert offered(chat, run) == ([TUNED], False, "")


def test_a_checked_file_is_asked_and_shown_as_what_it_is(chat, run, tmp_path):
    write_shipped(run, tmp_path / "shipped", "f16", "q8_0")
    assert offered(chat, run) == ([TUNED, "f16", "q8_0"], True, "")
    *_, last = ask(chat, run, "q8_0")
    assert loads(chat)[-1].file == tmp_path / "shipped" / "a-q8_0.gguf"
    left, right = (last[panel.head] for panel in chat.pair.panels)
    assert ("Base" in left, "Exported file" in right, "Q8_0, run by" in right) == (True, True, True)
    assert "with its exported file" in chat.picker.memory_line()
    assert str(tmp_path) not in chat.picker.memory_line() + str(last)


def test_its_conversation_is_its_own(chat, run, tmp_path):
    write_shipped(run, tmp_path / "shipped", "q8_0")
    for beside, text in (("q8_0", "First?"), ("q8_0", "Second?"), (TUNED, "Third?")):
        shown = ask(chat, run, beside, text)
    asked = [len(r.tuned_history) for r in chat.page.client.requests if isinstance(r, m.AskRequest)]
    assert asked == [0, 1, 0]
    assert [bool(load.file) for load in loads(chat)] == [True, False], "and loaded once for both questions"
    assert "A new conversation" in shown[0][chat.pair.asked]


def test_what_was_chosen_stays_while_the_run_has_it(chat, run, tmp_path):
    beside = chat.picker.beside
    write_shipped(run, tmp_path / "a", "q8_0")
    view = beside.view(run.id, "q8_0")
    assert "value" not in view[beside.choice]
    assert beside.look(run.id, "q8_0", view[beside.mark]) == {}
    write_shipped(run, tmp_path / "b", "q4_0")
    assert "value" not in beside.look(run.id, "q8_0", view[beside.mark])[beside.choice]
    other = write_run(chat.page.store, RunSettings(name="other"), "finished", adapter=True)
    assert beside.open(other.id, "q8_0")[beside.choice]["value"] == TUNED


@pytest.mark.parametrize("sent", ["q4_0", "/etc/passwd", "a-q8_0.gguf", "../x.gguf", 3, ["q8_0"], {"a": 1}, ""])
def test_a_file_that_the_run_does_not_have_is_refused_whatever_a_browser_sends(chat, run, tmp_path, sent):
    write_shipped(run, tmp_path / "shipped", "q8_0")
    [shown] = ask(chat, run, sent)
    assert "not there any more" in shown[chat.note]
    assert chat.page.client.requests == []


def test_a_file_that_is_gone_is_refused_in_words(chat, run, tmp_path):
    write_shipped(run, tmp_path / "shipped", "q8_0")
    (tmp_path / "shipped" / "a-q8_0.gguf").unlink()
    [shown] = ask(chat, run, "q8_0")
    assert "Beside the base" in shown[chat.note]
    assert "Choose tuned, or export again" in shown[chat.note]


def test_without_llama_cpp_or_a_check_it_is_said_why_the_file_is_not_offered(chat, run, tmp_path, monkeypatch):
    write_shipped(run, tmp_path / "shipped", "q8_0", checked=False)
    choices, visible, said = offered(chat, run)
    assert (choices, visible) == ([TUNED], False)
    assert "exported file (Q8_0). It was not checked" in said
    monkeypatch.setattr("medcot.ui.chat.beside.can_run_files", lambda: False)
    for checked in (False, True):
        write_shipped(run, tmp_path / str(checked), "q8_0", checked=checked)
        choices, visible, said = offered(chat, run)
        assert (choices, visible) == ([TUNED], False)
        assert "the package xllamacpp has to be installed" in said
    [shown] = ask(chat, run, "q8_0")
    assert "not there any more" in shown[chat.note]


def test_it_is_not_judged_blinded_as_if_it_were_tuned(chat, run, tmp_path):
    write_shipped(run, tmp_path / "shipped", "q8_0")
    [shown] = ask(chat, run, "q8_0", blinded=True)
    assert "not of an exported file" in shown[chat.note]
    assert "Choose tuned beside the base" in shown[chat.note]
    assert chat.page.client.requests == []
