"""Judges that follow a script, behind a real HTTP server, and evaluations for them to judge."""

import contextlib
import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from medcot.data import Example as Record
from medcot.evaluation.answers import Answer, Question
from medcot.evaluation.in_training import Trained
from medcot.evaluation.judge.probes import FILLER
from medcot.evaluation.records import Records
from medcot.evaluation.rouge import VARIANT
from medcot.evaluation.summary import Summary
from medcot.hub import SETTINGS
from medcot.prompts.tags import completion_text
from medcot.runs.run import Evaluation, Run
from medcot.settings.evaluation import EvaluationOrder

OWN = "As I would put it: "
BLOCK = re.compile(r"<(question|reference|answer|criterion|first|second|step)>\n(.*?)\n</\1>", re.DOTALL)


class Prompt:
    """What a request asks, read as a model would."""

    def __init__(self, user: str, seen: int):
        self.user, self.seen = user, seen  # seen: how often exactly this was asked before
        found = BLOCK.findall(user)
        self.order = [name for name, _ in found]
        self.texts = dict(found)
        self.question = self.texts.get("question", "")
        self.reference = self.texts.get("reference", self.texts.get("criterion", "")).partition(
            "contradicts it nowhere: "
        )
        self.reference = self.reference[2] or self.reference[0]
        self.answer = self.texts.get("answer", self.texts.get("step", ""))

    @property
    def pairwise(self) -> bool:
        return "first" in self.texts


def bare(text: str) -> str:
    """A text without what states nothing, as a fair judge reads it."""
    for filler in FILLER.values():
        text = text.replace(filler.strip(), "")
    return " ".join(text.replace(OWN, "").split())


def right(reference: str, answer: str) -> bool:
    return bare(reference) == bare(answer)


Rule = Callable[[Prompt, str], bool]  # whether it takes an answer for right


def fair(prompt: Prompt, answer: str) -> bool:
    return right(prompt.reference, answer)


def reply(rule: Rule, prompt: Prompt) -> str:
    if prompt.user.startswith("Say the following"):
        return OWN + prompt.user.partition("\n\n")[2]
    words = ("met", "not met") if "criterion" in prompt.texts else ("right", "wrong")
    if prompt.pairwise:
        one, two = (rule(prompt, prompt.texts[name]) for name in ("first", "second"))
        said = "equal" if one == two else "first" if one else "second"
    else:
        said = words[0] if rule(prompt, prompt.answer) else words[1]
    return f"```json\n{json.dumps({'why': 'as scripted', 'verdict': said})}\n```"


def drawn(*what: object) -> float:
    """A number from 0 to 1 that depends on these alone."""
    return int(hashlib.sha256(repr(what).encode()).hexdigest()[:12], 16) / 16**12


def noisy(seed: int, share: float) -> Rule:
    """Fair, but for a share of errors that are drawn anew each time it is asked."""
    return lambda p, answer: fair(p, answer) != (drawn(seed, p.user, p.seen, answer) < share)


def known(answers: Mapping[str, str]) -> Rule:
    """Knows the right answers, and looks at no reference."""
    return lambda p, answer: right(answers.get(p.question, ""), answer)


def without(pattern: str) -> Rule:
    """Does not see what the pattern finds."""
    return lambda p, answer: right(*(re.sub(pattern, "", bare(text)) for text in (p.reference, answer)))


def position(p: Prompt, answer: str) -> bool:
    first = p.order[1] in ("answer", "step") if not p.pairwise else answer == p.texts["first"]
    return first or (fair(p, answer) and not p.pairwise)


def biased(answers: Mapping[str, str]) -> dict[str, Rule]:
    """Twelve judges with a planted bias, by the words of the reason to refuse them."""
    return {
        "position": position,
        "length": lambda p, answer: len(answer) > 700 or fair(p, answer),
        "tone": lambda p, answer: "certain" in answer or fair(p, answer),
        "always says 'right'": lambda p, answer: True,
        "always says 'wrong'": lambda p, answer: False,
        "random": lambda p, answer: drawn(p.user, p.seen, answer) < 0.5,
        "own style": lambda p, answer: OWN in answer or fair(p, answer),
        "blind to doses": without(r"\d"),
        "blind to negation": without(r"\bnot "),
        "flips on repetition": lambda p, answer: fair(p, answer) != (p.seen % 2 == 1),
        "cuts long answers": lambda p, answer: right(p.reference, answer[:400]),
        "ignores the reference": known(answers),
    }


class Server:
    """An OpenAI server that judges by a rule, or answers as `answers` says."""

    def __init__(self, rule: Rule = fair, seconds: float = 0.0):
        self.rule, self.seconds = rule, seconds
        self.asked: Counter[str] = Counter()
        self.answers: Callable[[Prompt], tuple[int, str]] | None = None
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()

    def said(self, user: str) -> tuple[int, str]:
        with self._lock:
            prompt = Prompt(user, self.asked[user])
            self.asked[user] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            time.sleep(self.seconds)
            return self.answers(prompt) if self.answers else (200, reply(self.rule, prompt))
        finally:
            with self._lock:
                self._at_once -= 1


@contextlib.contextmanager
def serving(server: Server) -> Iterator[str]:
    """Its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._send(200, b'{"data": [{"id": "judge"}]}')

        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, text = server.said(given["messages"][-1]["content"])
            found = {"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}
            self._send(status, (json.dumps(found) if status == 200 else text).encode())

        def log_message(self, *_: object) -> None: ...

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None: ...

    with Quiet(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


def write_evaluation(run: Run, records: Sequence[Record], answers: Mapping[str, Sequence[str]]) -> Evaluation:
    """A finished evaluation in which the arms gave these answers, as the engine leaves one."""
    measure = Records(run.settings().data, list(records), "f", VARIANT, Trained([]))
    examples = []
    for question, *given in zip(measure.questions, *answers.values(), strict=False):
        outputs = {arm: _answer(question, arm, text) for arm, text in zip(answers, given, strict=True)}
        examples.append(measure.example(question, outputs))
    figures = measure.figures(examples, list(answers), 42, lambda text: (text, False))
    job = run.new_evaluation()
    summary = {
        "schema": 1,
        "run": run.id,
        **figures.model_dump(exclude_unset=True),
        "decoding": {"max_new_tokens": 9, "temperature": 0.0},
    }
    (job.path / SETTINGS).write_text(EvaluationOrder().model_dump_json(), encoding="utf-8")
    job.write_status("finished", job="evaluate")
    job.write_reports(Summary.model_validate(summary), examples, [])
    return job


def _answer(question: Question, arm: str, text: str) -> Answer:
    output = completion_text("First this is weighed. Then that.", text) if text else ""
    return Answer(
        kind="record", number=question.number, arm=arm, output=output, tokens=5, ended="finished", seconds=1.0
    )
