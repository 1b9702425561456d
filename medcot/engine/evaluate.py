"""Paired evaluation: the same questions to every arm, scored, compared, reported; continued from what is answered."""

import gc
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from medcot import prompts
from medcot.adapters.open import Adapter, of_run, published_settings
from medcot.engine import distributed, models
from medcot.engine.answer.batch import Asking
from medcot.engine.answer.load import further_arms, open_decoder
from medcot.engine.answer.server import Endpoint
from medcot.engine.answer_log import AnswerLog
from medcot.engine.backends.peft import PeftBackend
from medcot.engine.gguf.arm import file_arms
from medcot.errors import BadInput
from medcot.evaluation.answers import BASE, TOLD, TUNED, Decoding, asked_as
from medcot.evaluation.measure import Figures, Measure
from medcot.evaluation.records import Records
from medcot.evaluation.summary import MEASURES, Summary
from medcot.hub import WEIGHTS
from medcot.prompts.contract import PromptContract
from medcot.prompts.tags import TAGS
from medcot.runs.events import Kept, Report, Warned
from medcot.runs.run import Evaluation, Run
from medcot.settings import TRACKERS
from medcot.settings.evaluation import EndpointSettings, EvaluationOrder
from medcot.settings.export import is_file

PROMPT_ROOM = 2048  # tokens for a question, for a backend that needs its longest sequence
OF_TRACKERS = tuple(needs.title for needs in TRACKERS.values())  # how warnings begin that say nothing of the evaluation
SERVER_TEMPLATE = "The server made the prompts with its own chat template, which was not compared with the contract's."


def evaluate(run: Run, job: Evaluation, order: EvaluationOrder, backend: PeftBackend, report: Report) -> None:
    """Ask every arm what is not answered yet; write summary.json, examples.jsonl, report.html and table.csv.

    If the job has several processes, each calls this, and the first writes.
    Raises BadInput if the adapter, its contract, its data or the questions are not what they have to be.
    """
    adapter, origin = of_run(run), run.origin()
    plan = run.plan()
    trained_on, adopted = plan.fingerprint if plan else None, origin is not None
    measure = MEASURES[order.kind].open(order, job.path, run.settings().data, trained_on, adopted)
    # An adapter from elsewhere may bring neither its base's tokenizer nor a contract.
    tokenizer = models.load_tokenizer(models.resolve(adapter.base, report).path if origin else adapter.path)
    adapter.use_own_template(tokenizer)
    contract = adapter.contract or prompts.make_contract(adapter.prompt, tokenizer)
    adapter = adapter.model_copy(update={"contract": contract})
    main = (BASE, TOLD, TUNED) if order.tell_base else (BASE, TUNED)
    require_room_for_a_tag(tokenizer, order)
    files = file_arms(order)
    further = further_arms(run, adapter, [name for name in order.adapters if not is_file(name)])
    if order.endpoint and (further or files):
        raise BadInput.of("--arm", "a server answers for base and tuned only.", "Leave the further arms out.")

    notes = measure.check(lambda arm, text: prompts.prompt_text(tokenizer, contract, asked_as(arm, text)), main)
    notes += unknown_training(run, measure) if origin else also_chose(run, measure)
    notes += other_contracts(contract, {arm: a.contract for arm, a in further.items()})
    notes += other_contracts(contract, {arm: file.facts.contract for arm, file in files.items()})
    weights = {arm: a.path / WEIGHTS for arm, a in {TUNED: adapter, **further}.items()}
    log = AnswerLog(job, measure, main, weights | {arm: file.path for arm, file in files.items()}, report)
    for note in [] if log.done else notes:
        report(Warned(message=note))
    started = time.monotonic()
    decoding = Decoding(order.budget, order.temperature, order.top_p, order.seed)
    asking = Asking(measure.questions, decoding, order.batch_size, log.done, log.add, report)
    if order.endpoint:
        ask_server(order.endpoint, contract, main, asking)
    else:
        ask_here([(main, adapter), *(((arm,), other) for arm, other in further.items())], backend, order, asking, log)
    for arm, file in files.items():
        if log.left((arm,)):
            file.ask(arm, contract, asking)
    if distributed.is_main_process():
        examples = log.examples()
        figures = measure.all_figures(examples, log.arms, order.seed, partial(cut, tokenizer, order.budget))
        summary = summary_of(run, job, order, log, figures, time.monotonic() - started)
        job.write_reports(summary, examples, log.samples())


