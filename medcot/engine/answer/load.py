"""Loading an adapter on its base, which is fetched, checking its contract, and finding an evaluation's further arms."""

from collections.abc import Sequence
from typing import Any

from medcot import prompts
from medcot.adapters.open import Adapter, open_adapter, other_base
from medcot.engine import models
from medcot.engine.backends.peft import PeftBackend
from medcot.engine.decode.decoder import PairDecoder
from medcot.engine.decode.reference import Reference
from medcot.engine.train.checkpoints import Checkpoint
from medcot.errors import BadInput, Problem, collected
from medcot.evaluation.answers import TITLES, Example
from medcot.runs.events import Progress, Report, Warned
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings.evaluation import CHECKPOINTS


def open_decoder(
    adapter: Adapter, backend: PeftBackend, report: Report, *, max_length: int, strict: bool = False, base: Any = None
) -> PairDecoder:
    """The adapter on its base, under the contract that it was trained under; `base` is that base where it is loaded.

    Warns if the contract differs from what this base's tokenizer makes of it now, or refuses if `strict`; warns if the
    adapter changes nothing. Raises BadInput if the base cannot be loaded, is not the one trained on, does not fit the
    adapter, is changed by it, or is of a family that cannot be decoded with both arms in one batch.
    """
    local = models.resolve(adapter.base, report)
    report(Progress(stage="Loading the model"))
    tokenizer = models.load_tokenizer(local.path)
    base = base or backend.load(local, adapter.base, max_length=max_length)
    if adapter.trained_on and adapter.trained_on != local.identity:
        what = f"the base is {local.identity} now, and this adapter was trained on {adapter.trained_on}."
        raise BadInput.of("model.id", what, "Put that model back, or train again.")
    if note := adapter.use_own_template(tokenizer):
        report(Warned(message=note))
    asked = prompts.make_contract(adapter.prompt, tokenizer)
    contract = adapter.contract or asked
    differences = prompts.contract_differences(contract, asked)
    if differences and strict:
        back = "Put the model or the settings back"
        fix = f"{back}, or go on all the same with --force, which the report will say."
        raise BadInput([Problem("prompt contract", f"{d}.", fix, page=f"{back}.") for d in differences])
    for difference in differences:
        report(Warned(message=f"Prompt contract: {difference}."))
    reference = Reference.of(tokenizer, contract)
    reference.take_base(base)
    decoder = PairDecoder(backend.with_adapter(base, adapter.path), tokenizer, contract, reference, report)
    if not reference.arms_differ():
        report(Warned(message="This adapter changes nothing: base and tuned give equal logits."))
    return decoder


TAKEN = {*TITLES, *Example.model_fields}  # by other keys of a line of examples.jsonl


def further_arms(run: Run, main: Adapter, names: Sequence[str]) -> dict[str, Adapter]:
    """Map arm names to adapters, in the order given; checkpoints by step. Raises BadInput with every problem."""
    found: dict[str, Adapter] = {}
    problems: list[Problem] = []
    for name in names:
        opened: dict[str, Adapter] = {}
        with collected(problems):
            opened = _checkpoints(run, main, name)
            if not opened:  # an adapter that is not a run is assumed to be for this run's base; _mismatch checks
                adapter = open_adapter(name, RunStore(run.path.parent), base=main.base.id, checked=False)
                opened = {adapter.name: adapter}
        for arm, adapter in opened.items():
            if arm in TAKEN or (arm in found and found[arm].path != adapter.path):
                arm = f"{adapter.path.parent.name}/{arm}"  # of two folders of one name
            if arm in found or arm in TAKEN:
                problems.append(Problem("--arm", f"{arm} is an arm already.", "Name each once."))
            elif other := _mismatch(main, adapter):
                problems.append(Problem("--arm", f"{arm} {other}", "Compare adapters of one base."))
            found[arm] = adapter
    if problems:
        raise BadInput(problems)
    return found


def _checkpoints(run: Run, main: Adapter, name: str) -> dict[str, Adapter]:
    """Find the run's own checkpoints of that name, oldest first; none if the name means something else."""
    if name != CHECKPOINTS and not name.startswith("checkpoint-"):
        return {}
    kept = [p for p in reversed(run.checkpoints()) if name in (CHECKPOINTS, p.name)]
    if not kept:
        has = ", ".join(p.name for p in run.checkpoints()) or "none"
        raise BadInput.of("--arm", f"{run.id} has kept no {name}; it has {has}.", "Name one of these.")
    hurt = [Problem("--arm", f"{p.name}: {what}.", "Leave it out.") for p in kept if (what := Checkpoint(p).damage())]
    if hurt:
        raise BadInput(hurt)
    return {p.name: main.model_copy(update={"name": f"{run.id}, {p.name}", "path": p}) for p in kept}


def _mismatch(main: Adapter, adapter: Adapter) -> str | None:
    """Say how an adapter's base differs from the one that answers for base here; None if it does not."""
    if main.trained_on and adapter.trained_on and main.trained_on != adapter.trained_on:
        return f"was trained on {adapter.trained_on}, and this run on {main.trained_on}."
    same = adapter.base.id == main.base.id
    named = other_base(adapter.path, main.base.id) if same else adapter.base.id
    return f"is an adapter for {named}, and this run's is for {main.base.id}." if named else None
