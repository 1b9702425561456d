"""What other programs may call by name, through gradio_client. Everything else is the page's own."""

from typing import Any

import gradio as gr
from gradio.events import api as endpoint

from medcot import safety
from medcot.adapters import of_run
from medcot.errors import BadInput
from medcot.service import new_id
from medcot.settings import EvaluationSettings
from medcot.ui.chat.conversation import Conversation, Question
from medcot.ui.chat.sources import AdapterSource
from medcot.ui.page import Page


class Api:
    def __init__(self, page: Page, conversation: Conversation):
        self.page, self.conversation = page, conversation
        self._asking: dict[str, str] = {}  # each question under way, and the session that sent it

    def runs(self) -> list[dict[str, Any]]:
        """The runs, newest first: id, state, whether trained here, whether it has an adapter, and the last losses."""
        found = []
        for run in self.page.store.list():
            figures = {k: v for k, v in run.metrics().items() if k != "summary"}
            said = {"state": run.shown_status().state, "trained_here": run.origin() is None, "adapter": run.has_adapter}
            found.append({"id": run.id, **said, **figures})
        return found

    def summary(self, run: str) -> dict[str, Any]:
        """The newest evaluation of a run, as its summary.json has it."""
        found = self.page.reader.find(run)
        if found is None:
            raise gr.Error(f"There is no run {run!r}. /list_runs tells them.", print_exception=False)
        summary = found.latest_summary()
        if summary is None:
            raise gr.Error(f"{run} has not been evaluated.", print_exception=False)
        return summary

    def ask(self, run: str, question: str, request: gr.Request) -> dict[str, Any]:
        """Both answers to one question, as `medcot ask --json` gives them. Nothing of it is kept."""
        found = self.page.reader.find(run)
        settings = self.page.reader.settings(found) if found else None
        try:
            source = AdapterSource(of_run(found)) if found else None
        except BadInput as bad:
            raise gr.Error(str(bad), print_exception=False) from None
        decoding = settings.evaluation if settings else EvaluationSettings()
        own = new_id()  # a program may ask several things at once, where a page goes from one to the next
        self._asking[own] = str(request.session_hash)
        try:
            *_, turn = self.conversation.ask(own, Question(question, source, decoding))
        finally:
            self._asking.pop(own, None)
            self.conversation.forget(own)
        if turn.answered is None:
            raise gr.Error(" ".join(turn.problems) or turn.note, print_exception=False)
        arms = {arm: getattr(turn.answered, arm).model_dump() for arm in ("base", "tuned")}
        return {"question": question, "emergency": safety.told(question), **arms}

    def forget(self, request: gr.Request) -> None:
        """The program is gone: what it asked is not answered any more."""
        for own in [own for own, session in list(self._asking.items()) if session == request.session_hash]:
            self.conversation.forget(own)


def build(page: Page, conversation: Conversation) -> None:
    """Register the endpoints; the model answers those who ask here and in Chat one after the other."""
    api = Api(page, conversation)
    endpoint(api.runs, api_name="list_runs")
    endpoint(api.summary, api_name="evaluation_summary")
    endpoint(api.ask, api_name="ask_base_and_tuned", concurrency_limit=None)
    page.demo.unload(api.forget)
