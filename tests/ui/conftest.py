"""What a card is given, over the runs folder of the test."""

import gradio as gr
import pytest

from medcot.ui.chat.tab import ChatTab
from medcot.ui.page import Page
from tests.fakes import FakeClient


@pytest.fixture
def page(runs_dir) -> Page:
    with gr.Blocks() as demo:
        return Page(demo, runs_dir, FakeClient())


@pytest.fixture
def chat(page) -> ChatTab:
    with page.demo:
        return ChatTab(page)


DECODING = (320, 0, 1, 42, "tuned")  # and what answers beside the base
SESSION = gr.Request(session_hash="s")


def ask(chat, name, opened=(), text="Why?", blinded=False):
    return list(chat.ask(SESSION, name, list(opened), text, blinded, True, *DECODING))
