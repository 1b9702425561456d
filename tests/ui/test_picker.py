"""Which model Chat asks, what is said of its memory, and what a tick may change."""

import os

import pytest

from medcot import hub
from medcot.runs.ids import title_of
from medcot.settings import RunSettings
from medcot.ui.page import NONE
from medcot.workers import protocol as m
from tests.fakes import write_adapter, write_run
from tests.ui.conftest import ask


def test_the_page_says_what_is_in_memory_and_why_it_left(chat, monkeypatch):
    client = chat.page.client
    assert "No model is in memory" in chat.picker.memory_line()
    client.loaded = m.Loaded(id="1", run="r<1>", model="m", device="CPU", warnings=["Prompt <contract>"])
    assert "In memory: r&lt;1&gt;" in chat.picker.memory_line()
    assert "Prompt &lt;contract&gt;" in chat.picker.memory_line()
    client.loaded, client.unloaded = None, m.Unloaded(id="", reason="a job waits for the device")
    assert "has left the memory: a job waits for the device" in chat.picker.memory_line()
    monkeypatch.setattr("medcot.runs.job_dir.JobDir.worker_alive", lambda self, pid: pid == os.getpid())
    write_run(chat.page.store, RunSettings(), "running", pid=os.getpid())
    assert "A training has the device. Ask when it is free." in chat.picker.memory_line()


@pytest.fixture
def open_(chat, monkeypatch):
    """Opens an adapter and asks it; returns what is open then, and what was loaded."""
    monkeypatch.setattr(hub, "check_model", lambda model: model)

    def open__(opened, name, style="plain", base=""):
        view = chat.picker.open_other(NONE, opened, str(name), style, base)
        opened, listed = view[chat.picker.opened], view[chat.picker.models]
        assert "Chosen" in view[chat.picker.problems]
        ids = [value for _, value in listed["choices"]]
        assert listed["value"] in ids
        assert len(set(ids)) == len(ids)
        ask(chat, listed["value"], opened)
        assert isinstance(chat.page.client.requests[-1], m.AskRequest), "it was asked"
        return opened, chat.page.client.requests[-2].adapter

    return open__


def test_two_folders_of_one_name_are_told_apart_and_the_chosen_one_is_asked(chat, open_, tmp_path):
    first, second = (write_adapter(tmp_path / name / "final") for name in "xy")
    opened, loaded = open_([], first)
    assert loaded.path == first
    opened, loaded = open_(opened, second)
    assert loaded.path == second
    assert chat.picker.names(NONE, opened) == [str(first), str(second)]
    ask(chat, str(first), opened)
    assert chat.page.client.requests[-2].adapter.path == first
    assert str(first) in chat.picker.memory_line()


def test_a_folder_opened_again_in_another_way_is_asked_in_that_way(chat, open_, tmp_path):
    folder = write_adapter(tmp_path / "final")
    opened, loaded = open_([], folder, style="chat")
    assert (loaded.prompt.style, loaded.base.id) == ("chat", "owner/model")
    opened, loaded = open_(opened, folder, style="plain", base="owner/other")
    assert (loaded.prompt.style, loaded.base.id) == ("plain", "owner/other")
    assert len(opened) == 1, "the newest counts"


def test_a_folder_that_is_called_as_a_run_is_not_taken_for_it(chat, open_, tmp_path):
    run = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    folder = write_adapter(tmp_path / run.id)
    opened, loaded = open_([], folder)
    assert loaded.path == folder
    ask(chat, run.id, opened)
    assert chat.page.client.requests[-2].adapter.path == run.adapter_dir.resolve()
    assert chat.picker.open_other(run.id, [], run.id, "its own", "")[chat.picker.opened] == [], "it is a run"


def test_a_run_without_its_contract_is_asked_in_the_way_that_it_was_opened(chat, open_):
    run = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    (run.adapter_dir / "prompt_contract.json").unlink()
    _, loaded = open_([], run.id, style="plain")
    assert loaded.prompt.style == "plain"


def test_the_chosen_run_is_asked_and_an_opened_adapter_until_another_run_is_chosen(chat, monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "check_model", lambda model: model)
    first, second = (
        write_run(chat.page.store, RunSettings(name=name), "finished", adapter=True) for name in ("one", "two")
    )
    picker = chat.picker
    view = picker.look(first.id, None, [], None, "")
    assert (view[picker.models]["value"], view[picker.models]["visible"]) == (first.id, False)
    assert title_of(first.id) in view[picker.head]
    assert picker.look(first.id, first.id, [], first.id, view[picker.mark]) == {}
    folder = write_adapter(tmp_path / "final")
    view = picker.open_other(first.id, [], str(folder), "plain", "")
    opened, models = view[picker.opened], view[picker.models]
    assert (models["value"], models["visible"]) == ("final", True) or models["value"] == str(folder)
    asked = models["value"]
    assert picker.look(first.id, asked, opened, asked, view[picker.mark]) == {}, "it stays"
    view = picker.look(second.id, asked, opened, asked, view[picker.mark])
    assert view[picker.models]["value"] == second.id
    assert [value for _, value in view[picker.models]["choices"]] == [second.id, asked]


def test_a_run_that_cannot_be_asked_says_why_and_leads_to_one_that_can(chat):
    picker = chat.picker
    untuned = write_run(chat.page.store, RunSettings(), "failed")
    view = picker.look(untuned.id, None, [], None, "")
    assert (view[picker.train]["visible"], view[picker.other_run]["visible"]) == (True, False)
    assert view[picker.models]["value"] is None
    tuned = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    view = picker.look(untuned.id, None, [], None, view[picker.mark])
    assert "it has no adapter" in view[picker.head]
    assert (view[picker.train]["visible"], view[picker.other_run]["visible"]) == (False, True)
    assert chat.page.take_measured() == {chat.page.run: tuned.id}


def test_a_run_that_has_ended_meanwhile_is_asked_as_its_evaluation_decodes(chat):
    picker, settings = chat.picker, RunSettings.model_validate({"evaluation": {"max_new_tokens": 99}})
    run = write_run(chat.page.store, settings, "stopped")
    mark = picker.look(run.id, None, [], None, "")[picker.mark]
    run.adapter_dir.mkdir()
    (run.adapter_dir / "adapter_model.safetensors").touch()
    run.write_status("finished")
    view = picker.look(run.id, None, [], None, mark)
    assert view[picker.models]["value"] == run.id
    assert view[picker.decoding.fields[0]] == 99


def test_only_the_starter_is_called_a_demonstration(chat, runs_dir):
    run = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    assert "often wrong" in chat.picker.model(run.id, run.id, [])[chat.picker.notice]
    other = RunSettings.model_validate({"model": {"id": "owner/model"}, "name": "other"})
    run = write_run(chat.page.store, other, "finished", adapter=True)
    assert chat.picker.model(run.id, run.id, [])[chat.picker.notice] == ""


def test_a_run_with_a_name_is_called_by_it_at_the_head_and_in_memory(chat):
    run = write_run(chat.page.store, RunSettings(), "finished", adapter=True)
    run.describe(name="Second try")
    view = chat.picker.turned_to(run.id, run.id, [])
    assert title_of(run.id, "Second try") in view[chat.picker.head]
    ask(chat, run.id)
    assert f"In memory: {title_of(run.id, 'Second try')}" in chat.picker.memory_line()
