"""A GGUF file as an arm of an evaluation, or asked one question: by llama.cpp, under the contract that it carries."""

from dataclasses import dataclass
from pathlib import Path

from medcot.engine.answer.batch import Asking
from medcot.engine.answer.load import TAKEN
from medcot.engine.gguf.llama import SLOTS, LlamaServer, contract_in, require_llama
from medcot.errors import BadInput, Problem, collected
from medcot.evaluation.answers import Reply, asked_as
from medcot.prompts.contract import PromptContract
from medcot.runs.events import Progress, Report
from medcot.settings.evaluation import EvaluationOrder
from medcot.settings.export import is_file
from medcot.workers.protocol import AskFileRequest

BYTES_A_TOKEN = 1  # at least, so that a prompt's bytes are room enough
MARKUP = 512  # tokens for a template's own


@dataclass(frozen=True, slots=True)
class FileArm:
    """A GGUF file and its contract; None if it carries none."""

    path: Path
    contract: PromptContract | None

    @classmethod
    def of(cls, name: str) -> "FileArm":
        """Raises BadInput if there is no such file, or it is no GGUF file."""
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise BadInput.of(name, "there is no such file.", "Name a GGUF file that medcot exported.")
        return cls(path, contract_in(path))

    def ask(self, arm: str, contract: PromptContract, asking: Asking) -> None:
        """Answer all of an evaluation's questions, under the run's contract if the file carries none."""
        own, decoding = self.contract or contract, asking.decoding
        longest = max(len(asked_as(arm, q.text).encode()) for q in asking.questions)
        room = room_for(longest, own, decoding.max_new_tokens)
        asking.report(Progress(stage=f"Loading {self.path.name} in llama.cpp"))
        with LlamaServer(self.path, context=room) as server:
            asking.many(lambda _, text: server.reply(text, own, decoding), [arm], SLOTS)


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
    if file.contract is None:
        what = "carries no prompt contract, so how it was asked in training is unknown."
        raise BadInput.of(str(request.file), what, "Use a GGUF file that medcot exported.")
    decoding = request.decoding
    room = room_for(len(request.question.encode()), file.contract, decoding.max_new_tokens)
    report(Progress(stage=f"Loading {file.path.name} in llama.cpp"))
    with LlamaServer(file.path, context=room, slots=1) as server:
        report(Progress(stage="Answering"))
        return server.reply(request.question, file.contract, decoding)
