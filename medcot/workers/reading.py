"""Records, questions and settings that somebody brought, read in a process of its own with limits of memory and time.

A small file can take any amount of both, and a long computation in C stops every thread of a process. So neither the
page nor the command line reads such a file itself. `python -m medcot.workers.reading` reads one request from its input
and writes the reply to its output.
"""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, TypeAdapter

from medcot import data, machine
from medcot.data import Example, Split
from medcot.data.columns import in_words
from medcot.errors import DEBUG, BadInput, Failure
from medcot.evaluation import benchmarks, choice_files
from medcot.safety.foreign import limit_memory
from medcot.settings import PARTS, DataSettings, RunSettings, is_local_data
from medcot.settings.evaluation import EvaluationOrder
from medcot.settings.inputs import MOST_SYSTEM
from medcot.settings.recipes import compose

MODULE = "medcot.workers.reading"
SECONDS, DOWNLOAD_SECONDS = 600.0, 7200.0  # a file of 300 MB takes 40 s on two slow cores; a data set may be fetched
SETTINGS_SECONDS = 120.0
LEAST_BYTES = 2 * 2**30  # that reading may take, of which the libraries take a part
SHARE = 0.5  # of the free memory, that it may take where that is more
PREVIEWED, MOST_SHOWN = 3, 20_000  # records, and characters of each text in them
TURNS_SHOWN = 20  # after the first
# One thread each: on many cores their stacks alone would take what the data may.
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
SHARED_SYSTEM = (
    "All records begin with the same system message, which becomes prompt.system. data.system_messages=leave_out does "
    "without."
)
Value = TypeVar("Value", bound=BaseModel)


class Preview(BaseModel):
    """What is told of records before a run: how many, the first of them, and what was found out about the columns."""

    train: int
    held_out: int
    validation: int | None = None  # None where the held-out records validate too
    first: list[Example]  # to train on, or to measure if all are held out
    guessed: dict[str, str]
    unused: list[str]
    several: int | None = None  # the first record that is a conversation of several turns
    system: str | None = None  # the system message that all records share
    notes: list[str] = []  # of validation, test and further data
    shares: list[str] = []  # what each further data set gives to an epoch

    @classmethod
    def of(cls, split: Split) -> "Preview":
        shown = (split.train or split.held_out)[:PREVIEWED]
        shown += [e for share in split.shares for e in [e for e in split.train if e in share][:1]]
        first = [_cut(example) for example in shown]
        validation = None if split.validation is None else len(split.validation)
        counts = {"train": len(split.train), "held_out": len(split.held_out), "validation": validation}
        records = [*split.train, *split.held_out, *(split.validation or ())]
        several = min((e.record for e in records if e.more), default=None)
        own = {e.system for e in records if not any(e in share for share in split.shares)}
        others = {e.system for e in split.train} - {""}  # of further data too, which may have none
        shared = next(iter(own)) if len(own) == 1 and others <= own and len(max(own)) <= MOST_SYSTEM else None
        told = {"guessed": split.guessed, "unused": split.unused, "several": several, "system": shared or None}
        return cls(first=first, notes=split.notes, shares=list(map(str, split.shares)), **counts, **told)

    @property
    def warnings(self) -> list[str]:
        """What to know before a start, in lines."""
        found = in_words(self.guessed), SHARED_SYSTEM if self.system else ""
        return [*filter(None, found), *self.notes]


def _cut(example: Example) -> Example:
    def shown(text: str) -> str:
        more = len(text) - MOST_SHOWN
        return text if more <= 0 else f"{text[:MOST_SHOWN]}… (and {more:,} more characters)"

    return replace(example, facts=None, more=example.more[:TURNS_SHOWN]).mapped(shown)


class Records(BaseModel):
    """Checked records: the settings with the columns that were found, and what is told of them."""

    data: DataSettings
    preview: Preview


class Columns(BaseModel):
    """The columns of records, those with the most text first, and the settings with a guess for each part."""

    names: list[str]
    data: DataSettings


class RecordsRequest(BaseModel):
    """Check and split records. Answered by Records."""

    type: Literal["records"] = "records"
    data: DataSettings
    whole: bool

    def answer(self) -> Records:
        fitted, split = data.load_fitted(self.data, whole=self.whole)
        return Records(data=fitted, preview=Preview.of(split))