def ask_here(
    adapters: Sequence[tuple[tuple[str, ...], Adapter]],
    backend: PeftBackend,
    order: EvaluationOrder,
    asking: Asking,
    log: AnswerLog,
) -> None:
    """Ask each adapter's arms what is left, on a base that is loaded once where it is one base."""
    base, of, length, strict = None, None, PROMPT_ROOM + order.budget, not order.force
    for arms, adapter in adapters:
        if log.left(arms):
            if adapter.base != of:
                base = None  # its memory is free before the next is loaded
            decoder = open_decoder(adapter, backend, asking.report, max_length=length, strict=strict, base=base)
            asking.here(decoder, arms)
            base, of = decoder.released(), adapter.base
            del decoder
            gc.collect()


def other_contracts(contract: PromptContract, further: Mapping[str, PromptContract | None]) -> list[str]:
    """Name the further arms whose own prompt contract differs from the one that base is asked under."""
    differing = {arm: prompts.differing(own, contract) for arm, own in further.items() if own}
    so = "is asked under its own prompt contract, so its difference to base is not the adapter's alone"
    return [f"{arm} {so} ({', '.join(names)})." for arm, names in differing.items() if names]


def unknown_training(run: Run, measure: Measure) -> list[str]:
    """Warn of an adapter that was trained elsewhere: it may have learned the records that it is asked."""
    published, asked = published_settings(run.adapter_dir), run.settings().data.source
    if isinstance(measure, Records) and published and published.data.source == asked:
        so = "so it may have learned the very records it is asked."
        return [f"This adapter was not trained here; its settings say that it was trained on {asked}, {so}"]
    return ["This adapter was not trained here: whether it learned from what it is asked is not known."]


def also_chose(run: Run, measure: Measure) -> list[str]:
    """Warn where the records that are asked chose the adapter too: by their loss it was kept, or its training ended."""
    kept = run.newest_event(Kept)
    if kept is None or not isinstance(measure, Records) or run.settings().data.is_in_parts:
        return []
    chose = f"the adapter of step {kept.step} was kept"
    if kept.ended_at is not None:
        chose += f" and the training ended at step {kept.ended_at}"
    how = "by the loss on the very records that are asked, which flatters tuned"
    return [
        f"What measures here chose too: {chose} {how}. With data.validation or data.test set, other records measure."
    ]


def require_room_for_a_tag(tokenizer: Any, order: EvaluationOrder) -> None:
    """Raise BadInput if the opening tag alone would use up the budget: that would measure nothing."""
    taken = len(tokenizer(TAGS[0], add_special_tokens=False)["input_ids"])
    if order.budget <= taken:
        what = f"is {order.budget}, and the tag {TAGS[0]} alone takes {taken} tokens."
        raise BadInput.of(f"evaluation.{order.budget_setting}", what, "Raise it: real answers need hundreds.")


def cut(tokenizer: Any, budget: int, text: str) -> tuple[str, bool]:
    """Cut a text as the budget would cut it if a model wrote it, its end token counted too."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return (text, False) if len(ids) < budget else (str(tokenizer.decode(ids[:budget])), True)


def ask_server(order: EndpointSettings, contract: PromptContract, arms: tuple[str, ...], asking: Asking) -> None:
    """Ask a model server what is left, under the names that the order gives."""
    if contract.rules.text is None and not asking.done:
        asking.report(Warned(message=SERVER_TEMPLATE))
    with closing(Endpoint(order, contract)) as server:
        server.require_models()
        asking.there(server, {arm: order.tuned if arm == TUNED else order.base for arm in arms})


def summary_of(
    run: Run, job: Evaluation, order: EvaluationOrder, log: AnswerLog, figures: Figures, seconds: float
) -> Summary:
    """Add to a measure's figures what is the same for every measure."""
    tokens, written = dict[str, int](), figures.model_dump(exclude_unset=True)
    for arm in log.arms:
        given = log.scored(arm)
        tokens[arm] = sum(a.tokens for a in given)
        seconds_each = sum(a.seconds for a in given) / len(given)
        written["arms"][arm] |= {"tokens": tokens[arm] / len(given), "seconds": seconds_each}
    events, _ = job.events()  # of every worker that had a part in it
    notes = [e.message for e in events if isinstance(e, Warned) and not e.message.startswith(OF_TRACKERS)]
    decoding = order.model_dump(include={"temperature", "top_p", "seed", "batch_size"})
    summary = {
        "schema": 1,
        "kind": order.kind,
        "run": run.id,
        **({"adapter": origin} if (origin := run.origin()) else {}),
        **written,
        "decoding": {"max_new_tokens": order.budget, **decoding, "contract": run.settings().prompt.style},
        "engine": order.endpoint.url if order.endpoint else "this machine",
        "forced": order.force,
        "notes": list(dict.fromkeys(notes)),
        "seconds": seconds,
        "tokens": tokens,
    }
    return Summary.model_validate(summary)
