"""Questions to answers: by a decoder on this machine, in batches, or by a model server, many requests at once."""

import itertools
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from medcot import prompts
from medcot.engine import distributed, models
from medcot.engine.answer.server import Endpoint, threads
from medcot.engine.decode.decoder import DecodedSequence, PairDecoder
from medcot.errors import BadInput
from medcot.evaluation.answers import BASE, TOLD, TUNED, Answer, Decoding, Question, Reply, asked_as
from medcot.runs.events import Progress, Report


class Row(NamedTuple):
    """A question under an arm, as one sequence of a batch."""

    question: Question
    arm: str
    sequence: DecodedSequence

    @property
    def key(self) -> tuple[str, int, str]:
        return self.question.kind, self.question.number, self.arm

    def answer(self, decoder: PairDecoder, seconds: float) -> Answer:
        tokens, ended = len(self.sequence.tokens), self.sequence.ended
        assert ended is not None
        reply = Reply(text=decoder.text(self.sequence), tokens=tokens, ended=ended, seconds=seconds)
        return Answer.of(self.question, self.arm, reply)


@dataclass(frozen=True)
class Asking:
    """Questions on their way to whoever answers; `take` gets each answer whose key is not in `done`."""

    questions: Sequence[Question]
    decoding: Decoding
    batch_size: int
    done: Collection[tuple[str, int, str]]
    take: Callable[[Answer], None]
    report: Report

    def here(self, decoder: PairDecoder, arms: Sequence[str]) -> None:
        """Answer every question under every arm: a question's arms in one batch, batches of similar prompt length.

        The batches do not depend on what is done already, so that a continued evaluation gives the same answers; a
        batch with nothing left to answer is skipped. Several processes take the batches in turn, and exchange the
        answers after each round.
        """
        batches = [b for b in self.batches(decoder, arms) if any(row.key not in self.done for row in b)]
        self.require_room(decoder, itertools.chain(*batches))
        own = batches[distributed.rank() :: distributed.world_size()]
        pace = Pace(own, self.decoding.max_new_tokens, self.report)
        rounds = math.ceil(len(batches) / distributed.world_size())
        for batch in [*own, *[[]] * (rounds - len(own))]:
            started = time.monotonic()
            answers: list[Answer] = []  # of this process, to be exchanged
            tell = self.take if distributed.world_size() == 1 else answers.append
            waiting = [row for row in batch if row.key not in self.done]

            def on_step(
                started: float = started, waiting: list[Row] = waiting, tell: Callable[[Answer], None] = tell
            ) -> None:
                for row in [row for row in waiting if row.sequence.ended is not None]:
                    waiting.remove(row)
                    tell(row.answer(decoder, time.monotonic() - started))
                pace.step()

            if batch:
                decoder.decode([row.sequence for row in batch], self.decoding, on_step=on_step)
                pace.batch_done()
            for answer in itertools.chain(*distributed.all_gather_object(answers)):
                self.take(answer)

    def require_room(self, decoder: PairDecoder, rows: Iterable[Row]) -> None:
        """Raise BadInput if a question and its answer may be longer than the model's window."""
        places, asked = models.window(decoder.model.config), self.decoding.max_new_tokens
        longest = max((len(row.sequence.prompt) for row in rows), default=0)
        if places and longest + asked > places:
            what = f"the longest question has {longest} tokens, {asked} may follow, and the model's window is {places}."
            raise BadInput.of("new tokens", what, f"Ask for {max(0, places - longest)} at most.")

    def batches(self, decoder: PairDecoder, arms: Sequence[str]) -> list[list[Row]]:
        """The rows of all questions in batches of at most `batch_size` rows, and at least one question's."""

        def row(question: Question, arm: str) -> Row:  # without the adapter for both ways of asking base
            prompt = prompts.encode_prompt(decoder.tokenizer, decoder.contract, asked_as(arm, question.text))
            return Row(question, arm, DecodedSequence(BASE if arm in (BASE, TOLD) else TUNED, prompt))

        groups = [[row(question, arm) for arm in arms] for question in self.questions]
        groups.sort(key=lambda group: max(len(row.sequence.prompt) for row in group))
        size = max(1, self.batch_size // len(arms))
        return [list(itertools.chain(*groups[i : i + size])) for i in range(0, len(groups), size)]

    def there(self, endpoint: Endpoint, named: Mapping[str, str]) -> None:
        """Answer every question under every arm by the server's model for that arm."""
        answer = partial(endpoint.complete, decoding=self.decoding)
        self.many(lambda arm, text: answer(named[arm], text), list(named), endpoint.settings.concurrency)

    def many(self, answer: Callable[[str, str], Reply], arms: Sequence[str], at_once: int) -> None:
        """Answer every question under every arm by a function of arm and text; answers come as they finish."""

        def ask(question: Question, arm: str) -> Answer:
            return Answer.of(question, arm, answer(arm, asked_as(arm, question.text)))

        left = [(q, arm) for q in self.questions for arm in arms if (q.kind, q.number, arm) not in self.done]
        started = time.monotonic()
        with threads(at_once) as pool:
            futures = [pool.submit(ask, q, arm) for q, arm in left]
            for number, future in enumerate(as_completed(futures), start=1):
                self.take(future.result())
                eta = (time.monotonic() - started) / number * (len(left) - number)
                self.report(Progress(stage="Answering", done=number, total=len(left), eta_seconds=eta))


class Pace:
    """Reports how many rows are done and how much time is left at most; rows that end early make it less."""

    SECONDS = 1.0  # between reports
    STEPS = 8  # of one token each, before a batch's speed is believed

    def __init__(self, batches: list[list[Row]], most: int, report: Report):
        self._batches, self._most, self._report = batches, most, report
        self._done = self._steps = 0
        self._first_token = self._last_report = time.monotonic()

    def step(self) -> None:
        now = time.monotonic()
        self._steps += 1
        if self._steps == 1:
            self._first_token = now
        if now - self._last_report < self.SECONDS:
            return
        self._last_report = now
        left = None
        if self._steps > self.STEPS:
            a_step = (now - self._first_token) / (self._steps - 1)
            left = a_step * (self._most * (len(self._batches) - self._done) - self._steps)
        ended = [row.sequence.ended is not None for batch in self._batches for row in batch]
        self._report(Progress(stage="Answering", done=sum(ended), total=len(ended), eta_seconds=left))

    def batch_done(self) -> None:
        self._done += 1
        self._steps = 0
