"""A run that is served somewhere: its held-out questions asked there, its answers held against tuned's own.

Any server of OpenAI's protocol will do (vLLM, Ollama, llama-server). No model is loaded here: what tuned says to the
same questions stands in the run's newest greedy evaluation.
"""

import itertools
import time
from collections.abc import Sequence
from contextlib import closing

from medcot import prompts
from medcot.engine import models
from medcot.engine.answer.server import Endpoint, threads
from medcot.engine.held_out import Asked, asked_of
from medcot.errors import BadInput
from medcot.evaluation.answers import Decoding, Reply
from medcot.runs.events import Progress, Report
from medcot.workers.protocol import CheckedServer, CheckRequest

MOST_CUT = 0.1  # more of the answers than of tuned's may be cut at the limit
MOST_BELOW = 0.05  # ROUGE-L below tuned's
UNCOMPARED = "There is no greedy evaluation of this run's held-out questions to compare with: medcot evaluate RUN"


def check(request: CheckRequest, report: Report) -> CheckedServer:
    """Ask everything. Raises BadInput if the server cannot be asked."""
    adapter, settings, order = request.adapter, request.endpoint, request.order
    asked = asked_of(adapter, order.questions)
    if not asked.questions:
        raise BadInput.of("--questions", "nothing is asked.", "Ask for one at least.")
    contract = adapter.contract
    if contract is None:
        tokenizer = models.load_tokenizer(models.resolve(adapter.base, report).path)
        adapter.use_own_template(tokenizer)
        contract = prompts.make_contract(adapter.prompt, tokenizer)
    decoding, asked = within_budget(asked, order.max_new_tokens, adapter.max_new_tokens)
    began, replies = time.monotonic(), list[Reply]()
    with closing(Endpoint(settings, contract)) as server, threads(settings.concurrency) as pool:
        server.next_step = "Look at the server's log, then check again."
        listed = server.listed() or []
        server.wraps = bool(contract.rules.text) and server.is_ollama()
        try:
            for reply in pool.map(lambda q: server.complete(settings.tuned, q, decoding), asked.questions):
                replies.append(reply)
                report(Progress(stage=f"Asking {settings.url}", done=len(replies), total=len(asked.questions)))
        except BadInput as bad:
            if replies or not listed or settings.tuned in listed:
                raise
            # Only now: Ollama and `transformers serve` know models by other names than those that they list.
            what = f"{bad.problems[0].what} It lists no {settings.tuned!r}; it has {', '.join(listed[:10])}."
            raise BadInput.of("--model", what, "Name one of these.") from None
    seconds = max(1e-6, time.monotonic() - began)
    return compared(request, asked, replies, sum(r.tokens for r in replies) / seconds)


def within_budget(asked: Asked, wanted: int | None, usual: int) -> tuple[Decoding, Asked]:
    """The decoding: with as many tokens as tuned had, unless others are wanted; and what can be compared under it.

    Raises BadInput if nothing can.
    """
    most = wanted or asked.most or usual
    if most >= asked.most:
        return Decoding(most), asked
    comparable = asked.within(most)
    if not comparable.questions:
        what = f"is {most}, and all of tuned's answers are longer, so none can be compared."
        raise BadInput.of("--max-new-tokens", what, f"Leave it out: tuned had {asked.most}.")
    return Decoding(most), comparable


def compared(request: CheckRequest, asked: Asked, replies: Sequence[Reply], rate: float) -> CheckedServer:
    pairs = [(a.output.strip(), r.text.strip()) for a, r in zip(asked.tuned, replies, strict=False)]
    letters = sum(len(own) for own, _ in pairs)
    begun = sum(begun_alike(*pair) for pair in pairs)
    found = CheckedServer(
        url=request.endpoint.url,
        model=request.endpoint.tuned,
        questions=len(replies),
        stopped=sum(reply.ended == "finished" for reply in replies),
        same_answers=sum(own == said for own, said in pairs),
        same_begun=begun / letters if letters else 0.0,
        tokens_per_second=rate,
        scores=asked.scores(replies),
        tuned=asked.tuned_scores(),
        notes=[note for note in (asked.note, "" if asked.tuned else UNCOMPARED) if note],
    )
    return found.model_copy(update={"problem": problem(found)})


def begun_alike(one: str, other: str) -> int:
    """How many letters two texts have in common before they differ."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def problem(found: CheckedServer) -> str:
    """What says that another thing is served than was measured; empty if nothing does."""
    scores, tuned = found.scores, found.tuned
    if tuned and scores.get("truncated", 0) > tuned.get("truncated", 0) + MOST_CUT:
        return f"{scores['truncated']:.0%} of its answers run on to the limit, {tuned['truncated']:.0%} of tuned's"
    if tuned and scores["answer_rouge_l"] < tuned["answer_rouge_l"] - MOST_BELOW:
        return f"its answers score {scores['answer_rouge_l']:.3f} ROUGE-L, tuned's {tuned['answer_rouge_l']:.3f}"
    if not found.stopped and tuned.get("truncated", 0) < 1:
        return "none of its answers ends by itself"
    return ""
