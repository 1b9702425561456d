"""Questions to answers: by a decoder on this machine, in batches, or by a model server, many requests at once."""

import itertools
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from medcot import prompts
from medcot.engine import world
from medcot.engine.backends.endpoint import Endpoint
from medcot.engine.generation import Decoding, PairDecoder, Row
from medcot.evaluating.answers import Answer, Question
from medcot.evaluating.arms import BASE, TOLD, TUNED, asked_as
from medcot.events import Progress, Report
from medcot.prompts import PromptContract

Take = Callable[[Answer], None]
Done = Collection[tuple[str, int, str]]  # the keys of answers that are there
Place = tuple[Question, str, Row]


def answer_here(
    decoder: PairDecoder,
    questions: Sequence[Question],
    arms: Sequence[str],
    decoding: Decoding,
    batch_size: int,
    done: Done,
    take: Take,
    report: Report,
) -> None:
    """Every question under every arm, those of one question in one batch, batches of like prompt length.

    The batches are the same whatever is done already, so that an evaluation that is continued says what it would have
    said at once; a batch with nothing left to answer is passed over. Several processes take the batches in turn, and
    tell each other the answers after each round of them.
    """
    batches = [b for b in batches_of(decoder, questions, arms, batch_size) if any(_key(p) not in done for p in b)]
    own = batches[world.number() :: world.size()]
    pace = Pace(own, decoding.max_new_tokens, report)
    rounds = math.ceil(len(batches) / world.size())
    for batch in [*own, *[[]] * (rounds - len(own))]:
        started = time.monotonic()
        told: list[Answer] = []
        tell = take if world.size() == 1 else told.append
        waiting = [place for place in batch if _key(place) not in done]

        def on_step(started: float = started, waiting: list[Place] = waiting, tell: Take = tell) -> None:
            ended = [place for place in waiting if place[2].ended is not None]
            for place in ended:
                waiting.remove(place)
                tell(_answer(decoder, place, time.monotonic() - started))
            pace.step()

        if batch:
            decoder.decode([row for _, _, row in batch], decoding, on_step=on_step)
            pace.batch_done()
        for answer in itertools.chain(*world.of_all(told)):
            take(answer)


def batches_of(
    decoder: PairDecoder, questions: Sequence[Question], arms: Sequence[str], batch_size: int
) -> list[list[Place]]:
    """The rows of all questions, cut into batches of `batch_size` rows at most, or one question's."""
    places = [[(q, arm, row_for(decoder, arm, q.text)) for arm in arms] for q in questions]
    places.sort(key=lambda group: max(len(row.prompt) for _, _, row in group))
    size = max(1, batch_size // len(arms))
    return [[place for group in places[i : i + size] for place in group] for i in range(0, len(places), size)]


def row_for(decoder: PairDecoder, arm: str, question: str) -> Row:
    """The arm's row: without the adapter for both ways of asking base, with the decoder's own for any other arm."""
    prompt = prompts.encode_prompt(decoder.tokenizer, decoder.contract, asked_as(arm, question))
    return Row(BASE if arm in (BASE, TOLD) else TUNED, prompt)


def _key(place: Place) -> tuple[str, int, str]:
    question, arm, _ = place
    return question.kind, question.number, arm


def _answer(decoder: PairDecoder, place: Place, seconds: float) -> Answer:
    question, arm, row = place
    assert row.ended is not None
    return Answer(
        kind=question.kind,
        number=question.number,
        arm=arm,
        output=decoder.text(row),
        tokens=len(row.tokens),
        ended=row.ended,
        seconds=seconds,
    )


def answer_there(
    endpoint: Endpoint,
    contract: PromptContract,
    questions: Sequence[Question],
    models: Mapping[str, str],
    decoding: Decoding,
    done: Done,
    take: Take,
    report: Report,
) -> None:
    """Every question under every arm of `models`, by the server's model of that name; answers come as they finish."""
    left = [(q, arm) for q in questions for arm in models if (q.kind, q.number, arm) not in done]
    pool = ThreadPoolExecutor(endpoint.settings.concurrency)
    started = time.monotonic()
    try:
        futures = [
            pool.submit(_ask, endpoint, contract, question, arm, models[arm], decoding) for question, arm in left
        ]
        for number, future in enumerate(as_completed(futures), start=1):
            take(future.result())
            eta = (time.monotonic() - started) / number * (len(left) - number)
            report(Progress(stage="Answering", done=number, total=len(left), eta_seconds=eta))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # as when it is stopped: what is under way ends by itself


def _ask(
    endpoint: Endpoint, contract: PromptContract, question: Question, arm: str, model: str, decoding: Decoding
) -> Answer:
    found = endpoint.complete(model, contract, asked_as(arm, question.text), decoding)
    return Answer(
        kind=question.kind,
        number=question.number,
        arm=arm,
        output=found.text,
        tokens=found.tokens,
        ended=found.ended,
        seconds=found.seconds,
    )


class Pace:
    """Reports how many rows are done and how much time is left at most: rows that end early only make it shorter."""

    SECONDS = 1.0  # between reports
    STEPS = 8  # of one token each, before a batch's speed is believed

    def __init__(self, batches: list[list[Place]], most: int, report: Report):
        self._batches, self._most, self._report = batches, most, report
        self._done = 0
        self._steps = 0
        self._first_token = self._last_report = time.monotonic()

    def _rows(self) -> Iterator[Row]:
        return (row for batch in self._batches for _, _, row in batch)

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
        ended = [row.ended is not None for row in self._rows()]
        self._report(Progress(stage="Answering", done=sum(ended), total=len(ended), eta_seconds=left))

    def batch_done(self) -> None:
        self._done += 1
        self._steps = 0
