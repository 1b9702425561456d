"""What a tab is handed, over the runs folder of the test."""

import gradio as gr
import pytest

from medcot.device import device
from medcot.runs import RunStore
from medcot.ui.page import Page
from medcot.ui.reading import Reader
from tests.fakes import FakeClient


@pytest.fixture
def page(runs_dir) -> Page:
    store = RunStore(runs_dir)
    with gr.Blocks() as demo:
        return Page(demo, gr.Timer(), store, runs_dir, Reader(store), FakeClient(), device())
