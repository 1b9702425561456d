"""What a run would do to this data on this device, before it starts: an audit under the tokenizer, and an estimate."""

from typing import Any

import torch

from medcot import data, prompts
from medcot.engine import auditing, backends, fitting, models, training
from medcot.engine.backends.peft import load_tokenizer
from medcot.engine.remedies import remedy
from medcot.events import Report
from medcot.settings import RunSettings, cautions


def plan(settings: RunSettings, report: Report) -> dict[str, Any]:
    """{"problems", "audit", "plan", "tokens"} of `medcot plan --json`.

    Raises BadInput where the run could not start.
    """
    split = data.load(settings.data)
    local = models.resolve(settings.model, report)
    tokenizer = load_tokenizer(local.path)
    contract = prompts.make_contract(settings.prompt, tokenizer)
    encoded = training.encode([*split.train, *split.held_out], tokenizer, contract, settings)
    audited = auditing.audit(split, encoded, tokenizer, contract, settings)
    shape = fitting.shape_in(str(local.path), settings.lora)
    free = fitting.free_gib_unseen(settings.training.processes)
    host = fitting.Host(backends.name_for_training(settings), torch.cuda.is_available(), free)
    lengths = [len(e.input_ids) for e in encoded[: len(split.train)]]
    arrangement = fitting.arrange(shape, settings, host, lengths)
    fits = arrangement.fits
    tight = "" if fits else f"Memory may not be enough: {arrangement}. {remedy(shape, settings, host, lengths)}"
    return {
        "problems": [*([tight] if tight else []), *advice(settings, audited)],
        "audit": audited,
        "plan": {
            "trainable_parameters": shape.trained,
            **arrangement.model_dump(),
            "steps": training.total_steps(len(split.train), fitting.arranged(settings, arrangement).training),
        },
        "tokens": auditing.token_view(split.train[0], tokenizer, contract, settings),
    }


def advice(settings: RunSettings, audited: dict[str, Any]) -> list[str]:
    """What a person should know before starting; none of it forbids the start."""
    notes = []
    if audited["truncated_share"]:
        notes.append(
            f"training.max_length={settings.training.max_length} cuts {audited['truncated_share']:.1%} of the records, "
            f"and what is cut is the answer. {audited['keeps_all']} keeps all."
        )
    if audited["near_duplicates"]:
        notes.append(
            f"{audited['near_duplicates']} held-out questions nearly repeat training questions; scores will flatter."
        )
    if audited["duplicates"]:
        notes.append(f"{audited['duplicates']} questions occur more than once.")
    if audited["skipped"]:
        notes.append(f"Empty records passed over, as data.empty_records=skip says: {audited['skipped']}.")
    return notes + cautions(settings)
