"""Weights & Biases, if settings ask for it: a copy of what a worker reports; the run directory is the record.

Whatever that service does, the job goes on: without a key, or if the service is away, it is logged into the run's
folder for a later `wandb sync`. Training and evaluations of a run share one W&B run, whose id is the run's. Only
settings, losses and figures are sent: no code, repository, console or machine.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medcot.engine import distributed, without_wandb
from medcot.errors import first_line
from medcot.evaluation.summary import Summary
from medcot.evaluation.table_csv import csv_text
from medcot.runs.events import AnyEvent, Report, Step, Validation, Warned
from medcot.runs.run import Run
from medcot.settings import RunSettings

CONNECT_SECONDS = 5.0
OF_A_STEP = ("loss", "learning_rate", "grad_norm", "epoch", "tokens_seen", "tokens_per_second")
ON = ("disable_code", "disable_git", "silent", "x_disable_machine_info", "x_disable_meta", "x_disable_stats")
OFF = ("save_code", "symlink", "x_save_requirements")
OF_WANDB = "WANDB_"  # how the names of its variables begin
PATIENCE = {"init_timeout": 30.0, "finish_timeout": 60.0, "finish_timeout_raises": True}
NOTHING_BUT_WHAT_IS_LOGGED: dict[str, Any] = {"console": "off", **dict.fromkeys(ON, True), **dict.fromkeys(OFF, False)}


@contextlib.contextmanager
def follow(run: Run, settings: RunSettings, report: Report) -> Iterator["Tracker"]:
    """A report that also goes to W&B if settings ask for it; its errors become warnings. Enter before importing trl."""
    if not settings.tracking.wandb or os.environ.get("WANDB_MODE") == "disabled" or not distributed.is_main_process():
        without_wandb()
        yield Tracker(report, None, run.path)
        return
    early: list[AnyEvent] = []  # reported after the job's first event, at which a reader starts over
    tracker = Tracker(report, _open(run, settings, lambda event: early.append(event)), run.path, early)
    code = 0
    try:
        yield tracker
    except Exception:
        code = 1
        raise
    finally:  # a stop, which is no Exception, is no failure
        tracker.close(code)


class Tracker:
    """Passes events on, and their figures to a W&B run if there is one."""

    def __init__(self, report: Report, logged: Any, folder: Path, early: Sequence[AnyEvent] = ()):
        self._report, self._logged, self._folder, self._early = report, logged, folder, list(early)

    def __call__(self, event: AnyEvent) -> None:
        for each in (event, *self._early):
            self._report(each)
        self._early = []
        if figures := row(event):
            self._try(lambda: self._logged.log(figures))

    def figures(self, summary: Summary) -> None:
        """Log summary.json beside the training's curves, and its table as CSV text, under the measure's name."""
        found = flat({summary.measure.tracked_as: {**summary.as_json(), "table": csv_text(summary)}})
        self._try(lambda: self._logged.summary.update(found))

    def close(self, code: int) -> None:
        self._try(lambda: self._logged.finish(exit_code=code))
        self._logged = None

    def _try(self, action: Any) -> None:
        if self._logged is None:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001  # whatever that service does, the job goes on
            self._logged = None
            lost = f"Weights & Biases did not take everything ({_words(error)}). This run's own record is complete."
            later = f"What W&B's files hold can be sent later: wandb sync {self._folder / 'wandb'}/*run-*"
            self._report(Warned(message=f"{lost} {later}"))


def _open(run: Run, settings: RunSettings, report: Report) -> Any:
    """A W&B run, online with a key and an answering service, else offline; None if not even that works."""
    folder = run.path / "wandb"
    _set_variables(folder)
    reason: str | None = None
    try:
        import wandb

        try:
            if not (reason := _offline_because(wandb)):
                return _init(wandb, run, settings, "online")
        except Exception as error:  # noqa: BLE001  # a key, an address or a mode that is none, or the service's refusal
            reason = f"it did not accept the run ({_words(error)})"
            with contextlib.suppress(Exception):
                wandb.teardown()
            for name in [name for name in os.environ if name.startswith(OF_WANDB)]:
                del os.environ[name]  # files need none of them, and would be refused for the same one
            _set_variables(folder)
        logged = _init(wandb, run, settings, "offline")
        later = f"To send it later: wandb sync {folder}/*run-*"
        report(Warned(message=f"Weights & Biases: {reason}; logging into {folder} for `wandb sync`. {later}"))
        return logged
    except Exception as error:  # noqa: BLE001
        reasons = "; ".join(filter(None, (reason, _words(error))))
        report(Warned(message=f"Weights & Biases is left out: {reasons}."))
        return None


def _set_variables(folder: Path) -> None:
    os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "cache"))  # not in the user's home
    os.environ.setdefault("WANDB_DATA_DIR", str(folder / "data"))
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_PROGRAM", "medcot")  # else the path of the worker's file


def _words(error: Exception) -> str:
    """What an error says, in at most 200 letters and without the key."""
    said = first_line(error)
    if isinstance(error, ValidationError):
        said = "; ".join(f"{OF_WANDB}{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
    key = os.environ.get("WANDB_API_KEY", "").strip()
    return (said.replace(key, "...") if key else said)[:200].rstrip(".")


def _offline_because(wandb: Any) -> str | None:
    """The reason why nothing can be sent now, or None."""
    import httpx

    if os.environ.get("WANDB_MODE") in ("offline", "dryrun"):
        return f"WANDB_MODE is {os.environ['WANDB_MODE']}"
    if not wandb.login(prompt=False, verify=False):
        return "there is no key (WANDB_API_KEY)"
    address = wandb.setup().settings.base_url
    try:
        httpx.head(address, timeout=CONNECT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"{address} does not answer ({first_line(error)[:200]})"
    return None


def _init(wandb: Any, run: Run, settings: RunSettings, mode: str) -> Any:
    tracking = settings.tracking
    logged = wandb.init(
        **tracking.model_dump(include={"project", "entity"}),
        name=tracking.run_name or run.id,
        id=run.id,
        resume="allow" if mode == "online" else None,
        mode=mode,
        dir=str(run.path),
        config=settings.model_dump(mode="json"),
        settings=wandb.Settings(**NOTHING_BUT_WHAT_IS_LOGGED, **PATIENCE),
    )
    logged.define_metric("*", step_metric="step")  # a resumed run goes back to its checkpoint, W&B's own count does not
    return logged


def row(event: AnyEvent) -> dict[str, float]:
    """Pick the figures that W&B gets of an event; of most events none."""
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
