"""The forms of an evaluation: what is asked of a run, and an adapter from elsewhere with its records."""

from pathlib import Path

import gradio as gr

from medcot.errors import BadInput, Problem
from medcot.evaluation.benchmarks import BENCHMARKS
from medcot.runs.run import Run
from medcot.settings import DATA_SUFFIXES, PACKED, STARTER, EvaluationSettings
from medcot.settings.evaluation import CHECKPOINTS, EvaluationOrder
from medcot.settings.recipes import override
from medcot.ui import components as c
from medcot.ui.components import stripped, style_of
from medcot.ui.guard import visitor_may
from medcot.ui.page import LATEST, Page, Updates
from medcot.workers import adopt as adopting

HELD_OUT = "Held-out records"
STARTER_CHOICE = "Multiple choice, the starter's 40"
OWN_CHOICE = "Multiple choice, a file"
FROM_THE_HUB = {str(benchmark): name for name, benchmark in BENCHMARKS.items()}


class Questions:
    """What an evaluation asks: which questions, whether base is told the format, and of which further arms."""

    def __init__(self) -> None:
        told = EvaluationSettings.model_fields["tell_base"]
        kinds = [HELD_OUT, STARTER_CHOICE, *FROM_THE_HUB, OWN_CHOICE]
        with gr.Accordion("What is asked", open=False, elem_id="evaluate-order") as self.whole:
            what = gr.Radio(kinds, value=HELD_OUT, label="Questions", elem_classes="mc-choices")
            label = "Questions, options, answer_idx"
            self.file = gr.File(label=label, file_types=[*DATA_SUFFIXES, PACKED], visible=False)
            info = "The first N; empty for as many as the run's settings say."
            first = gr.Textbox(label="How many", info=info, elem_id="evaluate-records")
            self.told = gr.Checkbox(False, label=told.title, info=told.description)
            info = "Other runs, or checkpoints that this run has kept."
            self.further = gr.Dropdown([], label="Further arms", info=info, multiselect=True)
        what.input(self.show_file, what, self.file, **LATEST)
        self.inputs = [what, self.file, self.told, self.further, first]

    @visitor_may
    def show_file(self, what: object) -> Updates:
        return {self.file: gr.update(visible=what == OWN_CHOICE)}

    def order(
        self, run: Run, what: object, file: object, told: object, further: object, first: object = ""
    ) -> EvaluationOrder:
        """The order that the inputs' values make. Raises BadInput if they do not fit together."""
        questions = STARTER if what == STARTER_CHOICE else FROM_THE_HUB.get(str(what))
        if what == OWN_CHOICE:
            if not isinstance(file, str):
                raise BadInput.of("questions", "no file is chosen.", "Choose one, or ask the held-out records.")
            if not Path(file).is_file():  # an upload is kept for an hour or two
                raise BadInput.of("questions", "the file is no longer kept.", "Choose it again.")
            questions = file
        known = {CHECKPOINTS, *(p.name for p in run.checkpoints()), *(p.name for p in run.path.parent.iterdir())}
        arms = [name for name in further if name in known] if isinstance(further, list) else []
        pairs = [f"evaluation.records={count}"] if (count := stripped(first)) else []
        settings = override(run.settings(), pairs).evaluation.model_copy(update={"tell_base": bool(told)})
        return EvaluationOrder(**settings.model_dump(), questions=questions, adapters=tuple(arms))


class Elsewhere:
    """The form that adopts an adapter from elsewhere and measures it."""

    def __init__(self, page: Page):
        self.page = page
        with gr.Accordion("Measure an adapter from elsewhere", open=False, elem_id="elsewhere"):
            with gr.Row(elem_classes="mc-fields"):
                adapter = c.adapter_fields("elsewhere")
            with gr.Row(elem_classes="mc-fields"):
                info = "What it is asked, all of it: a file's path, a Hub data set, or starter."
                data = gr.Textbox(label="Records", info=info, elem_id="elsewhere-data")
                first = gr.Textbox(label="How many", info="The first N; empty for all.", elem_id="elsewhere-records")
            self.result = c.block(elem_id="elsewhere-told")
            with gr.Row(elem_classes="mc-actions"):
                self.measure = c.small_button("Measure it", "mc-small", elem_id="elsewhere-measure")
        self.inputs = [*adapter, data, first]

    def adopt(self, name: object, style: object, base: object, data: object, records: object) -> Run:
        """Adopt the adapter that the inputs' values name, and start its evaluation. Raises BadInput."""
        given = {"Adapter": stripped(name), "Records": stripped(data)}
        if missing := [Problem(label, "is empty.") for label, value in given.items() if not value]:
            raise BadInput(missing)
        pairs = [f"evaluation.records={first}"] if (first := stripped(records)) else []
        opened = (style_of(style), stripped(base) or None)
        wanted = adopting.Elsewhere(given["Adapter"], given["Records"], *opened, pairs)
        run, _ = adopting.measure(self.page.store, wanted, lambda s: EvaluationOrder(**s.model_dump()))
        return run
