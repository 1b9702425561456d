"""Eager decoding, for any device and model: the cache grows with the text, the batch shrinks as rows finish.

transformers concatenates the whole KV cache for each token; here it is allocated ahead and written in place.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, Cache, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from medcot.engine.decode.runner import ArmMask, StepRunner, last_logits, positions_of

NAME = "medcot_grouped"


def grouped_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, None]:
    """Scaled dot-product attention of one new token a row; longer input goes to transformers' implementation.

    query (rows, heads, 1, size); key and value (rows, groups, length, size), each of its own size; the mask is True,
    or 0, for keys that are attended to. Returns (rows, 1, heads, size of value).
    """
    rows, heads, length, size = query.shape
    if length != 1:
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **more)
        return found
    groups, scaling = key.shape[1], more.get("scaling")
    grouped = query.view(rows, groups, heads // groups, size) * (size**-0.5 if scaling is None else scaling)
    scores = grouped @ key.transpose(-1, -2)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).view(rows, 1, heads, value.shape[-1]), None


def use_grouped_attention(model: Any) -> None:
    """Switch a model to grouped_attention."""
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


class PreallocatedCacheLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types here
    """A layer's KV cache, (rows, groups, length, size), that grows by ROOM tokens at a time."""

    ROOM = 128
    keys: Tensor
    values: Tensor
    _rooms: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length: int = self.get_seq_length()
        needed = length + key_states.shape[-2]
        if self._rooms is None or needed > self._rooms[0].shape[-2]:
            keys, values = (
                each.new_empty(*each.shape[:2], needed + self.ROOM, each.shape[-1])
                for each in (key_states, value_states)
            )
            self._rooms = keys, values
            if length:
                self._rooms[0][:, :, :length], self._rooms[1][:, :, :length] = self.keys, self.values
        keys, values = self._rooms
        keys[:, :, length:needed], values[:, :, length:needed] = key_states, value_states
        self.keys, self.values = keys[:, :, :needed], values[:, :, :needed]
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self._rooms = None  # the selected rows are a copy without room


def plain_layers(model: Any) -> bool:
    """Whether every layer of the model has full attention, and so an ordinary KV cache."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


class WeightFirstLinear(torch.nn.Linear):
    """A linear layer computed as W x instead of x W, so that the weight is not copied.

    For 16-bit weights on a CPU, oneDNN reorders a copy of the weight at each product of the usual form: for the starter
    model's vocabulary that is 108 MiB, allocated and freed at every token.
    """

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = (self.weight @ x.flatten(0, -2).T).T.unflatten(0, x.shape[:-1])
        return found if self.bias is None else found + self.bias


class EagerRunner(StepRunner):
    """One forward pass a token; finished rows leave the batch at once."""

    _attention: Tensor
    _positions: Tensor

    def __init__(self, model: Any, arms: ArmMask):
        self._model, self._arms = model, arms
        head = model.get_output_embeddings()
        if type(head) is torch.nn.Linear and head.weight.device.type == "cpu" and head.weight.dtype.itemsize == 2:
            head.__class__ = WeightFirstLinear

    def start(self, ids: Tensor, attention: Tensor, tuned: list[bool], most: int) -> Tensor:
        self._cache = self._new_cache()
        self._set_rows(attention, positions_of(attention), tuned)
        return self._forward(ids)

    def keep(self, going: list[int], rows: int) -> list[int] | None:
        if len(going) == rows:
            return None
        kept = torch.tensor(going, device=self._attention.device)
        self._cache.batch_select_indices(kept)
        self._set_rows(self._attention[kept], self._positions[kept], [self._tuned[i] for i in going])
        return going

    def step(self, tokens: Tensor) -> Tensor:
        self._positions = self._positions[:, -1:] + 1
        self._attention = torch.cat([self._attention, self._attention.new_ones(len(tokens), 1)], dim=-1)
        return self._forward(tokens[:, None])

    def _new_cache(self) -> Cache:
        cache = DynamicCache(config=self._model.config)
        if plain_layers(self._model):
            cache.layers = [PreallocatedCacheLayer() for _ in cache.layers]
        return cache

    def _set_rows(self, attention: Tensor, positions: Tensor, tuned: list[bool]) -> None:
        self._attention, self._positions, self._tuned = attention, positions, tuned
        self._arms.set(torch.tensor(tuned, device=attention.device)[:, None, None], any_tuned=any(tuned))

    def _forward(self, ids: Tensor) -> Tensor:
        return last_logits(self._model, ids, self._attention, self._positions, self._cache)


class StockRunner(EagerRunner):
    """The same with transformers' own cache, from which no row is dropped: some families' caches cannot do that."""

    def keep(self, going: list[int], rows: int) -> list[int] | None:
        return None

    def _new_cache(self) -> Cache:
        return DynamicCache(config=self._model.config)
