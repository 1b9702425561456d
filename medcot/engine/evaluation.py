"""Paired evaluation: the same questions to every arm, scored, compared, reported; continued from what is answered."""

import gc
import time
from collections.abc import Callable, Mapping
from typing import Any

from medcot import data, prompts
from medcot.adapters import Adapter, of_run, published_settings
from medcot.engine import models, world
from medcot.engine.answering import answer_here, answer_there
from medcot.engine.backends import Backend
from medcot.engine.backends.endpoint import Endpoint
from medcot.engine.backends.peft import load_tokenizer
from medcot.engine.further import further_arms
from medcot.engine.generation import Decoding
from medcot.engine.ledger import Ledger
from medcot.engine.opening import open_decoder
from medcot.errors import BadInput, Problem
from medcot.evaluating import questions, records
from medcot.evaluating.answers import Answer
from medcot.evaluating.arms import BASE, TOLD, TUNED, asked_as
from medcot.evaluating.choice import Choice
from medcot.evaluating.measure import Measure
from medcot.evaluating.order import EvaluationOrder
from medcot.evaluating.reporting import write_reports
from medcot.events import Report, Warned
from medcot.metrics import Variant
from medcot.prompts import PromptContract
from medcot.runs import Evaluation, Run
from medcot.tags import TAGS

PROMPT_ROOM = 2048  # tokens for a question, where a backend wants to know its longest sequence
TRACKING = "Weights & Biases"  # how warnings begin that say nothing of the evaluation
SERVER_TEMPLATE = "The server made the prompts with its own chat template, which was not compared with the contract's."


def evaluate(run: Run, job: Evaluation, order: EvaluationOrder, backend: Backend, report: Report) -> None:
    """Ask every arm what is not answered yet; write summary.json, examples.jsonl, report.html and table.csv.

    Where the job has several processes, each calls this, and the first writes.
    Raises BadInput where the adapter, its contract, its data or the questions are not what they have to be.
    """
    adapter, origin = of_run(run), run.origin()
    measure = measure_of(run, job, order)
    # An adapter from elsewhere need not bring its base's tokenizer, nor a contract.
    tokenizer = load_tokenizer(models.resolve(adapter.base, report).path if origin else adapter.path)
    contract = adapter.contract or prompts.make_contract(adapter.prompt, tokenizer)
    adapter = adapter.model_copy(update={"contract": contract})
    main = (BASE, TOLD, TUNED) if order.tell_base else (BASE, TUNED)
    require_room_for_a_tag(tokenizer, order)
    further = further_arms(run, adapter, order.adapters)
    if order.endpoint and further:
        raise BadInput(Problem("--arm", "a server answers for base and tuned only.", "Leave the further arms out."))

    def prompt(arm: str, question: str) -> str:
        return prompts.prompt_text(tokenizer, contract, asked_as(arm, question))

    told = [
        *measure.check(prompt, main),
        *(unknown_training(run, measure) if origin else []),
        *otherwise_asked(contract, further),
    ]
    notes = [Warned(message=note) for note in told]
    ledger = Ledger(job, measure, main, tuple(further), {TUNED: adapter, **further}, order, report)
    for note in [] if ledger.done else notes:
        report(note)
    started = time.monotonic()
    if order.endpoint:
        ask_server(adapter, main, order, measure, ledger, report)
    else:
        for passed, arms in ((adapter, main), *((a, (name,)) for name, a in further.items())):
            ask_adapter(passed, arms, order, measure, backend, ledger, report)
    if not world.is_first():
        return
    figures = measure.figures(ledger.rows("record"), ledger.arms, order.seed, cutter(tokenizer, order.budget))
    summary = summary_of(run, job, order, measure.kind, figures, ledger, time.monotonic() - started)
    write_reports(job, summary, ledger.rows("record"), ledger.rows("sample"))


def measure_of(run: Run, job: Evaluation, order: EvaluationOrder) -> Measure:
    """What is asked: multiple choice as ordered, else the run's held-out records, which must be those it left out."""
    if order.questions:
        kept = job.path / questions.KEPT
        asked, fingerprint = questions.load(str(kept) if kept.is_file() else order.questions)
        return Choice(order.questions, asked[: order.records], fingerprint)
    settings = run.settings()
    split = data.load(settings.data, whole=run.origin() is not None)
    plan = run.plan()
    if plan and plan.fingerprint != split.fingerprint:
        raise BadInput(
            Problem(
                "data.source",
                "the data has changed since this run was trained, so 'held out' means nothing.",
                "Put the data back as it was, or train again.",
            )
        )
    return records.chosen(settings.data, split, order.records, Variant(order.rouge, order.stemmer))


