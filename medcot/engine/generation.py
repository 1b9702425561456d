"""Batched and streaming decode, base and tuned in one batch (see arms.py). Rows that are done leave the batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from medcot import prompts
from medcot.engine.arms import ArmMask
from medcot.engine.attention import use_grouped_attention
from medcot.engine.captured import CapturedSteps
from medcot.engine.fused import FusedLayers, fusable_layers
from medcot.engine.growing import GrowingSteps, plain_layers
from medcot.engine.looping import loops
from medcot.events import Ending, Report, Warned
from medcot.prompts import Exchange, PromptContract

Arm = str  # "base" or "tuned"
ARMS: tuple[Arm, ...] = ("base", "tuned")
WARM_TOKENS = 2048  # a question with its answer, and a follow-up


@dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are chosen; temperature 0 is greedy, where top_p and seed have no effect.

    `end_loops` ends a row that goes round in circles; an evaluation leaves it to the limit.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 42
    end_loops: bool = False


@dataclass(slots=True)
class Row:
    """One sequence under way: an arm's answer to a prompt."""

    arm: Arm
    prompt: list[int]
    tokens: list[int] = field(default_factory=list)
    ended: Ending | None = None


class Steps(Protocol):
    """How the model is run for a batch; see growing.py and captured.py."""

    def warm_up(self, length: int) -> None: ...

    def start(self, ids: torch.Tensor, attention: torch.Tensor, tuned: list[bool], most: int) -> torch.Tensor: ...

    def keep(self, going: list[int], rows: int) -> list[int] | None: ...

    def step(self, tokens: torch.Tensor) -> torch.Tensor: ...


class PairDecoder:
    """Decodes rows of both arms with one PEFT model. Not thread-safe: which rows are tuned is the model's state."""

    def __init__(self, model: Any, tokenizer: Any, contract: PromptContract, report: Report = lambda event: None):
        self.model, self.tokenizer, self.contract = model.eval(), tokenizer, contract
        self.device = next(model.parameters()).device
        configured = model.generation_config.eos_token_id
        configured = configured if isinstance(configured, list) else [configured]
        self._eos = {contract.eos_id, tokenizer.eos_token_id, *configured} - {None}
        self._stop_strings = prompts.stop_strings(contract)
        arms = ArmMask(model)
        use_grouped_attention(model)
        self.steps: Steps = GrowingSteps(model, arms)
        if self.device.type == "cuda" and plain_layers(model):
            arms.narrow(model.get_input_embeddings().weight.dtype)
            layers = fusable_layers(model)
            fused = FusedLayers(layers) if layers else None
            self.steps = CapturedSteps(
                model, arms, lambda note: report(Warned(message=note)), capture=True, fused=fused
            )

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Take the time now that the first question would otherwise take beside its answer."""
        self.steps.warm_up(WARM_TOKENS)

    def rows_for(self, question: str, histories: Mapping[Arm, Sequence[Exchange]] | None = None) -> list[Row]:
        """A row for each arm; `histories` is what each arm was asked and said before, which may differ."""
        return [
            Row(arm, prompts.encode_prompt(self.tokenizer, self.contract, question, (histories or {}).get(arm, ())))
            for arm in ARMS
        ]

    def text(self, row: Row) -> str:
        """The newly generated text alone, without the end token."""
        return str(
            self.tokenizer.decode(
                [t for t in row.tokens if t not in self._eos],
                skip_special_tokens=False,
                clean_up_tokenization_spaces=False,
            )
        )

    @torch.inference_mode()
    def decode(
        self,
        rows: Sequence[Row],
        decoding: Decoding,
        *,
        on_step: Callable[[], None] = lambda: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Extend every row until its end token or max_new_tokens. `on_step` runs after each token of the batch.

        Prompts are padded on the left, which equals single-row output; right padding would not.
        """
        generator = torch.Generator(device=self.device).manual_seed(decoding.seed)
        batch = list(rows)
        logits = self._start(batch, decoding.max_new_tokens)
        while True:
            chosen = _choose(logits.float(), decoding, generator)
            for row, token in zip(batch, chosen.tolist(), strict=True):
                if row.ended is None:
                    row.tokens.append(token)
                    row.ended = self._ending(row, decoding)
            on_step()
            going = [i for i, row in enumerate(batch) if row.ended is None]
            if cancelled():
                for i in going:
                    batch[i].ended = "stopped"
                return
            if not going:
                return
            kept = self.steps.keep(going, len(batch))
            if kept is not None:
                batch = [batch[i] for i in kept]
                chosen = chosen[torch.tensor(kept, device=self.device)]
            logits = self.steps.step(chosen)

    def _start(self, rows: Sequence[Row], most: int) -> torch.Tensor:
        width = max(len(r.prompt) for r in rows)
        pad = self.tokenizer.pad_token_id
        ids = [[pad] * (width - len(r.prompt)) + r.prompt for r in rows]
        attention = [[0] * (width - len(r.prompt)) + [1] * len(r.prompt) for r in rows]
        return self.steps.start(
            torch.tensor(ids, device=self.device),
            torch.tensor(attention, device=self.device),
            [r.arm == "tuned" for r in rows],
            most,
        )

    def _ending(self, row: Row, decoding: Decoding) -> Ending | None:
        if row.tokens[-1] in self._eos:
            return "finished"
        if self._stop_strings and any(s in self.tokenizer.decode(row.tokens[-12:]) for s in self._stop_strings):
            return "finished"
        if len(row.tokens) >= decoding.max_new_tokens:
            return "limit"
        return "looping" if decoding.end_loops and loops(row.tokens) else None

    @torch.inference_mode()
    def adapter_changes_logits(self) -> bool:
        """Whether base and tuned differ at all on a fixed prompt; an adapter that changes nothing was not trained."""
        logits = self._start(self.rows_for("What is a fever?"), 1)
        return not torch.equal(logits[0], logits[1])


def _choose(logits: torch.Tensor, decoding: Decoding, generator: torch.Generator) -> torch.Tensor:
    """One token id a row from (rows, vocabulary) logits; nucleus sampling keeps the smallest set that reaches top_p."""
    if decoding.temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits / decoding.temperature).softmax(-1)
    if decoding.top_p < 1:
        ordered, indices = probabilities.sort(-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered >= decoding.top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter(-1, indices, ordered)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]


class TextStream:
    """The text of a growing row, piece by piece; holds back bytes that are not yet a whole character."""

    def __init__(self, decoder: PairDecoder, row: Row):
        self._decoder, self._row, self._sent = decoder, row, 0

    def piece(self) -> str:
        text = self._decoder.text(self._row)
        if self._row.ended is None and text.endswith("�"):
            return ""
        new, self._sent = text[self._sent :], len(text)
        return new
