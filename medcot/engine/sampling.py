"""The order in which records are trained on, fixed by (seed, epoch) alone, so that a resume finds it again.

Grouping puts records of like length into one optimizer step, which leaves little padding. The stock sampler for this
draws from the process's random state and so has another order after a resume in a later epoch; this one does not.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import Sampler
from trl import SFTTrainer

POOL_STEPS = 50  # a step's records are drawn from a pool of this many steps: large enough for like lengths, yet random


class GroupedSampler(Sampler[int]):
    """Record numbers of one epoch, in groups of `step_size` records of like length.

    Each epoch shuffles all records, sorts each pool of POOL_STEPS steps by length, and shuffles the steps. The longest
    come first, so that what would run out of memory does so at once; an incomplete step comes last. Within a step the
    longest record comes first, so that its micro-batches are of like length too. Several processes each draw the same
    order and take their micro-batches of it in turn.
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
        draw = random.Random(f"{self._seed}/{self._epoch}")  # seeded by text: hashed, so near seeds differ wholly
        records = list(range(len(self._lengths)))
        draw.shuffle(records)
        size, pool = self._step_size, self._step_size * POOL_STEPS
        steps: list[list[int]] = []
        for start in range(0, len(records), pool):
            ordered = sorted(records[start : start + pool], key=self._lengths.__getitem__, reverse=True)
            # The shortest make up the incomplete step of the last pool.
            steps += [ordered[i : i + size] for i in range(0, len(ordered), size)]
        last = [steps.pop()] if steps and len(steps[-1]) < size else []
        draw.shuffle(steps)
        if steps:
            longest = max(range(len(steps)), key=lambda n: self._lengths[steps[n][0]])
            steps.insert(0, steps.pop(longest))
        return iter([record for step in [*steps, *last] for record in step])


class OrderedTrainer(SFTTrainer):  # type: ignore[misc]  # trl has no types here
    """An SFTTrainer that draws its records in a given order, or shuffled by its seed where none is given."""

    def __init__(self, *args: Any, order: Sampler[int] | None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._order = order

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order or super()._get_train_sampler(train_dataset)

    def _run_epoch(self, model: Any, epoch: int, train_dataloader: Any, *more: Any, **named: Any) -> None:
        """Tell the sampler the epoch: where several processes resume within one, the Trainer's own word does not reach
        it, for accelerate has then wrapped it once more than it looks (1.15.0)."""
        batches = train_dataloader.batch_sampler
        while hasattr(batches, "batch_sampler"):
            batches = batches.batch_sampler
        if hasattr(batches.sampler, "set_epoch"):
            batches.sampler.set_epoch(epoch)
        super()._run_epoch(model, epoch, train_dataloader, *more, **named)
