"""A decoder layer's step, compiled, so that a hundred small kernels become some thirty.

All layers are of one kind, so one compilation serves them all; two serve every length of the cache. The layer is passed
to the compiled function with its adapter and hooks: nothing here knows how a layer computes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from medcot.engine.decode.runner import lora_products


class StaticKV:
    """A pre-allocated KV cache (rows, groups, extent, size), written in place at `slots`.

    It carries no layer index, so one compiled graph serves all layers.
    """

    def __init__(self, keys: Tensor, values: Tensor, slots: Tensor):
        self.keys, self.values, self.slots = keys, values, slots

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.keys.index_copy_(2, self.slots, key_states)
        self.values.index_copy_(2, self.slots, value_states)
        return self.keys, self.values


def fusable_layers(model: Any) -> list[Any]:
    """The decoder layers if all are of one kind with plain weights; else none."""
    layers = list(getattr(model.get_base_model().get_decoder(), "layers", []))
    kinds = {(type(layer), "forward" in vars(layer)) for layer in layers}
    # Weights packed in 4 bits are of another class, whose unpacking cannot be compiled.
    plain = all(type(p) is torch.nn.Parameter for layer in layers for p in layer.parameters())
    return layers if len(kinds) == 1 and plain and not next(iter(kinds))[1] else []


class ThinLinear(torch.nn.Linear):
    """A LoRA product that compiles to a sum, fused with its neighbours; a matrix product is a separate kernel."""

    def forward(self, x: Tensor) -> Tensor:
        if self.bias is not None or not torch.compiler.is_compiling():
            return super().forward(x)
        return (x.unsqueeze(-2) * self.weight).sum(-1)


class FusedLayers:
    """The same layers, compiled while `in_place`: once for each number of rows, for any length of the cache."""

    def __init__(self, layers: list[Any], backend: str = "inductor"):
        self._layers = layers
        for product in (p for layer in layers for p in lora_products(layer, "lora_A", "lora_B")):
            if type(product) is torch.nn.Linear:
                product.__class__ = ThinLinear
        self._compiled = torch.compile(_layer_step, dynamic=True, fullgraph=True, backend=backend)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Compile at the first steps inside. Raises RuntimeError if that fails."""
        for number, layer in enumerate(self._layers):
            layer.forward = partial(self._through, number)
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.forward

    def _through(self, number: int, hidden: Tensor, past_key_values: Cache, **more: Any) -> Tensor:
        own: Any = past_key_values.layers[number]
        output: Tensor = self._compiled(self._layers[number], hidden, own.keys, own.values, own.slots, more)
        return output


def _layer_step(
    layer: Any, hidden: Tensor, keys: Tensor, values: Tensor, slots: Tensor, more: Mapping[str, Any]
) -> Tensor:
    """hidden (rows, 1, width) through one layer, whose keys and values (rows, groups, extent, size) are written to."""
    output: Tensor = type(layer).forward(layer, hidden, past_key_values=StaticKV(keys, values, slots), **more)
    return output
