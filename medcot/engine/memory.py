"""How much memory a worker used, and whether an error says that there was too little of it."""

import sys

SAYINGS = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


class OutOfMemory(MemoryError):
    """Not even one sequence at a time fits. The message says where."""


def is_out_of_memory(error: BaseException) -> bool:
    """CUDA and CPU allocators say it in a RuntimeError's words; torch.OutOfMemoryError is one."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(s in str(error).lower() for s in SAYINGS)
    )


def peak_memory_gib() -> float:
    """The GPU's peak where there is one, else this process's peak resident memory."""
    import resource

    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 2**30)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
