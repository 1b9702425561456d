"""Weights & Biases, where settings ask for it: what a worker reports goes there too; the run directory is the record.

Whatever that service does, the job goes on: without a key, or when the service is away, it is logged into the run's own
folder for a later `wandb sync`. Training and evaluations of a run share one W&B run, whose id is the run's. Only
settings, losses and figures are sent: no code, no repository, no console, no machine.
"""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medcot.engine import world
from medcot.errors import first_line
from medcot.evaluating.table import csv_text, is_choice
from medcot.events import AnyEvent, Report, Step, Validation, Warned
from medcot.runs import Run
from medcot.settings import RunSettings

CONNECT_SECONDS = 5.0
INIT_SECONDS = 30.0
FINISH_SECONDS = 60.0
NOTHING_BUT_WHAT_IS_LOGGED: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "save_code": False,
    "silent": True,
    "symlink": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


@contextlib.contextmanager
def follow(run: Run, settings: RunSettings, report: Report) -> Iterator["Tracker"]:
    """A report that also goes to W&B where settings ask for it. Entered before trl is imported: trl looks for wandb.

    Raises nothing of W&B's: what goes wrong there is a warning.
    """
    if not settings.tracking.wandb or os.environ.get("WANDB_MODE") == "disabled" or not world.is_first():
        sys.modules.setdefault("wandb", None)  # type: ignore[arg-type]  # half a second of imports for nothing
        yield Tracker(report, None, run.path)
        return
    tracker = Tracker(report, _open(run, settings, report), run.path)
    try:
        yield tracker
    except BaseException as error:
        tracker.close(exit_code=int(isinstance(error, Exception)))  # a stop is no failure
        raise
    tracker.close(exit_code=0)


class Tracker:
    """Hands events on, and their figures to a W&B run where there is one."""

    def __init__(self, report: Report, logged: Any, folder: Path):
        self._report, self._logged, self._folder = report, logged, folder

    def __call__(self, event: AnyEvent) -> None:
        self._report(event)
        if figures := row(event):
            self._try(lambda: self._logged.log(figures))

    def figures(self, summary: Mapping[str, Any]) -> None:
        """An evaluation's summary.json, beside the training's curves, and its table as CSV text.

        Multiple choice goes under a name of its own, so that neither measure takes the other's place.
        """
        name = "choice" if is_choice(summary) else "evaluation"
        found = flat({name: {**summary, "table": csv_text(summary)}})
        self._try(lambda: self._logged.summary.update(found))

    def close(self, exit_code: int) -> None:
        self._try(lambda: self._logged.finish(exit_code=exit_code))
        self._logged = None

    def _try(self, action: Any) -> None:
        if self._logged is None:
            return
        try:
            action()
        except failures() as error:
            self._logged = None
            self._report(
                Warned(
                    message=f"Weights & Biases did not take everything ({first_line(error)[:200]}). "
                    f"This run's own record is complete. What W&B's files hold can be sent later: wandb sync "
                    f"{self._folder / 'wandb'}/*run-*"
                )
            )


def failures() -> tuple[type[BaseException], ...]:
    """What wandb raises where its service, its helper process or its disk is gone."""
    import wandb
    from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

    return (wandb.Error, OSError, TimeoutError, HandleAbandonedError, MailboxClosedError)


def _open(run: Run, settings: RunSettings, report: Report) -> Any:
    """A W&B run, online where there is a key and the service answers, else offline; None where not even that works."""
    # Not in the user's home; nor does W&B's own error reporting call anybody.
    os.environ.setdefault("WANDB_CACHE_DIR", str(run.path / "wandb" / "cache"))
    os.environ.setdefault("WANDB_DATA_DIR", str(run.path / "wandb" / "data"))
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_PROGRAM", "medcot")  # else the path of the worker's file
    import wandb

    try:
        if reason := _offline_because(wandb):
            report(Warned(message=f"Weights & Biases: {reason}; logging into {run.path / 'wandb'} for `wandb sync`."))
            return _init(wandb, run, settings, "offline")
        try:
            return _init(wandb, run, settings, "online")
        except failures() as error:
            wandb.teardown()
            report(
                Warned(
                    message=f"Weights & Biases did not accept the run ({first_line(error)[:200]}); "
                    f"logging into {run.path / 'wandb'} for `wandb sync`."
                )
            )
            return _init(wandb, run, settings, "offline")
    except failures() as error:
        report(Warned(message=f"Weights & Biases is left out: {first_line(error)[:200]}."))
        return None


def _offline_because(wandb: Any) -> str | None:
    """Why nothing is sent now, or None."""
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
        project=tracking.project,
        entity=tracking.entity,
        name=tracking.run_name or run.id,
        id=run.id,
        resume="allow" if mode == "online" else None,
        mode=mode,
        dir=str(run.path),
        config=settings.model_dump(mode="json"),
        settings=wandb.Settings(
            **NOTHING_BUT_WHAT_IS_LOGGED,
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
        ),
    )
    logged.define_metric("*", step_metric="step")  # a resumed run goes back to its checkpoint, W&B's own count does not
    return logged


def row(event: AnyEvent) -> dict[str, Any]:
    """What W&B gets of an event; nothing of most."""
    if isinstance(event, Step):
        figures = {
            "train/loss": event.loss,
            "train/learning_rate": event.learning_rate,
            "train/grad_norm": event.grad_norm,
            "train/epoch": event.epoch,
            "train/tokens_seen": event.tokens_seen,
            "train/tokens_per_second": event.tokens_per_second,
            "gpu_memory_gib": event.gpu_memory_gib,
            "progress": event.step / event.total_steps,
        }
        return {"step": event.step, **{k: v for k, v in figures.items() if v is not None}}
    if isinstance(event, Validation):
        return {"step": event.step, "validation/loss": event.loss}
    return {}


def flat(nested: Mapping[str, Any], above: str = "") -> dict[str, float | int | str]:
    """{"a": {"b": 1}} as {"a/b": 1}; lists and missing values are left out."""
    found: dict[str, float | int | str] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{name}/")
        elif isinstance(value, float | int | str):
            found[above + name] = value
    return found
