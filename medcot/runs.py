"""Run and RunStore: with JobDir, the only reader and writer of a run directory.

A run directory is the interface between a worker and everyone who looks: the worker appends, the page and the command
line read, and neither needs the other to be alive. A run is a job directory, for its training, and so is each of its
evaluations.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import ValidationError

from medcot import about, origin
from medcot.about import About
from medcot.errors import BadInput, Problem, disk_in_words
from medcot.evaluating.answers import Answer
from medcot.evaluating.order import EvaluationOrder
from medcot.evaluating.table import is_choice
from medcot.events import Finished, PlanMade, Step, Validation, newest
from medcot.jobdirs import ALIVE, JobDir, Status, command, write_atomically
from medcot.settings import RunSettings

Lines = Literal["answers", "examples", "samples"]


class Evaluation(JobDir):
    """runs/<run>/evaluation/<id>/"""

    @property
    def id(self) -> str:
        return self.path.name

    def summary(self) -> dict[str, Any] | None:
        """summary.json, or None while there is none."""
        try:
            value: dict[str, Any] = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return value

    def examples(self) -> list[dict[str, Any]]:
        """One object a held-out question: both outputs, parsed, with scores."""
        return _json_lines(self.path / "examples.jsonl")

    def samples(self) -> list[dict[str, Any]]:
        """The sample questions with both outputs, unscored."""
        return _json_lines(self.path / "samples.jsonl")

    def answers(self) -> list[Answer]:
        """Everything answered so far, in the order of arrival; what cannot be read is left out."""
        found = []
        for row in _json_lines(self.path / "answers.jsonl"):
            try:
                found.append(Answer.model_validate(row))
            except ValidationError:
                continue
        return found

    def order(self) -> EvaluationOrder:
        """What it was ordered to do. Raises BadInput where settings.json is missing or of another version."""
        path = self.path / "settings.json"
        try:
            return EvaluationOrder.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(Problem(str(path), f"cannot be read: {error}.", "Start a new evaluation.")) from None

    def processes(self) -> int:
        """In how many it is to be answered."""
        return self.order().processes

    def _interrupted_hint(self) -> str:
        return f"The end of {self.log_path} may say why. What is answered is kept; go on with: " + command(
            f"evaluate {self.path.parent.parent.name} --resume {self.id}", self.path.parents[2]
        )

    def write_summary(self, summary: dict[str, Any]) -> None:
        write_atomically(self.path / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False))

    def append_line(self, name: Lines, row: dict[str, Any]) -> None:
        with (self.path / f"{name}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def write_lines(self, name: Lines, rows: list[dict[str, Any]]) -> None:
        write_atomically(self.path / f"{name}.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # a worker has just replaced it
        return 0


def _json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that somebody may be appending to; none where there is no file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.split("\n")[:-1]:
        with contextlib.suppress(ValueError):  # cut off by a crash
            found.append(json.loads(line))
    return found


class Run(JobDir):
    """runs/<run-id>/"""

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def adapter_dir(self) -> Path:
        return self.path / "adapter"

    @property
    def checkpoints_dir(self) -> Path:
        return self.path / "checkpoints"

    @property
    def has_adapter(self) -> bool:
        return (self.adapter_dir / "adapter_model.safetensors").is_file()

    def settings(self) -> RunSettings:
        """Raises BadInput where settings.json is missing or of another version of medcot."""
        path = self.path / "settings.json"
        try:
            return RunSettings.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(Problem(str(path), f"cannot be read: {error}.", "Start a new run.")) from None

    def processes(self) -> int:
        """In how many it is to be trained."""
        return self.settings().training.processes

    def origin(self) -> str | None:
        """The adapter that it measures, where that was not trained here."""
        return origin.read(self.path)

    def shown_status(self) -> Status:
        """For lists: how its training stands, or its newest evaluation where it was not trained here."""
        newest = next(iter(self.evaluations()), None) if self.origin() else None
        return (newest or self).status()

    def _interrupted_hint(self) -> str:
        saved = (
            " It can be continued: " + command(f"train --resume {self.id}", self.path.parent)
            if self.checkpoints()
            else " No checkpoint was saved yet; start a new run."
        )
        return f"The end of {self.log_path} may say why.{saved}"

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, newest first."""
        found = [p for p in self.checkpoints_dir.glob("checkpoint-*") if p.name.partition("-")[2].isdigit()]
        return sorted(found, key=lambda p: int(p.name.partition("-")[2]), reverse=True)

    def evaluations(self) -> list[Evaluation]:
        """Newest first."""
        return [
            Evaluation(p)
            for p in sorted((self.path / "evaluation").glob("*/"), reverse=True)
            if (p / "status.json").exists()
        ]

    def new_evaluation(self) -> Evaluation:
        path = self.path / "evaluation" / f"{_stamp()}-{secrets.token_hex(2)}"
        path.mkdir(parents=True)
        return Evaluation(path)

    def job_dirs(self) -> Iterator[JobDir]:
        yield self
        yield from self.evaluations()

    def plan(self) -> PlanMade | None:
        """What its last worker planned; each resume plans anew, and keeps the arrangement."""
        return newest(self.events()[0], PlanMade)

    def about(self) -> About:
        """Name and note that people gave it."""
        return about.read(self.path)

    def lock(self) -> FileLock:
        """Held by who continues or deletes the run, so that the two cannot meet."""
        return FileLock(self.path / ".resume.lock")

    def size_bytes(self) -> int:
        """On disk, checkpoints and evaluations included."""
        sizes = (_size(folder / name) for folder, _, names in os.walk(self.path) for name in map(Path, names))
        return sum(sizes)

    def latest_summary(self) -> dict[str, Any] | None:
        """Of the newest evaluation of the held-out records that has one; multiple choice is another measure."""
        return next((s for e in self.evaluations() if (s := e.summary()) and not is_choice(s)), None)

    def metrics(self) -> dict[str, Any]:
        """Last losses and the newest evaluation's headline, for lists."""
        events, _ = self.events()
        steps = [e for e in events if isinstance(e, Step)]
        validations = [e for e in events if isinstance(e, Validation)]
        return {
            "step": steps[-1].step if steps else 0,
            "total_steps": next((e.total_steps for e in reversed(events) if isinstance(e, PlanMade | Step)), 0),
            "loss": steps[-1].loss if steps else None,
            "first_validation_loss": validations[0].loss if validations else None,
            "validation_loss": validations[-1].loss if validations else None,
            "seconds": next((e.seconds for e in reversed(events) if isinstance(e, Finished)), None),
            "summary": self.latest_summary(),
        }


