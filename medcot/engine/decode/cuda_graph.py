"""Decoding with static tensors, so that a GPU replays a CUDA graph for each token.

A step of a small batch is bound by launching a thousand kernels and more; a CUDA graph launches them as one. A graph
depends on the number of rows and the length of the cache that is read. Both come from short lists, so that nothing is
captured any more after the first answers. A pair's step, which Chat waits for, is compiled too (compiled_layers.py): it
has fewer kernels. If capturing or compiling fails, the same steps run without it, with a warning.
"""

import traceback
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import StaticLayer

from medcot.engine.decode.compiled_layers import FusedLayers, StaticKV
from medcot.engine.decode.runner import ArmMask, StepRunner, last_logits, positions_of
from medcot.engine.models import head_size, key_heads
from medcot.errors import first_line
from medcot.runs.events import Report, Warned

Step = tuple[int, int, bool]  # rows, extent of the cache that is read, whether a row is tuned
PAIR = 2  # rows of one question, whose step is compiled
ROWS = (PAIR, 4, 8, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256)
EXTENTS = (256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
PROMPT_TOKENS = 16_384  # of prompts in one forward pass: more would only cost memory


def at_least(wanted: int, sizes: tuple[int, ...]) -> int:
    """The smallest of the sizes that holds `wanted`; beyond them, multiples of the largest."""
    return next((s for s in sizes if s >= wanted), -(-wanted // sizes[-1]) * sizes[-1])


class StaticCacheLayer(StaticKV, StaticLayer):  # type: ignore[misc]  # transformers has no types here
    """StaticKV as a layer of transformers' cache."""

    def __init__(self, keys: Tensor, values: Tensor, slots: Tensor):
        StaticLayer.__init__(self, keys.shape[2])
        StaticKV.__init__(self, keys, values, slots)
        self.is_initialized = True


class CudaGraphRunner(StepRunner):
    """Finished rows stay until the rest fit a smaller batch size of the list.

    All rows write the same slot of the cache at a step, since prompts are padded on the left to one width.
    """

    def __init__(self, model: Any, arms: ArmMask, report: Report, *, capture: bool, fused: FusedLayers | None = None):
        self._model, self._arms, self._report, self._capture = model, arms, report, capture
        self._fusable = fused
        self._fused: FusedLayers | None = None  # compiling pays only for many questions
        self._device = model.device
        self._dtype = model.get_input_embeddings().weight.dtype
        self._rows = self._length = 0  # allocated
        self._graphs: dict[Step, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def warm_up(self, length: int) -> None:
        """Compile and capture a pair's steps."""
        self._fused = self._fusable
        self._make_room(PAIR, at_least(length, EXTENTS))
        for extent in EXTENTS:
            if extent <= self._length and self._capture:
                self._slot.zero_()
                self._try_to_capture((PAIR, extent, True))

    def start(self, ids: Tensor, attention: Tensor, tuned: list[bool], most: int) -> Tensor:
        rows, width = ids.shape
        self._make_room(at_least(rows, ROWS), at_least(width + most, EXTENTS))
        self._batch, self._filled = at_least(rows, ROWS), width
        self._tuned = tuned
        self._slot.fill_(width)
        self._seen.zero_()
        self._seen[:rows, 0, 0, :width] = attention.bool()
        self._positions.zero_()
        self._positions[:rows] = attention.sum(-1, keepdim=True)
        self._tuned_rows[:rows, 0, 0] = torch.tensor(tuned, device=self._device)
        share = max(1, PROMPT_TOKENS // width)
        parts = [self._prompts(ids, attention, slice(a, min(rows, a + share))) for a in range(0, rows, share)]
        return torch.cat(parts)

    def keep(self, going: list[int], rows: int) -> list[int] | None:
        fewer = at_least(len(going), ROWS)
        if fewer >= self._batch:
            return None
        kept = torch.tensor(going, device=self._device)
        for tensor in (self._seen, self._positions, self._tuned_rows):
            tensor[: len(going)] = tensor[kept]
        for tensor in (each for pair in self._cache for each in pair):
            tensor[: len(going), :, : self._filled] = tensor[kept, :, : self._filled]
        self._batch = fewer
        self._tuned = [self._tuned[i] for i in going]
        return going

    def step(self, tokens: Tensor) -> Tensor:
        self._ids[: len(tokens), 0] = tokens
        key = (self._batch, at_least(self._filled + 1, EXTENTS), any(self._tuned))
        if self._capture and key not in self._graphs:
            self._try_to_capture(key)
        if self._capture:
            graph, logits = self._graphs[key]
            graph.replay()
        else:
            logits = self._forward(*key)
        self._filled += 1
        return logits[: len(tokens)]

    def _make_room(self, rows: int, length: int) -> None:
        if rows <= self._rows and length <= self._length:
            return
        self._graphs.clear()
        self._rows, self._length = max(rows, self._rows), max(length, self._length)
        config = self._model.config
        shape = (self._rows, key_heads(config), self._length, head_size(config))
        self._cache: list[tuple[Tensor, Tensor]] = []  # freed before the new one is allocated
        # Zeros, since masked values are multiplied by 0, and 0 times garbage may be NaN.
        zeros = partial(torch.zeros, device=self._device)
        for _ in range(config.num_hidden_layers):
            self._cache.append((zeros(shape, dtype=self._dtype), zeros(shape, dtype=self._dtype)))
        self._ids, self._positions = (zeros(self._rows, 1, dtype=torch.long) for _ in range(2))
        self._slot = zeros(1, dtype=torch.long)
        self._seen = zeros(self._rows, 1, 1, self._length, dtype=torch.bool)
        self._tuned_rows = zeros(self._rows, 1, 1, dtype=torch.bool)

    def _views(self, rows: slice, extent: int, slots: Tensor) -> Cache:
        return Cache(layers=[StaticCacheLayer(k[rows, :, :extent], v[rows, :, :extent], slots) for k, v in self._cache])

    def _prompts(self, ids: Tensor, attention: Tensor, rows: slice) -> Tensor:
        """Logits after the prompts of these rows."""
        width = ids.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool, device=self._device).tril()
        # Padding attends to itself: a row that attends to nothing is NaN.
        itself = torch.eye(width, dtype=torch.bool, device=self._device)
        seen = causal & attention[rows, None, None, :].bool() | itself
        self._arms.set(self._tuned_rows[rows], any_tuned=any(self._tuned[rows]))
        cache = self._views(rows, width, torch.arange(width, device=self._device))
        return last_logits(self._model, ids[rows], seen, positions_of(attention[rows]), cache)

    def _forward(self, rows: int, extent: int, any_tuned: bool) -> Tensor:
        """One step of `rows` rows that read `extent` slots; input and output are the static tensors."""
        self._seen[:rows].index_fill_(3, self._slot, True)
        self._arms.set(self._tuned_rows[:rows], any_tuned=any_tuned)
        seen, cache = self._seen[:rows, :, :, :extent], self._views(slice(rows), extent, self._slot)
        with self._fused.in_place() if self._fused and rows == PAIR else nullcontext():
            logits = last_logits(self._model, self._ids[:rows], seen, self._positions[:rows], cache)
        self._positions += 1
        self._slot += 1
        return logits

    def _try_to_capture(self, key: Step) -> None:
        positions, slot = self._positions.clone(), self._slot.clone()
        while self._capture:
            try:
                self._graphs[key] = self._captured(key, positions, slot)
                return
            except RuntimeError as error:  # torch's own, whatever the compiler, the driver or a kernel refused
                traceback.print_exc()  # for the worker's log
                self._do_without(first_line(error)[:200], compiled=key[0] == PAIR)
                self._positions.copy_(positions)
                self._slot.copy_(slot)

    def _do_without(self, reason: str, *, compiled: bool) -> None:
        """Give up compiling first, if in use, then capturing."""
        if compiled and self._fused:
            self._fused = None
            message = f"One question's answers are decoded uncompiled, about half as fast: {reason}"
        else:
            self._capture = False
            self._graphs.clear()
            message = f"Decoding runs uncaptured, several times slower: {reason}"
        self._report(Warned(message=message))

    def _captured(self, key: Step, positions: Tensor, slot: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """The graph of one step, and the logits that each replay writes. Capturing itself computes nothing."""
        if not self._graphs:
            self._pool = torch.cuda.graph_pool_handle()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # warm up: load kernels and allocate workspaces before the capture
            self._forward(*key)
        torch.cuda.current_stream().wait_stream(aside)
        self._positions.copy_(positions)
        self._slot.copy_(slot)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            logits = self._forward(*key)
        return graph, logits
