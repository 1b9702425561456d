"""The processes of one job, as torchrun starts them: how many there are, which one this is, and what all agree on.

The one place in the engine that knows. A job of one process is a world of one, in which nobody is asked or waited for.
"""

import os
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

T = TypeVar("T")
# A process that is gone ends the others at once (together.py); a slow one may take its time.
PATIENCE = timedelta(days=7)


def join() -> None:
    """Meet the others of this job. Where there are GPUs, this process takes the one of its number on this host."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"  # what is agreed on travels between CPUs, gradients between GPUs
    else:
        backend = "gloo"
        # accelerate would number the CPUs, "cpu:1", and torch cannot load an optimizer's state to such a device.
        os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
    distributed.init_process_group(backend, timeout=PATIENCE)


def leave() -> None:
    """When the work is done: nobody goes while another still waits for a word of it."""
    wait()
    distributed.destroy_process_group()


def size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def number() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this process writes the job's folder; no other does."""
    return number() == 0


def on_this_host() -> int:
    """How many of them share this host's memory."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if size() > 1 else 1


def any_of(flag: bool) -> bool:
    """Whether it holds in any process: all hear the same."""
    return least(-float(flag)) < 0


def least(value: float) -> float:
    """The smallest of all processes' values."""
    if size() == 1:
        return value
    found = torch.tensor(value, dtype=torch.float64)
    distributed.all_reduce(found, distributed.ReduceOp.MIN)
    return float(found)


def of_all(value: T) -> list[T]:
    """Every process's value, in the order of their numbers."""
    if size() == 1:
        return [value]
    found: list[Any] = [None] * size()
    distributed.all_gather_object(found, value)
    return found


def wait() -> None:
    """Until all processes have come here."""
    any_of(False)
