"""What the Chat tab does without a page: which model is asked, what is said of its memory, what a tick may change."""

import os
import threading

import gradio as gr
import pytest

from medcot import comparisons
from medcot import messages as m
from medcot.settings import RunSettings
from medcot.ui.chat.choosing import Choosing
from medcot.ui.chat.tab import ASKED, ChatTab
from tests.fakes import write_adapter, write_run


@pytest.fixture
def tab(page):
    return ChatTab(page, Choosing(page))


def test_the_page_says_what_is_in_memory_and_why_it_left(tab, monkeypatch):
    client = tab.page.client
    assert "No model is in memory" in tab.models.memory()
    client.loaded = m.Loaded(id="1", run="r<1>", model="m", device="CPU", warnings=["Prompt <contract>"])
    assert "In memory: r&lt;1&gt;" in tab.models.memory()
    assert "Prompt &lt;contract&gt;" in tab.models.memory()
    client.loaded, client.unloaded = None, m.Unloaded(id="", reason="a job waits for the device")
    assert "has left the memory: a job waits for the device" in tab.models.memory()
    monkeypatch.setattr("medcot.jobdirs.JobDir.worker_alive", lambda self, pid: pid == os.getpid())
    run = write_run(tab.page.store, RunSettings(), "running", pid=os.getpid())
    assert f"{run.id} uses the device now" in tab.models.memory()


def test_a_question_asked_before_the_page_has_its_list_goes_to_the_first_of_it(tab):
    run = write_run(tab.page.store, RunSettings(), "finished", adapter=True)
    list(tab.ask(gr.Request(session_hash="s"), None, [], "What suggests gout?", False, False, 320, 0, 1, 42))
    loaded, asked = tab.page.client.requests
    assert loaded.adapter.name == run.id
    assert asked.question == "What suggests gout?"


UNCHANGED = [gr.skip()] * ASKED
DECODING = (320, 0, 1, 42)
SESSION = gr.Request(session_hash="s")


def ask(tab, name, opened=(), text="Why?", blinded=False):
    return list(tab.ask(SESSION, name, list(opened), text, blinded, True, *DECODING))


@pytest.fixture
def open_(tab, monkeypatch):
    """Opens an adapter and asks it; returns what is open then, and what was loaded."""
    monkeypatch.setattr("medcot.adapters.check_model", lambda model: model)

    def open__(opened, name, style="plain", base=""):
        opened, said, listed, *_ = tab.models.open_other(opened, str(name), style, base)
        assert "Chosen" in said
        assert listed["value"] in listed["choices"]
        assert len(set(listed["choices"])) == len(listed["choices"])
        ask(tab, listed["value"], opened)
        assert isinstance(tab.page.client.requests[-1], m.AskRequest), "it was asked"
        return opened, tab.page.client.requests[-2].adapter

    return open__


def test_two_folders_of_one_name_are_told_apart_and_the_chosen_one_is_asked(tab, open_, tmp_path):
    first, second = (write_adapter(tmp_path / name / "final") for name in "xy")
    opened, loaded = open_([], first)
    assert loaded.path == first
    opened, loaded = open_(opened, second)
    assert loaded.path == second
    assert tab.models.names(opened) == [str(first), str(second)]
    ask(tab, str(first), opened)
    assert tab.page.client.requests[-2].adapter.path == first
    assert str(first) in tab.models.memory()


def test_a_folder_opened_again_in_another_way_is_asked_in_that_way(tab, open_, tmp_path):
    folder = write_adapter(tmp_path / "final")
    opened, loaded = open_([], folder, style="chat")
    assert (loaded.prompt.style, loaded.base.id) == ("chat", "owner/model")
    opened, loaded = open_(opened, folder, style="plain", base="owner/other")
    assert (loaded.prompt.style, loaded.base.id) == ("plain", "owner/other")
    assert len(opened) == 1, "the newest counts"


