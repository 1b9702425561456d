"""Batched decoding, base and tuned in one batch. Finished rows leave the batch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from medcot import prompts
from medcot.engine.decode.compiled_layers import FusedLayers, fusable_layers
from medcot.engine.decode.cuda_graph import CudaGraphRunner
from medcot.engine.decode.eager import EagerRunner, StockRunner, plain_layers, use_grouped_attention
from medcot.engine.decode.reference import Reference, no_numbers
from medcot.engine.decode.runner import ArmMask, StepRunner, left_padded
from medcot.engine.models import raw_text
from medcot.errors import BadInput
from medcot.evaluation.answers import ARMS, Arm, Decoding, Ending
from medcot.prompts.contract import Exchange, PromptContract
from medcot.runs.events import Report, Warned

WARM_TOKENS = 2048  # a question with its answer, and a follow-up
LONGEST_CYCLE = 100  # tokens: a repeated paragraph
LEAST_TOKENS = 60  # that repeat, however short the cycle: a row of dots is no loop
LEAST_ROUNDS = 3


def is_repeating(tokens: Sequence[int | str]) -> bool:
    """Whether `tokens` end in a cycle of at most LONGEST_CYCLE, repeated at least LEAST_ROUNDS times."""
    for cycle in range(1, LONGEST_CYCLE + 1):
        length = max(LEAST_TOKENS, LEAST_ROUNDS * cycle)
        if length > len(tokens):
            return False
        if tokens[-1] == tokens[-1 - cycle] and tokens[-length + cycle :] == tokens[-length:-cycle]:
            return True
    return False


@dataclass(slots=True)
class DecodedSequence:
    """One sequence being decoded: an arm's answer to a prompt."""

    arm: Arm
    prompt: list[int]
    tokens: list[int] = field(default_factory=list)
    ended: Ending | None = None


