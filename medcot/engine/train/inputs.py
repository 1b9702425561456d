"""What a run trains on, checked before any weights are loaded: the plan and the training both begin with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medcot import data, prompts
from medcot.adapters.base import quantized
from medcot.data import starter
from medcot.engine import lora, models
from medcot.engine.models import LocalModel
from medcot.engine.train.memory_plan import ModelDims
from medcot.errors import BadInput, Problem, collected
from medcot.prompts.chat_template import examine
from medcot.prompts.contract import keeps_earlier_reasoning
from medcot.prompts.encoder import Encoded, Encoder
from medcot.runs.events import Progress, Report
from medcot.settings import RunSettings


@dataclass(frozen=True, slots=True)
class Inputs:
    """A run's records under its model's tokenizer, and the model's dimensions.

    `encoded` are the sequences of each training and validation example of the split, in this order; `train_set` and
    `validation` are those that are used, without what data.overlong leaves out.
    """

    split: data.Split
    local: LocalModel
    encoder: Encoder
    encoded: list[list[Encoded]]
    train_set: list[Encoded]
    validation: list[Encoded]
    dims: ModelDims
    window: int | None  # the most tokens that the model was made to read at once

    @classmethod
    def of(cls, settings: RunSettings, report: Report) -> "Inputs":
        """Read, encode and check. Raises BadInput with all that would stop the training or spoil it unseen: records,
        tokens or sample answers beyond what the model has places for, layers that it has not, weights of a few bits."""
        report(Progress(stage="Reading the data"))
        split = data.load(settings.data)
        local = models.resolve(settings.model, report)
        report(Progress(stage="Encoding the records", total=len(split.train) + len(split.validated)))
        model = lora.outline(local.path)
        problems = [unusable] if (unusable := quantized(local.path)) else []
        dims = encoder = None
        with collected(problems):
            dims = ModelDims.of(model, settings.lora)
        with collected(problems):
            encoder = Encoder.of(settings, models.load_tokenizer(local.path))
        if encoder is None:
            raise BadInput(problems)
        train_set, validation, encoded = [], [], list[list[Encoded]]()
        with collected(problems):
            require_fit([*split.train, *split.validated], encoder)
            encoded = encode([*split.train, *split.validated], encoder)
            train_set, validation = (
                fitting(encoded[: len(split.train)], encoder),
                fitting(encoded[len(split.train) :], encoder),
            )
            asked = [prompts.encode_prompt(encoder.tokenizer, encoder.contract, q) for _, q in starter.SAMPLE_QUESTIONS]
            problems += beyond_window(model.config, settings, [*train_set, *validation], asked)
            used = {i for ids in (*asked, *(e.input_ids for e in (*train_set, *validation))) for i in ids}
            problems += beyond_vocabulary(model, encoder.tokenizer, used)
        if problems or dims is None:
            raise BadInput(problems)
        return cls(split, local, encoder, encoded, train_set, validation, dims, models.window(model.config))

    @property
    def left_out(self) -> int:
        """How many sequences data.overlong leaves out."""
        return sum(map(len, self.encoded)) - len(self.train_set) - len(self.validation)


def require_fit(examples: list[data.Example], encoder: Encoder) -> None:
    """Raise BadInput where the prompt contract has no place for what the records hold beside questions and answers."""
    if several := [e.record for e in examples if e.more]:
        try:
            keeps_earlier_reasoning(encoder.tokenizer, encoder.contract)
        except BadInput as bad:
            what = f"record {several[0]} has several turns, and {bad.problems[0].what}"
            fix = "Choose another model, or give each question and answer a record of its own."
            raise BadInput.of("prompt.style", what, fix) from None
    if own := next((e for e in examples if e.system), None):
        try:
            examine(encoder.tokenizer, own.system)
        except BadInput as bad:
            what = f"record {own.record} has a system message, and {bad.problems[0].what}"
            raise BadInput.of("data.system_messages", what, "Set data.system_messages=leave_out.") from None


def encode(examples: list[data.Example], encoder: Encoder) -> list[list[Encoded]]:
    """Encode the examples. Raises BadInput if a prompt alone fills the longest sequence."""
    encoded = [encoder.sequences(e.turns, e.system) for e in examples]
    masked = [e.record for e, own in zip(examples, encoded, strict=True) if not any(any(ids.trained) for ids in own)]
    if masked and encoder.overlong == "cut":
        what = f"at {encoder.max_length} tokens nothing of record {', '.join(map(str, masked[:10]))} is left to learn"
        what += " from: the question fills it."
        raise BadInput.of("training.max_length", what, "Raise training.max_length.")
    return encoded


def fitting(encoded: list[list[Encoded]], encoder: Encoder) -> list[Encoded]:
    """The sequences that are used: all where what is too long is cut. Raises BadInput if none is."""
    kept = [ids for own in encoded for ids in own if encoder.overlong == "cut" or not ids.truncated]
    if not kept:
        what = f"none of {len(encoded)} records fits into {encoder.max_length} tokens, so all would be left out."
        raise BadInput.of("training.max_length", what, "Raise training.max_length, or set data.overlong=cut.")
    return kept


def beyond_window(
    config: Any, settings: RunSettings, encoded: list[Encoded], asked: list[list[int]]
) -> Iterator[Problem]:
    """Records, and sample answers, that are longer than the model's window."""
    places, t = models.window(config), settings.training
    if places is None:
        return
    lengths = [len(e.input_ids) for e in encoded]
    if long := [n for n in lengths if n > places]:
        what = f"the model's window is {places} tokens, and {len(long)} of {len(lengths)} records are longer, up to"
        fix = f"Set training.max_length={places}, which cuts them, or choose a model with a longer window."
        yield Problem("training.max_length", f"{what} {max(long)}.", fix)
    longest = max(map(len, asked))
    if t.sample_tokens and longest + t.sample_tokens > places:
        what = f"a sample question has {longest} tokens, and the model's window of {places} has no room for"
        fix = f"Set training.sample_tokens={max(0, places - longest)}."
        yield Problem("training.sample_tokens", f"{what} {t.sample_tokens} more.", fix)


def beyond_vocabulary(model: Any, tokenizer: Any, used: set[int]) -> Iterator[Problem]:
    """Tokens that may come up and for which the model's embedding has no row.

    A special token that nothing writes is harmless, and some models have one: its name, when typed, is spelt out.
    """
    rows = model.get_input_embeddings().num_embeddings
    silent = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    silent -= {*used, tokenizer.pad_token_id, tokenizer.eos_token_id}
    beyond = sorted((i, token) for token, i in tokenizer.get_vocab().items() if i >= rows and i not in silent)
    if beyond:
        named = ", ".join(f"{token!r} is {i}" for i, token in beyond[:3]) + (" and so on" if beyond[3:] else "")
        what = f"the model's embedding has rows for tokens 0 to {rows - 1}, and its tokenizer has others: {named}."
        fix = "Use the tokenizer that the model was trained with"
        if tokenizer.pad_token_id >= rows:
            fix += ", or make its pad_token one that it had before, such as its eos_token, in tokenizer_config.json"
        yield Problem("model.id", what, f"{fix}.")
