"""TRL's trainer, extended: a micro-batch that does not fit into memory is computed in parts.

Every part of a micro-batch adds its share to the same gradient, because each loss is divided by the tokens of the whole
optimizer step. So records keep their order, and the effective batch and the number of steps stay the same. An optimizer
step that ran out of memory is repeated from its start with the same random state: an interrupted backward pass has left
part of its gradient behind.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch.utils.data import Sampler
from trl import SFTTrainer

from medcot.engine import distributed
from medcot.engine.outcome import OutOfMemory, is_out_of_memory
from medcot.engine.train.callbacks import Observer
from medcot.engine.train.fused import Fused
from medcot.engine.train.passes import Batch, Passes
from medcot.errors import first_line
from medcot.runs.events import Warned

POOL_STEPS = 50  # a step's records come from a pool of this many steps: enough for similar lengths, yet random


class GroupedSampler(Sampler[int]):
    """Record numbers of one epoch, in groups of `step_size` records of similar length.

    Each epoch shuffles all records, sorts each pool of POOL_STEPS steps by length, and shuffles the steps. The longest
    come first, so that what would run out of memory does so at once; an incomplete step comes last. Within a step the
    longest record comes first, so that its micro-batches are of similar length too. Each of several processes draws the
    same order and takes its micro-batches of it in turn.
    """

    def __init__(self, lengths: Sequence[int], step_size: int, seed: int):
        self._lengths, self._step_size, self._seed = lengths, step_size, seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the data loader at the start of each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        draw = random.Random(f"{self._seed}/{self._epoch}")  # a text seed is hashed: near seeds differ
        records = list(range(len(self._lengths)))
        draw.shuffle(records)
        size, steps = self._step_size, list[list[int]]()
        for pool in cut(records, size * POOL_STEPS):
            # The shortest make up the incomplete step of the last pool.
            steps += cut(sorted(pool, key=self._lengths.__getitem__, reverse=True), size)
        last = [steps.pop()] if steps and len(steps[-1]) < size else []
        draw.shuffle(steps)
        if steps:
            longest = max(range(len(steps)), key=lambda n: self._lengths[steps[n][0]])
            steps.insert(0, steps.pop(longest))
        return itertools.chain(*steps, *last)


def cut(records: list[int], size: int) -> list[list[int]]:
    """The records in pieces of `size`, of which the last may be smaller."""
    return [records[start : start + size] for start in range(0, len(records), size)]


class Trainer(SFTTrainer):  # type: ignore[misc]  # trl has no types here
    """An SFTTrainer that halves its micro-batch when memory runs out.

    `micro_batch` is the most sequences that go through the model at once; it starts as settings or checkpoint say.
    `order` is the order of the records; None shuffles them by the seed. `on_validation` runs at the end of each
    validation. Neither of the two counts as time of training. With `captured`, passes become CUDA graphs.
    """

    def __init__(
        self,
        *,
        observer: Observer,
        micro_batch: int,
        order: Sampler[int] | None,
        on_validation: Callable[[], None],
        captured: bool = False,
        **more: Any,
    ):
        super().__init__(callbacks=[observer], **more)
        self.micro_batch, self._order = micro_batch, order
        self.observer, self._on_validation = observer, on_validation
        self._begun: list[Batch] = []  # micro-batches of the optimizer step under way
        self._tokens = torch.zeros((), dtype=torch.int64, device=self.args.device)  # trained on, not yet in the state
        self._random = random_state()
        self._passes: Passes | None = None
        self._fused = Fused(self.model).in_place if self.args.use_cpu else nullcontext
        if captured and self.accelerator.scaler is None:  # float16 scales its losses
            # Without DDP.
            self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)
            self._passes = Passes([p for p in self.model.parameters() if p.requires_grad], observer.report)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order or super()._get_train_sampler(train_dataset)

    def _run_epoch(self, model: Any, epoch: int, train_dataloader: Any, *more: Any, **named: Any) -> None:
        """Call `set_epoch` ourselves: after a mid-epoch resume with several processes the Trainer's own call does not
        reach the sampler, because accelerate (1.15.0) has wrapped it once more."""
        batches = train_dataloader.batch_sampler
        while hasattr(batches, "batch_sampler"):
            batches = batches.batch_sampler
        if hasattr(batches.sampler, "set_epoch"):
            batches.sampler.set_epoch(epoch)
        super()._run_epoch(model, epoch, train_dataloader, *more, **named)

    def _track_num_input_tokens(self, inputs: Batch) -> None:
        """Add the tokens of a micro-batch, padding left out, on the device: the Trainer's own count waits for it."""
        mask = inputs.get("attention_mask")  # none where a pass's sequences are joined into one row
        self._tokens += inputs["input_ids"].numel() if mask is None else mask.sum()

    def _count_tokens(self) -> None:
        """Bring the state's count of tokens up to date, of all processes together."""
        self.state.num_input_tokens_seen += int(self.accelerator.gather(self._tokens).sum())
        self._tokens.zero_()

    def log(self, logs: dict[str, float], *args: Any, **named: Any) -> None:
        self._count_tokens()
        if self.args.use_cpu:  # no entropy is computed
            for metrics in self._metrics.values():
                metrics.pop("entropy", None)
        super().log(logs, *args, **named)

    def _save_checkpoint(self, *args: Any, **named: Any) -> None:
        self._count_tokens()
        super()._save_checkpoint(*args, **named)

    def create_model_card(self, *args: Any, **named: Any) -> None:
        """Write none into a checkpoint: TRL's imports an installed tracker, and what that raises would end the run."""

    def evaluate(self, *args: Any, **named: Any) -> dict[str, float]:
        with self.observer.paused():
            batches = math.ceil(len(self.eval_dataset) / (self.args.eval_batch_size * distributed.world_size()))
            self.observer.validation_begins(self.state.global_step, batches)
            metrics: dict[str, float] = super().evaluate(*args, **named)
            self._on_validation()
        return metrics

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: torch.Tensor | None = None) -> torch.Tensor:
        """Forward and backward of one micro-batch; returns the loss. Raises OutOfMemory if one sequence is too much."""
        if not self._begun:
            self._random = random_state()
            self._begin_step()
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
            self._begin_step()
            set_random_state(self._random)
        if self.accelerator.sync_gradients:  # this was the last micro-batch of the step
            self._begun = []
            if self._passes:
                self._passes.finish()
        return losses[-1]

    def _backward(self, model: Any, inputs: Batch, items: torch.Tensor | None) -> torch.Tensor:
        losses = [self._pass(model, part, items) for part in parts(inputs, self.micro_batch)]
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _begin_step(self) -> None:
        if self._passes:
            self._passes.begin()

    def _pass(self, model: Any, part: Batch, items: torch.Tensor | None) -> torch.Tensor:
        with self._fused():
            if not self._passes or items is None:
                loss: torch.Tensor = super().training_step(model, part, items)
                return loss
            model.train()
            return self._passes.add(self._prepare_inputs(part), items, partial(loss_of, model))

    def prediction_step(self, model: Any, inputs: Batch, prediction_loss_only: bool, ignore_keys: Any = None) -> Any:
        """(loss, None, None); the loss is the mean over the tokens of the whole batch, also in parts."""
        while True:
            try:
                return self._predict(model, inputs, ignore_keys)
            except (RuntimeError, MemoryError) as error:
                if not self._can_halve(error, inputs):
                    raise
            self._halve()

    def _predict(self, model: Any, inputs: Batch, ignore_keys: Any) -> Any:
        batches = list(parts(inputs, self.micro_batch))
        counts = [part["labels"][:, 1:].ne(-100).sum() for part in batches]
        with self._fused():
            found = [super(Trainer, self).prediction_step(model, part, True, ignore_keys) for part in batches]
        if len(found) == 1:
            return found[0]
        losses = (loss * count.to(loss.device) for (loss, *_), count in zip(found, counts, strict=True))
        return sum(losses) / sum(counts), None, None

    def _can_halve(self, error: BaseException, inputs: Batch) -> bool:
        """Whether to halve. Raises OutOfMemory if nothing is left to halve, or several processes train together."""
        if not is_out_of_memory(error):
            return False
        if distributed.world_size() > 1:  # the others wait for this one's gradient and cannot repeat the step
            where = f"in process {distributed.rank() + 1} of {distributed.world_size()}"
            what = f"{self._out_of_memory()} {where}; with several the micro-batch is not halved by itself"
            raise OutOfMemory(f"{what}: {first_line(error)}") from error
        if min(self.micro_batch, len(inputs["input_ids"])) == 1:
            raise OutOfMemory(f"{self._out_of_memory()} with one sequence at a time: {first_line(error)}") from error
        return True

    def _halve(self) -> None:
        """Halve the micro-batch. Called outside `except`, where the traceback keeps the failed pass's tensors."""
        if self._passes:
            self._passes.forget()
        distributed.free_memory()
        before, self.micro_batch = self.micro_batch, math.ceil(self.micro_batch / 2)
        pieces = math.ceil(self.args.per_device_train_batch_size / self.micro_batch)
        accumulation = pieces * self.args.gradient_accumulation_steps
        now = f"micro-batch {self.micro_batch} and accumulation {accumulation}"
        same = "An optimizer step sees the same records as before."
        message = f"{self._out_of_memory()} with micro-batch {before}: going on with {now}. {same}"
        self.observer.report(Warned(message=message))

    def _out_of_memory(self) -> str:
        return f"Out of memory at step {self.state.global_step + 1}"


def loss_of(model: Any, inputs: Batch, items: torch.Tensor) -> torch.Tensor:
    """A micro-batch's loss as the Trainer computes it, without what it counts beside, which waits for the device."""
    loss: torch.Tensor = model(**inputs, num_items_in_batch=items).loss
    return loss * distributed.world_size()


def parts(inputs: Batch, rows: int) -> Iterator[Batch]:
    """Copies of the batch in parts of `rows` sequences; a batch that is small enough, or joined in one row, is one."""
    if len(inputs["input_ids"]) <= rows:
        yield dict(inputs)  # trl adds a key to the dict that it is given
        return
    for start in range(0, len(inputs["input_ids"]), rows):
        yield {name: tensor[start : start + rows] for name, tensor in inputs.items()}


def random_state() -> list[torch.Tensor]:
    """The random states of the CPU and of the GPU in use, if any."""
    return [torch.get_rng_state()] + ([torch.cuda.get_rng_state()] if torch.cuda.is_available() else [])


def set_random_state(state: list[torch.Tensor]) -> None:
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state(state[1])
