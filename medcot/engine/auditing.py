"""What the data is under a tokenizer: lengths, what is cut or repeated, one record as the model sees it."""

import math
import statistics
from typing import Any, Literal

from medcot import columns, data, prompts
from medcot.engine import models
from medcot.engine.backends.peft import load_tokenizer
from medcot.errors import BadInput, Problem
from medcot.events import Report
from medcot.prompts import Encoded, PromptContract
from medcot.settings import RunSettings
from medcot.similarity import near_duplicates

BINS = 24
MOST_SHOWN = 20  # repeated questions told one by one; all are counted
UNCUT = 10**9
PARTS = ("question", "reasoning", "answer")

Kind = Literal["prompt", "trained", "end", "cut"]


def audit(
    split: data.Split, encoded: list[Encoded], tokenizer: Any, contract: PromptContract, settings: RunSettings
) -> dict[str, Any]:
    """`encoded` belongs to training and held-out examples, in this order. Lengths are in tokens."""
    examples = [*split.train, *split.held_out]
    lengths = {part: _lengths(tokenizer, [getattr(e, part) for e in examples]) for part in PARTS}
    lengths["whole"] = [
        len(_encoded(e, tokenizer, contract, settings).input_ids) if ids.truncated else len(ids.input_ids)
        for e, ids in zip(examples, encoded, strict=True)
    ]
    duplicates, pairs = _duplicates(examples), _near_duplicates(split)
    cut = [e.record for e, ids in zip(examples, encoded, strict=True) if ids.truncated]
    return {
        "records": {"train": len(split.train), "held_out": len(split.held_out)},
        "columns": columns.of(settings.data),
        "skipped": len(split.skipped),
        "lengths": {name: describe(values) for name, values in lengths.items()},
        "histograms": {name: histogram(values) for name, values in lengths.items()},
        "truncated_share": len(cut) / len(encoded),
        "max_length": settings.training.max_length,
        "keeps_all": max(lengths["whole"]),
        "duplicates": len(duplicates),
        "near_duplicates": len(pairs),
        "skipped_records": split.skipped[:MOST_SHOWN],
        "truncated_records": cut[:MOST_SHOWN],
        "duplicate_records": duplicates[:MOST_SHOWN],
        "near_duplicate_pairs": pairs[:MOST_SHOWN],
    }


def _lengths(tokenizer: Any, texts: list[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def _encoded(e: data.Example, tokenizer: Any, contract: PromptContract, settings: RunSettings) -> Encoded:
    """The whole record, as long as it is."""
    return prompts.encode_example(
        tokenizer, contract, e.question, e.reasoning, e.answer, loss_on=settings.prompt.loss_on, max_length=UNCUT
    )


def describe(values: list[int]) -> dict[str, float]:
    """Tokens: mean, median, 95th percentile, largest."""
    ordered = sorted(values)
    return {
        "mean": round(statistics.fmean(values), 1),
        "p50": ordered[len(ordered) // 2],
        "p95": ordered[int(len(ordered) * 0.95)],
        "max": ordered[-1],
    }


def histogram(values: list[int]) -> dict[str, Any]:
    """{"width", "counts"}: counts[i] values lie in [i * width, (i + 1) * width); a round width, about BINS bins."""
    least = max(1, max(values)) / BINS
    size = 10 ** math.floor(math.log10(least)) if least >= 1 else 1
    width = next(size * m for m in (1, 2, 5, 10) if size * m >= least)
    counts = [0] * (max(values) // width + 1)
    for value in values:
        counts[value // width] += 1
    return {"width": width, "counts": counts}


def _duplicates(examples: list[data.Example]) -> list[dict[str, Any]]:
    """Records whose question stands word for word in an earlier one, upper and lower case alike."""
    seen: dict[str, int] = {}
    return [
        {"record": e.record, "same_as": first, "question": e.question}
        for e in examples
        if (first := seen.setdefault(e.question.casefold(), e.record)) != e.record
    ]


def _near_duplicates(split: data.Split) -> list[dict[str, Any]]:
    """Held-out questions that nearly repeat a training question, most alike first, with both texts."""
    sides = {side: {e.record: e.question for e in getattr(split, side)} for side in ("train", "held_out")}
    pairs = near_duplicates(list(sides["train"].items()), list(sides["held_out"].items()))
    return [
        pair | {f"{side}_question": sides[side][pair[f"{side}_record"]] for side in ("held_out", "train")}
        for pair in sorted(pairs, key=lambda pair: -pair["similarity"])
    ]


def tokens(settings: RunSettings, record: int | None, report: Report) -> dict[str, Any]:
    """What the model learns from in one record of the source, by its number; None is the first to train on.

    Raises BadInput where no such record is used.
    """
    split = data.load(settings.data)
    tokenizer = load_tokenizer(models.resolve(settings.model, report).path)
    contract = prompts.make_contract(settings.prompt, tokenizer)
    examples = [*split.train, *split.held_out]
    chosen = next((e for e in examples if e.record == record), None) if record is not None else examples[0]
    if chosen is None:
        numbers = sorted(e.record for e in examples)
        raise BadInput(
            Problem("record", f"there is no record {record} in use.", f"They go from {numbers[0]} to {numbers[-1]}.")
        )
    shown = token_view(chosen, tokenizer, contract, settings)
    return shown | {"held_out": any(e.record == chosen.record for e in split.held_out)}


def token_view(
    example: data.Example, tokenizer: Any, contract: PromptContract, settings: RunSettings
) -> dict[str, Any]:
    """{"record", "pieces": [[text, kind], ...], "prompt", "trained", "cut"}: every token of a record, and their counts.

    A character that takes several tokens is one piece. "end" is the end-of-turn token; "cut" lies past max_length.
    """
    encoded = _encoded(example, tokenizer, contract, settings)
    limit = settings.training.max_length
    kinds: list[Kind] = [
        "cut" if i >= limit else "end" if i == len(encoded.trained) - 1 else "trained" if trained else "prompt"
        for i, trained in enumerate(encoded.trained)
    ]
    return {
        "record": example.record,
        "pieces": _pieces(tokenizer, encoded.input_ids, kinds),
        "prompt": kinds.count("prompt"),
        "trained": kinds.count("trained") + kinds.count("end"),
        "cut": kinds.count("cut"),
    }


def _pieces(tokenizer: Any, ids: list[int], kinds: list[Kind]) -> list[list[str]]:
    pieces: list[list[str]] = []
    waiting: list[int] = []
    for i, (token, kind) in enumerate(zip(ids, kinds, strict=True)):
        waiting.append(token)
        text = tokenizer.decode(waiting, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        last = i + 1 == len(ids) or kinds[i + 1] != kind
        if "\ufffd" in text and len(waiting) < 4 and not last:
            continue  # half of a character: UTF-8 has at most four bytes
        pieces.append([text, kind])
        waiting = []
    return pieces
