"""What a worker reports: each line of events.jsonl is one of these, by its `type`.

Progress, figures and endings have this form alone, so that the page and the command line show the same.
"""

import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, TypedDict, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter


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
    """How a step's sequences are split into passes, and why; micro_batch x accumulation x processes is their number."""

    model_config = ConfigDict(extra="forbid")
    processes: int = 1
    micro_batch: int
    accumulation: int
    gradient_checkpointing: bool
    sampling: Literal["shuffled", "grouped"]
    peak_memory_gib: float = 0.0  # an estimate
    fits: bool = True  # whether that much and a margin was free
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
    shortened: int = 0  # their reasoning ends at an earlier sentence
    left_out: int = 0
    total_steps: int
    trainable_parameters: int
    total_parameters: int
    fingerprint: str
    model: str
    arrangement: Arrangement | None = None
    held_out_hashes: list[str] = []  # SHA-256 of each held-out question
    validation: int | None = None  # records that the loss is validated on, where they are not the held-out ones
    repeated: int = 0  # left out of training, since they repeat a validation or test question

    @property
    def validated(self) -> int:
        return self.held_out if self.validation is None else self.validation


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


class Kept(Event):
    """The step whose adapter was kept, where validation losses chose it or ended the training."""

    type: Literal["kept"] = "kept"
    step: int
    loss: float
    ended_at: int | None = None  # the step at which the training ended early

    def __str__(self) -> str:
        ended = "" if self.ended_at is None else f"ended early at step {self.ended_at}, and "
        return f"{ended}kept the adapter of step {self.step}, validation loss {self.loss:.3f}"


class Warned(Event):
    type: Literal["warning"] = "warning"
    message: str


class Sample(Event):
    """A sample question's raw output under one arm; `step` is the training step, if during training."""

    type: Literal["sample"] = "sample"
    arm: str
    question: str
    output: str
    step: int | None = None


class RecordDone(Event):
    """A question that base and tuned have answered; `gain` is tuned less base in the main score."""

    type: Literal["record"] = "record"
    record: int
    gain: float


class Progress(Event):
    """How far a stage is; `total` is 0 if it cannot be known, eta_seconds None while it is not known."""

    type: Literal["progress"] = "progress"
    stage: str
    done: int = 0
    total: int = 0
    eta_seconds: float | None = None


class Finished(Event):
    """`seconds` are those of all the job's workers."""

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


class TrainingProgress(TypedDict):
    """How far a run's training is, for lists."""

    step: int
    total_steps: int
    loss: float | None
    first_validation_loss: float | None
    validation_loss: float | None
    kept_step: int | None  # where a validation loss chose it or ended the training
    seconds: float | None


class Metrics(TrainingProgress):
    """A run's figures for lists, as `--json` prints them."""

    summary: dict[str, Any] | None


_Lived = Started | PlanMade | Finished | Failed | Stopped
_Reported = Step | Validation | Checkpoint | Kept | Warned | Sample | RecordDone | Progress
AnyEvent = Annotated[_Lived | _Reported, Field(discriminator="type")]
LARGEST = 1e15


def _can_be_drawn(event: AnyEvent) -> AnyEvent:
    """Refuse a number that no worker writes, and that has no place on an axis or a clock."""
    numbers = [value for value in vars(event).values() if isinstance(value, int | float)]
    if not all(abs(number) < LARGEST for number in numbers):
        raise ValueError("a number is infinite, too large, or none")
    return event


EVENT: TypeAdapter[AnyEvent] = TypeAdapter(Annotated[AnyEvent, AfterValidator(_can_be_drawn)])  # for reading


Report = Callable[[AnyEvent], None]  # how the engine reports events; it knows no file and no screen


def lines_with(word: bytes, data: bytes, backwards: bool) -> Iterator[bytes]:
    """The lines of events.jsonl that hold a word, without parsing the others."""
    at = len(data) if backwards else 0
    while (at := data.rfind(word, 0, at) if backwards else data.find(word, at)) >= 0:
        start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
        end = len(data) if end < 0 else end
        yield data[start:end]
        at = start if backwards else end
