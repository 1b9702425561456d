"""What the Chat tab says of the model's memory."""

import os

import gradio as gr
import pytest

from medcot import messages as m
from medcot.device import device
from medcot.runs import RunStore
from medcot.settings import RunSettings
from medcot.ui.chat.tab import ChatTab
from medcot.ui.page import Page
from medcot.ui.reading import Reader
from tests.fakes import FakeClient, write_run


@pytest.fixture
def tab(runs_dir):
    store = RunStore(runs_dir)
    with gr.Blocks() as demo:
        return ChatTab(Page(demo, gr.Timer(), store, runs_dir, Reader(store), FakeClient(), device()))


def test_the_page_says_what_is_in_memory_and_why_it_left(tab, monkeypatch):
    client = tab.page.client
    assert "No model is in memory" in tab.memory()
    client.loaded = m.Loaded(id="1", run="r<1>", model="m", device="CPU", warnings=["Prompt <contract>"])
    assert "In memory: r&lt;1&gt;" in tab.memory()
    assert "Prompt &lt;contract&gt;" in tab.memory()
    client.loaded, client.unloaded = None, m.Unloaded(id="", reason="a job waits for the device")
    assert "has left the memory: a job waits for the device" in tab.memory()
    monkeypatch.setattr("medcot.jobdirs.JobDir.worker_alive", lambda self, pid: pid == os.getpid())
    run = write_run(tab.page.store, RunSettings(), "running", pid=os.getpid())
    assert f"{run.id} uses the device now" in tab.memory()


def test_a_question_asked_before_the_page_has_its_list_goes_to_the_first_of_it(tab):
    run = write_run(tab.page.store, RunSettings(), "finished", adapter=True)
    list(tab.ask(gr.Request(session_hash="s"), None, [], "What suggests gout?", False, False, 320, 0, 1, 42))
    loaded, asked = tab.page.client.requests
    assert loaded.adapter.name == run.id
    assert asked.question == "What suggests gout?"


def test_only_the_starter_is_called_a_demonstration(tab, runs_dir):
    write_run(tab.page.store, RunSettings(), "finished", adapter=True)
    assert "often wrong" in tab.model(tab.names([])[0], [])[1]
    other = RunSettings.model_validate({"model": {"id": "owner/model"}, "name": "other"})
    run = write_run(tab.page.store, other, "finished", adapter=True)
    assert tab.model(run.id, [])[1] == ""
