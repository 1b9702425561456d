"""One question to base and tuned, streamed: by a decoder on this machine, or by the two models of a server."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from medcot import messages as m
from medcot.endpoints import EndpointSettings
from medcot.engine.backends.endpoint import Endpoint
from medcot.engine.generation import ARMS, Decoding, PairDecoder, Row, TextStream
from medcot.errors import BadInput, Problem
from medcot.events import Ending
from medcot.prompts import Exchange, PromptContract
from medcot.tags import parse

PIECE_SECONDS = 0.1  # pieces are gathered this long, so that a fast decode does not flood the pipe
SendPiece = Callable[[str, str, float], None]  # new text of base and of tuned, tokens per second so far
Cancelled = Callable[[], bool]


class Pair(Protocol):
    """Base and tuned, ready to answer."""

    def answer(self, request: m.AskRequest, send: SendPiece, cancelled: Cancelled) -> dict[str, m.ArmAnswer]:
        """Both whole answers; what has come so far where it is cancelled. Raises BadInput where it cannot be asked."""
        ...

    def close(self) -> None:
        """Let go of whatever is held beside memory."""
        ...


class LocalPair:
    """Both arms in one batch of one loaded model."""

    def __init__(self, decoder: PairDecoder):
        self.decoder = decoder

    def close(self) -> None:
        del self.decoder

    def answer(self, request: m.AskRequest, send: SendPiece, cancelled: Cancelled) -> dict[str, m.ArmAnswer]:
        decoder = self.decoder
        rows = decoder.rows_for(request.question, histories(request))
        require_room(decoder, rows, request.max_new_tokens)
        streams = [TextStream(decoder, row) for row in rows]
        clock = Clock()

        def on_step() -> None:
            for row in rows:
                clock.token(row.arm, ended=row.ended is not None)
            if clock.piece_is_due():
                base, tuned = (stream.piece() for stream in streams)
                send(base, tuned, sum(len(row.tokens) for row in rows) / clock.seconds())

        decoder.decode(rows, decoding_of(request), on_step=on_step, cancelled=cancelled)
        return {
            row.arm: answered(decoder.text(row), len(row.tokens), row.ended or "stopped", *clock.times(row.arm))
            for row in rows
        }


class ServerPair:
    """Both arms at once as two models of a server. Tokens are counted as the pieces in which it sends its text."""

    def __init__(self, settings: EndpointSettings, contract: PromptContract):
        self.endpoint, self.contract = Endpoint(settings), contract
        self._models = {"base": settings.base, "tuned": settings.tuned}
        self.endpoint.require_models()

    def close(self) -> None:
        self.endpoint.close()

    def answer(self, request: m.AskRequest, send: SendPiece, cancelled: Cancelled) -> dict[str, m.ArmAnswer]:
        came: queue.Queue[tuple[str, str | Ending | Exception, bool]] = queue.Queue()
        said, clock = histories(request), Clock()

        def listen(arm: str) -> None:
            try:
                stream = self.endpoint.stream(
                    self._models[arm], self.contract, request.question, decoding_of(request), cancelled, said[arm]
                )
                while True:
                    came.put((arm, next(stream), False))
            except StopIteration as stop:
                came.put((arm, stop.value, True))
            except Exception as error:  # noqa: BLE001  # raised again below: a thread that dies unheard blocks Chat
                came.put((arm, error, True))

        for arm in ARMS:
            threading.Thread(target=listen, args=(arm,), daemon=True).start()
        pieces: dict[str, list[str]] = {arm: [] for arm in ARMS}
        sent, ended = dict.fromkeys(ARMS, 0), dict[str, Ending]()
        while len(ended) < len(ARMS):
            arm, what, over = came.get()
            if isinstance(what, Exception):
                raise what
            if over:
                ended[arm] = what  # type: ignore[assignment]  # a stream returns how it ended
            else:
                pieces[arm].append(what)
            clock.token(arm, ended=over)
            if clock.piece_is_due():
                base, tuned = ("".join(pieces[a][sent[a] :]) for a in ARMS)
                sent = {a: len(pieces[a]) for a in ARMS}
                send(base, tuned, sum(sent.values()) / clock.seconds())
        return {a: answered("".join(pieces[a]), len(pieces[a]), ended[a], *clock.times(a)) for a in ARMS}


class Clock:
    """When each arm's first and last token came, and when the next piece is due."""

    def __init__(self) -> None:
        self._began = self._last_piece = time.monotonic()
        self._last_piece -= PIECE_SECONDS
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def seconds(self) -> float:
        return max(1e-6, time.monotonic() - self._began)

    def token(self, arm: str, *, ended: bool) -> None:
        self._first.setdefault(arm, self.seconds())
        if ended:
            self._last.setdefault(arm, self.seconds())

    def piece_is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last_piece < PIECE_SECONDS:
            return False
        self._last_piece = now
        return True

    def times(self, arm: str) -> tuple[float, float]:
        """Seconds to the last and to the first token."""
        return self._last.get(arm, self.seconds()), self._first.get(arm, 0.0)


def answered(text: str, tokens: int, ended: Ending, seconds: float, first: float) -> m.ArmAnswer:
    parsed = parse(text)
    return m.ArmAnswer(
        text=text,
        reasoning=parsed.reasoning,
        answer=parsed.answer,
        problems=list(parsed.problems),
        tokens=tokens,
        ended=ended,
        seconds=seconds,
        first_token_seconds=first,
    )


def decoding_of(request: m.AskRequest) -> Decoding:
    return Decoding(request.max_new_tokens, request.temperature, request.top_p, request.seed, end_loops=True)


def histories(request: m.AskRequest) -> dict[str, list[Exchange]]:
    """Each arm's history as the prompt contract wants it."""
    said = {"base": request.base_history, "tuned": request.tuned_history}
    return {arm: [Exchange(s.question, s.output) for s in turns] for arm, turns in said.items()}


def require_room(decoder: PairDecoder, rows: Sequence[Row], max_new_tokens: int) -> None:
    """Raises BadInput where the question with its history and the answer would not fit the model's window."""
    window = getattr(decoder.model.config, "max_position_embeddings", None)
    longest = max(len(row.prompt) for row in rows)
    if window and longest + max_new_tokens > window:
        raise BadInput(
            Problem(
                "question",
                f"has {longest} tokens with what was said before, and {max_new_tokens} may follow; this model reads "
                f"{window}.",
                "Start a new conversation, ask for fewer new tokens, or shorten the question.",
            )
        )
