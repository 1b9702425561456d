"""An export of a run's adapter: a job in the run's folder, with what was ordered, how far it is, and what was made.

One that the command line wrote elsewhere is noted there too, so that what it made is found.
"""

import errno
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

from pydantic import BaseModel

from medcot.errors import BadInput
from medcot.hub import SETTINGS
from medcot.machine import disk_in_words, is_full_disk, write_atomically
from medcot.runs import liveness
from medcot.runs.ids import has_plain_name, new_id
from medcot.runs.job_dir import STATUS, JobDir, command
from medcot.safety.foreign import read_small
from medcot.settings.export import QUANTIZATIONS, ExportOrder

MADE = "exported.json"  # what the worker says of it
ELSEWHERE = "Name another folder."
UNWRITTEN = (errno.EFBIG, errno.EIO, errno.EROFS)  # that a file could not be written, where the error names none


class AskedFile(BaseModel):
    """What llama.cpp answered from a GGUF file, greedily, held against what was exported.

    `same_tokens` are those of its own answers that the exported model chooses too, after the same text.
    """

    questions: int
    same_prompts: int  # whose tokens, by the file's own template and tokenizer, are those of the contract
    other_prompts: list[str] = []  # which questions have others
    tokens: int
    same_tokens: int
    same_answers: int  # to the last token
    stopped: int  # answers that ended by themselves
    running_on: int  # answers that did not, where the exported model ends by itself
    tokens_per_second: float
    scores: dict[str, float] = {}  # of the held-out records among them
    tuned: dict[str, float] = {}  # the same of tuned, from the run's newest evaluation of these records


class GgufFile(BaseModel):
    """A GGUF file of an export; `refused` says why it was not kept."""

    name: str
    quantization: str
    bytes: int
    asked: AskedFile | None = None
    refused: str = ""


class Exported(BaseModel):
    """What an export made: how many of the tokens of base and adapter the merged model chooses too, and its files."""

    path: str
    dtype: str
    bytes: int
    prompts: int
    tokens: int
    same_tokens: int
    files: list[GgufFile] = []
    notes: list[str] = []
    commands: list[str] = []  # that run what was written

    @property
    def kept(self) -> list[GgufFile]:
        return [file for file in self.files if file.quantization in QUANTIZATIONS and not file.refused]


