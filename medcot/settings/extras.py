"""What needs a package that not every installation has: backends and trackers, checked without importing any."""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from medcot.errors import Problem

BackendName = Literal["auto", "peft", "unsloth"]
TrackerName = Literal["wandb", "tensorboard", "trackio"]


@dataclass(frozen=True, slots=True)
class BackendNeeds:
    """What a backend needs of a machine, checked without importing medcot/engine/backends/NAME.py."""

    package: str
    gpu: bool


# "auto" takes the first that can run.
BACKENDS = {"unsloth": BackendNeeds("unsloth", gpu=True), "peft": BackendNeeds("peft", gpu=False)}


@dataclass(frozen=True, slots=True)
class TrackerNeeds:
    """What a tracker is called, and the package that it needs."""

    title: str
    package: str


TRACKERS: dict[TrackerName, TrackerNeeds] = {
    "wandb": TrackerNeeds("Weights & Biases", "wandb"),
    "tensorboard": TrackerNeeds("TensorBoard", "tensorboard"),
    "trackio": TrackerNeeds("trackio", "trackio"),
}


def backend_problem(name: str, *, gpu: bool) -> Problem | None:
    """Why a backend cannot run here, or None; `gpu`: whether there is a CUDA GPU. Imports no model library."""
    needs = BACKENDS[name]
    if needs.gpu and not gpu:
        fix = "Set backend=auto or backend=peft."
        return Problem("backend", f"{name} needs a CUDA GPU, and this machine has none.", fix)
    if not importlib.util.find_spec(needs.package):
        return Problem("backend", f"{name} is not installed.", "Install it: pip install 'medcot[gpu]'")
    return None


def backend_for(named: BackendName, *, gpu: bool) -> str:
    """The backend that trains: the one named, or under "auto" the first that can run."""
    if named != "auto":
        return named
    return next((name for name in BACKENDS if backend_problem(name, gpu=gpu) is None), "peft")


def tracker_problems(names: Iterable[TrackerName]) -> list[Problem]:
    """The trackers whose package is not installed here."""
    return [
        Problem("tracking.to", f"{name} is not installed.", "Install it: pip install 'medcot[trackers]'")
        for name in names
        if not importlib.util.find_spec(TRACKERS[name].package)
    ]
