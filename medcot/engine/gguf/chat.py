"""One question to base and to a GGUF file in tuned's place, streamed: base by the decoder, the file by llama.cpp."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from medcot.engine.answer.chat import SendPiece, Streamed, require_room
from medcot.engine.answer.server import Cancelled
from medcot.engine.decode.decoder import PairDecoder, is_repeating
from medcot.engine.gguf.llama import LlamaServer, facts_of
from medcot.errors import BadInput
from medcot.evaluation.answers import ARMS, BASE, TUNED, Arm, Ending, Reply
from medcot.workers.protocol import AskRequest

CONTEXT = 8192  # tokens for which llama.cpp keeps room, if the model reads so many
STOPPED: Ending = "stopped"
FileStream = Generator[tuple[str, int], None, Ending]


class FilePair:
    """Base by a decoder, and in tuned's place a GGUF file by llama.cpp: first the file, because both use all cores."""

    def __init__(self, decoder: PairDecoder, file: Path):
        """Raises BadInput without llama.cpp, or if it refuses the file, or the file is of another contract."""
        self.decoder = decoder
        facts = facts_of(file)
        if facts.contract != decoder.contract:
            raise BadInput.of(file.name, "carries another prompt contract than the run.", "Export the run again.")
        self.context = min(facts.window or CONTEXT, CONTEXT)
        names = decoder.tokenizer.get_added_vocab().items()
        self.shown = [name for name, number in names if number not in decoder.ends]
        self.server = LlamaServer(file, context=self.context, slots=1)

    def close(self) -> None:
        self.server.close()
        del self.decoder

    def answer(self, request: AskRequest, send: SendPiece, cancelled: Cancelled) -> dict[Arm, Reply]:
        """As LocalPair's. The file reads the same tokens as tuned would."""
        decoder, decoding = self.decoder, request.decoding
        base, tuned = decoder.rows_for(request.question, request.histories)
        require_room(self.context, (base, tuned), request.max_new_tokens)
        pieces, ended = [decoder.contract.opened], dict.fromkeys(ARMS, STOPPED)
        streamed = Streamed(request, send, lambda arm: "".join(pieces) if arm == TUNED else decoder.whole_text(base))
        stream = self.server.stream(tuned.prompt, decoding, decoder.contract.rules.stops, self.shown)
        ended[TUNED] = self._followed(stream, pieces, streamed, cancelled)
        streamed.begin(BASE)

        def on_step() -> None:
            streamed.grew(BASE, len(base.tokens), base.ended)
            streamed.send_if_due()

        if not cancelled():
            decoder.decode([base], decoding, on_step=on_step, cancelled=cancelled)
            ended[BASE] = base.ended or STOPPED
        return {arm: streamed.reply(arm, ended[arm]) for arm in ARMS}

    def _followed(self, stream: FileStream, pieces: list[str], streamed: Streamed, cancelled: Cancelled) -> Ending:
        """How the file's answer ended; its text is added to the pieces."""
        ended: Ending | None = None
        with closing(stream):
            while ended is None:
                try:
                    text, tokens = next(stream)
                except StopIteration as stop:
                    ended = stop.value
                else:
                    pieces.append(text)
                    ended = "looping" if is_repeating(pieces) else STOPPED if cancelled() else None
                streamed.grew(TUNED, tokens, ended)
                streamed.send_if_due()
        return ended
