"""TRL's trainer, and what it lacks: a micro-batch that does not fit into memory is computed in parts.

Every part of a micro-batch adds its share to the same gradient, because each loss is divided by the tokens of the whole
optimizer step. So records keep their order, and the effective batch and the count of steps stay what they were. An
optimizer step that ran out of memory is computed anew from its beginning, random state and all: a backward pass that
broke off has left a piece of its gradient behind.
"""

import gc
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from medcot.engine import world
from medcot.engine.memory import OutOfMemory, is_out_of_memory
from medcot.engine.observer import Observer
from medcot.engine.sampling import OrderedTrainer
from medcot.errors import first_line
from medcot.events import Report, Warned

Batch = dict[str, torch.Tensor]


class Trainer(OrderedTrainer):
    """`micro_batch` is the most sequences that go through the model at once; it starts as settings or checkpoint say.

    `look` runs at the end of each validation. Neither it nor the validation counts as time of training.
    """

    def __init__(
        self, *args: Any, observer: Observer, report: Report, micro_batch: int, look: Callable[[], None], **more: Any
    ):
        super().__init__(*args, callbacks=[observer], **more)
        self.micro_batch = micro_batch
        self.observer, self._report, self._look = observer, report, look
        self._begun: list[Batch] = []  # micro-batches of the optimizer step under way
        self._random = random_state()

    def evaluate(self, *args: Any, **named: Any) -> dict[str, float]:
        with self.observer.paused():
            metrics: dict[str, float] = super().evaluate(*args, **named)
            self._look()
        return metrics

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
        """Forward and backward of one micro-batch; the loss is a scalar.

        Raises OutOfMemory where one sequence alone does not fit.
        """
        if not self._begun:
            self._random = random_state()
        self._begun.append(inputs)
        wanted = [inputs]
        while True:
            try:
                losses = [self._backward(model, batch, num_items_in_batch) for batch in wanted]
                break
            except (RuntimeError, MemoryError) as error:
                if num_items_in_batch is None or not self._can_halve(error, inputs):
                    raise
            self._halve()
            wanted = self._begun
            model.zero_grad()
            set_random_state(self._random)
        if self.accelerator.sync_gradients:  # that was the optimizer step's last
            self._begun = []
        return losses[-1]

    def _backward(self, model: Any, inputs: Batch, items: torch.Tensor | None) -> torch.Tensor:
        losses = [super(Trainer, self).training_step(model, part, items) for part in parts(inputs, self.micro_batch)]
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def prediction_step(self, model: Any, inputs: Batch, prediction_loss_only: bool, ignore_keys: Any = None) -> Any:
        """(loss, None, None): the mean over the tokens of the whole batch, in however many parts it was computed."""
        while True:
            try:
                return self._predict(model, inputs, ignore_keys)
            except (RuntimeError, MemoryError) as error:
                if not self._can_halve(error, inputs):
                    raise
            self._halve()

    def _predict(self, model: Any, inputs: Batch, ignore_keys: Any) -> Any:
        found = [
            (super(Trainer, self).prediction_step(model, part, True, ignore_keys), part["labels"][:, 1:].ne(-100).sum())
            for part in parts(inputs, self.micro_batch)
        ]
        if len(found) == 1:
            return found[0][0]
        tokens = sum(count for _, count in found)
        return sum(outcome[0] * count.to(outcome[0].device) for outcome, count in found) / tokens, None, None

    def _can_halve(self, error: BaseException, inputs: Batch) -> bool:
        """Raises OutOfMemory where there is nothing left to halve, or several processes would have to do it at once."""
        if not is_out_of_memory(error):
            return False
        if world.size() > 1:  # the others wait for this one's gradient, and cannot go back
            raise OutOfMemory(
                f"Out of memory at step {self.state.global_step + 1} in process {world.number() + 1} of "
                f"{world.size()}; with several the micro-batch is not halved by itself: {first_line(error)}"
            ) from error
        if min(self.micro_batch, len(inputs["input_ids"])) == 1:
            raise OutOfMemory(
                f"Out of memory at step {self.state.global_step + 1} with one sequence at a time: {first_line(error)}"
            ) from error
        return True

    def _halve(self) -> None:
        """Called outside the handler: an exception's traceback holds on to the tensors of the frames that it left."""
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        before, self.micro_batch = self.micro_batch, math.ceil(self.micro_batch / 2)
        pieces = math.ceil(self.args.per_device_train_batch_size / self.micro_batch)
        self._report(
            Warned(
                message=f"Out of memory at step {self.state.global_step + 1} with micro-batch {before}: going on with "
                f"micro-batch {self.micro_batch} and accumulation {pieces * self.args.gradient_accumulation_steps}. "
                "An optimizer step sees the same records as before."
            )
        )


def parts(inputs: Batch, rows: int) -> Iterator[Batch]:
    """Copies of the batch, `rows` sequences at a time; what is small enough stays whole, as joined ones do."""
    if len(inputs["input_ids"]) <= rows:
        yield dict(inputs)  # trl leaves a note of its own in what it is handed
        return
    for start in range(0, len(inputs["input_ids"]), rows):
        yield {name: tensor[start : start + rows] for name, tensor in inputs.items()}


def random_state() -> list[torch.Tensor]:
    """Of the CPU and, where there is one, of the GPU in use."""
    return [torch.get_rng_state()] + ([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])


def set_random_state(state: list[torch.Tensor]) -> None:
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state(state[1])
