"""A GGUF file as an arm of an evaluation, or asked one question: by llama.cpp, under the contract that it carries."""

from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medcot import machine
from medcot.engine.answer.batch import Asking
from medcot.engine.answer.load import TAKEN
from medcot.engine.gguf.llama import SLOTS, FileFacts, LlamaServer, facts_of, require_llama
from medcot.errors import BadInput, Problem, collected
from medcot.evaluation.answers import Reply, asked_as
from medcot.prompts.contract import PromptContract
from medcot.runs.events import Progress, Report, Warned
from medcot.settings.evaluation import EvaluationOrder
from medcot.settings.export import is_file
from medcot.workers.protocol import AskFileRequest

BYTES_A_TOKEN = 1  # at least, so that a prompt's bytes are room enough
FOLLOW_SECONDS = 2.0
MARKUP = 512  # tokens for a template's own
TOLD = (
    "{name} carries no prompt contract: its own chat template makes the prompts, and is told the run's system text, "
    "date and switches. What it does besides is its own."
)


@dataclass(frozen=True, slots=True)
class FileArm:
    """A GGUF file and what it says of itself."""

    path: Path
    facts: FileFacts

    @classmethod
    def of(cls, name: str) -> "FileArm":
        """Raises BadInput if there is no such file, or it is no GGUF file."""
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise BadInput.of(name, "there is no such file.", "Name a GGUF file that medcot exported.")
        return cls(path, facts_of(path))

    def ask(self, arm: str, contract: PromptContract, asking: Asking) -> None:
        """Answer all of an evaluation's questions, under the run's contract if the file carries none."""
        inside, decoding = self.facts.contract is not None, asking.decoding
        if not inside:
            asking.report(Warned(message=TOLD.format(name=self.path.name)))
        own, texts = self.facts.contract or contract, [asked_as(arm, q.text) for q in asking.questions]
        asking.report(Progress(stage=f"Loading {self.path.name} in llama.cpp"))
        with self.served(texts, own, decoding.max_new_tokens, SLOTS) as server:
            asking.many(lambda _, text: server.reply(text, own, decoding, inside=inside), [arm], SLOTS)

    @contextmanager
    def served(self, questions: list[str], contract: PromptContract, most: int, slots: int) -> Iterator[LlamaServer]:
        """The file in llama.cpp, with room for these questions. Raises BadInput if it does not read so many tokens."""
        wanted = room_for(max(len(q.encode()) for q in questions), contract, most)
        room = min(wanted, self.facts.window or wanted)
        with LlamaServer(self.path, context=room, slots=slots) as server:
            if room < wanted:  # which is more than it takes
                inside = self.facts.contract is not None
                longest = max(len(server.asked_as(q, contract, inside=inside)) for q in questions)
                if longest + most > room:
                    what = f"the longest question has {longest} tokens, {most} may follow, and {self.path.name} reads"
                    fix = f"Ask for {max(0, room - longest)} at most."
                    raise BadInput.of("new tokens", f"{what} {room}.", fix)
            yield server


def room_for(question: int, contract: PromptContract, most: int) -> int:
    """Tokens of context for a question of so many bytes, its template, and an answer."""
    system = len((contract.system or "").encode())
    return -(-(question * BYTES_A_TOKEN + system + MARKUP + most) // 256) * 256


def file_arms(order: EvaluationOrder) -> dict[str, FileArm]:
    """The GGUF files among an evaluation's further arms, by their names. Raises BadInput with every problem."""
    names = [name for name in order.adapters if is_file(name)]
    if not names:
        return {}
    require_llama()
    found: dict[str, FileArm] = {}
    problems: list[Problem] = []
    if order.processes > 1:
        what = "llama.cpp uses all cores by itself."
        problems.append(Problem("evaluation.processes", what, "Set it to 1, or leave the files out."))
    for name in names:
        arm = Path(name).stem
        if arm in TAKEN or arm in found:
            problems.append(Problem("--arm", f"{arm} is an arm already.", "Name each once."))
        with collected(problems):
            found[arm] = FileArm.of(name)
    if problems:
        raise BadInput(problems)
    return found


def answer(request: AskFileRequest, report: Report) -> Reply:
    """One question to a file. Raises BadInput if it cannot be run, or carries no contract."""
    require_llama()
    file = FileArm.of(str(request.file))
    contract = file.facts.contract
    if contract is None:
        what = "carries no prompt contract, so how it was asked in training is unknown."
        raise BadInput.of(str(request.file), what, "Use a GGUF file that medcot exported.")
    decoding = request.decoding
    report(Progress(stage=f"Loading {file.path.name} in llama.cpp"))
    with file.served([request.question], contract, decoding.max_new_tokens, 1) as server:
        return followed(server, machine.in_thread(server.reply, request.question, contract, decoding), report)


def followed(server: LlamaServer, reply: Future[Reply], report: Report) -> Reply:
    """A reply, with a word about each further part of it: who hears nothing for long takes llama.cpp for hung."""
    report(Progress(stage="Answering"))
    before = 0
    while not wait([reply], timeout=FOLLOW_SECONDS).done:
        if (tokens := server.written()) > before:  # it is 0 again at the end
            report(Progress(stage=f"Answering, {tokens} tokens so far"))
            before = tokens
    return reply.result()
