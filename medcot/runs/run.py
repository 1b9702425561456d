"""Run and Evaluation: with JobDir and RunStore, the only readers and writers of a run directory.

A run directory is the interface between a worker and everyone who looks: the worker appends, the page and the command
line read, and neither needs the other to be alive. A run is a job directory, for its training, and so is each of its
evaluations.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from medcot.errors import BadInput, Problem
from medcot.evaluation.answers import Answer, Example, Sample
from medcot.evaluation.records import Records
from medcot.evaluation.report import render
from medcot.evaluation.summary import EXAMPLE, SAMPLE, Summary
from medcot.evaluation.table_csv import csv_text
from medcot.hub import SETTINGS, WEIGHTS
from medcot.machine import disk_in_words, write_atomically
from medcot.runs.events import Finished, Kept, Metrics, PlanMade, Step, TrainingProgress, Validation
from medcot.runs.export import exports_of
from medcot.runs.ids import has_plain_name, new_id
from medcot.runs.job_dir import STATUS, JobDir, Status, command, read_lines
from medcot.safety.foreign import read_json
from medcot.settings import RunSettings, as_written, message_of
from medcot.settings.evaluation import EvaluationOrder
from medcot.settings.names import NAME_LENGTH, plain_name

ABOUT = "about.json"  # the shown name and a note
Lines = Literal["answers", "examples", "samples", "verdicts"]
Settings = TypeVar("Settings", bound=BaseModel)
SUMMARY = "summary.json"  # of an evaluation
JUDGE: Literal["judge"] = "judge"  # the job of an evaluation whose answers are being judged
ORIGIN = "origin.json"  # names the adapter that a run measures; without it the run was trained here


def _plain_text(text: str) -> str:
    if any(ord(c) < 32 and c not in "\n\t" for c in text):
        raise ValueError("may hold no control characters")
    return text


class About(BaseModel):
    """A run's shown name and note: about.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Annotated[str, Field(max_length=NAME_LENGTH), AfterValidator(plain_name)] | None = None
    note: Annotated[str, Field(max_length=2000), AfterValidator(_plain_text)] = ""


