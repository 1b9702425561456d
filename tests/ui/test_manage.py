"""What may be done with the open run."""

import gradio as gr

from medcot import about
from medcot.device import device
from medcot.runs import RunStore
from medcot.settings import RunSettings
from medcot.ui.form import Form
from medcot.ui.page import Page
from medcot.ui.reading import Reader
from medcot.ui.train.manage import Manage
from tests.fakes import FakeClient, write_run


def test_fields_are_filled_once_for_each_run_so_that_what_is_typed_meanwhile_stays(runs_dir):
    store = RunStore(runs_dir)
    with gr.Blocks() as demo:
        page = Page(demo, gr.Timer(), store, runs_dir, Reader(store), FakeClient(), device())
        tab = Manage(page, Form("starter"))
    one, other = (write_run(store, RunSettings(), "finished", adapter=True) for _ in range(2))
    about.write(one.path, name="first", note="a note")
    _, name, note, *_, filled = tab.fill(one.id, "")
    assert (name, note, filled) == ("first", "a note", one.id)
    assert tab.fill(one.id, filled) == gr.skip()
    assert tab.fill(other.id, filled)[-1] == other.id