def otherwise_asked(contract: PromptContract, further: Mapping[str, Adapter]) -> list[str]:
    """Which further arms are asked in another way than base is, as they were trained."""
    return [
        f"{arm} is asked under its own prompt contract, so its difference to base is not the adapter's alone "
        f"({', '.join(differ)})."
        for arm, adapter in further.items()
        if adapter.contract and (differ := prompts.differing(adapter.contract, contract))
    ]


def unknown_training(run: Run, measure: Measure) -> list[str]:
    """What a reader should know of an adapter that was trained elsewhere, on records that nobody held out from it."""
    published, asked = published_settings(run.adapter_dir), run.settings().data.source
    if measure.kind == "records" and published and published.data.source == asked:
        return [
            f"This adapter was not trained here; its settings say that it was trained on {asked}, so it may have "
            "learned the very records it is asked."
        ]
    return ["This adapter was not trained here: whether it learned from what it is asked is not known."]


def require_room_for_a_tag(tokenizer: Any, order: EvaluationOrder) -> None:
    """A budget that the opening tag alone uses up would measure nothing. Raises BadInput."""
    needed = len(tokenizer(TAGS[0], add_special_tokens=False)["input_ids"]) + 1
    if order.budget < needed:
        name = "choice_max_new_tokens" if order.questions else "max_new_tokens"
        raise BadInput(
            Problem(
                f"evaluation.{name}",
                f"is {order.budget}, and the tag {TAGS[0]} alone takes {needed - 1} tokens.",
                "Raise it: real answers need hundreds.",
            )
        )


def cutter(tokenizer: Any, budget: int) -> Callable[[str], tuple[str, bool]]:
    """Cuts a text as the budget would cut it if a model wrote it, its end token counted too."""

    def cut(text: str) -> tuple[str, bool]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        return (text, False) if len(ids) < budget else (str(tokenizer.decode(ids[:budget])), True)

    return cut


def ask_adapter(
    adapter: Adapter,
    arms: tuple[str, ...],
    order: EvaluationOrder,
    measure: Measure,
    backend: Backend,
    ledger: Ledger,
    report: Report,
) -> None:
    """Load one adapter, ask it what is left, and let it go again."""
    asked = measure.questions
    if all((q.kind, q.number, arm) in ledger.done for q in asked for arm in arms):
        return
    decoder = open_decoder(adapter, backend, report, max_length=PROMPT_ROOM + order.budget, strict=not order.force)
    answer_here(decoder, asked, arms, decoding_of(order), order.batch_size, ledger.done, ledger.take, report)
    del decoder
    gc.collect()


def decoding_of(order: EvaluationOrder) -> Decoding:
    return Decoding(order.budget, order.temperature, order.top_p, order.seed)


def ask_server(
    adapter: Adapter,
    arms: tuple[str, ...],
    order: EvaluationOrder,
    measure: Measure,
    ledger: Ledger,
    report: Report,
) -> None:
    """Ask a model server what is left, under the names that the order gives."""
    assert order.endpoint is not None
    assert adapter.contract is not None
    if adapter.contract.style == "chat" and not ledger.done:
        report(Warned(message=SERVER_TEMPLATE))
    server = Endpoint(order.endpoint)
    try:
        server.require_models()
        models = {arm: order.endpoint.tuned if arm == TUNED else order.endpoint.base for arm in arms}
        decoding = decoding_of(order)
        answer_there(server, adapter.contract, measure.questions, models, decoding, ledger.done, ledger.take, report)
    finally:
        server.close()


def summary_of(
    run: Run,
    job: Evaluation,
    order: EvaluationOrder,
    kind: str,
    figures: dict[str, Any],
    ledger: Ledger,
    seconds: float,
) -> dict[str, Any]:
    """summary.json: the shape that the page, the card, the command line and others read."""
    answers = [a for a in ledger.answers() if a.kind == "record"]
    by_arm: dict[str, list[Answer]] = {arm: [a for a in answers if a.arm == arm] for arm in ledger.arms}
    for arm, given in by_arm.items():
        figures["arms"][arm] |= {
            "tokens": sum(a.tokens for a in given) / len(given),
            "seconds": sum(a.seconds for a in given) / len(given),
        }
    origin = run.origin()
    events, _ = job.events()  # of every worker that had a part in it
    notes = [e.message for e in events if isinstance(e, Warned) and not e.message.startswith(TRACKING)]
    decoding = order.model_dump(mode="json", include={"temperature", "top_p", "seed", "batch_size"})
    return {
        "schema": 1,
        "kind": kind,
        "run": run.id,
        **({"adapter": origin} if origin else {}),
        **figures,
        "decoding": {"max_new_tokens": order.budget, **decoding, "contract": run.settings().prompt.style},
        "engine": order.endpoint.url if order.endpoint else "this machine",
        "forced": order.force,
        "notes": list(dict.fromkeys(notes)),
        "seconds": seconds,
        "tokens": {arm: sum(a.tokens for a in given) for arm, given in by_arm.items()},
    }
