"""From an adapter to something that answers: its base is fetched and loaded, and its contract checked."""

from medcot import prompts
from medcot.adapters import Adapter
from medcot.engine import models
from medcot.engine.backends import Backend
from medcot.engine.generation import PairDecoder
from medcot.errors import BadInput, Problem
from medcot.events import Progress, Report, Warned


def open_decoder(
    adapter: Adapter, backend: Backend, report: Report, *, max_length: int, strict: bool = False
) -> PairDecoder:
    """The adapter on its base, asked under the contract that it was trained under.

    Warns where the contract differs from what this base's tokenizer makes of it now, or refuses where `strict`; warns
    where the adapter changes nothing. Raises BadInput where the base cannot be had, is not the one trained on, or does
    not fit the adapter.
    """
    local = models.resolve(adapter.base, report)
    report(Progress(stage="Loading the model"))
    if adapter.trained_on and adapter.trained_on != local.identity:
        raise BadInput(
            Problem(
                "model.id",
                f"the base is {local.identity} now, and this adapter was trained on {adapter.trained_on}.",
                "Put that model back, or train again.",
            )
        )
    base, tokenizer = backend.load(local, adapter.base, max_length=max_length)
    asked = prompts.make_contract(adapter.prompt, tokenizer)
    contract = adapter.contract or asked
    differences = prompts.contract_differences(contract, asked)
    if differences and strict:
        fix = "Put the model or the settings back, or go on all the same with --force, which the report will say."
        raise BadInput([Problem("prompt contract", f"{d}.", fix) for d in differences])
    for difference in differences:
        report(Warned(message=f"Prompt contract: {difference}."))
    decoder = PairDecoder(backend.with_adapter(base, adapter.path), tokenizer, contract, report)
    if not decoder.adapter_changes_logits():
        report(Warned(message="This adapter changes nothing: base and tuned give equal logits."))
    return decoder
