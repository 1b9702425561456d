"""Questions to base and tuned, from the service worker's replies to what the page shows, without gradio.

The model answers one question after the other; others wait in line, see their place, and can give up. What was said is
kept in this process's memory for follow-ups, by session, and goes with the session.
"""

import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace

from medcot import safety
from medcot.errors import Problem
from medcot.evaluation.answers import Arm, Ending, Reply
from medcot.prompts.contract import Exchange
from medcot.prompts.tags import Parsed, parse, without_half_a_tag
from medcot.settings import EvaluationSettings
from medcot.ui.sessions import Sessions
from medcot.ui.sources import Client, Source
from medcot.workers import protocol as m

STOPPED = "Stopped."
NO_FOLLOW_UPS = Problem("question", "the plain prompt contract has no follow-ups.", "Start a new conversation.")
# The worker's own words are for a terminal: they name folders, and how to stop somebody's job.
TAKEN = Problem("", "A training or another job has the device now.", "Ask when it is free.")


def counted(number: int, noun: str) -> str:
    """A number with its noun: 1 token, 2 tokens."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True)
class Turn:
    """What the page shows of one question at one moment."""

    note: str = ""
    base: str = ""
    tuned: str = ""
    answered: m.Answered | None = None
    problems: tuple[Problem, ...] = ()
    going: bool = True
    loading: bool = False
    tokens: Mapping[Arm, int] = field(default_factory=dict)  # so far
    ended: Mapping[Arm, Ending] = field(default_factory=dict)  # the arms that wrote their last word
    replaced: bool = False  # given up for another question, which has the panels now

    def parts(self, arm: str) -> Parsed:
        """Reasoning and answer so far, without a half-written tag while text still comes."""
        if final := self.final(arm):
            return final.parsed
        text: str = getattr(self, arm)
        parsed = parse(without_half_a_tag(text) if self.going else text)
        return replace(parsed, problems=()) if self.going else parsed

    def final(self, arm: str) -> Reply | None:
        return getattr(self.answered, arm) if self.answered else None


@dataclass(frozen=True)
class Question:
    """What is asked of which model, how it is decoded, and whether it continues the conversation."""

    text: str
    source: Source | None
    decoding: EvaluationSettings
    follow_up: bool = False


@dataclass
class History:
    """The conversation of one session with one model."""

    source: Source | None = None
    turns: list[tuple[str, m.Answered]] = field(default_factory=list)
    follow_ups: bool = True  # the plain contract has none


@dataclass(eq=False)
class Ticket:
    """A question under way; setting `stopped` ends it."""

    stopped: threading.Event = field(default_factory=threading.Event)
    request: str = ""  # its id on the pipe, once it was sent


class Line:
    """First come, first served; a ticket that leaves makes room for all behind it."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []
        self._moved = threading.Condition()

    def join(self, ticket: Ticket) -> None:
        with self._moved:
            self._tickets.append(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Take the ticket out, from any place, any number of times."""
        with self._moved:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
                self._moved.notify_all()

    def ahead(self, ticket: Ticket, wait: float = 0.0) -> int | None:
        """How many are ahead; None if this ticket has left. Waits up to `wait` seconds for the line to move."""
        with self._moved:
            if wait and self._place(ticket):
                self._moved.wait(wait)
            return self._place(ticket)

    def _place(self, ticket: Ticket) -> int | None:
        return self._tickets.index(ticket) if ticket in self._tickets else None


class Conversation:
    def __init__(self, client: Client):
        self.client = client
        self.line = Line()
        self._tickets: dict[str, Ticket] = {}
        self._said: Sessions[History] = Sessions()
        self._newest_load: tuple[str, Source] | None = None  # request id and source: a name may mean several
        self._lock = threading.Lock()

    def said(self, session: str) -> list[tuple[str, m.Answered]]:
        """Questions with their answers so far, oldest first."""
        return list(self._said.get(session, History()).turns)

    def continues(self, session: str, source: Source | None) -> bool:
        """Whether the next question to this model can continue what the session has said."""
        said = self._said.get(session, History())
        return bool(said.turns and said.follow_ups and said.source == source)

    def stop(self, session: str) -> None:
        """Stop the question of this session, whether it waits, loads or is being answered."""
        if ticket := self._tickets.get(session):
            ticket.stopped.set()
            if ticket.request:
                self.client.cancel(ticket.request)

    def give_up(self, session: str) -> Ticket | None:
        """Stop the question of this session, and neither show nor keep the rest of its answer."""
        self.stop(session)
        return self._tickets.pop(session, None)

    def forget(self, session: str) -> None:
        """Free a closed page's place in line at once, and drop its words."""
        with self._lock:
            if ticket := self.give_up(session):
                self.line.leave(ticket)
            self._said.pop(session, None)

    def ask(self, session: str, question: Question) -> Iterator[Turn]:
        """Yield turns as they come; the last has `going` False. Closing the iterator stops the answer."""
        if found := self.refusals(session, question):
            yield Turn(problems=found, going=False)
            return
        ticket, said = self._begin(session, question)
        try:
            with closing(self._in_turn(ticket, said, question)) as turns:
                for turn in turns:
                    if self._tickets.get(session) is not ticket:
                        continue  # read to the end, because the model is free only then
                    if turn.answered:
                        said.turns.append((question.text, turn.answered))
                        said.follow_ups = self.client.loaded is None or self.client.loaded.follow_ups
                    yield turn
            if self._tickets.get(session) is not ticket:
                yield Turn(STOPPED, going=False, replaced=True)
        finally:
            self.line.leave(ticket)
            if self._tickets.get(session) is ticket:
                del self._tickets[session]

    def _begin(self, session: str, question: Question) -> tuple[Ticket, History]:
        """Join the line, and find the conversation that the question continues or begins."""
        with self._lock:
            self.give_up(session)
            if not question.follow_up:
                self._said.pop(session, None)
            said = self._said.setdefault(session, History(question.source))
            ticket = self._tickets[session] = Ticket()
            self.line.join(ticket)
        return ticket, said

    def _in_turn(self, ticket: Ticket, said: History, question: Question) -> Generator[Turn, None, None]:
        while (ahead := self.line.ahead(ticket)) and not ticket.stopped.is_set():
            yield Turn(f"Waiting: {'yours is next' if ahead == 1 else f'{ahead} questions are ahead of yours'}.")
            self.line.ahead(ticket, wait=0.5)
        if ticket.stopped.is_set():
            yield Turn(STOPPED, going=False)
            return
        assert question.source is not None
        if (yield from self._load(ticket, question.source)):
            yield from self._answer(ticket, said, question)

    def _load(self, ticket: Ticket, source: Source) -> Generator[Turn, None, bool]:
        """Make this the loaded model; the generator returns whether it is."""
        if self.client.loaded and self._newest_load == (self.client.loaded.id, source):
            return True
        yield Turn("Starting the model's process.", loading=True)
        request = source.load_request()
        self._newest_load, ticket.request = (request.id, source), request.id
        for reply in self.client.request(request):
            if isinstance(reply, m.Loading):
                yield Turn(f"{reply.stage}. The first question after a pause takes longer.", loading=True)
            elif isinstance(reply, m.Failed):
                yield after(Turn(), reply)
                return False
        return True

    def _answer(self, ticket: Ticket, said: History, question: Question) -> Iterator[Turn]:
        request, turn = self._request(said, question), Turn("Reading the question.")
        ticket.request = request.id
        if ticket.stopped.is_set():  # checked only now that `stop` knows the request's id
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
            if turn.going:  # the page is gone or nobody listens
                self.client.cancel(request.id)

    def _request(self, said: History, question: Question) -> m.AskRequest:
        return m.AskRequest(
            question=question.text.strip(),
            base_history=[Exchange(q, a.base.text) for q, a in said.turns],
            tuned_history=[Exchange(q, a.tuned.text) for q, a in said.turns],
            **question.decoding.model_dump(include={"max_new_tokens", "temperature", "top_p", "seed"}),
        )

    def refusals(self, session: str, question: Question) -> tuple[Problem, ...]:
        """Why this cannot be asked; checked here too, because a request need not come from the page."""
        found, text, source = [], question.text, question.source
        if source is None:
            found.append(Problem("run", "none is chosen.", "Train one first, or choose one that has finished."))
        if not text.strip():
            found.append(Problem("question", "is empty.", "Type one, or choose a sample."))
        elif long := safety.too_long(text):
            found.append(long)
        if question.follow_up:
            said = self._said.get(session, History())
            if not said.turns:
                found.append(Problem("question", "follows nothing.", "Start a new conversation."))
            elif source and said.source and said.source != source:
                fix = "Choose that model as it was opened then, or start a new conversation."
                found.append(Problem("question", f"follows what {said.source.name} said.", fix))
        return tuple(found)


def after(turn: Turn, reply: m.AnyReply) -> Turn:
    """The turn with a reply added."""
    if isinstance(reply, m.Piece):
        note = f"Answering · {counted(round(reply.tokens_per_second), 'token')} per second"
        base, tuned = turn.base + reply.base, turn.tuned + reply.tuned
        return replace(turn, note=note, base=base, tuned=tuned, tokens=reply.tokens, ended=reply.ended)
    if isinstance(reply, m.Answered):
        stopped = "stopped" in (reply.base.ended, reply.tuned.ended)
        return Turn(STOPPED if stopped else "Done.", reply.base.text, reply.tuned.text, reply, going=False)
    if isinstance(reply, m.Failed):
        problems = (TAKEN,) if reply.kind == "busy" else tuple(reply.problems)
        return replace(turn, note="", problems=problems, going=False)
    return turn
