"""Train: a form, a job, and what it reports. Nothing trains here; the tab starts a worker and reads its directory."""

import gradio as gr

from medcot.ui.page import Page
from medcot.ui.train.demo import Demo
from medcot.ui.train.draft import Draft
from medcot.ui.train.manage import Manage
from medcot.ui.train.open_run import PLAN, RUN, OpenRun, Parts
from medcot.ui.train.plan import Plan
from medcot.ui.train.queue import Queue
from medcot.ui.train.stages import Title
from medcot.ui.train.start import Start


def build(page: Page) -> None:
    """Build the tab, inside a gr.Tab: its places first, then each card in its place."""
    with gr.Row(elem_classes="mc-columns"):
        left = gr.Column(scale=1, elem_classes="mc-card")
        with gr.Column(scale=1, elem_classes="mc-now"):
            with gr.Column(elem_classes="mc-card"), gr.Tabs(selected=RUN, elem_classes="mc-parts") as tabs:
                run_part, plan_part = gr.Tab("The run", id=RUN), gr.Tab("Data and plan", id=PLAN)
            Queue(page)
    parts = Parts(tabs)
    with run_part:
        demo = Demo(page)
        run = OpenRun(page)
    demo.wire(run, parts)
    with left:
        start = Start(page, run, parts)
    with run_part:
        Manage(page, start.form)
    Draft(page, start.form)
    with plan_part:
        Plan(page, start, parts)
    Title(page)
