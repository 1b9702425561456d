"""Asking and judging in the Chat tab: from the page's values to the conversation, and back to what the page shows."""

import hashlib
from collections.abc import Iterator
from typing import Any

import gradio as gr

from medcot import comparisons
from medcot.adapters import Adapter
from medcot.errors import BadInput, Problem
from medcot.runs import Run
from medcot.ui import components as c
from medcot.ui.chat import decoding, judging, notices, question
from medcot.ui.chat.choosing import Choosing
from medcot.ui.chat.conversation import Conversation, Question, Turn
from medcot.ui.chat.panels import OPEN_ORDER, SIDES, Once, Showing, heading
from medcot.ui.chat.sources import AdapterSource
from medcot.ui.page import Page

ASKED = 2 + 2 * 7 + 4 + 1  # what one question changes on the page


class ChatTab:
    def __init__(self, page: Page, models: Choosing):
        self.page, self.models = page, models
        self.conversation = Conversation(page.client)
        self.trials = judging.Trials()
        self._warned: dict[str, bytes] = {}  # by session, which question was held back; its hash alone

    # ---- asking

    def ask(self, request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        yield from self._ask(str(request.session_hash), values, follow_up=False)

    def follow(self, request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        yield from self._ask(str(request.session_hash), values, follow_up=True)

    def _ask(self, session: str, values: tuple[Any, ...], *, follow_up: bool) -> Iterator[list[Any]]:
        name, opened, text, blinded, demo_too, *chosen = values
        # Whoever asks before the page has its list asks the first of it, as the list will show.
        name = name or next(iter(self.models.names(opened)), None)
        text = str(text or "")
        self.conversation.give_up(session)  # from here on the panels are this question's, were it only to refuse it
        if warning := self._held_back(session, text, bool(blinded)):
            yield self._unasked(session, warning, text)
            return
        try:
            wanted = decoding.read(tuple(chosen))
            source = self.models.source(name, opened)
            run = self._comparable(name, opened, demo_too=bool(demo_too)) if blinded else None
        except BadInput as bad:
            yield self._unasked(session, c.problems(bad.problems), text)
            return
        self.trials.forget(session)
        trial, order = None, self.trials.order() if run else OPEN_ORDER
        if run and isinstance(source, AdapterSource):
            trial = judging.Trial(run, text.strip(), order, wanted, source.adapter.base.id)
            self.trials.begin(session, trial)
        asked = Question(text, source, wanted, follow_up and not blinded)
        said = self.conversation.said(session) if asked.follow_up else []
        showing = Showing(order, bool(run), said, wanted.max_new_tokens)
        yield from self._shown(session, asked, showing, trial)

    def _unasked(self, session: str, told: str, text: str) -> list[Any]:
        """Words in place of an answer, the emergency all the same, and the buttons as when nothing is asked."""
        buttons = self._buttons(session, going=False, blinded=False)
        return [told, notices.emergency(text), *[gr.skip()] * (ASKED - 7), *buttons, gr.skip()]

    def _shown(
        self, session: str, asked: Question, showing: Showing, trial: judging.Trial | None
    ) -> Iterator[list[Any]]:
        emergency, once = notices.emergency(asked.text), Once()
        for turn in self.conversation.ask(session, asked):
            if turn.replaced:
                yield [gr.skip()] * ASKED  # the page draws what was sent last once more when it has ended
                return
            if turn.answered and trial:
                trial.end(turn.answered)
            parts = [as_note(turn), emergency, *showing.outputs(turn)]
            # A button that is drawn anew with every piece cannot be clicked.
            moved: list[Any] = [gr.skip()] * 5
            if not turn.going or once.due("begin"):
                judge = showing.blinded and turn.answered is not None
                buttons = self._buttons(session, going=turn.going, blinded=showing.blinded)
                moved = [*buttons, gr.update(visible=judge)]
            yield [*parts, *moved]

    def _buttons(self, session: str, *, going: bool, blinded: bool) -> list[Any]:
        loaded = self.page.client.loaded
        follow_ups = not blinded and (loaded is None or loaded.follow_ups)
        return question.buttons(going, follow_ups, bool(self.conversation.said(session)))

    def _held_back(self, session: str, text: str, stored: bool) -> str:
        """A warning in place of sending, once for each question that could identify somebody."""
        warning = notices.identifiers(text, stored)
        mark = hashlib.sha256(text.encode()).digest()
        if not warning or self._warned.pop(session, None) == mark:
            return ""
        self._warned[session] = mark
        return warning

    def _comparable(self, name: object, opened: list[Adapter], *, demo_too: bool) -> Run:
        """The run whose folder keeps a judgement. Raises BadInput where the comparison is not to be made."""
        run = self.page.reader.find(name)
        if run is None:
            raise BadInput(Problem(*judging.NOT_A_RUN.split(": ", 1)))
        if self.models.is_demonstration(name, opened) and not demo_too:
            raise BadInput(Problem(*judging.DEMO_REFUSED.split(": ", 1)))
        return run

    def stop(self, request: gr.Request) -> None:
        self.conversation.stop(str(request.session_hash))

    def clear(self, request: gr.Request) -> list[Any]:
        """An empty page, and nothing remembered."""
        self.forget(request)
        shown = Showing(OPEN_ORDER, False, [], 0).outputs(Turn(going=False))
        return ["", "", "", *shown, *question.buttons(False, False, False), gr.update(visible=False)]

    def forget(self, request: gr.Request) -> None:
        """The page is gone or cleared: so are its words, and its place in line."""
        session = str(request.session_hash)
        self.conversation.forget(session)
        self.trials.forget(session)
        self._warned.pop(session, None)

    # ---- judging

    def save(self, request: gr.Request, *values: Any) -> list[Any]:
        try:
            trial = self.trials.save(str(request.session_hash), values)
        except BadInput as bad:
            return [gr.skip(), c.problems(bad.problems), *[gr.skip()] * (1 + len(values) + 4)]
        heads = [heading(arm, side, False) for side, arm in zip(SIDES, trial.order, strict=True)]
        emptied: list[Any] = [*[None] * len(comparisons.ASPECTS), False, False, ""]
        return [judging.revealed(trial), "", gr.update(visible=False), *emptied, *heads, *self.models.judged(trial.run)]

    def csv(self, name: object) -> str:
        run = self.page.reader.find(name)
        return comparisons.to_csv(comparisons.read(run)) if run else ""


def as_note(turn: Turn) -> str:
    """How the question goes, in a line."""
    if turn.problems:
        return c.problems(turn.problems)
    return c.working(turn.note) if turn.loading else f'<p class="mc-note" role="status">{c.text(turn.note)}</p>'
