"""Which model is asked in the Chat tab, and how: the list, what is shown of the chosen one, its decoding."""

from typing import Any

import gradio as gr

from medcot import comparisons
from medcot.adapters import Adapter, of_run, open_adapter
from medcot.errors import BadInput, Problem
from medcot.runs import Run
from medcot.settings import STARTER, EvaluationSettings
from medcot.ui import components as c
from medcot.ui.chat import decoding, memory, opening, results
from medcot.ui.chat.sources import AdapterSource, Source
from medcot.ui.elsewhere import style_of
from medcot.ui.page import Page, still

DECODING = len(decoding.NAMES) + 2  # its fields, what is said of them, and whose they are
MODEL = 8  # a model's notices and results
NO_RUN = c.empty(
    "Nobody to ask yet",
    "Train a run under <b>Train</b> and let it finish.",
    "Choose it here, pick a sample question, and press <b>Ask both</b>.",
)


class Choosing:
    def __init__(self, page: Page):
        self.page = page

    def source(self, name: object, opened: list[Adapter]) -> Source | None:
        """The chosen one, by its name in the list. Raises BadInput where a run's adapter cannot be used."""
        if run := self.page.reader.find(name):
            return AdapterSource(of_run(run))
        if self.page.server and self.page.server.name == name:
            return self.page.server
        return next((AdapterSource(a) for a in opened if a.name == name), None)

    def evaluation(self, name: object, opened: list[Adapter]) -> EvaluationSettings:
        """The decoding of the chosen one's evaluation."""
        run = self.page.reader.find(name)
        settings = self.page.reader.settings(run) if run else None
        if settings:
            return settings.evaluation
        most = next((a.max_new_tokens for a in opened if a.name == name), EvaluationSettings().max_new_tokens)
        return EvaluationSettings(max_new_tokens=most)

    def is_demonstration(self, name: object, opened: list[Adapter]) -> bool:
        run = self.page.reader.find(name)
        settings = self.page.reader.settings(run) if run else None
        base = settings.model.id if settings else next((a.base.id for a in opened if a.name == name), "")
        return base == STARTER

    def first(self) -> list[Any]:
        return self.turned_to(None, [])

    def chosen(self, name: object, opened: list[Adapter], decoded_for: object) -> list[Any]:
        """The list also says so when it is left without a choice; the decoding then stays as it was set."""
        listed, *others = self.turned_to(name, opened)
        if listed["value"] == decoded_for:
            others[:DECODING] = [gr.skip()] * DECODING
        return [still(listed, name), *others]

    def turned_to(self, name: object, opened: list[Adapter]) -> list[Any]:
        """Everything of a model: the list with it chosen, its decoding and that it is this one's, its notices."""
        names = self.names(opened)
        name = name if name in names else next(iter(names), None)
        listed = gr.update(choices=names, value=name, visible=bool(names))
        return [listed, *self.same_as_evaluation(name, opened), name, *self.model(name, opened)]

    def names(self, opened: list[Adapter]) -> list[str]:
        server = [self.page.server.name] if self.page.server else []
        return [run.id for run in self.page.reader.tuned()] + [adapter.name for adapter in opened] + server

    def model(self, name: object, opened: list[Adapter]) -> list[Any]:
        demo, run = self.is_demonstration(name, opened), self.page.reader.find(name)
        notice = c.starter_notice() if demo else ""
        return [
            "" if name else NO_RUN,
            notice,
            notice,
            self.memory(),
            gr.update(visible=demo),
            *self.judged(run),
            self._mark(name, opened),
        ]

    def judged(self, run: Run | None) -> list[Any]:
        found = comparisons.read(run) if run else []
        return [results.results(found) if run else "", gr.update(visible=bool(found))]

    def look(self, name: object, opened: list[Adapter], seen_mark: str) -> Any:
        """What has changed since; before there is a mark, the page's own load is still to bring everything."""
        if not seen_mark or self._mark(name, opened) == seen_mark:
            return gr.skip()
        listed, *others = self.turned_to(name, opened)
        return [still(listed, name), *others[DECODING:]]

    def _mark(self, name: object, opened: list[Adapter]) -> str:
        run = self.page.reader.find(name)
        size = comparisons.path_of(run).stat().st_size if run and comparisons.path_of(run).is_file() else 0
        return f"{self.names(opened)} {name} {size} {self.memory()}"

    def memory(self) -> str:
        """Which model is in memory, or who has the device."""
        return memory.told(self.page.client, self.page.reader.busy())

    def open_other(self, opened: list[Adapter], name: object, style: object, base: object) -> list[Any]:
        """Add an adapter to this page's list. Its files are read and its base is looked up; nothing is loaded."""
        wanted = str(name or "").strip()
        try:
            if not wanted:
                raise BadInput(Problem("Adapter", "is empty.", "Name a folder, or OWNER/NAME on the Hub."))
            found = open_adapter(wanted, self.page.store, style=style_of(style), base=str(base or "").strip() or None)
        except BadInput as bad:
            return [opened, c.problems(bad.problems), *[gr.skip()] * (1 + DECODING + MODEL)]
        if not self._is_listed(found):
            found = opening.by_place(found)
            opened = [*(a for a in opened if a.name != found.name), found]
        return [opened, opening.opened(found), *self.turned_to(found.name, opened)]

    def _is_listed(self, adapter: Adapter) -> bool:
        """Whether this is one of the runs here, and would be asked as the run itself is."""
        run = self.page.reader.find(adapter.name)
        try:
            return run is not None and of_run(run) == adapter
        except BadInput:
            return False

    def same_as_evaluation(self, name: object, opened: list[Adapter]) -> list[Any]:
        wanted = self.evaluation(name, opened)
        values = tuple(getattr(wanted, field) for field in decoding.NAMES)
        return [*values, decoding.state(values, wanted)]

    def decoding_state(self, name: object, opened: list[Adapter], *values: Any) -> str:
        try:
            decoding.read(values)
        except BadInput as bad:
            return c.problems(bad.problems)
        return decoding.state(values, self.evaluation(name, opened))
