"""What the Trainer does, as events; and the wish to stop, carried to it."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medcot.engine import world
from medcot.events import Checkpoint, Progress, Report, Step, Validation


class StopSignal(Protocol):
    """Whether the job was asked to end; `graceful` keeps that from cutting what is under way."""

    @property
    def requested(self) -> bool: ...

    def graceful(self) -> AbstractContextManager[Any]: ...


class Observer(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    """Turns the Trainer's callbacks into events, keeps checkpoints, and carries the wish to stop.

    `keep` is handed each folder that the Trainer has saved, and returns where it is kept. Raises FloatingPointError,
    before anything is kept, once a loss or the adapter is no number. `stopping` tells that the wish has come: to all
    processes of the job after the same step.
    """

    def __init__(self, report: Report, stop: StopSignal, keep: Callable[[Path], Path]):
        self._report = report
        self._stop = stop
        self._keep = keep
        self._clock = 0.0  # start of the running stretch of training; 0 while the clock is stopped
        self._trained = 0.0  # seconds of training before it
        self._tokens_before = 0
        self._first_step = 0
        self._last_progress = 0.0
        self.validated_at = -1
        self.stopping = False

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._first_step, self._tokens_before = state.global_step, state.num_input_tokens_seen
        self._clock = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        now = time.monotonic()
        if now - self._last_progress > 1:
            self._last_progress = now
            self._report(
                Progress(stage="Training", done=state.global_step, total=state.max_steps, eta_seconds=self._eta(state))
            )
        if world.any_of(self._stop.requested):
            self.stopping = True
            control.should_training_stop = True
            control.should_save = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        logs = logs or {}
        if "eval_loss" in logs:
            self.validated_at = state.global_step
            finite(logs["eval_loss"], "validation loss", state.global_step)
            self._report(Validation(step=state.global_step, loss=logs["eval_loss"]))
        if "loss" in logs:
            since = f", read over the last {args.logging_steps} steps" if args.logging_steps > 1 else ""
            finite(float(logs["loss"]), "training loss", state.global_step, since)
            self._report_step(state, logs)

    def _report_step(self, state: TrainerState, logs: dict[str, Any]) -> None:
        tokens, seconds = state.num_input_tokens_seen - self._tokens_before, self._seconds()
        memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
        speed = tokens / seconds if seconds else 0.0
        norm = float(logs.get("grad_norm", 0))
        self._report(
            Step(
                step=state.global_step,
                total_steps=state.max_steps,
                epoch=float(logs.get("epoch", 0)),
                loss=float(logs["loss"]),
                learning_rate=float(logs["learning_rate"]),
                grad_norm=norm if math.isfinite(norm) else None,
                tokens_seen=int(state.num_input_tokens_seen),
                tokens_per_second=speed,
                eta_seconds=self._eta(state),
                gpu_memory_gib=memory,
            )
        )

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **_: Any
    ) -> None:
        require_finite(model, state.global_step)
        world.wait()  # each process writes its own random state into the folder
        if not world.is_first():
            return
        kept = self._keep(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        self._report(Checkpoint(step=state.global_step, path=kept.name))

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside, such as a validation, does not count as time of training."""
        if self._clock:
            self._trained += time.monotonic() - self._clock
            self._clock = 0.0
        yield
        self._clock = time.monotonic()

    def _seconds(self) -> float:
        return self._trained + (time.monotonic() - self._clock if self._clock else 0.0)

    def _eta(self, state: TrainerState) -> float:
        done: int = max(1, state.global_step - self._first_step)
        left: int = state.max_steps - state.global_step
        return self._seconds() / done * left


def finite(value: float, what: str, step: int, since: str = "") -> None:
    """The stock Trainer would log NaN as 0.0, go on, and save an adapter full of it."""
    if not math.isfinite(value):
        raise FloatingPointError(f"The {what} is {value} at step {step}{since}.")


def require_finite(model: Any, step: int) -> None:
    """Between two readings of the loss, what is about to be saved may have become no number."""
    broken = [name for name, p in model.named_parameters() if p.requires_grad and not torch.isfinite(p).all()]
    if broken:
        raise FloatingPointError(
            f"{len(broken)} tensors of the adapter hold NaN or infinity at step {step}, {broken[0]} first; "
            "they were not saved."
        )
