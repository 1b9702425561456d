"""Questions to base and tuned, from the service worker's replies to what the page shows. It knows no gradio.

The model answers one question after the other, so whoever asks meanwhile waits in line, sees the place, and can give
up. What was said is kept in this process's memory for follow-ups, by session, and goes with the session.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

from medcot import messages as m
from medcot.service import new_id
from medcot.settings import EvaluationSettings
from medcot.tags import Parsed, parse
from medcot.ui.chat.line import Line, Ticket
from medcot.ui.chat.sources import Source
from medcot.ui.page import Client

LONGEST_QUESTION = 8000  # characters; the model's window is 4096 tokens
MOST_SESSIONS = 500  # whose words are kept, should pages go away without a sign
_TAG_BEGUN = re.compile(r"<[/a-z]{0,9}$")
STOPPED = "Stopped."


@dataclass(frozen=True)
class Turn:
    """What the page shows of one question at a moment."""

    note: str = ""
    base: str = ""
    tuned: str = ""
    answered: m.Answered | None = None
    problems: tuple[str, ...] = ()
    going: bool = True
    loading: bool = False
    replaced: bool = False  # given up for another question, whose panels the page's are now

    def parts(self, arm: str) -> Parsed:
        """Reasoning and answer so far; while text still comes, a tag that is half written is not shown."""
        if self.answered:
            final = self.final(arm)
            assert final is not None
            return Parsed(final.reasoning, final.answer, tuple(final.problems))
        text: str = getattr(self, arm)
        parsed = parse(_TAG_BEGUN.sub("", text) if self.going else text)
        return replace(parsed, problems=()) if self.going else parsed

    def final(self, arm: str) -> m.ArmAnswer | None:
        return getattr(self.answered, arm) if self.answered else None


@dataclass(frozen=True)
class Question:
    """What is asked of which model, how it is decoded, and whether it goes on from what was said before."""

    text: str
    source: Source | None
    decoding: EvaluationSettings
    follow_up: bool = False


@dataclass
class Said:
    """What one session and one model said to each other."""

    source: Source | None = None
    turns: list[tuple[str, m.Answered]] = field(default_factory=list)


class Conversation:
    def __init__(self, client: Client):
        self.client = client
        self.line = Line()
        self._tickets: dict[str, Ticket] = {}
        self._said: OrderedDict[str, Said] = OrderedDict()
        self._newest_load: tuple[str, Source] | None = None  # its request's id, and of what: a name may mean several
        self._lock = threading.Lock()

    def said(self, session: str) -> list[tuple[str, m.Answered]]:
        """Questions with their answers so far, oldest first."""
        return list(self._said.get(session, Said()).turns)

    def stop(self, session: str) -> None:
        """End the question of this session, whether it waits, loads or is being answered."""
        if ticket := self._tickets.get(session):
            ticket.stopped.set()
            if ticket.request:
                self.client.cancel(ticket.request)

    def give_up(self, session: str) -> Ticket | None:
        """Stop the question of this session, and neither show nor keep what still comes of it."""
        self.stop(session)
        return self._tickets.pop(session, None)

    def forget(self, session: str) -> None:
        """The page is gone: its place in line is free at once, and its words are dropped."""
        with self._lock:
            if ticket := self.give_up(session):
                self.line.leave(ticket)
            self._said.pop(session, None)

    def ask(self, session: str, question: Question) -> Iterator[Turn]:
        """Turns as they come; the last has `going` False. Closing the iterator stops the answer."""
        if found := self._refusals(session, question):
            yield Turn(problems=found, going=False)
            return
        ticket, said = self._begin(session, question)
        try:
            with closing(self._in_turn(ticket, said, question)) as turns:
                for turn in turns:
                    if self._tickets.get(session) is not ticket:
                        continue  # to its end, because the model is free only then
                    if turn.answered:
                        said.turns.append((question.text, turn.answered))
                    yield turn
            if self._tickets.get(session) is not ticket:
                yield Turn(STOPPED, going=False, replaced=True)
        finally:
            self.line.leave(ticket)
            if self._tickets.get(session) is ticket:
                del self._tickets[session]

    def _begin(self, session: str, question: Question) -> tuple[Ticket, Said]:
        """Its place in line, and the words that it goes on from and will be added to."""
        with self._lock:
            self.give_up(session)
            if not question.follow_up:
                self._said.pop(session, None)
            said = self._said.setdefault(session, Said(question.source))
            while len(self._said) > MOST_SESSIONS:
                self._said.popitem(last=False)
            ticket = self._tickets[session] = Ticket()
            self.line.join(ticket)
        return ticket, said

    def _in_turn(self, ticket: Ticket, said: Said, question: Question) -> Generator[Turn, None, None]:
        while ahead := self.line.ahead(ticket):
            yield Turn(waiting(ahead))
            if ticket.stopped.is_set():
                yield Turn(STOPPED, going=False)
                return
            self.line.ahead(ticket, wait=0.5)
        if ticket.stopped.is_set():
            yield Turn(STOPPED, going=False)
            return
        assert question.source is not None
        if (yield from self._load(question.source)):
            yield from self._answer(ticket, said, question)

    def _load(self, source: Source) -> Generator[Turn, None, bool]:
        """Make this the loaded model; the generator's value says whether it is."""
        if self.client.loaded and self._newest_load == (self.client.loaded.id, source):
            return True
        yield Turn("Starting the model's process.", loading=True)
        request = source.load_request(new_id())
        self._newest_load = (request.id, source)
        for reply in self.client.request(request):
            if isinstance(reply, m.Loading):
                yield Turn(f"{reply.stage}. The first question after a pause takes longer.", loading=True)
            elif isinstance(reply, m.Problems):
                yield Turn(problems=tuple(reply.problems), going=False)
                return False
        return True

    def _answer(self, ticket: Ticket, said: Said, question: Question) -> Iterator[Turn]:
        request, turn = self._request(said, question), Turn("Reading the question.")
        ticket.request = request.id
        if ticket.stopped.is_set():  # looked at only now that who stops it knows its id
            yield Turn(STOPPED, going=False)
            return
        if question.follow_up and self.client.loaded and not self.client.loaded.follow_ups:
            yield Turn(problems=(NO_FOLLOW_UPS,), going=False)
            return
        yield turn
        try:
            for reply in self.client.request(request):
                turn = after(turn, reply)
                yield turn
        finally:
            if turn.going:  # the page is gone, or nobody listens any more
                self.client.cancel(request.id)

    def _request(self, said: Said, question: Question) -> m.AskRequest:
        decoding = question.decoding
        return m.AskRequest(
            id=new_id(),
            question=question.text.strip(),
            base_history=[m.Said(question=q, output=a.base.text) for q, a in said.turns],
            tuned_history=[m.Said(question=q, output=a.tuned.text) for q, a in said.turns],
            max_new_tokens=decoding.max_new_tokens,
            temperature=decoding.temperature,
            top_p=decoding.top_p,
            seed=decoding.seed,
        )

    def _refusals(self, session: str, question: Question) -> tuple[str, ...]:
        """Why this cannot be asked; checked here because a request need not come from the page."""
        found, text, source = [], question.text, question.source
        if source is None:
            found.append("run: none is chosen. Train one first, or choose one that has finished.")
        if not text.strip():
            found.append("question: is empty. Type one, or choose a sample.")
        elif len(text) > LONGEST_QUESTION:
            found.append(f"question: has {len(text)} characters, and {LONGEST_QUESTION} is the most. Shorten it.")
        if question.follow_up:
            said = self._said.get(session, Said())
            if not said.turns:
                found.append("question: follows nothing. Ask it as a new question.")
            elif source and said.source and said.source != source:
                found.append(f"question: follows what {said.source.name} said. {ANOTHER_MODEL}")
        return tuple(found)


