"""One question to base and tuned, streamed: by a decoder on this machine, or by the two models of a server."""

import queue
import threading
import time
from collections.abc import Callable, Collection

from medcot.engine import models
from medcot.engine.answer.server import Cancelled, Endpoint
from medcot.engine.decode.decoder import DecodedSequence, PairDecoder
from medcot.errors import BadInput
from medcot.evaluation.answers import ARMS, Arm, Ending, Reply
from medcot.prompts.contract import PromptContract
from medcot.settings.evaluation import EndpointSettings
from medcot.workers.protocol import AskRequest, Piece

PIECE_SECONDS = 0.1  # pieces are gathered this long, so that a fast decode does not flood the pipe
SendPiece = Callable[[Piece], None]


class Streamed:
    """Two answers that grow: sends what is new every PIECE_SECONDS, and times each arm's first and last token."""

    def __init__(self, request: AskRequest, send: SendPiece, text: Callable[[Arm], str]):
        self._request, self._send, self._text = request.id, send, text
        self._began = dict.fromkeys(ARMS, time.monotonic())
        self._last_piece = time.monotonic() - PIECE_SECONDS
        self._first: dict[Arm, float] = {}
        self._last: dict[Arm, float] = {}
        self._sent = dict.fromkeys(ARMS, 0)  # characters
        self.tokens: dict[Arm, int] = dict.fromkeys(ARMS, 0)
        self._ended: dict[Arm, Ending] = {}

    def begin(self, arm: Arm) -> None:
        """Note that an arm begins only now, after the other's answer."""
        self._began[arm] = time.monotonic()

    def grew(self, arm: Arm, tokens: int, ended: Ending | None) -> None:
        """Note that an arm has so many tokens now, and why it has ended if it has."""
        self.tokens[arm] = tokens
        self._first.setdefault(arm, self._seconds(arm))
        if ended:
            self._ended[arm] = ended
            self._last.setdefault(arm, self._seconds(arm))

    def send_if_due(self) -> None:
        now = time.monotonic()
        if now - self._last_piece < PIECE_SECONDS:
            return
        self._last_piece = now
        texts = {arm: self._text(arm) for arm in ARMS}
        base, tuned = (texts[arm][self._sent[arm] :] for arm in ARMS)
        self._sent = {arm: len(text) for arm, text in texts.items()}
        said = {"base": base, "tuned": tuned, "tokens": dict(self.tokens), "ended": dict(self._ended)}
        rate = sum(self.tokens.values()) / max(map(self._seconds, ARMS))
        self._send(Piece.model_validate({"id": self._request, "tokens_per_second": rate, **said}))

    def reply(self, arm: Arm, ended: Ending) -> Reply:
        first, last = self._first.get(arm, 0.0), self._last.get(arm, self._seconds(arm))
        text, tokens = self._text(arm), self.tokens[arm]
        return Reply(text=text, ended=ended, tokens=tokens, seconds=last, first_token_seconds=first)

    def _seconds(self, arm: Arm) -> float:
        return max(1e-6, time.monotonic() - self._began[arm])


class LocalPair:
    """Both arms in one batch of one loaded model."""

    def __init__(self, decoder: PairDecoder):
        self.decoder = decoder

    def close(self) -> None:
        del self.decoder

    def answer(self, request: AskRequest, send: SendPiece, cancelled: Cancelled) -> dict[Arm, Reply]:
        """Both whole answers; if cancelled, what has come so far. Raises BadInput if it cannot be asked."""
        decoder = self.decoder
        rows = {row.arm: row for row in decoder.rows_for(request.question, request.histories)}
        require_room(models.window(decoder.model.config), rows.values(), request.max_new_tokens)
        streamed = Streamed(request, send, lambda arm: decoder.whole_text(rows[arm]))

        def on_step() -> None:
            for arm, row in rows.items():
                streamed.grew(arm, len(row.tokens), row.ended)
            streamed.send_if_due()

        decoder.decode(list(rows.values()), request.decoding, on_step=on_step, cancelled=cancelled)
        return {arm: streamed.reply(arm, row.ended or "stopped") for arm, row in rows.items()}


class ServerPair:
    """Both arms at once as two models of a server. Tokens are counted as the pieces in which it sends its text."""

    def __init__(self, settings: EndpointSettings, contract: PromptContract):
        self.endpoint = Endpoint(settings, contract)
        self.endpoint.next_step = "Look at the server's log, then ask again."
        self._models: dict[Arm, str] = {"base": settings.base, "tuned": settings.tuned}
        self.endpoint.require_models()

    def close(self) -> None:
        self.endpoint.close()

    def answer(self, request: AskRequest, send: SendPiece, cancelled: Cancelled) -> dict[Arm, Reply]:
        """As LocalPair's."""
        came: queue.Queue[tuple[Arm, str | Exception, Ending | None]] = queue.Queue()

        def listen(arm: Arm) -> None:
            try:
                asked = (self._models[arm], request.question, request.decoding)
                stream = self.endpoint.stream(*asked, cancelled, request.histories[arm])
                while True:
                    came.put((arm, next(stream), None))
            except StopIteration as stop:
                came.put((arm, "", stop.value))
            except Exception as error:  # noqa: BLE001  # raised again below: a thread that dies unheard blocks Chat
                came.put((arm, error, None))

        for arm in ARMS:
            threading.Thread(target=listen, args=(arm,), daemon=True).start()
        texts, ended = dict.fromkeys(ARMS, ""), dict[Arm, Ending]()
        streamed = Streamed(request, send, texts.__getitem__)
        while len(ended) < len(ARMS):
            arm, what, ending = came.get()
            if isinstance(what, Exception):
                raise what
            texts[arm] += what
            if ending:
                ended[arm] = ending
            streamed.grew(arm, streamed.tokens[arm] + (ending is None), ending)
            streamed.send_if_due()
        return {arm: streamed.reply(arm, ended[arm]) for arm in ARMS}


def require_room(window: int | None, rows: Collection[DecodedSequence], max_new_tokens: int) -> None:
    """Raise BadInput if question, history and answer do not fit the model's context window."""
    longest = max(len(row.prompt) for row in rows)
    if window and longest + max_new_tokens > window:
        what = f"has {longest} tokens with what was said before, and {max_new_tokens} may follow; this model reads"
        fix = "Start a new conversation, ask for fewer new tokens, or shorten the question."
        raise BadInput.of("question", f"{what} {window}.", fix)
