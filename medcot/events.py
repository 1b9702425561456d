"""What a worker reports: each line of events.jsonl is one of these, told apart by `type`.

Progress, figures and endings travel in this form alone, so that the page and the command line show the same.
"""

import time
from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Ending = Literal["finished", "limit", "looping", "stopped"]  # how an output ended


class Event(BaseModel):
    """One line of events.jsonl. `time` is seconds since the epoch, as the writer's clock had it."""

    model_config = ConfigDict(extra="forbid")
    time: float = Field(default_factory=time.time)


E = TypeVar("E", bound=Event)


class Started(Event):
    type: Literal["started"] = "started"
    job: str
    device: str = ""


class Arrangement(BaseModel):
    """How a step's sequences are cut into passes, and why so; micro_batch x accumulation x processes is their number.

    `peak_memory_gib` is an estimate; `fits` tells whether that much and a margin was free.
    """

    model_config = ConfigDict(extra="forbid")
    processes: int = 1
    micro_batch: int
    accumulation: int
    gradient_checkpointing: bool
    sampling: Literal["shuffled", "grouped"]
    peak_memory_gib: float = 0.0
    fits: bool = True
    why: str = ""

    def __str__(self) -> str:
        kept = "with" if self.gradient_checkpointing else "without"
        shared, each = (f" in each of {self.processes} processes", " each") if self.processes > 1 else ("", "")
        return (
            f"{self.micro_batch} x {self.accumulation} sequences a step{shared}, {self.sampling}, {kept} "
            f"checkpointing, about {self.peak_memory_gib:.1f} GiB{each}: {self.why}"
        )


class PlanMade(Event):
    """What the run is about to do, known before the first step. Sizes in records, tokens, GiB."""

    type: Literal["plan"] = "plan"
    records: int
    held_out: int
    truncated: int
    total_steps: int
    trainable_parameters: int
    total_parameters: int
    fingerprint: str
    model: str
    arrangement: Arrangement | None = None
    held_out_hashes: list[str] = []  # SHA-256 of each held-out question


class Step(Event):
    """One reading of the training loss. Rates are per second of training, validation left out."""

    type: Literal["step"] = "step"
    step: int
    total_steps: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float | None  # None where it was not finite, as when float16 overflows and the step is skipped
    tokens_seen: int
    tokens_per_second: float
    eta_seconds: float
    gpu_memory_gib: float


class Validation(Event):
    type: Literal["validation"] = "validation"
    step: int
    loss: float


class Checkpoint(Event):
    type: Literal["checkpoint"] = "checkpoint"
    step: int
    path: str


class Warned(Event):
    type: Literal["warning"] = "warning"
    message: str


class Sample(Event):
    """A sample question's raw output under one arm; `step` is how far a training under way had come."""

    type: Literal["sample"] = "sample"
    arm: str
    question: str
    output: str
    step: int | None = None


class RecordDone(Event):
    """An evaluation's question that base and tuned have answered; `gain` is tuned less base in its main score."""

    type: Literal["record"] = "record"
    record: int
    gain: float


class Progress(Event):
    """How far a stage is; `total` 0 means that it cannot be known, and eta_seconds None that it is not known yet."""

    type: Literal["progress"] = "progress"
    stage: str
    done: int = 0
    total: int = 0
    eta_seconds: float | None = None


class Finished(Event):
    type: Literal["finished"] = "finished"
    seconds: float
    peak_memory_gib: float = 0.0


class Failed(Event):
    type: Literal["failed"] = "failed"
    error: str
    hint: str


class Stopped(Event):
    type: Literal["stopped"] = "stopped"
    step: int = 0


AnyEvent = Annotated[
    Started
    | PlanMade
    | Step
    | Validation
    | Checkpoint
    | Warned
    | Sample
    | RecordDone
    | Progress
    | Finished
    | Failed
    | Stopped,
    Field(discriminator="type"),
]
EVENT: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


class Report(Protocol):
    """How the engine speaks: it hands events over and knows no file and no screen."""

    def __call__(self, event: AnyEvent) -> None: ...


def newest(events: Sequence[AnyEvent], kind: type[E]) -> E | None:
    """The last event of a kind; None where there is none."""
    return next((e for e in reversed(events) if isinstance(e, kind)), None)
