"""The prompt contract: how a question becomes the model's input.

The contract is chosen when a run is made and saved with its adapter, because an adapter asked under another contract
gives other answers. Nothing here imports a model library: a tokenizer is handed in.
"""

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from medcot.errors import BadInput, Problem
from medcot.settings import PromptSettings
from medcot.tags import TAGS, completion_text

# Llama 3's template inserts today's date unless told one; a prompt must not change overnight.
DATE_STRING = "26 Jul 2024"
PLAIN_PROMPT = "Below is a medical question. Think step by step to solve it.\nQuestion: {question}\n"


class PromptContract(BaseModel):
    """What an adapter was trained under; saved beside it as prompt_contract.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1
    style: Literal["chat", "plain"]
    system: str | None
    template_hash: str | None
    tags: tuple[str, str, str, str] = TAGS
    eos_id: int
    eos_token: str
    date_string: str = DATE_STRING


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question, and the whole text that one arm gave to it."""

    question: str
    output: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """One record as token ids; `trained` marks, id by id, what the loss sees. `truncated` lost the end."""

    input_ids: list[int]
    trained: list[bool]
    truncated: bool

    @property
    def labels(self) -> list[int]:
        return [i if t else -100 for i, t in zip(self.input_ids, self.trained, strict=True)]


def make_contract(prompt: PromptSettings, tokenizer: Any) -> PromptContract:
    """The contract for this tokenizer. Raises BadInput where the tokenizer has no chat template or no end token."""
    template = tokenizer.chat_template if prompt.style == "chat" else None
    if prompt.style == "chat" and not template:
        raise BadInput(
            Problem(
                "prompt.style",
                "this model's tokenizer has no chat template.",
                "Set prompt.style=plain, or choose an instruction-tuned model.",
            )
        )
    eos_id = _end_of_turn(tokenizer, prompt.system) if template else tokenizer.eos_token_id
    if eos_id is None:
        raise BadInput(
            Problem(
                "model.id",
                "this model's tokenizer has no end token, so it could never stop.",
                "Choose another model.",
            )
        )
    digest = hashlib.sha256(str(template).encode()).hexdigest() if template else None
    return PromptContract(
        style=prompt.style,
        system=prompt.system,
        template_hash=digest,
        eos_id=eos_id,
        eos_token=tokenizer.convert_ids_to_tokens(eos_id),
    )


def _end_of_turn(tokenizer: Any, system: str | None) -> int | None:
    """The first special token that the chat template writes after an assistant's text."""
    marker = "medcot end marker"
    rendered = tokenizer.apply_chat_template(
        [*chat_messages("q", system), {"role": "assistant", "content": marker}],
        tokenize=False,
        date_string=DATE_STRING,
    )
    ids = tokenizer(rendered.rpartition(marker)[2], add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    end: int | None = next((i for i in ids if i in special), tokenizer.eos_token_id)
    return end


def chat_messages(question: str, system: str | None, history: Sequence[Exchange] = ()) -> list[dict[str, str]]:
    """A question, after what was said before it, as the messages that a chat template renders."""
    head = [{"role": "system", "content": system}] if system else []
    turns = [
        {"role": role, "content": text.strip()}
        for exchange in history
        for role, text in (("user", exchange.question), ("assistant", exchange.output))
    ]
    return [*head, *turns, {"role": "user", "content": question.strip()}]


def prompt_text(tokenizer: Any, contract: PromptContract, question: str, history: Sequence[Exchange] = ()) -> str:
    """The text before the completion: the question alone, never anything of the reference answer.

    `history` is what was asked and answered before it. Raises BadInput under the plain contract, which has no room for
    any.
    """
    if contract.style == "plain":
        if history:
            raise BadInput(Problem("question", "the plain contract has no follow-ups.", "Ask it as a new question."))
        return (tokenizer.bos_token or "") + PLAIN_PROMPT.format(question=question.strip())
    rendered = tokenizer.apply_chat_template(
        chat_messages(question, contract.system, history),
        tokenize=False,
        add_generation_prompt=True,
        date_string=contract.date_string,
    )
    return str(rendered)


def encode_prompt(
    tokenizer: Any, contract: PromptContract, question: str, history: Sequence[Exchange] = ()
) -> list[int]:
    """Token ids of the prompt; special tokens come from the template alone, so there is never a second BOS.

    A special token that somebody typed, or that a model wrote, is text like any other: it ends no turn.
    """
    rendered = prompt_text(tokenizer, contract, question, history)
    spoken = [text for exchange in history for text in (exchange.question, exchange.output)] + [question]
    if not any(_specials_in(tokenizer, text) for text in spoken):
        ids: list[int] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        return ids
    marks = [f"medcotpart{i}mark" for i in range(len(spoken))]
    exchanges = [Exchange(*marks[i : i + 2]) for i in range(0, len(marks) - 1, 2)]
    template = prompt_text(tokenizer, contract, marks[-1], exchanges)
    pieces = re.split("(" + "|".join(marks) + ")", template)
    texts = dict(zip(marks, spoken, strict=True))
    return [
        i
        for piece in pieces
        for i in (
            encode_text(tokenizer, texts[piece].strip())
            if piece in texts
            else tokenizer(piece, add_special_tokens=False)["input_ids"]
        )
    ]


@functools.lru_cache(maxsize=8)
def _special_names(tokenizer: Any) -> tuple[str, ...]:
    """Names of special tokens. Ordinary added tokens, such as the <think> of some models, are words of the text."""
    return tuple(t.content for t in tokenizer.added_tokens_decoder.values() if t.special and len(t.content) > 1)


def _specials_in(tokenizer: Any, text: str) -> list[str]:
    return [name for name in _special_names(tokenizer) if name in text]


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of somebody's words, in which the name of a special token is spelt out like any other word."""
    breaks = "|".join(f"(?<={re.escape(n[0])})(?={re.escape(n[1:])})" for n in _specials_in(tokenizer, text))
    pieces = re.split(breaks, text) if breaks else [text]
    return [i for piece in pieces for i in tokenizer(piece, add_special_tokens=False)["input_ids"]]


def encode_example(
    tokenizer: Any,
    contract: PromptContract,
    question: str,
    reasoning: str,
    answer: str,
    *,
    loss_on: Literal["completion", "all"],
    max_length: int,
) -> Encoded:
    """One record for training: prompt, tagged completion, end-of-turn token; cut at max_length tokens."""
    prompt = encode_prompt(tokenizer, contract, question)
    completion = encode_text(tokenizer, completion_text(reasoning, answer))
    ids = [*prompt, *completion, contract.eos_id]
    trained = [loss_on == "all"] * len(prompt) + [True] * (len(completion) + 1)
    return Encoded(ids[:max_length], trained[:max_length], truncated=len(ids) > max_length)


def stop_strings(contract: PromptContract) -> tuple[str, ...]:
    """Adapters of the plain lineage exist that never learned an end token; the closing tag ends them too."""
    return ("</response>",) if contract.style == "plain" else ()


def contract_differences(trained: PromptContract, asked: PromptContract) -> list[str]:
    """What differs between the contract of an adapter and the one about to be used, both sides shown."""
    return [
        f"{name}: the adapter was trained with {getattr(trained, name)!r}, this is {getattr(asked, name)!r}"
        for name in differing(trained, asked)
    ]


def differing(one: PromptContract, other: PromptContract) -> list[str]:
    """The names of what differs between two contracts."""
    return [name for name in PromptContract.model_fields if getattr(one, name) != getattr(other, name)]
