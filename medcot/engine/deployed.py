"""A run that is served somewhere: its held-out questions asked there, its answers held against tuned's own.

Any server of OpenAI's protocol will do (vLLM, Ollama, llama-server). No model is loaded here: what tuned says to the
same questions stands in the run's newest greedy evaluation.
"""

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from medcot import prompts
from medcot.engine import models
from medcot.engine.answer.server import Endpoint
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
    decoding, began = Decoding(order.max_new_tokens or adapter.max_new_tokens), time.monotonic()
    replies = list[Reply]()
    with closing(Endpoint(settings, contract)) as server, ThreadPoolExecutor(settings.concurrency) as pool:
        server.require_models()
        for reply in pool.map(lambda q: server.complete(settings.tuned, q, decoding), asked.questions):
            replies.append(reply)
            report(Progress(stage=f"Asking {settings.url}", done=len(replies), total=len(asked.questions)))
    seconds = max(1e-6, time.monotonic() - began)
    return compared(request, asked, replies, sum(r.tokens for r in replies) / seconds)


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
