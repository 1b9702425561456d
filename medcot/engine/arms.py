"""Which rows of a batch get the adapter.

A forward hook multiplies each LoRA layer's output by 1 for tuned rows and by 0 for base rows, so one loaded model
answers as both in the same forward pass.
"""

from typing import Any, Literal

import torch

from medcot.errors import BadInput, Problem


def lora_products(model: Any, *kinds: Literal["lora_A", "lora_B"]) -> list[Any]:
    """The small matrix products of a PEFT model's LoRA layers."""
    return [m for name, m in model.named_modules() if name.rpartition(".")[0].endswith(kinds)]


class ArmMask:
    """The switch on a PEFT model's LoRA layers. It is the model's state: one user at a time."""

    def __init__(self, model: Any):
        layers = lora_products(model, "lora_B")
        if not layers:
            raise BadInput(
                Problem("adapter", "the adapter holds no LoRA layers.", "Use an adapter that medcot or PEFT trained.")
            )
        self._model = model
        self._numbers = torch.ones(1, 1, 1, device=model.device)
        for layer in layers:
            layer.register_forward_hook(lambda _module, _inputs, output: output * self._numbers.to(output.dtype))

    def set(self, numbers: torch.Tensor, *, any_tuned: bool) -> None:
        """numbers (rows, 1, 1): 1 for tuned, 0 for base. Where no row is tuned the layers are not computed at all."""
        self._numbers = numbers
        if any_tuned:
            self._model.base_model.enable_adapter_layers()
        else:
            self._model.base_model.disable_adapter_layers()

    def narrow(self, dtype: torch.dtype) -> None:
        """Compute the adapter in the base's own number format: PEFT holds it in float32, which costs a GPU two casts
        and a slow product a layer."""
        for module in lora_products(self._model, "lora_A", "lora_B"):
            module.to(dtype)