class Export(JobDir):
    """runs/<run>/export/<id>/; the model is in its folder `model`, whole and checked, or not at all."""

    @property
    def target(self) -> Path:
        return self.path / "model"

    def clear(self) -> None:
        """Remove what a killed worker left half-made."""
        clear(self.target)

    def order(self) -> ExportOrder:
        """What it was ordered to write. Raises BadInput if settings.json cannot be read."""
        try:
            return ExportOrder.model_validate_json((self.path / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            what = f"cannot be read: {error}."
            raise BadInput.of(str(self.path / SETTINGS), what, "Start a new export.") from None

    def made(self) -> Exported | None:
        """What it made; None before, or if that cannot be read."""
        try:
            return Exported.model_validate_json(read_small(self.path / MADE))
        except (OSError, ValueError):
            return None

    def processes(self) -> int:
        return 1

    def files(self) -> list[Path]:
        """What was made, the model card first; empty before."""
        found = (path for path in self.target.rglob("*") if path.is_file())
        return sorted(found, key=lambda path: (path.name != "README.md", str(path)))

    @property
    def named(self) -> str:
        return f"the export {self.id} of {self.path.parent.parent.name}"

    @property
    def how_to_stop(self) -> str:
        return command(f"stop {self.path.parent.parent.name}", self.path.parents[2])


def room_of(target: Path) -> Path:
    """The folder beside the target that an export has to itself, until what it writes there is whole and checked."""
    return target.with_name(f".{target.name}.part")


@contextmanager
def drafting(target: Path) -> Iterator[Path]:
    """Claim the room of an export, empty; yield the folder to write there. When it ends, nothing of the room is left.

    Raises BadInput for a place that cannot be written, at once, or that another export has, and for a disk that fills.
    """
    room = room_of(target)
    with ExitStack() as held:
        with disk_in_words("--to", f"{target} cannot be written", ELSEWHERE):
            room.mkdir(parents=True, exist_ok=True)
            try:
                held.enter_context(liveness.claim(room))
            except liveness.Taken:
                what, fix = f"another export to {target} is at work.", "Wait until it ends, or name another folder."
                raise BadInput.of("--to", what, fix) from None
        held.enter_context(ended_in_order())
        held.callback(shutil.rmtree, room, ignore_errors=True)
        try:
            _empty(room)
            yield room / "model"
        except BaseException as error:
            if is_full_disk(error):
                raise BadInput.of("--to", "the disk is full; nothing was left there.", "Free some space.") from None
            if isinstance(error, OSError) and (error.errno in UNWRITTEN or str(room) in str(error.filename)):
                raise BadInput.of("--to", f"{target} cannot be written: {error.strerror}.", ELSEWHERE) from None
            raise


def _empty(room: Path) -> None:
    """Remove what a killed export left, but for the claim."""
    for left in room.iterdir():
        if left.name != liveness.LOCK:
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink()


def clear(target: Path) -> None:
    """Remove what a killed export to the target left half-made; not what one that is at work has there."""
    with suppress(OSError, liveness.Taken), liveness.claim(room_of(target)):
        shutil.rmtree(room_of(target), ignore_errors=True)


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let a closed terminal, or SIGTERM, end this process by an exception, so that it takes away what is half-made."""
    mine = threading.current_thread() is threading.main_thread()
    ends = [n for n in (signal.SIGHUP, signal.SIGTERM) if mine and signal.getsignal(n) == signal.SIG_DFL]

    def end(number: int, _frame: FrameType | None) -> None:
        for one in ends:
            signal.signal(one, signal.SIG_IGN)  # a closed terminal often says so twice
        raise SystemExit(128 + number)

    for number in ends:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ends:
            signal.signal(number, signal.SIG_DFL)


def exports_of(run: Path) -> list[Export]:
    """The exports in a run's folder, newest first."""
    folders = sorted((run / "export").glob("*/"), reverse=True)
    return [Export(path) for path in folders if has_plain_name(path) and (path / STATUS).exists()]


def new_export(run: Path, order: ExportOrder) -> Export:
    """Make the folder of an export."""
    path = run / "export" / new_id()
    path.mkdir(parents=True)
    write_atomically(path / SETTINGS, order.model_dump_json(indent=1))
    return Export(path)


def remember(run: Path, order: ExportOrder, made: Exported) -> None:
    """Note in a run's folder what was exported of it elsewhere."""
    export = new_export(run, order)
    write_atomically(export.path / MADE, made.model_dump_json(indent=1))
    export.write_status("finished", job="export")


@dataclass(frozen=True, slots=True)
class Shipped:
    """A GGUF file that an export made of a run; `checked`: llama.cpp was asked, and said what was measured."""

    path: Path
    quantization: str
    checked: bool

    @property
    def title(self) -> str:
        return self.quantization.upper()


File = TypeVar("File", GgufFile, Shipped)


def shipped(run: Path) -> list[Shipped]:
    """The GGUF files of a run's exports that are there, one of each quantization, checked and newest first."""
    found = [file for export, made in _finished(run) for file in _there(export, made)]
    return _one_of_each(sorted(found, key=lambda file: not file.checked))


def checked(run: Path) -> list[GgufFile]:
    """What llama.cpp answered from the run's GGUF files, the newest of each quantization, wherever they are now."""
    return _one_of_each([file for _, made in _finished(run) for file in made.kept if file.asked])


def _finished(run: Path) -> Iterator[tuple[Export, Exported]]:
    """The run's finished exports and what they made, newest first."""
    for export in exports_of(run):
        if export.status().state == "finished" and (made := export.made()):
            yield export, made


def _there(export: Export, made: Exported) -> list[Shipped]:
    """The files that an export kept and that are still whole."""
    folder = export.target if export.target.is_dir() else Path(made.path)  # the runs may have been moved since
    return [
        Shipped(folder / file.name, file.quantization, file.asked is not None)
        for file in made.kept
        if Path(file.name).name == file.name and _size(folder / file.name) == file.bytes
    ]


def _one_of_each(files: Sequence[File]) -> list[File]:
    """The first file of each quantization."""
    first = {file.quantization: file for file in reversed(files)}
    return [first[name] for name in QUANTIZATIONS if name in first]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
