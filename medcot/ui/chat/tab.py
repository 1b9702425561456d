"""The Chat tab: asking, from the page's values to the conversation and back to the panels, and judging."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from medcot import safety
from medcot.adapters.open import Adapter
from medcot.data.starter import CHIPS
from medcot.errors import BadInput
from medcot.runs.export import Shipped
from medcot.runs.run import Run
from medcot.ui import components as c
from medcot.ui.chat import judging, question
from medcot.ui.chat.panels import OPEN_ORDER, Once, Pair, Showing, titles_of
from medcot.ui.chat.picker import Picker
from medcot.ui.conversation import TAKEN, Question, Turn
from medcot.ui.guard import visitor_may
from medcot.ui.page import HIDE, QUIET, UNCHANGED, Page, Updates
from medcot.ui.sessions import Sessions, when_closed
from medcot.ui.sources import AdapterSource

TO_THE_BOX = "() => document.querySelector('#question textarea')?.focus()"


class ChatTab:
    def __init__(self, page: Page):
        self.page = page
        self.conversation, self.trials = page.conversation, judging.Trials()
        self._warned: Sessions[bytes] = Sessions()  # the hash of the question that was held back
        with gr.Column(elem_classes="mc-card mc-chat-head"):
            self.picker = Picker(page)
            with self.picker.folds:
                self.decoding, self.blinded = question.Decoding(), judging.Blinded()
            samples = question.Samples()
        self.pair = Pair()
        self.form, self.judged = judging.JudgementForm(), judging.Judged(page, self.picker.models)
        with gr.Column(elem_classes="mc-card mc-composer"):
            self.note = c.block(elem_id="chat-note")
            self.box = question.QuestionBox()
        c.block(c.soft(c.TEXTS["chat"]["privacy"]))
        samples.wire(self.box.text)
        self.picker.wire(self.decoding, self.blinded, self.judged)
        self._wire()

    def _wire(self) -> None:
        box, form, picker, blinded = self.box, self.form, self.picker, self.blinded
        asked = [self.note, *self.pair.outputs, box.moved, *box.buttons, form.card]
        values = [picker.models, picker.opened, box.text, blinded.on, blinded.demo_too]
        values += [*self.decoding.fields, picker.beside.choice]
        # Many at once: the conversation decides whose turn it is, and tells the others that they wait.
        free: dict[str, Any] = {"concurrency_limit": None, **QUIET}
        gr.on([box.ask.click, box.text.submit], self.ask, values, asked, **free)
        finale = self.page.finale
        turned = finale.change(self.demonstrated, [finale, picker.opened], [self.page.run, *picker.turned], **QUIET)
        turned.then(self.first_sample, None, [self.page.tabs, box.text], **QUIET).success(
            self.ask, values, asked, **free
        )
        box.stop.click(self.stop, None, None, **QUIET)
        box.clear.click(self.clear, None, [box.text, *asked], js=TO_THE_BOX, **QUIET)
        when_closed(self.page.demo, self.forget)
        heads = [self.pair.switch, *(panel.head for panel in self.pair.panels)]
        saved = [self.note, form.problems, form.card, *form.fields, *heads, *self.judged.outputs, box.clear]
        form.save.click(self.save, form.fields, saved, **QUIET)

    # ---- asking

    @visitor_may
    def demonstrated(self, run_id: object, opened: list[Adapter]) -> Updates:
        """The run of a demo, at its end."""
        return {self.page.run: run_id, **self.picker.turned_to(run_id, run_id, opened)}

    @visitor_may
    def first_sample(self) -> Updates:
        """Chat, with the first sample in the box, to be asked at once."""
        return {self.page.tabs: gr.update(selected="Chat"), self.box.text: next(iter(CHIPS))}

    @visitor_may
    def ask(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        """Ask both, and go on with the conversation where it can be."""
        session = str(request.session_hash)
        name, opened, text, blinded, demo_too, *fields, beside = values
        text = str(text or "")
        self.conversation.give_up(session)  # from now on the panels belong to this question, even if it is refused
        if long := safety.too_long(text):  # before any pattern is tried on it, also those of an emergency
            yield self._unasked(session, c.problems([long]), "")
            return
        if warning := self._held_back(session, text, bool(blinded)):
            yield self._unasked(session, warning, question.emergency(text))
            return
        try:
            decoding = question.read(fields)
            source = self.picker.source(name, opened, beside)
            file = source.file if isinstance(source, AdapterSource) else None
            run = self._comparable(name, opened, demo_too, file) if blinded else None
        except BadInput as bad:
            yield self._unasked(session, c.refused(bad), question.emergency(text))
            return
        before = self.conversation.said(session)
        sent = Question(text, source, decoding, not run and self.conversation.continues(session, source))
        if found := self.conversation.refusals(session, sent):  # what is shown stays
            yield self._unasked(session, c.problems(found), "")
            return
        self.trials.pop(session, None)
        trial, order = None, judging.drawn_order() if run else OPEN_ORDER
        if run and isinstance(source, AdapterSource):
            trial = judging.Trial(run, text.strip(), order, decoding, source.adapter.base.id)
            self.trials[session] = trial
        followed = {"said": before} if sent.follow_up else {"anew": bool(before) and not run}
        shown: dict[str, Any] = {"most": decoding.max_new_tokens, "titles": titles_of(file), **followed}
        showing = Showing(self.pair, order, bool(run), text.strip(), **shown)
        yield from self._shown(session, sent, showing, trial)

    def _unasked(self, session: str, note: str, emergency: str) -> Updates:
        """A note instead of an answer, the emergency notice all the same, and the buttons as before a question."""
        return {self.note: note, self.pair.emergency: emergency, **self._buttons(session, going=False)}

    def _shown(self, session: str, asked: Question, showing: Showing, trial: judging.Trial | None) -> Iterator[Updates]:
        once = Once()
        for turn in self.conversation.ask(session, asked):
            if turn.replaced:
                yield UNCHANGED  # else the page would draw the last update again at the end
                return
            if turn.answered and trial:
                trial.answered, trial.ended = turn.answered, time.monotonic()
            updates: Updates = {self.note: as_note(turn), **showing.updates(turn)}
            # Only at the beginning and the end: a button that is redrawn with every piece cannot be clicked.
            if not turn.going or once.due("begin"):
                judge = showing.blinded and turn.answered is not None
                updates |= self._buttons(session, going=turn.going)
                updates[self.form.card] = gr.update(visible=judge)
                if judge:
                    updates[self.note] = as_note(replace(turn, note=judging.TEXTS["done"]))
                updates[self.box.moved] = f"-{asked.text}" if turn.going else f"+{asked.text}" if turn.problems else ""
            yield updates

    def _buttons(self, session: str, *, going: bool) -> Updates:
        return self.box.enabled(going, bool(self.conversation.said(session)))

    def _held_back(self, session: str, text: str, blinded: bool) -> str:
        """A warning instead of sending, once for each question that could identify somebody."""
        warning, mark = question.identifiers(text, blinded), hashlib.sha256(text.encode()).digest()
        if not warning or self._warned.pop(session, None) == mark:
            return ""
        self._warned[session] = mark
        return warning

    def _comparable(self, name: object, opened: list[Adapter], demo_too: object, file: Shipped | None) -> Run:
        """The run whose folder keeps a judgement. Raises BadInput if the model cannot be compared blinded."""
        run = self.page.reader.find(name)
        if run is None:
            raise BadInput(judging.NOT_A_RUN)
        if file:
            raise BadInput(judging.NOT_TUNED)
        if self.picker.is_demonstration(name, opened) and not demo_too:
            raise BadInput(judging.DEMO_REFUSED)
        return run

    @visitor_may
    def stop(self, request: gr.Request) -> None:
        """Stop the visitor's own answer."""
        self.conversation.stop(str(request.session_hash))

    @visitor_may
    def clear(self, request: gr.Request) -> Updates:
        """Empty the page, and remember nothing."""
        self.forget(str(request.session_hash))
        shown = Showing(self.pair, OPEN_ORDER).updates(Turn(going=False))
        emptied: Updates = {self.box.text: "", self.box.moved: "", self.note: ""}
        return {**emptied, **shown, **self.box.enabled(going=False), self.form.card: HIDE}

    def forget(self, session: str) -> None:
        """Drop the words of a page that is gone or cleared, and its place in line."""
        self.conversation.forget(session)
        self.trials.pop(session, None)
        self._warned.pop(session, None)

    # ---- judging

    def save(self, request: gr.Request, *values: Any) -> Updates:
        """Save a judgement, and show which arm was which."""
        try:
            trial = self.trials.save(str(request.session_hash), values)
        except BadInput as bad:
            return {self.form.problems: c.refused(bad)}
        told = {self.note: judging.revealed(trial), **self.pair.revealed(trial.order)}
        told[self.box.clear] = gr.update(value="Next question")
        return {**told, **self.form.emptied(), **self.judged.shown(trial.run, open=True)}


def as_note(turn: Turn) -> str:
    """A question's progress in one line."""
    if turn.problems == (TAKEN,):
        return f'<p class="mc-changed" role="status">{c.text(TAKEN)}</p>'
    if turn.problems:
        return c.problems(turn.problems)
    return (
        c.announced(turn.note) + c.bar(None)
        if turn.loading
        else f'<p class="mc-note" role="status">{c.text(turn.note)}</p>'
    )
