"""What the Chat tab does: from the page's values to the conversation, and back to what the page shows."""

import hashlib
from collections.abc import Iterator
from typing import Any

import gradio as gr

from medcot import comparisons
from medcot.adapters import Adapter, of_run, open_adapter
from medcot.errors import BadInput, Problem
from medcot.runs import Run
from medcot.settings import STARTER, EvaluationSettings
from medcot.ui import components as c
from medcot.ui.chat import decoding, judging, memory, notices, opening, question, results
from medcot.ui.chat.conversation import Conversation, Question, Turn
from medcot.ui.chat.panels import OPEN_ORDER, SIDES, Once, Showing, heading
from medcot.ui.chat.sources import AdapterSource, Source
from medcot.ui.elsewhere import style_of
from medcot.ui.page import Page, still

ASKED = 2 + 2 * 7 + 4 + 1  # what one question changes on the page
NO_RUN = c.empty(
    "Nobody to ask yet",
    "Train a run under <b>Train</b> and let it finish.",
    "Choose it here, pick a sample question, and press <b>Ask both</b>.",
)


class ChatTab:
    def __init__(self, page: Page):
        self.page = page
        self.conversation = Conversation(page.client)
        self.trials = judging.Trials()
        self._warned: dict[str, bytes] = {}  # by session, which question was held back; its hash alone

    # ---- which model

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

    def chosen(self, name: object, opened: list[Adapter]) -> list[Any]:
        listed, *others = self.turned_to(name, opened)
        return [still(listed, name), *others]

    def turned_to(self, name: object, opened: list[Adapter]) -> list[Any]:
        """Everything of a model: the list with it chosen, its decoding, its notices."""
        names = self.names(opened)
        name = name if name in names else next(iter(names), None)
        listed = gr.update(choices=names, value=name, visible=bool(names))
        return [listed, *self.same_as_evaluation(name, opened), *self.model(name, opened)]

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
        listed, *_ = self.turned_to(name, opened)
        return [still(listed, name), *self.model(listed["value"], opened)]

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
            skipped = len(decoding.NAMES) + 10
            return [opened, c.problems(bad.problems), *[gr.skip()] * skipped]
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

    # ---- decoding

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

    # ---- asking

    def ask(self, request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        yield from self._ask(str(request.session_hash), values, follow_up=False)

    def follow(self, request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        yield from self._ask(str(request.session_hash), values, follow_up=True)

    def _ask(self, session: str, values: tuple[Any, ...], *, follow_up: bool) -> Iterator[list[Any]]:
        name, opened, text, blinded, demo_too, *chosen = values
        # Whoever asks before the page has its list asks the first of it, as the list will show.
        name = name or next(iter(self.names(opened)), None)
        text = str(text or "")
        self.conversation.give_up(session)  # from here on the panels are this question's, were it only to refuse it
        if warning := self._held_back(session, text, bool(blinded)):
            yield self._unasked(session, warning, gr.skip())
            return
        try:
            wanted = decoding.read(tuple(chosen))
            source = self.source(name, opened)
            run = self._comparable(name, opened, demo_too=bool(demo_too)) if blinded else None
        except BadInput as bad:
            yield self._unasked(session, c.problems(bad.problems), notices.emergency(text))
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

    def _unasked(self, session: str, told: str, emergency: Any) -> list[Any]:
        """Words in place of an answer, and the buttons as they are when nothing is asked."""
        buttons = self._buttons(session, going=False, blinded=False)
        return [told, emergency, *[gr.skip()] * (ASKED - 7), *buttons, gr.skip()]

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
        if self.is_demonstration(name, opened) and not demo_too:
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
        return [judging.revealed(trial), "", gr.update(visible=False), *emptied, *heads, *self.judged(trial.run)]

    def csv(self, name: object) -> str:
        run = self.page.reader.find(name)
        return comparisons.to_csv(comparisons.read(run)) if run else ""


def as_note(turn: Turn) -> str:
    """How the question goes, in a line."""
    if turn.problems:
        return c.problems(turn.problems)
    return c.working(turn.note) if turn.loading else f'<p class="mc-note" role="status">{c.text(turn.note)}</p>'
