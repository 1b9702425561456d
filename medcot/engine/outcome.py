"""How a job ends: done, stopped when asked to, or failed, with what a person can do about it."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

from pydantic import BaseModel

from medcot.errors import Failure, Problem
from medcot.machine import is_full_disk

DISK_IN_PAGE = "The disk is full: free some space, then continue it here."
WORDINGS = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")


class Outcome(BaseModel):
    """How a job's work ended; `stopped_at` is the step after which it was stopped."""

    stopped_at: int | None = None
    peak_memory_gib: float = 0.0
    failure: Failure | None = None


class StopSignal(Protocol):
    """Whether the job was asked to end. Inside `graceful()` that sets `requested` and interrupts nothing."""

    @property
    def requested(self) -> bool: ...

    def graceful(self) -> AbstractContextManager[Any]: ...


class StopRequested(BaseException):
    """A BaseException, so that no library's `except Exception` swallows it."""


class OutOfMemory(MemoryError):
    """An out-of-memory error with one sequence at a time. The message says where."""


class NotFinite(FloatingPointError):
    """A loss or a weight that is NaN or infinite. The message says which and when, `fix` what to do next."""

    def __init__(self, what: str, fix: str):
        super().__init__(what)
        self.fix = fix


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out. CUDA and CPU allocators raise a RuntimeError; torch.OutOfMemoryError is one."""
    said = isinstance(error, RuntimeError) and any(s in str(error).lower() for s in WORDINGS)
    return said or isinstance(error, MemoryError)


def explain(error: BaseException, *, evaluating: bool = False) -> Failure:
    """Say what went wrong and what to do next, for a person."""
    failure, fix = Failure.of(error), "The whole traceback is at the end of worker.log."
    if failure.kind == "input":
        return failure
    what, page = failure.error, None
    if isinstance(error, NotFinite):
        what, fix = str(error), error.fix
    elif is_out_of_memory(error) and evaluating:
        fix, page = "Ask fewer at once: medcot evaluate RUN --set evaluation.batch_size=8", "Ask fewer at once."
    elif isinstance(error, OutOfMemory):
        what, fix = str(error), "Lower training.micro_batch if it is above 1, shorten training.max_length, set "
        fix += "training.gradient_checkpointing=true or model.quantization=4bit, or choose a smaller model."
    elif is_out_of_memory(error):
        fix = "Halve training.micro_batch and double training.accumulation, or shorten training.max_length."
    elif is_full_disk(error):
        fix, page = "The disk is full: free some space, then continue the run with --resume.", DISK_IN_PAGE
    return Failure(problems=[Problem("", what, fix, page)])