def test_a_folder_that_is_called_as_a_run_is_not_taken_for_it(tab, open_, tmp_path):
    run = write_run(tab.page.store, RunSettings(), "finished", adapter=True)
    folder = write_adapter(tmp_path / run.id)
    opened, loaded = open_([], folder)
    assert loaded.path == folder
    ask(tab, run.id, opened)
    assert tab.page.client.requests[-2].adapter.path == run.adapter_dir.resolve()
    assert tab.models.open_other([], run.id, "its own", "")[0] == [], "the run itself is in the list"


def test_a_run_without_its_contract_is_asked_in_the_way_that_it_was_opened(tab, open_):
    run = write_run(tab.page.store, RunSettings(), "finished", adapter=True)
    (run.adapter_dir / "prompt_contract.json").unlink()
    _, loaded = open_([], run.id, style="plain")
    assert loaded.prompt.style == "plain"


def test_a_tick_leaves_the_choice_alone_until_it_is_gone_and_waits_for_the_list(tab):
    first, second = (
        write_run(tab.page.store, RunSettings(name=name), "finished", adapter=True) for name in ("one", "two")
    )
    assert tab.models.look(None, [], "") == gr.skip(), "the page's own load brings the list"
    listed, *_ = tab.models.look(first.id, [], "another mark")
    assert set(listed["choices"]) == {first.id, second.id}
    assert "value" not in listed
    *_, mark = tab.models.look(first.id, [], "another mark")
    assert tab.models.look(first.id, [], mark) == gr.skip()
    for none in ("gone", None):
        assert tab.models.look(none, [], "another mark")[0]["value"] == tab.models.names([])[0]


def test_what_is_asked_anew_by_keyboard_takes_the_panels_from_the_follow_up(tab):
    """Shift+Enter works while the buttons are greyed."""
    run = write_run(tab.page.store, RunSettings(), "finished", adapter=True)
    client = tab.page.client
    client.base = client.tuned = "An answer."
    ask(tab, run.id, text="First?")
    client.hold = threading.Event()
    follow = tab.follow(SESSION, run.id, [], "Second?", False, True, *DECODING)
    next(follow)
    new = tab.ask(SESSION, run.id, [], "Anew?", True, True, *DECODING)
    assert "yours is next" in next(new)[0]
    assert list(follow) == [UNCHANGED], "nothing more is drawn of it; and the last one is drawn once more at its end"
    client.hold.set()
    *_, done = new
    assert done[-1]["visible"], "to be judged"
    trial = tab.trials.save("s", ("A", "A", *[None] * (len(comparisons.ASPECTS) - 2), False, False, ""))
    assert (trial.question, trial.answered.base.ended) == ("Anew?", "finished")


def test_a_question_that_is_held_back_or_refused_ends_the_one_under_way(tab):
    """Its warning would be gone with the next piece, and a second press would send it."""
    run = write_run(tab.page.store, RunSettings(), "finished", adapter=True)
    client = tab.page.client
    client.base = client.tuned = "An answer."
    client.hold = threading.Event()
    for text, told in (("Patient John Smith coughs. Why?", "John Smith"), (" ", "is empty")):
        going = tab.ask(SESSION, run.id, [], "First?", False, True, *DECODING)
        next(going)
        [shown] = ask(tab, run.id, text=text)
        assert told in shown[0]
        can_ask, _, can_stop, _ = (button["interactive"] for button in shown[-5:-1])
        assert (can_ask, can_stop) == (True, False)
        assert list(going) == [UNCHANGED]


def test_an_emergency_is_told_also_where_the_question_is_held_back(tab):
    run = write_run(tab.page.store, RunSettings(), "finished", adapter=True)
    [shown] = ask(tab, run.id, text="Patient John Smith has crushing chest pain right now, please help")
    assert "Not sent" in shown[0]
    assert "112, 911 or 999" in shown[1]


def test_only_the_starter_is_called_a_demonstration(tab, runs_dir):
    write_run(tab.page.store, RunSettings(), "finished", adapter=True)
    assert "often wrong" in tab.models.model(tab.models.names([])[0], [])[1]
    other = RunSettings.model_validate({"model": {"id": "owner/model"}, "name": "other"})
    run = write_run(tab.page.store, other, "finished", adapter=True)
    assert tab.models.model(run.id, [])[1] == ""