ANOTHER_MODEL = "Choose that model as it was opened then, or ask it anew."
NO_FOLLOW_UPS = "question: the plain prompt contract has no follow-ups. Ask it as a new question."


def waiting(ahead: int) -> str:
    """The place in line."""
    return "Waiting: yours is next." if ahead == 1 else f"Waiting: {ahead} questions are ahead of yours."


def after(turn: Turn, reply: m.Reply) -> Turn:
    """The turn with a reply added."""
    if isinstance(reply, m.Piece):
        return replace(
            turn,
            note=f"Answering · {reply.tokens_per_second:.0f} tokens per second",
            base=turn.base + reply.base,
            tuned=turn.tuned + reply.tuned,
        )
    if isinstance(reply, m.Answered):
        stopped = "stopped" in (reply.base.ended, reply.tuned.ended)
        return Turn(STOPPED if stopped else "Done.", reply.base.text, reply.tuned.text, reply, going=False)
    if isinstance(reply, m.Problems):
        return replace(turn, note="", problems=tuple(reply.problems), going=False)
    return turn


def ending(final: m.ArmAnswer, most: int) -> str:
    """Why an arm's answer ended, when its first token came, and how fast the others."""
    reason = {
        "finished": "Finished",
        "limit": f"Cut at the limit of {most} new tokens",
        "looping": "Ended because it went round in circles",
        "stopped": "Stopped",
    }[final.ended]
    rate = final.tokens / final.seconds if final.seconds else 0.0
    speed = f" · first token after {final.first_token_seconds:.1f} s · {rate:.0f} tokens per second"
    return f"{reason} · {final.tokens} tokens" + (speed if final.seconds else "")
