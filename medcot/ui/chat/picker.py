"""The model that Chat asks: the chosen run, or an adapter opened from elsewhere; and what is shown of it."""

from typing import Any

import gradio as gr

from medcot.adapters.open import Adapter, of_run, open_adapter
from medcot.errors import BadInput
from medcot.prompts.contract import STYLES
from medcot.runs import comparisons
from medcot.runs.run import Run
from medcot.settings import STARTER, EvaluationSettings
from medcot.ui import components as c
from medcot.ui.chat.beside import Beside
from medcot.ui.chat.judging import Blinded, Judged
from medcot.ui.chat.question import Decoding, read
from medcot.ui.components import stripped, style_of
from medcot.ui.guard import visitor_may
from medcot.ui.page import LATEST, QUIET, Page, Update, Updates, still
from medcot.ui.sources import AdapterSource, Source

Opened = list[Adapter]  # the adapters that one page has opened


class Picker:
    """`wire` is called when the cards that a choice changes are built as well."""

    decoding: Decoding
    blinded: Blinded
    judged: Judged

    def __init__(self, page: Page):
        self.page = page
        self.head = c.block(elem_id="chat-head")
        self.train = c.small_button("Go to Train", visible=False, elem_id="chat-to-train")
        self.other_run = page.other_run("chat-other")
        # There only while a model can be asked that is no run.
        self.models = gr.Dropdown([], label="Model", visible=False, filterable=False, elem_id="chat-model")
        self.beside = Beside(page, self.models)
        with gr.Row(elem_classes="mc-folds") as self.folds, gr.Accordion("Other adapter", open=False, elem_id="other"):
            with gr.Row(elem_classes="mc-fields"):
                self.other = c.adapter_fields("other")
            self.problems = c.block(elem_id="other-problems")
            with gr.Row(elem_classes="mc-actions"):
                self.open = c.small_button("Open adapter", "mc-small", elem_id="other-open")
        self.memory, self.notice = c.block(), c.block(elem_id="demonstration")
        # `decoded_for` names the model whose evaluation the decoding fields were filled from, `mark` what is shown.
        self.mark, self.opened, self.decoded_for = gr.State(""), gr.State([]), gr.State()

    def wire(self, decoding: Decoding, blinded: Blinded, judged: Judged) -> None:
        self.decoding, self.blinded, self.judged = decoding, blinded, judged
        model = [self.head, self.train, self.other_run, self.memory, self.notice, blinded.demo_too, *judged.outputs]
        self.turned = turned = [self.models, *decoding.outputs, self.decoded_for, *model, self.mark]
        run, chosen = self.page.run, [self.models, self.opened]
        self.page.lead(self.train, "Train")
        self.page.refresh(self.look, [run, *chosen, self.decoded_for, self.mark], turned)
        self.models.input(self.choose, [run, *chosen, self.decoded_for], turned, **LATEST)
        changed = [field.change for field in decoding.fields]
        gr.on(changed, self.decoding_state, [run, *chosen, *decoding.fields], decoding.state, **LATEST)
        decoding.reset.click(self.same_as_evaluation, chosen, decoding.outputs, **QUIET)
        added = [self.opened, self.problems, *turned]
        self.open.click(self.open_other, [run, self.opened, *self.other], added, **QUIET)

    # ---- which models there are

    def names(self, run_id: object, opened: Opened) -> list[str]:
        run = self.page.tuned(run_id)
        server = [self.page.server.name] if self.page.server else []
        return ([run.id] if run else []) + [adapter.name for adapter in opened] + server

    def name_of(self, run_id: object, chosen: object, opened: Opened) -> Any:
        """The chosen name if it is listed, else the first; None if the list is empty."""
        names = self.names(run_id, opened)
        return chosen if chosen in names else next(iter(names), None)

    def source(self, name: object, opened: Opened, beside: object = None) -> Source | None:
        """The model of this name. Raises BadInput if a run's adapter, or the file chosen beside it, cannot be used."""
        if run := self.page.reader.find(name):
            return AdapterSource(of_run(run), self.beside.file(run, beside))
        if self.page.server and self.page.server.name == name:
            return self.page.server
        return next((AdapterSource(a) for a in opened if a.name == name), None)

    def evaluation(self, name: object, opened: Opened) -> EvaluationSettings:
        """The decoding of the named model's evaluation."""
        settings = self.page.reader.settings(self.page.reader.find(name))
        if settings:
            return settings.evaluation
        most = next((a.max_new_tokens for a in opened if a.name == name), EvaluationSettings().max_new_tokens)
        return EvaluationSettings(max_new_tokens=most)

    def is_demonstration(self, name: object, opened: Opened) -> bool:
        settings = self.page.reader.settings(self.page.reader.find(name))
        base = settings.model.id if settings else next((a.base.id for a in opened if a.name == name), "")
        return base == STARTER

    # ---- what is shown of one

    @visitor_may
    def choose(self, run_id: object, chosen: object, opened: Opened, decoded_for: object) -> Updates:
        """Show the chosen model. Gradio also fires this on blur; then the decoding stays as it was set."""
        view = self.turned_to(run_id, chosen, opened, decoded_for)
        return view | {self.models: still(view[self.models], chosen)}

    def look(self, run_id: object, chosen: object, opened: Opened, decoded_for: object, seen_mark: str) -> Updates:
        if not seen_mark.startswith(f"{run_id} | "):  # another run was chosen, and is asked from now on
            return self.turned_to(run_id, run_id, opened, decoded_for)
        if self._mark(run_id, self.name_of(run_id, chosen, opened), opened) == seen_mark:
            return {}
        return self.choose(run_id, chosen, opened, decoded_for)

    def turned_to(self, run_id: object, chosen: object, opened: Opened, decoded_for: object = None) -> Updates:
        """Everything about a model: the list with it chosen, its notices, and its decoding if it is another one."""
        name = self.name_of(run_id, chosen, opened)
        names = self.names(run_id, opened)
        listed: Update = {"choices": [(self.shown(n), n) for n in names], "value": name}
        listed = gr.update(**listed, visible=any(n != run_id for n in names))
        decoded: Updates = {self.decoded_for: name}
        if name != decoded_for:
            decoded |= self.decoding.filled(self.evaluation(name, opened))
        return {self.models: listed, **decoded, **self.model(run_id, name, opened)}

    def shown(self, name: str) -> str:
        """A run's given name first, if it has one; the others are called what they are."""
        run = self.page.reader.look().find(name)
        return run.title if run else name

    def model(self, run_id: object, name: Any, opened: Opened) -> Updates:
        """The model's name and notices, and what was judged of it."""
        demo, others = self.is_demonstration(name, opened), bool(self.page.reader.tuned())
        head = f"<h2>{c.text(self.shown(name))}</h2>" if name else self.page.untuned(run_id, "chat")
        return {
            self.head: head,
            self.train: gr.update(visible=not name and not others),
            self.other_run: gr.update(visible=not name and others),
            self.notice: c.demonstration() if demo else "",
            self.memory: self.memory_line(),
            self.blinded.demo_too: gr.update(visible=demo),
            **self.judged.shown(self.page.reader.find(name)),
            self.mark: self._mark(run_id, name, opened),
        }

    def _mark(self, run_id: object, name: object, opened: Opened) -> str:
        run, listed = self.page.reader.find(name), self.page.reader.look().find(run_id)
        size = comparisons.path_of(run).stat().st_size if run and comparisons.path_of(run).is_file() else 0
        names = [self.shown(n) for n in self.names(run_id, opened)]
        state = listed.status.state if listed and not name else ""
        return f"{run_id} | {name} {names} {state} {size} {bool(self.page.reader.tuned())} {self.memory_line()}"

    def memory_line(self) -> str:
        """Which model is in memory, why it was unloaded, or which job has the device."""
        loaded, unloaded = self.page.client.loaded, self.page.client.unloaded
        if loaded and loaded.remote:
            line = f"Connected to {c.text(loaded.device)}. No model is in memory here."
        elif loaded:
            line = (
                f"In memory: {c.text(self.shown(loaded.run))}{' with its exported file' if loaded.file else ''}, "
                f"on {c.text(loaded.device)}. It leaves after five "
                "minutes without a question, or as soon as a training or an evaluation waits for the device."
            )
        elif busy := self.page.reader.busy():
            work = "A training" if isinstance(busy, Run) else "An evaluation"
            line = f"{work} has the device. Ask when it is free."
        elif unloaded:
            line = f"The model has left the memory: {c.text(unloaded.reason)}. The next question loads it again."
        else:
            line = "No model is in memory. The first question loads it, which takes some seconds."
        return f'<p class="mc-soft" id="memory">{line}</p>' + c.warnings(loaded.warnings if loaded else [])

    @visitor_may
    def same_as_evaluation(self, name: object, opened: Opened) -> Updates:
        return self.decoding.filled(self.evaluation(name, opened))

    @visitor_may
    def decoding_state(self, run_id: object, chosen: object, opened: Opened, *values: Any) -> str:
        """Whether the decoding is the evaluation's. The fields may be filled before the list has its choice."""
        try:
            read(values)
        except BadInput as bad:
            return c.refused(bad)
        return self.decoding.described(values, self.evaluation(self.name_of(run_id, chosen, opened), opened))

    # ---- an adapter from elsewhere

    def open_other(self, run_id: object, opened: Opened, name: object, style: object, base: object) -> Updates:
        """Add an adapter to this page's list. Its files are read and its base is looked up; nothing is loaded."""
        try:
            if not (wanted := stripped(name)):
                raise BadInput.of("Adapter", "is empty.", "Name a folder, or OWNER/NAME on the Hub.")
            adapter = open_adapter(wanted, self.page.store, style=style_of(style), base=stripped(base) or None)
        except BadInput as bad:
            return {self.problems: c.refused(bad)}
        if not self._is_listed(adapter):
            if "/" not in adapter.name:  # many folders are called final, and one may have the name of a run
                adapter = adapter.model_copy(update={"name": str(adapter.path)})
            opened = [*(a for a in opened if a.name != adapter.name), adapter]
        return {
            self.opened: opened,
            self.problems: opened_note(adapter),
            **self.turned_to(run_id, adapter.name, opened),
        }

    def _is_listed(self, adapter: Adapter) -> bool:
        """True if this is one of the runs here, and would be asked like the run itself."""
        run = self.page.reader.find(adapter.name)
        try:
            return run is not None and of_run(run) == adapter
        except BadInput:
            return False


def opened_note(adapter: Adapter) -> str:
    """The contract and the base that an opened adapter will be asked with."""
    if (contract := adapter.contract) is None:
        how = f"{adapter.prompt.style}, as chosen here, because none is stored with it"
    else:
        system = f", system text “{contract.system}”" if contract.system else ", no system text"
        how = f"{contract.title}{system}, ends with {contract.eos_token}"
        how += f"; base may reason in {' … '.join(contract.native)} by itself" if contract.native else ""
    stops = "".join(f" It also ends at {stop}." for stop in STYLES[adapter.prompt.style].stops)
    return (
        f'<p class="mc-soft" role="status">Chosen: {c.text(adapter.name)}. Base: {c.text(adapter.base.id)}. '
        f"Prompt contract: {c.text(how)}.{c.text(stops)} The first question loads and checks it.</p>"
    )
