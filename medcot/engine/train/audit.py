"""What the data is under a tokenizer: lengths, what is cut or repeated, one record as the model sees it."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from medcot import data
from medcot.data import columns, identifiers
from medcot.data.repeats import repeats
from medcot.data.split import LEFT_OUT
from medcot.engine import backends, models
from medcot.engine.train import memory_plan, training
from medcot.engine.train.inputs import Inputs
from medcot.engine.train.memory_plan import Hardware, remedy
from medcot.engine.train.token_view import of_source, once, token_view, uncut
from medcot.prompts.contract import keeps_earlier_reasoning
from medcot.prompts.encoder import Encoded, Encoder
from medcot.prompts.tags import TAG
from medcot.runs.events import Report
from medcot.runs.plan import (
    Audit,
    Duplicate,
    Histogram,
    Identifiers,
    LeftOut,
    Lengths,
    NearDuplicate,
    Plan,
    Planned,
    SourceShare,
)
from medcot.settings import PARTS, DataSettings, RunSettings, cautions

BINS = 24
MOST_SHOWN = 20  # records listed one by one; all are counted
TEXTS = ("question", "reasoning", "answer")


def audit(split: data.Split, encoded: list[list[Encoded]], encoder: Encoder, settings: DataSettings) -> Audit:
    """Audit the data. `encoded` are the sequences of training and validation examples, in this order.

    Lists of record numbers, and their counts, are of the records of data.source.
    """
    examples = [*split.train, *split.validated]
    pairs = list(zip(examples, encoded, strict=True))
    sources = shares(split, pairs[: len(split.train)])
    turns = [turn for e in examples for turn in e.turns if turn.reasoning]
    lengths = {part: _lengths(encoder.tokenizer, [getattr(turn, part) for turn in turns]) for part in TEXTS}
    wholes = (uncut(e, encoder) if any(s.truncated or s.left_off for s in own) else own for e, own in pairs)
    lengths["whole"] = [len(ids.input_ids) for own in wholes for ids in own]
    if settings.part("validation"):
        pairs = pairs[: len(split.train)]
    pairs = list({e.record: (e, own) for e, own in pairs}.values())  # a weight may have a record learned several times
    examples = of_source(split, settings)
    duplicates = _duplicates(examples)
    learned = [(e.record, turn.question) for e in once(split.train) for turn in e.turns]
    sides = learned, [(e.record, e.question) for e in split.held_out]
    alike = [] if split.validation is not None else sorted(near_duplicates(*sides), key=lambda pair: -pair.similarity)
    too_long = [e.record for e, own in pairs if any(ids.truncated for ids in own)]
    unfit = [e.record for e, own in pairs if all(ids.truncated for ids in own)]
    cut, left_out = (too_long, []) if encoder.overlong == "cut" else ([], unfit)
    begun = [] if encoder.overlong == "cut" else [n for n in too_long if n not in set(unfit)]
    shortened = [e.record for e, own in pairs if any(ids.left_off for ids in own)]
    tagged = [e.record for e in examples if any(TAG.search(text) for text in e.texts())]
    several = [e for e in examples if e.more]
    found = identifiers.counted(split.masked or identifiers.places(examples))
    return Audit(
        records=counts(split),
        sources=sources,
        columns=columns.named(settings),
        unused=split.unused,
        skipped=len(split.skipped),
        lengths={name: describe(values) for name, values in lengths.items()},
        histograms={name: histogram(values) for name, values in lengths.items()},
        truncated_share=len(cut) / len(pairs),
        overlong=encoder.overlong,
        shortened=len(shortened),
        left_out=len(left_out),
        begun=len(begun),
        several=len(several),
        read_only=sum(not turn.reasoning for e in several for turn in e.turns),
        earlier_reasoning=bool(several) and keeps_earlier_reasoning(encoder.tokenizer, encoder.contract),
        own_systems=sum(bool(e.system) for e in examples),
        max_length=encoder.max_length,
        keeps_all=max(lengths["whole"]),
        duplicates=len(duplicates),
        near_duplicates=len({pair.held_out_record for pair in alike}),
        untagged=sum(e.untagged for e in examples),
        tagged=len(tagged),
        tagged_records=tagged[:MOST_SHOWN],
        identifiers={kind: Identifiers(count=n, records=shown) for kind, (n, shown) in found.items()},
        masked=bool(split.masked),
        skipped_records=split.skipped[:MOST_SHOWN],
        truncated_records=cut[:MOST_SHOWN],
        shortened_records=shortened[:MOST_SHOWN],
        left_out_records=left_out[:MOST_SHOWN],
        begun_records=begun[:MOST_SHOWN],
        duplicate_records=duplicates[:MOST_SHOWN],
        near_duplicate_pairs=alike[:MOST_SHOWN],
        repeated={} if split.validation is None else {part: split.left_out_of(part) for part in LEFT_OUT},
        repeated_records=[LeftOut(**asdict(one)) for one in split.repeated[:MOST_SHOWN]],
    )


def shares(split: data.Split, pairs: Sequence[tuple[data.Example, list[Encoded]]]) -> list[SourceShare]:
    """What the first and each further data set gives to an epoch; empty where there is one alone."""
    whole = sum(len(ids.input_ids) for _, own in pairs for ids in own)
    found = [
        SourceShare(
            name=share.named,
            weight=share.weight,
            learned=share.learned,
            share=sum(len(ids.input_ids) for e, own in pairs if e in share for ids in own) / whole,
        )
        for share in split.shares
    ]
    learned, rest = sum(one.learned for one in found), 1 - sum(one.share for one in found)
    first = SourceShare(name="data.source", weight=1, learned=len(pairs) - learned, share=rest)
    return [first, *found] if found else []


def counts(split: data.Split) -> dict[str, int]:
    """How many records each part has."""
    train, held_out = len(split.train), len(split.held_out)
    if split.validation is None:
        return {"train": train, "held_out": held_out}
    return {"train": train, "validation": len(split.validation), "test": held_out}


def _lengths(tokenizer: Any, texts: list[str]) -> list[int]:
    return [len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]


def describe(values: list[int]) -> Lengths:
    ordered, count = sorted(values), len(values)
    mean = round(statistics.fmean(values), 1)
    return Lengths(mean=mean, p50=ordered[count // 2], p95=ordered[int(count * 0.95)], max=ordered[-1])


def histogram(values: list[int]) -> Histogram:
    """About BINS bins of a round width."""
    least = max(1, max(values)) / BINS
    size = 10 ** math.floor(math.log10(least)) if least >= 1 else 1
    width = next(size * m for m in (1, 2, 5, 10) if size * m >= least)
    counted = Counter(value // width for value in values)
    return Histogram(width=width, counts=[counted[place] for place in range(max(counted) + 1)])


def _duplicates(examples: list[data.Example]) -> list[Duplicate]:
    seen: dict[str, int] = {}
    return [
        Duplicate(record=e.record, same_as=first, question=e.question)
        for e in examples
        if (first := seen.setdefault(e.question.casefold(), e.record)) != e.record
    ]


ON_APPLE = (
    "It would run on this Mac's GPU (mps), in the memory that CPU and GPU share. medcot was not tried there: hold "
    "the first losses against a run on the CPU. A stopped run with lora.dropout goes on, not with the same weights."
)


def plan(settings: RunSettings, report: Report) -> Planned:
    """The answer to `medcot plan`. Raises BadInput if the run could not start."""
    inputs = Inputs.of(settings, report)
    split, dims = inputs.split, inputs.dims
    audited = audit(split, inputs.encoded, inputs.encoder, settings.data)
    free = memory_plan.free_gib_unseen(settings.training.processes)
    hardware = Hardware(backends.class_for(settings).memory, torch.cuda.is_available(), free)
    lengths = [len(e.input_ids) for e in inputs.train_set]
    arrangement = memory_plan.plan_batching(dims, settings, hardware, lengths)
    steps = training.total_steps(len(inputs.train_set), memory_plan.arranged(settings, arrangement).training)
    problems = warnings(audited, inputs.window) + of_own_parts(inputs, settings.data) + cautions(settings, steps)
    if models.device_type() == "mps" and settings.training.processes == 1:
        problems.append(ON_APPLE)
    if not arrangement.fits:
        fix = remedy(dims, settings, hardware, lengths)
        problems.insert(0, f"Memory may not be enough: {arrangement}. {fix}")
    return Planned(
        problems=problems,
        audit=audited,
        plan=Plan(trainable_parameters=dims.trained, **arrangement.model_dump(), steps=steps),
        tokens=token_view(split.train[0], inputs.encoder),
    )


def warnings(audit: Audit, window: int | None) -> list[str]:
    """What to know of the data before a start; none of it prevents the start."""
    at, share = f"training.max_length={audit.max_length}", audit.truncated_share
    whole = f"{audit.keeps_all} keeps all"
    if window and audit.keeps_all > window:
        whole += f", and the model's window is {window}"
    why = ", since question, a first sentence and answer do not fit" if audit.overlong == "shorten" else ""
    near = f"Held-out questions that nearly repeat a training question: {audit.near_duplicates}; scores will flatter."
    untagged = f"Records whose tags around a text were taken off, since training writes them: {audit.untagged}."
    first = f"record {audit.tagged_records[0]} first" if audit.tagged else ""
    tagged = f"Records that hold a tag inside their text ({first}), which the model may learn: {audit.tagged}."
    notes = {
        f"{at} cuts {share:.1%} of the records, and what is cut is the answer. {whole}.": share,
        f"Records longer than {at}, whose reasoning ends at an earlier sentence so that their answer stays: "
        f"{audit.shortened} ({numbers(audit.shortened_records)}). {whole}.": audit.shortened,
        f"Records longer than {at} that are left out{why}: "
        f"{audit.left_out} ({numbers(audit.left_out_records)}). {whole}.": audit.left_out,
        f"Conversations whose later turns are left out, since they do not fit into {at}: "
        f"{audit.begun} ({numbers(audit.begun_records)}). {whole}.": audit.begun,
        audit.conversations: audit.several,
        f"Records with a system message of their own: {audit.own_systems}. Each is learned with it; Chat and "
        "evaluations ask without.": audit.own_systems,
        near: audit.near_duplicates,
        f"{audit.duplicates} questions occur more than once.": audit.duplicates,
        untagged: audit.untagged,
        tagged: audit.tagged,
        personal(audit): len(audit.identifiers),
        f"Empty records passed over, as data.empty_records=skip says: {audit.skipped}.": audit.skipped,
    }
    return [note for note, count in notes.items() if count]


def of_own_parts(inputs: Inputs, settings: DataSettings) -> list[str]:
    """What there is to know of validation and test data that has a file or a data set of its own."""
    split, found = inputs.split, list[str]()
    for part in PARTS:
        examples = split.validated if part == "validation" else split.held_out
        if settings.part(part) is None or settings.identifiers != "warn":
            continue
        if kinds := identifiers.in_words(identifiers.counted(identifiers.places(examples))):
            found.append(f"What could identify a person stands in data.{part}: {kinds}.")
    if settings.part("validation"):
        encoded = [ids for own in inputs.encoded[len(split.train) :] for ids in own]
        short, out = sum(ids.left_off > 0 for ids in encoded), sum(ids.truncated for ids in encoded)
        lost = "cut" if inputs.encoder.overlong == "cut" else "left out"
        if short or out:
            found.append(f"Records of data.validation that are too long: {short} are shortened, {out} are {lost}.")
    return found


def numbers(records: Sequence[int]) -> str:
    return ", ".join(map(str, records[:10])) + (" and more" if len(records) > 10 else "")


def personal(audit: Audit) -> str:
    """What is said of identifiers, by kind and record number."""
    kinds = identifiers.in_words({kind: (found.count, found.records) for kind, found in audit.identifiers.items()})
    if audit.masked:
        return f"Masked, since it could identify a person: {kinds}."
    what = f"What could identify a person is learned too: {kinds}."
    return f"{what} data.identifiers=mask takes it out, refuse does not start."


def near_duplicates(train: list[tuple[int, str]], held_out: list[tuple[int, str]]) -> list[NearDuplicate]:
    """Pairs of (record, question) from the two sides that agree, word for word or nearly."""
    found = []
    for pair in repeats([text for _, text in train], [[text] for _, text in held_out]):
        (train_record, train_text), (held_record, held_text) = train[pair.other], held_out[pair.asked]
        records = {"held_out_record": held_record, "train_record": train_record}
        texts = {"held_out_question": held_text, "train_question": train_text}
        found.append(NearDuplicate(**records, similarity=round(pair.similarity, 3), **texts))
    return found
