"""An exported file, asked by llama.cpp: the run's held-out questions, greedily, against the model that was exported.

Token by token: the exported model reads each answer that llama.cpp gave, and says at each place what it would have
chosen. Where an answer runs on to the limit, the exported model gives its own, to know whether it would have stopped.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from medcot import prompts
from medcot.engine.answer.server import threads
from medcot.engine.decode.runner import left_padded
from medcot.engine.gguf.family import context_length, family_of
from medcot.engine.gguf.llama import SLOTS, Completion, LlamaServer
from medcot.engine.held_out import Asked
from medcot.engine.models import raw_text
from medcot.evaluation.answers import Decoding, Reply
from medcot.prompts.contract import PromptContract
from medcot.runs.events import Progress, Report
from medcot.runs.export import AskedFile

LEAST = {"f16": 0.9, "bf16": 0.9, "q8_0": 0.9}  # of the tokens that have to be the exported model's; of others half
BATCH = 16  # answers of the exported model at a time
NAMED = 10  # questions with another prompt at most
MOST_RUNNING_ON = 0.1  # of the answers may run on where the exported model stops


class Checker:
    """Asks files, and holds their answers against one model."""

    def __init__(self, model: Any, tokenizer: Any, contract: PromptContract, asked: Asked, most: int, report: Report):
        self.model, self.tokenizer, self.contract, self.asked, self.report = model, tokenizer, contract, asked, report
        self.prompts = [prompts.encode_prompt(tokenizer, contract, question) for question in asked.questions]
        config, longest = model.config, max(map(len, self.prompts))
        room = context_length(config.get_text_config(), family_of(config))
        self.most = min(most, room - longest)
        self.context = min(room, -(-(longest + self.most + 8) // 256) * 256)
        self.ends = {contract.eos_id, tokenizer.eos_token_id} - {None}

    def ask(self, file: Path, adapter: Path | None = None) -> AskedFile:
        """Ask a file everything. Raises BadInput if llama.cpp refuses it, WorkerFailed if it ends or takes too long."""
        self.report(Progress(stage=f"Loading {file.name} in llama.cpp"))
        decoding, stops = Decoding(self.most), self.contract.rules.stops
        with LlamaServer(file, context=self.context, adapter=adapter) as server:
            other = [n for n, (q, ids) in enumerate(self._each()) if server.asked_as(q, self.contract) != ids]
            began, found = time.monotonic(), list[Completion]()
            with threads(SLOTS) as pool:
                for answer in pool.map(lambda ids: server.complete(ids, decoding, stops), self.prompts):
                    found.append(answer)
                    stage = f"Asking {file.name} in llama.cpp"
                    self.report(Progress(stage=stage, done=len(found), total=len(self.prompts)))
            seconds = time.monotonic() - began
        return self._compared(found, other, seconds)

    def _each(self) -> Iterator[tuple[str, list[int]]]:
        return zip(self.asked.questions, self.prompts, strict=True)

    def _compared(self, found: list[Completion], other: list[int], seconds: float) -> AskedFile:
        tokens = same = same_answers = 0
        doubtful = list[list[int]]()  # prompts whose answers run on, after another token than the model's
        for number, (prompt, answer) in enumerate(zip(self.prompts, found, strict=True), start=1):
            self.report(Progress(stage="Comparing token by token", done=number, total=len(found)))
            equal = self._equal(prompt, answer.tokens)
            tokens, same = tokens + len(answer.tokens), same + equal
            same_answers += equal == len(answer.tokens)
            if answer.ended == "limit" and equal < len(answer.tokens):
                doubtful.append(prompt)
        return AskedFile(
            questions=len(found),
            same_prompts=len(found) - len(other),
            other_prompts=[self.asked.named(number) for number in other],
            tokens=tokens,
            same_tokens=same,
            same_answers=same_answers,
            stopped=sum(answer.ended == "finished" for answer in found),
            running_on=sum(self._stop(doubtful[i : i + BATCH]) for i in range(0, len(doubtful), BATCH)),
            tokens_per_second=tokens / max(seconds, 1e-6),
            scores=self.asked.scores([Reply(text=self.text(a), ended=a.ended, tokens=len(a.tokens)) for a in found]),
            tuned=self.asked.tuned_scores(),
        )

    @torch.inference_mode()
    def _equal(self, prompt: list[int], tokens: list[int]) -> int:
        """How many of an answer's tokens the model itself chooses after the text before."""
        if not tokens:
            return 0
        ids = torch.tensor([prompt + tokens], device=self.model.device)
        chosen = self.model(ids, logits_to_keep=len(tokens) + 1).logits[0, :-1].argmax(-1).tolist()
        return sum(one == other for one, other in zip(chosen, tokens, strict=True))

    @torch.inference_mode()
    def _stop(self, asked: list[list[int]]) -> int:
        """How many of the model's own answers to these prompts end by themselves."""
        self.report(Progress(stage=f"Asking the exported model where {len(asked)} answers run on"))
        padded = left_padded(asked, self.tokenizer.pad_token_id, self.model.device)
        options: dict[str, Any] = {"max_new_tokens": self.most, "do_sample": False, "eos_token_id": list(self.ends)}
        options |= {"pad_token_id": self.tokenizer.pad_token_id, "attention_mask": padded[1]}
        own = self.model.generate(input_ids=padded[0], **options)[:, padded[0].shape[1] :].tolist()
        texts = self.tokenizer.batch_decode(own)
        stops = self.contract.rules.stops
        return sum(
            not self.ends.isdisjoint(ids) or any(stop in text for stop in stops)
            for ids, text in zip(own, texts, strict=True)
        )

    def text(self, answer: Completion) -> str:
        """An answer as a reader has it: after the tag that the prompt opened, without the token that ended it."""
        return self.contract.opened + raw_text(self.tokenizer, answer.said)


def verdict(asked: AskedFile, quantization: str) -> str:
    """Why a file is not kept; empty if it is."""
    if asked.same_prompts < asked.questions:
        other = asked.questions - asked.same_prompts
        what = f"its template or tokenizer makes {other} of {asked.questions} prompts other than the contract's"
        return f"{what}: of {', '.join(asked.other_prompts[:NAMED])}" if asked.other_prompts else what
    least = LEAST.get(quantization, 0.5)
    if asked.same_tokens < least * asked.tokens:
        return (
            f"only {asked.same_tokens} of {asked.tokens} tokens are those of the exported model (at least {least:.0%})"
        )
    if asked.running_on > MOST_RUNNING_ON * asked.questions:
        return f"{asked.running_on} of {asked.questions} answers run on where the exported model stops"
    return ""