class PairDecoder:
    """Decodes rows of both arms with one PEFT model. Not thread-safe: which rows are tuned is the model's state."""

    def __init__(self, model: Any, tokenizer: Any, contract: PromptContract, reference: Reference, report: Report):
        """Take a PEFT model as it was loaded, and a reference that knows its base.

        Raises BadInput if loading the adapter changed the base, or if base and tuned in one batch do not say what they
        say alone, whichever way they are decoded.
        """
        self.model, self.tokenizer, self.contract = model.eval(), tokenizer, contract
        self._attention = model.config._attn_implementation
        self.device = next(model.parameters()).device
        ends = model.generation_config.eos_token_id
        self.ends = {contract.eos_id, tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
        self._stop_strings = contract.rules.stops
        reference.take_tuned(model)
        self.reference, self._report = reference, report
        self._ways = self._ways_to_run()
        self.runner = self._fitting(next(self._ways))

    def _ways_to_run(self) -> Iterator[StepRunner]:
        """The fastest first; the last leaves attention and cache as transformers has them."""
        model, arms = self.model, ArmMask(self.model)
        use_grouped_attention(model)
        if self.device.type == "cuda" and plain_layers(model) and arms.plain:
            arms.cast_adapter(model.get_input_embeddings().weight.dtype)
            fused = FusedLayers(layers) if (layers := fusable_layers(model)) else None
            yield CudaGraphRunner(model, arms, self._report, capture=True, fused=fused)
        yield EagerRunner(model, arms)
        model.set_attn_implementation(self._attention)
        yield StockRunner(model, arms)

    def released(self) -> Any:
        """The base as it was loaded, without the adapter. The decoder is of no use after it."""
        base = self.model.unload()
        base.set_attn_implementation(self._attention)
        return base

    def _fitting(self, runner: StepRunner | None) -> StepRunner:
        """This runner, or the first of those left, under which both arms say what they say alone."""
        while runner and (difference := self.reference.difference(runner)):
            failed, runner = difference, next(self._ways, None)
            if runner:
                self._report(
                    Warned(message=f"This model is decoded in a slower way; the faster does not fit: {failed}.")
                )
        if runner:
            return runner
        kind = self.model.config.model_type
        what = f"models of the family {kind} cannot be decoded with base and tuned in one batch: {failed}."
        fix = "Choose a model of another family, or serve base and tuned by a model server and name that server."
        raise BadInput.of("model.id", what, fix)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Compile and capture now, so that the first answer does not pay for it. Raises BadInput as the decoder."""
        self.runner.warm_up(WARM_TOKENS)
        self.runner = self._fitting(self.runner)

    def rows_for(
        self, question: str, histories: Mapping[Arm, Sequence[Exchange]] | None = None
    ) -> list[DecodedSequence]:
        """A row for each arm, after its own history."""
        said, ask = histories or {}, partial(prompts.encode_prompt, self.tokenizer, self.contract, question)
        return [DecodedSequence(arm, ask(said.get(arm, ()))) for arm in ARMS]

    def text(self, row: DecodedSequence) -> str:
        """The answer: the tag that the prompt opened, and the newly generated text without the end token."""
        return self.contract.opened + raw_text(self.tokenizer, [t for t in row.tokens if t not in self.ends])

    def whole_text(self, row: DecodedSequence) -> str:
        """The text so far, without the bytes of a character that is not complete yet."""
        return self.text(row) if row.ended else self.text(row).rstrip("�")

    @torch.inference_mode()
    def decode(
        self,
        rows: Sequence[DecodedSequence],
        decoding: Decoding,
        *,
        on_step: Callable[[], None] = lambda: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Extend every row until its end token or max_new_tokens. `on_step` runs after each token of the batch.

        Prompts are padded on the left, which gives the same output as each row alone; right padding would not.
        """
        generator = torch.Generator(device=self.device).manual_seed(decoding.seed)
        batch = list(rows)
        logits = self._start(batch, decoding.max_new_tokens)
        while True:
            require_numbers(batch, logits)
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
            kept = self.runner.keep(going, len(batch))
            if kept is not None:
                batch = [batch[i] for i in kept]
                chosen = chosen[torch.tensor(kept, device=self.device)]
            logits = self.runner.step(chosen)

    def _start(self, rows: Sequence[DecodedSequence], most: int) -> Tensor:
        padded = left_padded([row.prompt for row in rows], self.tokenizer.pad_token_id, self.device)
        return self.runner.start(*padded, [row.arm == "tuned" for row in rows], most)

    def _ending(self, row: DecodedSequence, decoding: Decoding) -> Ending | None:
        if row.tokens[-1] in self.ends:
            return "finished"
        if self._stop_strings and any(s in self.tokenizer.decode(row.tokens[-12:]) for s in self._stop_strings):
            return "finished"
        if len(row.tokens) >= decoding.max_new_tokens:
            return "limit"
        return "looping" if decoding.end_loops and is_repeating(row.tokens) else None


def require_numbers(rows: Sequence[DecodedSequence], logits: Tensor) -> None:
    """Raise BadInput if the largest logit of an unfinished row is NaN or infinite; logits (rows, vocabulary)."""
    usable = logits.amax(-1).isfinite().tolist()
    broken = {row.arm for row, fine in zip(rows, usable, strict=True) if not fine and row.ended is None}
    if broken:
        raise no_numbers(sorted(broken), logits.dtype)


def _choose(logits: Tensor, decoding: Decoding, generator: torch.Generator) -> Tensor:
    """One token id a row from (rows, vocabulary) logits; nucleus sampling keeps the smallest set that reaches top_p."""
    if decoding.temperature == 0:
        return logits.argmax(-1)
    probabilities = (logits / decoding.temperature).softmax(-1)
    if decoding.top_p < 1:
        ordered, indices = probabilities.sort(-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered >= decoding.top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter(-1, indices, ordered)
    return torch.multinomial(probabilities, 1, generator=generator)[:, 0]
