"""Copies of what a worker reports, for the trackers that settings name; the run directory is the record.

Whatever a tracker does, the job goes on: one that is missing, away or broken is told in one warning and left out.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from medcot.engine import distributed, without_wandb
from medcot.engine.tracking.files import TABLE, TensorBoard, Trackio
from medcot.engine.tracking.wandb_run import WandbRun, in_words
from medcot.evaluation.summary import Summary
from medcot.evaluation.table_csv import csv_text
from medcot.runs.events import AnyEvent, Report, Step, Validation, Warned
from medcot.runs.run import Run
from medcot.settings import TRACKERS, RunSettings, TrackerName

OF_A_STEP = ("loss", "learning_rate", "grad_norm", "epoch", "tokens_seen", "tokens_per_second")


class Logged(Protocol):
    """A run in one tracker; its methods may raise anything. `later` says what can be done with what it holds."""

    later: str

    def log(self, figures: Mapping[str, float]) -> None: ...

    def results(self, figures: Mapping[str, float | int | str], step: int) -> None: ...

    def close(self, code: int) -> None: ...


KINDS: dict[TrackerName, type[Any]] = {"wandb": WandbRun, "tensorboard": TensorBoard, "trackio": Trackio}


@contextlib.contextmanager
def follow(run: Run, settings: RunSettings, report: Report) -> Iterator["Tracker"]:
    """A report that also goes to the settings' trackers; their errors become warnings. Enter before importing trl."""
    names = [name for name in settings.tracking.to if distributed.is_main_process()]
    if os.environ.get("WANDB_MODE") == "disabled":
        names = [name for name in names if name != "wandb"]
    if "wandb" not in names:
        without_wandb()
    early: list[AnyEvent] = []  # reported after the job's first event, at which a reader starts over
    step = max((int(path.name.partition("-")[2]) for path in run.checkpoints()), default=0)
    opened = {name: _open(name, run, settings, step, early.append) for name in names}
    tracker = Tracker(report, {name: logged for name, logged in opened.items() if logged}, step, early)
    code = 0
    try:
        yield tracker
    except Exception:
        code = 1
        raise
    finally:  # a stop, which is no Exception, is no failure
        tracker.close(code)


def _open(name: TrackerName, run: Run, settings: RunSettings, step: int, report: Report) -> Logged | None:
    try:
        logged: Logged = KINDS[name](run, settings, step, report)
    except Exception as error:  # noqa: BLE001  # a missing or broken package, a full disk
        report(Warned(message=f"{TRACKERS[name].title} is left out: {in_words(error)}."))
        return None
    return logged


class Tracker:
    """Passes events on, and their figures to the trackers. `step` is where the run stands."""

    def __init__(self, report: Report, logged: Mapping[TrackerName, Logged], step: int, early: Sequence[AnyEvent]):
        self._report, self._logged, self._step, self._early = report, dict(logged), step, list(early)

    def __call__(self, event: AnyEvent) -> None:
        for each in (event, *self._early):
            self._report(each)
        self._early = []
        if figures := row(event):
            self._step = int(figures["step"])
            self._each(lambda logged: logged.log(figures))

    def figures(self, summary: Summary) -> None:
        """Log summary.json beside the training's curves, and its table as CSV text, under the measure's name."""
        found = flat({summary.measure.tracked_as: {**summary.as_json(), TABLE: csv_text(summary)}})
        self._each(lambda logged: logged.results(found, self._step))

    def close(self, code: int) -> None:
        self._each(lambda logged: logged.close(code))
        self._logged = {}

    def _each(self, action: Any) -> None:
        for name, logged in list(self._logged.items()):
            try:
                action(logged)
            except Exception as error:  # noqa: BLE001  # whatever a tracker does, the job goes on
                del self._logged[name]
                lost = f"{TRACKERS[name].title} did not take everything ({in_words(error)})."
                self._report(Warned(message=f"{lost} This run's own record is complete. {logged.later}"))


def row(event: AnyEvent) -> dict[str, float]:
    """Pick the figures that a tracker gets of an event; of most events none."""
    if isinstance(event, Step):
        figures = {f"train/{name}": value for name in OF_A_STEP if (value := getattr(event, name)) is not None}
        progress = event.step / event.total_steps
        return {"step": event.step, "gpu_memory_gib": event.gpu_memory_gib, "progress": progress, **figures}
    if isinstance(event, Validation):
        return {"step": event.step, "validation/loss": event.loss}
    return {}


def flat(nested: Mapping[str, Any], above: str = "") -> dict[str, float | int | str]:
    """Flatten {"a": {"b": 1}} to {"a/b": 1}, without lists and missing values."""
    found = dict[str, float | int | str]()
    for name, value in nested.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{name}/")
        elif isinstance(value, float | int | str):
            found[above + name] = value
    return found
