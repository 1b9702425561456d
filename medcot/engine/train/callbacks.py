"""The Trainer's callbacks: report events, save checkpoints, stop when asked to."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from medcot.engine import distributed
from medcot.engine.outcome import NotFinite, StopSignal
from medcot.engine.train.choice import Choice
from medcot.runs.events import Checkpoint, Progress, Report, Step, Validation

Logs = dict[str, Any]  # what the Trainer logs
TRAINING, VALIDATION, SAMPLES = "Training", "Validation", "Answering the sample questions"
BASELINE = "Validation before the first step"
SAVING = "Saving a checkpoint"


class Observer(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    """Reports the Trainer's callbacks as events, saves checkpoints, and stops the training when asked to.

    `save_checkpoint` is given each folder that the Trainer has written, and returns the folder of the checkpoint.
    Raises NotFinite before anything is saved once a loss or the adapter is NaN or infinite. `stopping` becomes
    true in all processes of the job after the same step. After a validation `choice` says whether its step is the best
    so far, which is saved, and whether the training is over.
    """

    def __init__(self, report: Report, stop: StopSignal, save_checkpoint: Callable[[Path], Path], choice: Choice):
        self.report, self._stop, self._save_checkpoint, self._choice = report, stop, save_checkpoint, choice
        self._clock = 0.0  # when training last started; 0 while the clock is stopped
        self._trained = 0.0  # seconds of training before it
        self._first_step = self._tokens_before = 0
        self._stage, self._last_progress = "", 0.0
        self._validated = self._batches = 0  # of the validation under way
        self.validated_at, self.stopping = -1, False
        self._kept = ""  # the newest checkpoint's name

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **_named: Any) -> None:
        self._first_step, self._tokens_before = state.global_step, state.num_input_tokens_seen
        self._clock = time.monotonic()
        self._kept = f"checkpoint-{state.global_step}" if state.global_step else ""

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, *_: Any, **_named: Any) -> None:
        if self._stage != TRAINING:  # the first step, or the first after a validation
            self._report_training(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if time.monotonic() - self._last_progress > 1:
            self._report_training(state)
        if distributed.any_rank(self._stop.requested):
            self.stopping = control.should_training_stop = control.should_save = True

    def _report_training(self, state: TrainerState) -> None:
        left = self._eta(state) if state.global_step > self._first_step else None
        self.stage(TRAINING, state.global_step, state.max_steps, left)

    def stage(self, name: str, done: int = 0, total: int = 0, left: float | None = None) -> None:
        """Report what is done now, how much of it, and the seconds left if known."""
        self._stage, self._last_progress = name, time.monotonic()
        self.report(Progress(stage=name, done=done, total=total, eta_seconds=left))

    def validation_begins(self, step: int, batches: int) -> None:
        self._validated, self._batches = 0, batches
        self.stage(VALIDATION if step else BASELINE, 0, batches)

    def on_prediction_step(self, args: TrainingArguments, state: TrainerState, *_: Any, **_named: Any) -> None:
        self._validated += 1
        if time.monotonic() - self._last_progress > 1:
            self.stage(self._stage, self._validated, self._batches)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._choice.best(state.log_history) == state.global_step:
            control.should_save = True
        if self._choice.is_over(state.log_history):
            control.should_training_stop = control.should_save = True

    def on_log(self, args: TrainingArguments, state: TrainerState, *_: Any, logs: Logs, **_named: Any) -> None:
        if "eval_loss" in logs:
            self.validated_at = state.global_step
            self._require_finite_loss(logs["eval_loss"], "validation loss", args, state.global_step)
            self.report(Validation(step=state.global_step, loss=logs["eval_loss"]))
        if "loss" in logs:
            since = f", read over the last {args.logging_steps} steps" if args.logging_steps > 1 else ""
            self._require_finite_loss(float(logs["loss"]), "training loss", args, state.global_step, since)
            self._report_step(state, logs)

    def _report_step(self, state: TrainerState, logs: Logs) -> None:
        tokens, seconds = state.num_input_tokens_seen - self._tokens_before, self._seconds()
        norm = float(logs.get("grad_norm", 0))
        step = Step(
            step=state.global_step,
            total_steps=state.max_steps,
            epoch=float(logs.get("epoch", 0)),
            loss=float(logs["loss"]),
            learning_rate=float(logs["learning_rate"]),
            grad_norm=norm if math.isfinite(norm) else None,
            tokens_seen=int(state.num_input_tokens_seen),
            tokens_per_second=tokens / seconds if seconds else 0.0,
            eta_seconds=self._eta(state),
            gpu_memory_gib=torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0,
        )
        self.report(step)

    def on_save(self, args: TrainingArguments, state: TrainerState, *_: Any, model: Any, **_named: Any) -> None:
        self.require_finite(model, state.global_step)
        distributed.barrier()  # each process writes its own random state into the folder
        if not distributed.is_main_process():
            return
        self.stage(SAVING, state.global_step, state.max_steps)
        kept = self._save_checkpoint(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        self._kept = kept.name
        self.report(Checkpoint(step=state.global_step, path=kept.name))

    def _require_finite_loss(
        self, value: float, what: str, args: TrainingArguments, step: int, since: str = ""
    ) -> None:
        """Check a loss. The stock Trainer would log NaN as 0.0, go on, and save an adapter full of it."""
        if not math.isfinite(value):
            raise NotFinite(f"The {what} is {value} at step {step}{since}.", self._fix() if step else _base_fix(args))

    def require_finite(self, model: Any, step: int) -> None:
        """Check weights before they are saved: they can become NaN between two logged losses. Raises NotFinite."""
        broken = [name for name, p in model.named_parameters() if p.requires_grad and not torch.isfinite(p).all()]
        if broken:
            where = f"at step {step}, {broken[0]} first; they were not saved."
            raise NotFinite(f"{len(broken)} tensors of the adapter hold NaN or infinity {where}", self._fix())

    def _fix(self) -> str:
        kept = f"{self._kept} is whole and kept." if self._kept else "No checkpoint was written before."
        return f"Start a new run with a lower training.learning_rate or more training.warmup_steps. {kept}"

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock of training, as during a validation."""
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


def _base_fix(args: TrainingArguments) -> str:
    """What to do about a base model whose own loss is NaN or infinite, by the number format that it computes in."""
    number_format = "float16" if args.fp16 else "bfloat16" if args.bf16 else "float32"
    fixes = {"float16": "Set model.dtype=bfloat16 or float32.", "bfloat16": "Set model.dtype=float32."}
    fix = fixes.get(number_format, "Its weights are broken: download or copy its files again.")
    return f"Nothing was learned yet: the base model itself computes this, in {number_format}. {fix}"
