"""Steps of a decode whose every tensor stays where it is, so that a GPU replays a captured step for each token.

A step of a small batch is bound by launching a thousand and more kernels. A CUDA graph launches them as one. What is
captured depends on two numbers, how many rows and how much of the cache is read, and both come from short lists: after
the first answers nothing is captured any more. A pair's step, which Chat waits for, is compiled too (fused.py), so that
there are fewer kernels. Where either fails the same steps run without it, and that is told.
"""

import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import StaticLayer

from medcot.engine.arms import ArmMask
from medcot.engine.fused import FusedLayers, Slots
from medcot.errors import first_line

PAIR = 2  # rows of one question, whose step is compiled
ROWS = (PAIR, 4, 8, 16, 32, 48, 64, 96, 128, 160, 192, 224, 256)
EXTENTS = (256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
PROMPT_TOKENS = 16_384  # of prompts in one forward pass: more would only cost memory


def at_least(wanted: int, sizes: tuple[int, ...]) -> int:
    """The smallest of the sizes that holds `wanted`; beyond them, multiples of the largest."""
    return next((s for s in sizes if s >= wanted), -(-wanted // sizes[-1]) * sizes[-1])


class FixedLayer(Slots, StaticLayer):  # type: ignore[misc]  # transformers has no types here
    """The same as a layer of transformers' own cache."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor):
        StaticLayer.__init__(self, keys.shape[2])
        Slots.__init__(self, keys, values, slots)
        self.is_initialized = True


class CapturedSteps:
    """Rows that are done stay until a smaller batch of the list holds the rest.

    All rows write the same slot of the cache at a step, since prompts are padded on the left to one width.
    """

    def __init__(
        self, model: Any, arms: ArmMask, note: Callable[[str], None], *, capture: bool, fused: FusedLayers | None = None
    ):
        self._model, self._arms, self._note, self._capture = model, arms, note, capture
        self._fusable = fused
        self._fused: FusedLayers | None = None  # compiling takes longer than it saves, but for who will ask again
        self._device = model.device
        self._dtype = model.get_input_embeddings().weight.dtype
        self._rows = self._length = 0  # what there is room for
        self._graphs: dict[tuple[int, int, bool], tuple[torch.cuda.CUDAGraph, torch.Tensor]] = {}

    def warm_up(self, length: int) -> None:
        """Compile and capture a pair's steps for texts of up to `length` tokens, so that no answer waits for it."""
        self._fused = self._fusable
        self._make_room(PAIR, at_least(length, EXTENTS))
        for extent in EXTENTS:
            if extent <= self._length and self._capture:
                self._slot.zero_()
                self._try_to_capture((PAIR, extent, True))

    def start(self, ids: torch.Tensor, attention: torch.Tensor, tuned: list[bool], most: int) -> torch.Tensor:
        """Logits (rows, vocabulary) after prompts (rows, width) that are padded on the left; `attention` is 0 there.

        `most` new tokens have room after them.
        """
        rows, width = ids.shape
        self._make_room(at_least(rows, ROWS), at_least(width + most, EXTENTS))
        self._batch, self._filled = at_least(rows, ROWS), width
        self._tuned = tuned
        self._slot.fill_(width)
        self._seen.zero_()
        self._seen[:rows, 0, 0, :width] = attention.bool()
        self._positions.zero_()
        self._positions[:rows] = attention.sum(-1, keepdim=True)
        self._numbers[:rows, 0, 0] = torch.tensor(tuned, device=self._device, dtype=self._dtype)
        share = max(1, PROMPT_TOKENS // width)
        parts = [self._prompts(ids, attention, slice(a, min(rows, a + share))) for a in range(0, rows, share)]
        return torch.cat(parts)

    def keep(self, going: list[int], rows: int) -> list[int] | None:
        """Told which of the rows go on, drop the others where that allows a smaller batch; returns those that are left,
        None where all are."""
        fewer = at_least(len(going), ROWS)
        if fewer >= self._batch:
            return None
        kept = torch.tensor(going, device=self._device)
        for tensor in (self._seen, self._positions, self._numbers):
            tensor[: len(going)] = tensor[kept]
        for pair in self._cache:
            for tensor in pair:
                tensor[: len(going), :, : self._filled] = tensor[kept, :, : self._filled]
        self._batch = fewer
        self._tuned = [self._tuned[i] for i in going]
        return going

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (rows, vocabulary) after one more token a row; they are overwritten by the next step."""
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
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (self._rows, config.num_key_value_heads, self._length, size)
        self._cache: list[tuple[torch.Tensor, torch.Tensor]] = []  # the old one goes before the new one comes

        def zeros(*shape: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=self._device)

        # Zeros, since what is masked is multiplied by 0, and 0 times garbage may be no number.
        for _ in range(config.num_hidden_layers):
            self._cache.append((zeros(*shape, dtype=self._dtype), zeros(*shape, dtype=self._dtype)))
        self._ids = zeros(self._rows, 1, dtype=torch.long)
        self._positions = zeros(self._rows, 1, dtype=torch.long)
        self._slot = zeros(1, dtype=torch.long)
        self._seen = zeros(self._rows, 1, 1, self._length, dtype=torch.bool)
        self._numbers = zeros(self._rows, 1, 1, dtype=self._dtype)

    def _views(self, rows: slice, extent: int, slots: torch.Tensor) -> Cache:
        return Cache(layers=[FixedLayer(k[rows, :, :extent], v[rows, :, :extent], slots) for k, v in self._cache])

    def _prompts(self, ids: torch.Tensor, attention: torch.Tensor, rows: slice) -> torch.Tensor:
        """Logits after the prompts of these rows."""
        width = ids.shape[1]
        causal = torch.ones(width, width, dtype=torch.bool, device=self._device).tril()
        # Padding sees itself, since a row that sees nothing is no number.
        itself = torch.eye(width, dtype=torch.bool, device=self._device)
        seen = causal & attention[rows, None, None, :].bool() | itself
        self._arms.set(self._numbers[rows], any_tuned=any(self._tuned[rows]))
        logits: torch.Tensor = self._model(
            input_ids=ids[rows],
            attention_mask=seen,
            position_ids=(attention[rows].cumsum(-1) - 1).clamp(min=0),
            past_key_values=self._views(rows, width, torch.arange(width, device=self._device)),
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return logits

    def _forward(self, rows: int, extent: int, any_tuned: bool) -> torch.Tensor:
        """One step of `rows` rows that read `extent` slots, from the tensors that stay and into them."""
        self._seen[:rows].index_fill_(3, self._slot, True)
        self._arms.set(self._numbers[:rows], any_tuned=any_tuned)
        compiled: AbstractContextManager[None] = nullcontext()
        if self._fused and rows == PAIR:
            compiled = self._fused.in_place()
        with compiled:
            logits: torch.Tensor = self._model(
                input_ids=self._ids[:rows],
                attention_mask=self._seen[:rows, :, :, :extent],
                position_ids=self._positions[:rows],
                past_key_values=self._views(slice(rows), extent, self._slot),
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        self._positions += 1
        self._slot += 1
        return logits

    def _try_to_capture(self, key: tuple[int, int, bool]) -> None:
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
        """Give up the compiler first, where it was in use, then capturing."""
        if compiled and self._fused:
            self._fused = None
            self._note(f"One question's answers are decoded uncompiled, about half as fast: {reason}")
        else:
            self._capture = False
            self._graphs.clear()
            self._note(f"Decoding runs uncaptured, several times slower: {reason}")

    def _captured(
        self, key: tuple[int, int, bool], positions: torch.Tensor, slot: torch.Tensor
    ) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        """The graph of one step, and the logits that each replay writes. Capturing itself computes nothing."""
        if not self._graphs:
            self._pool = torch.cuda.graph_pool_handle()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # kernels are loaded and workspaces made before anything is captured
            self._forward(*key)
        torch.cuda.current_stream().wait_stream(aside)
        self._positions.copy_(positions)
        self._slot.copy_(slot)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            logits = self._forward(*key)
        return graph, logits