class RunStore:
    """A folder of runs."""

    def __init__(self, root: Path):
        try:
            self.root = root.expanduser()
        except RuntimeError:
            raise BadInput(Problem("--runs-dir", f"{root} names no user's folder.", "Name another folder.")) from None

    def create(self, settings: RunSettings) -> Run:
        """A new queued run; it appears whole or not at all. Raises BadInput where the folder cannot be written."""
        return self._make(settings, lambda draft: Run(draft).write_status("queued", job="train"))

    def adopt(self, settings: RunSettings, adapter: str, files: Sequence[Path]) -> Run:
        """A run around a copy of an adapter that was trained elsewhere, as `create` makes one to train."""

        def fill(draft: Path) -> None:
            run = Run(draft)
            run.adapter_dir.mkdir()
            for file in files:
                shutil.copyfile(file, run.adapter_dir / file.name)
            origin.write(draft, adapter)
            run.write_status("finished", job="adopt")

        return self._make(settings, fill)

    def _make(self, settings: RunSettings, fill: Callable[[Path], None]) -> Run:
        slug = re.sub(r"[^a-z0-9]+", "-", (settings.name or settings.recipe).lower()).strip("-")[:40] or "run"
        run_id = f"{_stamp()}-{slug}-{secrets.token_hex(2)}"
        with disk_in_words("--runs-dir", f"{self.root} cannot be written", "Choose another folder: --runs-dir DIR"):
            self.root.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=self.root, prefix=".new-"))
        try:
            (draft / "settings.json").write_text(settings.model_dump_json(indent=1), encoding="utf-8")
            fill(draft)
            draft.chmod(0o755)
            draft.rename(self.root / run_id)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise BadInput(
                Problem(
                    "--runs-dir",
                    f"a run could not be made in {self.root}: {error.strerror}.",
                    "Free some space, or choose another folder.",
                )
            ) from None
        return Run(self.root / run_id)

    def list(self) -> list[Run]:
        """Newest first. Folders that are not runs are passed over."""
        return [
            Run(p.parent)
            for p in sorted(self.root.glob("*/settings.json"), reverse=True)
            if not p.parent.name.startswith(".")
        ]

    def get(self, run_id: str) -> Run:
        """By id, by name, or by any unambiguous part of an id; 'latest' is the newest.

        Raises BadInput where none or several match.
        """
        runs = self.list()
        if run_id == "latest" and runs:
            return runs[0]
        found = (
            [r for r in runs if r.id == run_id]
            or [r for r in runs if r.about().name == run_id]
            or [r for r in runs if run_id in r.id]
        )
        if len(found) == 1:
            return found[0]
        if not found:
            listed = f"`{command('runs', self.root)}` lists them."
            raise BadInput(Problem("run", f"there is no run {run_id!r} in {self.root}.", listed))
        raise BadInput(
            Problem(
                "run",
                f"{run_id!r} fits {len(found)} runs: {', '.join(r.id for r in found[:5])}.",
                "Give more of the id.",
            )
        )

    def delete(self, run: Run) -> None:
        """Remove a run with everything in it. Raises BadInput while it, or an evaluation of it, is alive."""
        with disk_in_words("run", f"{run.path} cannot be removed"), run.lock():
            if alive := next((job for job in run.job_dirs() if job.status().state in ALIVE), None):
                what = run.id if alive is run else f"the evaluation {alive.path.name} of {run.id}"
                raise BadInput(
                    Problem(
                        "run",
                        f"{what} is {alive.status().state}.",
                        "Stop it first: " + command(f"stop {run.id}", self.root),
                    )
                )
            # Out of every list at once, and only then taken apart: a deletion that is cut short leaves no half run.
            doomed = run.path.with_name(f".deleted-{run.id}")
            run.path.rename(doomed)
        if doomed.is_symlink():
            doomed.unlink()
        else:
            shutil.rmtree(doomed, ignore_errors=True)


def _stamp() -> str:
    """For ids: sorts by time, to the millisecond, so that two in one second have an order too."""
    return datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
