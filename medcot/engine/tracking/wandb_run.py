"""A run at Weights & Biases, or its files for a later `wandb sync`.

Without a key, or if the service is away, it is logged into the run's folder. Training and evaluations of a run share
one W&B run, whose id is the run's. Only settings, losses and figures are sent: no code, repository, console or machine.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medcot.errors import first_line
from medcot.runs.events import Report, Warned
from medcot.runs.run import Run
from medcot.settings import RunSettings

CONNECT_SECONDS = 5.0
ON = ("disable_code", "disable_git", "silent", "x_disable_machine_info", "x_disable_meta", "x_disable_stats")
OFF = ("save_code", "symlink", "x_save_requirements")
OF_WANDB = "WANDB_"  # how the names of its variables begin
PATIENCE = {"init_timeout": 30.0, "finish_timeout": 60.0, "finish_timeout_raises": True}
NOTHING_BUT_WHAT_IS_LOGGED: dict[str, Any] = {"console": "off", **dict.fromkeys(ON, True), **dict.fromkeys(OFF, False)}


class WandbRun:
    """A run at W&B if there is a key and the service answers, else its files. Reports which of the two, if files.

    Raises what wandb raises, with the key left out of the words, where not even files can be written.
    """

    def __init__(self, run: Run, settings: RunSettings, step: int, report: Report):
        folder = run.path / "wandb"
        self.later = f"What W&B's files hold can be sent later: wandb sync {folder}/*run-*"
        _set_variables(folder)
        import wandb

        reason: str | None = None
        try:
            if not (reason := _offline_because(wandb)):
                self._run = _init(wandb, run, settings, "online")
                return
        except Exception as error:  # noqa: BLE001  # a key, an address or a mode that is none, or the service's refusal
            reason = f"it did not accept the run ({in_words(error)})"
            with contextlib.suppress(Exception):
                wandb.teardown()
            for name in [name for name in os.environ if name.startswith(OF_WANDB)]:
                del os.environ[name]  # files need none of them, and would be refused for the same one
            _set_variables(folder)
        try:
            self._run = _init(wandb, run, settings, "offline")
        except Exception as error:
            raise RuntimeError(f"{reason}; {in_words(error)}") from error
        later = f"To send it later: wandb sync {folder}/*run-*"
        report(Warned(message=f"Weights & Biases: {reason}; logging into {folder} for `wandb sync`. {later}"))

    def log(self, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures))

    def results(self, figures: Mapping[str, float | int | str], step: int) -> None:
        self._run.summary.update(figures)

    def close(self, code: int) -> None:
        self._run.finish(exit_code=code)


def _set_variables(folder: Path) -> None:
    os.environ.setdefault("WANDB_CACHE_DIR", str(folder / "cache"))  # not in the user's home
    os.environ.setdefault("WANDB_DATA_DIR", str(folder / "data"))
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_PROGRAM", "medcot")  # else the path of the worker's file


def in_words(error: Exception) -> str:
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
