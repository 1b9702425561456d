"""Answers to the sample questions by a model under training."""

import math
import traceback
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from medcot import prompts
from medcot.data import starter
from medcot.engine.decode.runner import last_logits, left_padded, positions_of
from medcot.engine.models import raw_text
from medcot.engine.outcome import is_out_of_memory
from medcot.prompts.contract import PromptContract
from medcot.prompts.encoder import Encoder
from medcot.runs.events import Report, Sample, Warned

WIDTH_STEP = 128  # tokens between the widths at which a step without a cache is captured


def show_samples(model: Any, encoder: Encoder, budget: int, report: Report, *, step: int, cached: bool) -> None:
    """Report the model's answers to the sample questions. Too little memory for them does not end the run."""
    questions = [question for _, question in starter.SAMPLE_QUESTIONS]
    try:
        outputs = answers(model, encoder, questions, budget, cached=cached)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        report(Warned(message="No samples this time: there was not enough memory for them."))
        return
    for question, output in zip(questions, outputs, strict=True):
        report(Sample(arm="tuned", question=question, output=output, step=step))


@torch.no_grad()
def answers(model: Any, encoder: Encoder, questions: list[str], budget: int, *, cached: bool) -> list[str]:
    """One raw output a question, of `budget` tokens at most, without the end token.

    Without `cached` the model runs the whole texts again for each token, as in a validation: some backends have no KV
    cache while they train. A GPU then replays a CUDA graph.
    """
    tokenizer, contract = encoder.tokenizer, encoder.contract
    encoded = [prompts.encode_prompt(tokenizer, contract, q) for q in questions]
    was_training = model.training
    model.eval()
    try:
        if cached:
            rows = with_cache(model, encoded, budget, pad=tokenizer.pad_token_id, end=contract.eos_id)
        else:
            rows = WholeTexts(model, encoded, budget, pad=tokenizer.pad_token_id).written(contract.eos_id)
    finally:
        model.train(was_training)
    return [_text(tokenizer, contract, row) for row in rows]


def with_cache(model: Any, asked: list[list[int]], budget: int, *, pad: int, end: int) -> list[list[int]]:
    """The tokens after each prompt, by a growing KV cache."""
    ids, mask = left_padded(asked, pad, model.device)
    width, cache = ids.shape[1], DynamicCache(config=model.config)
    for _ in range(budget):
        seen = ids[:, -1:] if cache.get_seq_length() else ids
        positions = positions_of(mask)[:, -seen.shape[1] :]
        chosen = last_logits(model, seen, mask, positions, cache).argmax(-1, keepdim=True)
        ids, mask = torch.cat([ids, chosen], -1), torch.cat([mask, torch.ones_like(chosen)], -1)
        if (ids[:, width:] == end).any(-1).all():
            break
    return list(ids[:, width:].tolist())


class WholeTexts:
    """Texts that grow by a token a step, padded on the right: causal attention needs no mask then."""

    def __init__(self, model: Any, asked: list[list[int]], budget: int, *, pad: int):
        inner = model.get_base_model()
        self._decoder, self._head = inner.get_decoder(), inner.get_output_embeddings()
        longest = max(map(len, asked))
        # Unsloth cuts what is longer than the training's own sequences.
        most = min(longest + budget, getattr(self._decoder, "max_seq_length", math.inf))
        self._budget, self._starts = int(most) - longest, [len(prompt) for prompt in asked]
        widest = math.ceil(most / WIDTH_STEP) * WIDTH_STEP
        rows = [prompt + [pad] * (widest - len(prompt)) for prompt in asked]
        self._ids = torch.tensor(rows, device=model.device)
        self._rows = torch.arange(len(rows), device=model.device)
        self._last = torch.tensor(self._starts, device=model.device) - 1
        self._graphs: dict[int, Callable[[], None]] = {}

    def written(self, end: int) -> list[list[int]]:
        """The tokens after each prompt, until each text has ended or the budget is used up."""
        longest, ended = max(self._starts), torch.zeros_like(self._last, dtype=torch.bool)
        for written in range(self._budget):
            width = min(math.ceil((longest + written) / WIDTH_STEP) * WIDTH_STEP, self._ids.shape[1])
            self._step_of(width)()
            ended |= self._ids[self._rows, self._last] == end
            if bool(ended.all()):
                break
        texts = zip(self._ids.tolist(), self._starts, (self._last + 1).tolist(), strict=True)
        return [row[start:stop] for row, start, stop in texts]

    def _step(self, width: int) -> None:
        """Append the most likely token to each text; `width` holds all that is written."""
        hidden = self._decoder(input_ids=self._ids[:, :width], use_cache=False)[0]
        chosen = self._head(hidden[self._rows, self._last]).argmax(-1)
        self._last += 1
        self._ids.scatter_(1, self._last[:, None], chosen[:, None])

    def _step_of(self, width: int) -> Callable[[], None]:
        if width not in self._graphs:
            self._graphs[width] = self._captured(width) if self._ids.is_cuda else lambda: self._step(width)
        return self._graphs[width]

    def _captured(self, width: int) -> Callable[[], None]:
        """A step's CUDA graph; without one where a kernel cannot be captured."""
        before: tuple[Tensor, Tensor] = self._ids.clone(), self._last.clone()
        graph, aside = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        try:
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):  # load kernels and allocate workspaces before the capture
                self._step(width)
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._step(width)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            traceback.print_exc()  # for the worker's log
            return lambda: self._step(width)
        finally:
            self._ids.copy_(before[0])
            self._last.copy_(before[1])
        return graph.replay


def _text(tokenizer: Any, contract: PromptContract, tokens: list[int]) -> str:
    """The answer up to the end token, or to the first stop string."""
    end = tokens.index(contract.eos_id) if contract.eos_id in tokens else len(tokens)
    text = contract.opened + raw_text(tokenizer, tokens[:end])
    for stop in contract.rules.stops:
        head, found, _ = text.partition(stop)
        text = head + found
    return text
