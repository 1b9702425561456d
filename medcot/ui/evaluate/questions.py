"""The forms of an evaluation: what is asked of a run, and an adapter from elsewhere with its records."""

from pathlib import Path
from typing import Any

import gradio as gr

from medcot.errors import BadInput, Problem
from medcot.evaluation.benchmarks import BENCHMARKS
from medcot.runs.run import Run
from medcot.settings import DATA_SUFFIXES, PACKED, STARTER, EvaluationSettings, RunSettings
from medcot.settings.evaluation import CHECKPOINTS, EvaluationOrder
from medcot.settings.recipes import override
from medcot.ui import components as c
from medcot.ui.commands import SameCommand, evaluating
from medcot.ui.components import stripped, style_of
from medcot.ui.form import FIELDS, as_pair, help_text, shown
from medcot.ui.guard import visitor_may
from medcot.ui.page import LATEST, Page, Updates
from medcot.workers import adopt as adopting

FROM_THE_HUB = {str(benchmark): name for name, benchmark in BENCHMARKS.items()}
HELD_OUT, STARTER_CHOICE, OWN_CHOICE = (
    "Held-out records",
    "Multiple choice, the starter's 40",
    "Multiple choice, a file",
)
KINDS = (HELD_OUT, STARTER_CHOICE, *FROM_THE_HUB, OWN_CHOICE)
BUDGET, CHOICE_BUDGET = "max_new_tokens", "choice_max_new_tokens"
NUMBERS = ("records", BUDGET, "temperature")  # settings that are chosen at the start


class Questions:
    """What an evaluation asks, how many, how it decodes, whether base is told the format, and which further arms."""

    def __init__(self, page: Page) -> None:
        self.page = page
        told = EvaluationSettings.model_fields["tell_base"]
        with gr.Accordion("What is asked", open=False, elem_id="evaluate-order") as self.whole:
            with gr.Row(elem_classes="mc-fields"):
                self.numbers: dict[str, Any] = {name: number_field(name) for name in NUMBERS}
            what = gr.Radio(KINDS, value=HELD_OUT, label="Questions", elem_classes="mc-choices")
            label = "Questions, options, answer_idx"
            self.file = gr.File(label=label, file_types=[*DATA_SUFFIXES, PACKED], visible=False)
            self.told = gr.Checkbox(False, label=told.title, info=told.description)
            info = "Other runs, or checkpoints that this run has kept."
            self.further = gr.Dropdown([], label="Further arms", info=info, multiselect=True)
        self.inputs = [what, self.file, self.told, self.further, *self.numbers.values()]
        self.outputs = [self.whole, self.told, self.further, *self.numbers.values()]
        SameCommand("evaluate", self.command, [page.run, *self.inputs])
        what.input(self.show_kind, [what, page.run], [self.file, self.numbers[BUDGET]], **LATEST)

    @visitor_may
    def show_kind(self, what: object, run_id: object) -> Updates:
        """Ask for a file if one is meant, and offer the budget that such questions need."""
        settings = self.page.reader.settings(self.page.reader.find(run_id))
        asked = (settings.evaluation if settings else EvaluationSettings()).model_dump()
        usual = asked[BUDGET if what == HELD_OUT else CHOICE_BUDGET]
        return {self.file: gr.update(visible=what == OWN_CHOICE), self.numbers[BUDGET]: shown(usual)}

    def filled(self, settings: RunSettings) -> Updates:
        """What the settings of a run say."""
        asked = settings.evaluation.model_dump()
        numbers: Updates = {field: shown(asked[name]) for name, field in self.numbers.items()}
        return {self.told: settings.evaluation.tell_base, **numbers}

    def command(self, run_id: object, *values: Any) -> str:
        if (run := self.page.reader.find(run_id)) is None:
            raise BadInput.of("run", "none is chosen.", "Choose one.")
        return evaluating(run, self.order(run, *values))

    def order(
        self, run: Run, what: object, file: object, told: object, further: object, *typed: object
    ) -> EvaluationOrder:
        """The order that the inputs' values make. Raises BadInput with everything that is wrong."""
        questions = STARTER if what == STARTER_CHOICE else FROM_THE_HUB.get(str(what))
        if what == OWN_CHOICE:
            if not isinstance(file, str):
                raise BadInput.of("questions", "no file is chosen.", "Choose one, or ask the held-out records.")
            if not Path(file).is_file():  # an upload is kept for an hour or two
                raise BadInput.of("questions", "the file is no longer kept.", "Choose it again.")
            questions = file
        known = {CHECKPOINTS, *(p.name for p in run.checkpoints()), *(p.name for p in run.path.parent.iterdir())}
        arms = [name for name in further if name in known] if isinstance(further, list) else []
        names = [CHOICE_BUDGET if name == BUDGET and questions else name for name in NUMBERS]
        pairs = [as_pair(f"evaluation.{name}", value) for name, value in zip(names, typed, strict=True)]
        settings = override(run.settings(), [*pairs, as_pair("evaluation.tell_base", bool(told))]).evaluation
        return EvaluationOrder(**settings.model_dump(), questions=questions, adapters=tuple(arms))


def number_field(name: str) -> Any:
    """A setting of an evaluation as plain text, like those of the run's form."""
    path = f"evaluation.{name}"
    info, place = help_text(path), f"evaluate-{name.replace('_', '-')}"
    return gr.Textbox(label=FIELDS[path].title, info=info, max_lines=1, min_width=160, elem_id=place)


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