class ColumnsRequest(BaseModel):
    """Find out which columns there are. Answered by Columns."""

    type: Literal["columns"] = "columns"
    data: DataSettings

    def answer(self) -> Columns:
        names, fitted = data.columns_of(self.data)
        return Columns(names=names, data=fitted)


class QuestionsRequest(BaseModel):
    """Write the questions that are asked in our own layout. Answered by the order, with its benchmark's commit."""

    type: Literal["questions"] = "questions"
    order: EvaluationOrder
    target: Path

    def answer(self) -> EvaluationOrder:
        resolved, asked = benchmarks.resolved(self.order)
        self.target.write_text(choice_files.as_lines(asked), encoding="utf-8")
        return resolved


class SettingsRequest(BaseModel):
    """Build settings from a TOML file. Answered by RunSettings."""

    type: Literal["settings"] = "settings"
    path: Path

    def answer(self) -> RunSettings:
        return compose(None, self.path)


Request = Annotated[RecordsRequest | ColumnsRequest | QuestionsRequest | SettingsRequest, Field(discriminator="type")]


REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


class Reply(BaseModel):
    """What the process writes to its output."""

    value: dict[str, Any] | None = None
    failure: Failure | None = None


def records(settings: DataSettings, *, whole: bool = False) -> Records:
    """Read, check and split; `whole` holds out every record. Raises BadInput with all problems."""
    sources = [settings, *filter(None, map(settings.part, PARTS)), *settings.more]
    seconds = SECONDS if all(is_local_data(one.source) for one in sources) else DOWNLOAD_SECONDS
    return _ask(RecordsRequest(data=settings, whole=whole), Records, "data.source", settings.source, seconds)


def columns(settings: DataSettings) -> Columns:
    """Which columns there are, and which is taken for what. Raises BadInput where the source cannot be read."""
    return _ask(ColumnsRequest(data=settings), Columns, "data.source", settings.source)


def questions(order: EvaluationOrder, target: Path) -> EvaluationOrder:
    """Write what an order asks to `target`; returns the order with its benchmark's commit.

    Raises BadInput with every bad record, or where a benchmark cannot be fetched.
    """
    named, seconds = order.questions or "", SECONDS
    if benchmarks.named(named):
        seconds = DOWNLOAD_SECONDS
    return _ask(QuestionsRequest(order=order, target=target), EvaluationOrder, "questions", Path(named).name, seconds)


def settings_of(path: Path) -> RunSettings:
    """The settings of a TOML file. Raises BadInput with all problems."""
    return _ask(SettingsRequest(path=path), RunSettings, path.name, "the file", SETTINGS_SECONDS)


def _ask(request: Request, kind: type[Value], where: str, named: str, seconds: float = SECONDS) -> Value:
    more_bytes = max(LEAST_BYTES, int(SHARE * machine.free_memory()))
    printed = None if os.environ.get(DEBUG) else subprocess.DEVNULL
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": printed, "encoding": "utf-8"}
    child = machine.spawn(MODULE, str(more_bytes), **pipes, env=machine.child_environment(ALONE))
    late = threading.Timer(seconds, child.kill)
    late.start()
    try:
        written, _ = child.communicate(request.model_dump_json())
    finally:
        late.cancel()
        child.kill()  # where this process is interrupted
    if not written:
        most = f"{seconds:.0f} seconds or {more_bytes / 2**30:.1f} GiB of memory"
        raise BadInput.of(where, f"reading {named} takes more than {most}.", "Take a part of it.")
    reply = Reply.model_validate_json(written)
    if reply.failure:
        raise reply.failure.exception()
    return kind.model_validate(reply.value)


def main() -> None:
    """Answer the request of the standard input. Where memory is too small for it, nothing is written."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")  # libraries print what they like
    os.dup2(2, 1)
    request = REQUEST.validate_json(sys.stdin.read())
    limit_memory(int(sys.argv[1]))
    try:
        reply = Reply(value=request.answer().model_dump(mode="json"))
    except MemoryError:
        return
    except Exception as error:  # noqa: BLE001  # it is raised again for whoever asked
        reply = Reply(failure=Failure.of(error))
    # Names of columns may hold lone surrogates, which no other process can read.
    out.write(json.dumps(reply.model_dump(mode="json"), ensure_ascii=False))
    out.close()


if __name__ == "__main__":
    main()
