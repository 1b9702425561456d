"""What this machine has, found without loading torch."""

import functools
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory_gib: float
    free_gib: float


@dataclass(frozen=True, slots=True)
class Device:
    gpus: tuple[Gpu, ...]
    cores: int
    memory_gib: float
    free_memory_gib: float

    @property
    def name(self) -> str:
        """For a header: the GPUs, or the CPU's size."""
        if self.gpus:
            return ", ".join(f"{g.name} ({g.memory_gib:.0f} GiB)" for g in self.gpus)
        return f"CPU, {self.cores} cores, {self.memory_gib:.0f} GiB of memory, no GPU"


def gpus() -> tuple[Gpu, ...]:
    """CUDA GPUs as nvidia-smi lists them; none where it is absent, or CUDA_VISIBLE_DEVICES hides them."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not shutil.which("nvidia-smi"):
        return ()
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [line.rsplit(",", 2) for line in lines if line.count(",") >= 2]
    return tuple(Gpu(name.strip(), _gib(total), _gib(free)) for name, total, free in rows)


def _gib(mebibytes: str) -> float:
    # Cards that share the host's memory answer [N/A].
    return float(mebibytes) / 1024 if mebibytes.strip().replace(".", "").isdigit() else 0.0


def device() -> Device:
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _container_limit()
    total = min(memory.total, limit or memory.total)
    return Device(gpus(), cores, total / 2**30, min(memory.available, total) / 2**30)


def _container_limit() -> int | None:
    """The memory limit of this container, in bytes, where cgroups set one."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


@functools.cache
def has_cuda() -> bool:
    return bool(gpus())
