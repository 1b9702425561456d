"""A decoder layer's step, compiled, so that a hundred small kernels become some thirty.

All layers are of one kind, so one compilation serves them all; two serve every length of the cache. The layer is handed
to the compiled function as it is, adapter, hooks and all: nothing here knows how a layer computes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from transformers import Cache

from medcot.engine.arms import lora_products


class Slots:
    """A layer's cache that is there already: keys and values (rows, groups, extent, size), written at `slots`.

    It needs no number of the layer, which a compiled function would otherwise be bound to.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor):
        self.keys, self.values, self.slots = keys, values, slots

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys.index_copy_(2, self.slots, key_states)
        self.values.index_copy_(2, self.slots, value_states)
        return self.keys, self.values


def fusable_layers(model: Any) -> list[Any]:
    """The decoder layers, where all are of one kind and hold plain numbers; else none."""
    layers = list(getattr(model.get_base_model().get_decoder(), "layers", []))
    kinds = {(type(layer), "forward" in vars(layer)) for layer in layers}
    # Weights packed in 4 bits come as a class of their own, whose unpacking cannot be compiled.
    plain = all(type(p) is torch.nn.Parameter for layer in layers for p in layer.parameters())
    return layers if len(kinds) == 1 and plain and not next(iter(kinds))[1] else []


class ThinLinear(torch.nn.Linear):
    """A LoRA product that, where it is compiled, is written out as a sum: for a row or two that joins its neighbours in
    one kernel, where a matrix product is a kernel or two of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.bias is not None or not torch.compiler.is_compiling():
            return super().forward(x)
        return (x.unsqueeze(-2) * self.weight).sum(-1)


class FusedLayers:
    """The same layers, run through the compiled function while `in_place`.

    Lengths of the cache are dynamic, the number of rows is not: each makes for a compilation of its own.
    """

    def __init__(self, layers: list[Any], backend: str = "inductor"):
        self._layers = layers
        for product in (p for layer in layers for p in lora_products(layer, "lora_A", "lora_B")):
            if type(product) is torch.nn.Linear:
                product.__class__ = ThinLinear
        self._compiled = torch.compile(_layer_step, dynamic=True, fullgraph=True, backend=backend)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Compiles at the first steps inside. Raises RuntimeError where that fails."""
        for number, layer in enumerate(self._layers):
            layer.forward = partial(self._through, number)
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.forward

    def _through(self, number: int, hidden: torch.Tensor, past_key_values: Cache, **more: Any) -> torch.Tensor:
        own: Any = past_key_values.layers[number]
        output: torch.Tensor = self._compiled(self._layers[number], hidden, own.keys, own.values, own.slots, more)
        return output


def _layer_step(
    layer: Any,
    hidden: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slots: torch.Tensor,
    more: dict[str, Any],
) -> torch.Tensor:
    """hidden (rows, 1, width) through one layer, whose keys and values (rows, groups, extent, size) are written to."""
    output: torch.Tensor = type(layer).forward(layer, hidden, past_key_values=Slots(keys, values, slots), **more)
    return output
