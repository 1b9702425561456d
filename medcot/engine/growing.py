"""Steps of a decode whose cache grows with the text and whose batch shrinks as rows are done: any device, any model.

transformers joins the whole cache of keys and values anew for each token. Here a layer's cache has room ahead and is
written in place.
"""

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from medcot.engine.arms import ArmMask


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types here
    """A layer's cache, (rows, groups, length, size), that grows by ROOM tokens at a time."""

    ROOM = 128
    keys: torch.Tensor
    values: torch.Tensor
    _rooms: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        length: int = self.get_seq_length()
        needed = length + key_states.shape[-2]
        if self._rooms is None or needed > self._rooms[0].shape[-2]:
            shape = (*key_states.shape[:2], needed + self.ROOM, key_states.shape[-1])
            self._rooms = key_states.new_empty(shape), value_states.new_empty(shape)
            if length:
                self._rooms[0][:, :, :length], self._rooms[1][:, :, :length] = self.keys, self.values
        keys, values = self._rooms
        keys[:, :, length:needed], values[:, :, length:needed] = key_states, value_states
        self.keys, self.values = keys[:, :, :needed], values[:, :, :needed]
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self._rooms = None  # what is left was copied and has no room


def plain_layers(model: Any) -> bool:
    """Whether every layer of the model attends to all that came before, and so has a cache of the ordinary kind."""
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)


class WeightFirstLinear(torch.nn.Linear):
    """A linear layer that takes its weight as it lies.

    For 16-bit numbers on a CPU, oneDNN copies the weight into an order of its own at each product of the usual form:
    for the starter model's vocabulary that is 108 MiB, taken and given back at every token.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = (self.weight @ x.flatten(0, -2).T).T.unflatten(0, x.shape[:-1])
        return found if self.bias is None else found + self.bias


class GrowingSteps:
    """One forward pass a token; rows that are done leave the batch at once."""

    def __init__(self, model: Any, arms: ArmMask):
        self._model, self._arms = model, arms
        head = model.get_output_embeddings()
        if type(head) is torch.nn.Linear and head.weight.device.type == "cpu" and head.weight.dtype.itemsize == 2:
            head.__class__ = WeightFirstLinear

    def warm_up(self, length: int) -> None:
        """There is nothing to prepare."""

    def start(self, ids: torch.Tensor, attention: torch.Tensor, tuned: list[bool], most: int) -> torch.Tensor:
        """Logits (rows, vocabulary) after prompts (rows, width) that are padded on the left; `attention` is 0 there."""
        self._cache = DynamicCache(config=self._model.config)
        if plain_layers(self._model):
            self._cache.layers = [RoomyLayer() for _ in self._cache.layers]
        self._attention, self._tuned = attention, tuned
        self._set_arms()
        self._positions = (attention.cumsum(-1) - 1).clamp(min=0)
        return self._forward(ids)

    def keep(self, going: list[int], rows: int) -> list[int] | None:
        """Told which of the rows go on, drop the others; returns those that are left, None where all are."""
        if len(going) == rows:
            return None
        kept = torch.tensor(going, device=self._attention.device)
        self._positions, self._attention = self._positions[kept], self._attention[kept]
        self._cache.batch_select_indices(kept)
        self._tuned = [self._tuned[i] for i in going]
        self._set_arms()
        return going

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (rows, vocabulary) after one more token a row."""
        self._positions = self._positions[:, -1:] + 1
        self._attention = torch.cat([self._attention, self._attention.new_ones(len(tokens), 1)], dim=-1)
        return self._forward(tokens[:, None])

    def _set_arms(self) -> None:
        numbers = torch.tensor([float(t) for t in self._tuned], device=self._attention.device)[:, None, None]
        self._arms.set(numbers, any_tuned=any(self._tuned))

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(
            input_ids=ids,
            attention_mask=self._attention,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return logits
