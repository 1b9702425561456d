"""`medcot doctor`: what this machine has, whether the Hub answers, and which recipe fits."""

import importlib.metadata
import platform
import shutil
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel

from medcot import __version__, hub
from medcot.data import starter
from medcot.errors import WorkerFailed
from medcot.machine import Gpu, device
from medcot.settings import BACKENDS, TRACKERS
from medcot.settings.recipes import recommended
from medcot.workers.client import ServiceClient
from medcot.workers.protocol import DeviceRequest, TorchDevice

PACKAGES = (
    *("torch", "transformers", "trl", "peft", "accelerate", "datasets"),
    *(needs.package for needs in BACKENDS.values()),
    *("bitsandbytes", "gradio", "huggingface_hub", *(needs.package for needs in TRACKERS.values()), "xllamacpp"),
)


class NoTorch(BaseModel):
    problem: str

    def __str__(self) -> str:
        return f"torch cannot start: {self.problem}"


class SeenDevice(BaseModel):
    name: str
    gpus: tuple[Gpu, ...]
    cores: int
    memory_gib: float
    free_memory_gib: float
    torch: TorchDevice | NoTorch


class SeenHub(BaseModel):
    endpoint: str
    reachable: bool
    reason: str


class Examined(BaseModel):
    """What `medcot doctor --json` prints."""

    device: SeenDevice
    versions: dict[str, str]
    disk_free_gib: float
    hub: SeenHub
    starter_cached: bool
    recipe: str

    def lines(self) -> list[tuple[str, str]]:
        """(heading, text) pairs to print."""
        here = self.device
        reached = "answers" if self.hub.reachable else f"does not answer: {self.hub.reason}"
        return [
            ("device", f"{here.name}; {here.torch}"),
            ("memory", f"{here.free_memory_gib:.1f} of {here.memory_gib:.1f} GiB free"),
            ("disk", f"{self.disk_free_gib} GiB free for runs"),
            ("Hub", f"{self.hub.endpoint} {reached}"),
            ("starter", "is cached" if self.starter_cached else "will be fetched at first use (93 MB)"),
            ("versions", ", ".join(f"{name} {number}" for name, number in self.versions.items())),
            ("recipe", f"{self.recipe} fits this machine"),
        ]


def examine(runs_dir: Path) -> Examined:
    """Ask a worker what torch sees, and the Hub whether it answers."""
    here = device()
    with closing(ServiceClient(runs_dir)) as client:
        try:
            torch: TorchDevice | NoTorch = client.result(DeviceRequest(), TorchDevice)
        except WorkerFailed as failed:
            torch = NoTorch(problem=str(failed))
    reason = "HF_HUB_OFFLINE is set" if hub.is_offline() else hub.unreachable()
    folder = next(p for p in [runs_dir.resolve(), *runs_dir.resolve().parents] if p.exists())
    versions = {"medcot": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    cuda = isinstance(torch, TorchDevice) and torch.cuda
    return Examined(
        device=SeenDevice(name=here.name, **asdict(here), torch=torch),
        versions=versions,
        disk_free_gib=round(shutil.disk_usage(folder).free / 2**30, 1),
        hub=SeenHub(endpoint=hub.endpoint(), reachable=reason is None, reason=reason or ""),
        starter_cached=any((folder / "medcot.json").is_file() for folder in starter.model_folders()),
        recipe=recommended(here.gpus if cuda else ()),
    )
