"""Which step's adapter a run keeps, and when it ends early: by its validation losses alone.

Only the validations count that an uninterrupted run makes too, from its first step on: those of every `validate_steps`
and of the last step. What they were is in each checkpoint's own record of the training, so a run that is stopped and
resumed chooses as one in one piece does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerState

from medcot.engine.train.checkpoints import TRAINER_STATE, Checkpoint
from medcot.runs.events import Report, Warned
from medcot.settings import TrainingSettings

History = Sequence[Mapping[str, Any]]  # the Trainer's log_history


def history_of(checkpoint: Checkpoint) -> list[Mapping[str, Any]]:
    """What the Trainer had logged when a checkpoint was saved."""
    return list(TrainerState.load_from_json(str(checkpoint.path / TRAINER_STATE)).log_history)


@dataclass(frozen=True, slots=True)
class Choice:
    """What training.keep and training.patience ask for, in a run of so many steps."""

    settings: TrainingSettings
    total_steps: int

    def losses(self, history: History) -> dict[int, float]:
        """The validation losses that count, by their step. A resume validates once more: the first reading holds."""
        found = dict[int, float]()
        for logged in history:
            step = int(logged.get("step", 0))
            planned = step % self.settings.validate_steps == 0 or step == self.total_steps
            if "eval_loss" in logged and step and planned:
                found.setdefault(step, float(logged["eval_loss"]))
        return found

    def ranked(self, history: History) -> list[int]:
        """The steps of the losses that count, from the lowest loss up, the earliest of equal ones first."""
        losses = self.losses(history)
        return sorted(losses, key=lambda step: (losses[step], step))

    def best(self, history: History) -> int | None:
        """The step of the lowest loss, the earliest of equal ones; None where the newest is kept, or none is known."""
        if self.settings.keep != "best":
            return None
        return next(iter(self.ranked(history)), None)

    def is_over(self, history: History) -> bool:
        """Whether so many validations as training.patience says have passed without a lower loss."""
        ranked, patience = self.ranked(history), self.settings.patience or 0
        if not ranked or not patience:
            return False
        return sum(step > ranked[0] for step in ranked) >= patience

    def kept(self, history: History, step: int, checkpoints: Path, report: Report) -> tuple[int, Checkpoint | None]:
        """The step whose adapter is kept, and its checkpoint; None where it is the model as it is now, at `step`.

        Warns where the best one's checkpoint is gone or damaged, and takes the next best that is whole.
        """
        if self.settings.keep != "best":
            return step, None
        missed = list[str]()
        for at in self.ranked(history):
            checkpoint = Checkpoint(checkpoints / f"checkpoint-{at}")
            if at == step or not (damage := checkpoint.damage()):
                break
            missed = missed or [f"{checkpoint.path.name}, of the lowest validation loss, cannot be kept: {damage}"]
        for message in missed:
            report(Warned(message=f"{message}. The adapter is that of step {at}."))
        return at, None if at == step else checkpoint