class Evaluation(JobDir):
    """runs/<run>/evaluation/<id>/"""

    def summary(self) -> Summary | None:
        """summary.json; None while there is none, or where it cannot be read."""
        try:
            return Summary.model_validate_json((self.path / SUMMARY).read_bytes())
        except (OSError, ValueError):
            return None

    def examples(self) -> list[Example]:
        """The scored questions with every arm's answer."""
        return read_lines(self.path / "examples.jsonl", EXAMPLE)

    def example_lines(self) -> int:
        """How many lines examples.jsonl has; those that are no examples count, and so does what is no file."""
        path = self.path / "examples.jsonl"
        try:
            return sum(1 for line in path.read_bytes().split(b"\n") if line.strip())
        except OSError:
            return int(os.path.lexists(path))

    def samples(self) -> list[Sample]:
        """The sample questions with every arm's answer, unscored."""
        return read_lines(self.path / "samples.jsonl", SAMPLE)

    def answers(self) -> list[Answer]:
        """Everything answered so far, in the order of arrival."""
        return read_lines(self.path / "answers.jsonl", TypeAdapter(Answer))

    def order(self) -> EvaluationOrder:
        """What it was ordered to do. Raises BadInput if settings.json is missing or of another version."""
        return _settings(EvaluationOrder.model_validate_json, self.path / SETTINGS, "Start a new evaluation.")

    def processes(self) -> int:
        """In how many it is to be answered; a judge asks in one."""
        return 1 if self.is_judged else self.order().processes

    @property
    def is_judged(self) -> bool:
        """Whether its job, running or ended, is a judge's; it was answered before."""
        status = self._read_status()
        return status is not None and status.job == JUDGE

    def _how_to_go_on(self) -> tuple[str, str]:
        words = f"{'judge' if self.is_judged else 'evaluate'} {self.path.parent.parent.name} --resume {self.id}"
        kept, go_on = "What is answered is kept", command(words, self.path.parents[2])
        return f"{kept}; go on with: {go_on}", f"{kept}: press Resume evaluation to go on."

    @property
    def named(self) -> str:
        return f"the evaluation {self.id} of {self.path.parent.parent.name}"

    @property
    def how_to_stop(self) -> str:
        return command(f"stop {self.path.parent.parent.name}", self.path.parents[2])

    def write_summary(self, summary: Summary) -> None:
        write_atomically(self.path / SUMMARY, summary.text())

    def write_reports(self, summary: Summary, examples: Sequence[Example], samples: Sequence[Sample]) -> None:
        """Write all that a finished evaluation leaves, summary.json last: with it the other files are complete."""
        self.write_lines("examples", examples)
        self.write_lines("samples", samples)
        write_atomically(self.path / "report.html", render(summary, examples, samples))
        write_atomically(self.path / "table.csv", csv_text(summary))
        self.write_summary(summary)

    def append_line(self, name: Lines, line: BaseModel) -> None:
        with (self.path / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(_as_line(line))

    def write_lines(self, name: Lines, lines: Sequence[BaseModel]) -> None:
        write_atomically(self.path / f"{name}.jsonl", "".join(map(_as_line, lines)))


def _as_line(line: BaseModel) -> str:
    return json.dumps(line.model_dump(exclude_unset=True), ensure_ascii=False) + "\n"


def _settings(read: Callable[[str], Settings], path: Path, fix: str) -> Settings:
    try:
        return read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput.of(str(path), f"cannot be read: {error}.", fix) from None


class Run(JobDir):
    """runs/<run-id>/"""

    @property
    def adapter_dir(self) -> Path:
        return self.path / "adapter"

    @property
    def checkpoints_dir(self) -> Path:
        return self.path / "checkpoints"

    @property
    def has_adapter(self) -> bool:
        return (self.adapter_dir / WEIGHTS).is_file()

    def require_adapter(self) -> None:
        """Raise BadInput if it has no adapter."""
        if not self.has_adapter:
            what, listed = f"{self.id} has no adapter; it is {self.status().state}.", command("runs", self.path.parent)
            fix = f"Choose a finished run: `{listed}` lists them."
            raise BadInput.of("run", what, fix, page="Choose a finished run.")

    def settings(self) -> RunSettings:
        """What the run is. Raises BadInput if settings.json is missing or of another version of medcot."""
        return _settings(as_written, self.path / SETTINGS, "Start a new run.")

    def processes(self) -> int:
        """In how many it is to be trained."""
        return self.settings().training.processes

    def origin(self) -> str | None:
        """OWNER/NAME with the whole commit, or the folder of an adapter from elsewhere; None if it was trained here."""
        try:
            return str(read_json(self.path / ORIGIN)["adapter"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return f"an unknown adapter ({ORIGIN} is damaged)"

    def shown_status(self) -> Status:
        """For lists: the training's status, or the newest evaluation's if it was not trained here."""
        return next(iter(self.evaluations() if self.origin() else []), self).status()

    def _how_to_go_on(self) -> tuple[str, str]:
        if not self.checkpoints():
            return ("No checkpoint was saved yet; start a new run.",) * 2
        go_on = command(f"train --resume {self.id}", self.path.parent)
        return f"It can be continued: {go_on}", "Press Continue from the checkpoint to go on."

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, newest first."""
        return sorted(checkpoint_steps(self.checkpoints_dir), key=lambda path: -int(path.name.partition("-")[2]))

    def evaluations(self) -> list[Evaluation]:
        """Newest first."""
        folders = sorted((self.path / "evaluation").glob("*/"), reverse=True)
        return [Evaluation(p) for p in folders if has_plain_name(p) and os.path.lexists(p / STATUS)]

    def new_evaluation(self) -> Evaluation:
        path = self.path / "evaluation" / new_id()
        path.mkdir(parents=True)
        return Evaluation(path)

    def job_dirs(self) -> Iterator[JobDir]:
        yield self
        yield from self.evaluations()
        yield from exports_of(self.path)

    def plan(self) -> PlanMade | None:
        """What its last worker planned; each resume plans again, and keeps the arrangement."""
        return self.newest_event(PlanMade)

    def about(self) -> About:
        """Name and note; empty if there are none or the file is damaged."""
        try:
            return About.model_validate_json((self.path / ABOUT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return About()

    def describe(self, *, name: str | None = None, note: str | None = None) -> About:
        """Change name or note or both; an empty name takes the name away. Raises BadInput with all that is wrong."""
        old = self.about()
        new = {"name": old.name if name is None else name.strip() or None, "note": old.note if note is None else note}
        try:
            about = About.model_validate(new)
        except ValidationError as error:
            wrong = [Problem(str(e["loc"][0]), f"{message_of(e)}; got {e['input']!r:.80}.") for e in error.errors()]
            raise BadInput(wrong) from None
        with disk_in_words(str(self.path / ABOUT), "cannot be written"):
            write_atomically(self.path / ABOUT, about.model_dump_json(indent=1))
        return about

    def size_bytes(self) -> int:
        """On disk, checkpoints and evaluations included."""
        found = 0
        for folder, _, names in os.walk(self.path):
            for name in names:
                with contextlib.suppress(OSError):  # a worker has just replaced it
                    found += Path(folder, name).lstat().st_size
        return found

    def latest_summary(self) -> Summary | None:
        """Of the newest evaluation of the held-out records that has one; other measures are no run's headline."""
        return next((s for e in self.evaluations() if (s := e.summary()) and s.measure is Records), None)

    def progress(self) -> TrainingProgress:
        """Last losses, for lists."""
        step, finished, kept = self.newest_event(Step), self.newest_event(Finished), self.newest_event(Kept)
        planned, losses = step or self.newest_event(PlanMade), [e.loss for e in self.events_of(Validation)]
        return {
            "step": step.step if step else 0,
            "total_steps": planned.total_steps if planned else 0,
            "loss": step.loss if step else None,
            "first_validation_loss": losses[0] if losses else None,
            "validation_loss": losses[-1] if losses else None,
            "kept_step": kept.step if kept else None,
            "seconds": finished.seconds if finished else None,
        }

    def metrics(self) -> Metrics:
        """Last losses and the newest evaluation's headline, for lists."""
        return {**self.progress(), "summary": summary.as_json() if (summary := self.latest_summary()) else None}


def checkpoint_steps(folder: Path) -> dict[Path, int]:
    """The checkpoints in a folder, each with its step. Folders of other names, as somebody's copy, are passed over."""
    names = {path: path.name.partition("-")[2] for path in folder.glob("checkpoint-*/")}
    own = {path: int(step) for path, step in names.items() if step.isascii() and step.isdigit()}
    return {path: step for path, step in own.items() if path.name == f"checkpoint-{step}"}


def duration(seconds: float | None) -> str:
    """Format seconds as 6:05 or 1:06:05; empty while unknown."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: int) -> str:
    """Format bytes: 512 B, 20 kB, 1.5 GB."""
    thousands = min(3, (len(str(count)) - 1) // 3)
    value, unit = count / 1000**thousands, ("B", "kB", "MB", "GB")[thousands]
    return f"{value:.1f} {unit}" if value < 10 and thousands else f"{value:.0f} {unit}"
