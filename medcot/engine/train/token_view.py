"""One record as the model sees it: what is read, what is learned, and what is cut off."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

from medcot import data
from medcot.engine import models
from medcot.errors import BadInput
from medcot.prompts.encoder import Encoded, Encoder
from medcot.runs.events import Report
from medcot.runs.plan import Kind, TokenView
from medcot.settings import DataSettings, Part, RunSettings

UNCUT = 10**9


def of_source(split: data.Split, settings: DataSettings) -> list[data.Example]:
    """The examples of data.source, whose numbers are its own: to train on, and those that are held out of it."""
    parts: list[tuple[Part, list[data.Example]]] = [("validation", split.validation or []), ("test", split.held_out)]
    return [*once(split.train), *(e for name, part in parts if settings.part(name) is None for e in part)]


def once(examples: list[data.Example]) -> list[data.Example]:
    """Each record once, also where a weight has it learned several times."""
    return list({e.record: e for e in examples}.values())


def uncut(e: data.Example, encoder: Encoder, *, joined: bool = True) -> list[Encoded]:
    return replace(encoder, max_length=UNCUT).sequences(e.turns, e.system, joined=joined)


def tokens(settings: RunSettings, record: int | None, report: Report) -> TokenView:
    """One record as the model sees it, by its number in the source, or the first. Raises BadInput if it is not used."""
    split = data.load(settings.data)
    encoder = Encoder.of(settings, models.load_tokenizer(models.resolve(settings.model, report).path))
    examples = {e.record: e for e in of_source(split, settings.data)}
    chosen = examples.get(record) if record is not None else split.train[0]
    if chosen is None:
        what, fix = f"there is no record {record} in use.", f"They go from {min(examples)} to {max(examples)}."
        raise BadInput.of("record", what, fix)
    return token_view(chosen, encoder).model_copy(update={"held_out": chosen not in split.train})


def token_view(example: data.Example, encoder: Encoder) -> TokenView:
    """The record's sequences, one after the other; apart where one of them is too long."""
    found = wholes = encoder.sequences(example.turns, example.system)
    if any(ids.truncated or ids.left_off for ids in found):
        found = encoder.sequences(example.turns, example.system, joined=False)
        wholes = uncut(example, encoder, joined=False)
    pieces, counts = list[tuple[str, Kind]](), Counter[Kind]()
    for encoded, entire in zip(found, wholes, strict=True):
        kinds = _kinds(encoded, entire, encoder)
        counts.update(kinds)
        pieces += _pieces(encoder.tokenizer, entire.input_ids, kinds)
    trained = counts["trained"] + counts["end"]
    return TokenView(record=example.record, pieces=pieces, prompt=counts["prompt"], trained=trained, cut=counts["cut"])


def _kinds(encoded: Encoded, entire: Encoded, encoder: Encoder) -> list[Kind]:
    """What becomes of each token of the uncut sequence."""
    ids, learned = entire.input_ids, [*entire.trained, False]
    kinds: list[Kind] = ["prompt" if not now else "trained" if after else "end" for now, after in pairwise(learned)]
    if encoded.left_off:  # the part of the reasoning that was taken out stands where it was
        pairs = enumerate(zip(encoded.input_ids, ids, strict=False))
        same = next((i for i, (one, other) in pairs if one != other), len(encoded.input_ids))
        rest = len(encoded.input_ids) - same
        kinds[same : len(ids) - rest] = ["cut"] * (len(ids) - rest - same)
    elif encoded.truncated:
        kept = encoder.max_length if encoder.overlong == "cut" else 0
        kinds[kept:] = ["cut"] * len(kinds[kept:])
    return kinds


def _pieces(tokenizer: Any, ids: list[int], kinds: list[Kind]) -> list[tuple[str, Kind]]:
    pieces: list[tuple[str, Kind]] = []
    waiting: list[int] = []
    for i, (token, kind) in enumerate(zip(ids, kinds, strict=True)):
        waiting.append(token)
        text = models.raw_text(tokenizer, waiting)
        last = i + 1 == len(ids) or kinds[i + 1] != kind
        if "\ufffd" in text and len(waiting) < 4 and not last:
            continue  # part of a character: UTF-8 has at most four bytes
        pieces.append((text, kind))
        waiting = []
    return pieces
