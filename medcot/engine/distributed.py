"""The process group of a job (none with one process), and a process's memory."""

import gc
import os
import resource
import sys
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

T = TypeVar("T")
# The launcher ends all processes as soon as one dies, so this timeout only has to tolerate slow ones.
PATIENCE = timedelta(days=7)


def init() -> None:
    """Initialize the process group; with GPUs, take the one of the local rank."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"  # what is agreed on travels between CPUs, gradients between GPUs
    else:
        backend = "gloo"
        # accelerate would number the CPUs, "cpu:1", and torch cannot load an optimizer's state to such a device.
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    distributed.init_process_group(backend, timeout=PATIENCE)


def destroy() -> None:
    """Barrier, then destroy the process group."""
    barrier()
    distributed.destroy_process_group()


def world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_main_process() -> bool:
    """Whether this process writes the job's folder; no other does."""
    return rank() == 0


def local_world_size() -> int:
    """How many processes share this host's memory."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if world_size() > 1 else 1


def any_rank(flag: bool) -> bool:
    """Whether the flag is set in any process; all get the same answer."""
    return all_reduce_min(-float(flag)) < 0


def all_reduce_min(value: float) -> float:
    """The smallest of all processes' values."""
    if world_size() == 1:
        return value
    found = torch.tensor(value, dtype=torch.float64)
    distributed.all_reduce(found, distributed.ReduceOp.MIN)
    return float(found)


def all_gather_object(value: T) -> list[T]:
    """Every process's value, by rank."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    distributed.all_gather_object(found, value)
    return found


def barrier() -> None:
    any_rank(False)


def peak_memory_gib() -> float:
    """The peak of this process's GPU if there is one, else of its resident memory."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 2**30)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def free_memory() -> None:
    """Give back what nothing holds any more, on the GPU too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
