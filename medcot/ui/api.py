"""The endpoints that other programs may call by name, through gradio_client. Everything else belongs to the page."""

from typing import Any

import gradio as gr
from gradio.events import api as endpoint

from medcot import safety
from medcot.adapters.open import of_run
from medcot.errors import BadInput
from medcot.settings import EvaluationSettings
from medcot.ui.conversation import Question
from medcot.ui.guard import visitor_may
from medcot.ui.page import Page
from medcot.ui.sessions import when_closed
from medcot.ui.sources import AdapterSource
from medcot.workers.protocol import new_id

Json = dict[str, Any]  # one object of an answer; gradio reads this type to say in its API page what comes back


class Api:
    """Programs and the Chat tab share one conversation: the model answers their questions one after the other."""

    def __init__(self, page: Page):
        self.page, self.conversation = page, page.conversation
        self._asking: dict[str, str] = {}  # each question under way, and the session that sent it
        endpoint(self.runs, api_name="list_runs")
        endpoint(self.summary, api_name="evaluation_summary")
        endpoint(self.ask, api_name="ask_base_and_tuned", concurrency_limit=None)
        when_closed(page.demo, self.forget)

    @visitor_may
    def runs(self) -> list[Json]:
        """The runs, newest first: id, state, whether trained here, whether it has an adapter, and the last losses."""
        listed = []
        for run in self.page.store.list():
            said = {"state": run.shown_status().state, "trained_here": run.origin() is None, "adapter": run.has_adapter}
            listed.append({"id": run.id, **said, **run.progress()})
        return listed

    @visitor_may
    def summary(self, run: str) -> Json:
        """The newest evaluation of a run, as its summary.json has it."""
        found = self.page.reader.find(run)
        if found is None:
            raise gr.Error(f"There is no run {run!r}. /list_runs lists them.", print_exception=False)
        summary = found.latest_summary()
        if summary is None:
            raise gr.Error(f"{run} has not been evaluated.", print_exception=False)
        return summary.as_json()

    @visitor_may
    def ask(self, run: str, question: str, request: gr.Request) -> Json:
        """Both answers to one question, as `medcot ask --json` gives them. Nothing of it is kept."""
        found = self.page.reader.find(run)
        settings = self.page.reader.settings(found)
        try:
            source = AdapterSource(of_run(found)) if found else None
        except BadInput as bad:
            raise gr.Error(str(bad), print_exception=False) from None
        decoding = settings.evaluation if settings else EvaluationSettings()
        own = new_id()  # one for each question: unlike a page, a program may ask several at once
        self._asking[own] = str(request.session_hash)
        try:
            *_, turn = self.conversation.ask(own, Question(question, source, decoding))
        finally:
            self._asking.pop(own, None)
            self.conversation.forget(own)
        if turn.answered is None:
            raise gr.Error(" ".join(map(str, turn.problems)) or turn.note, print_exception=False)
        return {"question": question, "emergency": safety.notice(question), **turn.answered.arms()}

    def forget(self, gone: str) -> None:
        """Give up the questions of a program that is gone."""
        for own in [own for own, session in list(self._asking.items()) if session == gone]:
            self.conversation.forget(own)
