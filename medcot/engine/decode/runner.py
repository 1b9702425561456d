"""What runs a batch of both arms: LoRA on for some rows of it, one forward pass a token."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from medcot.errors import BadInput


def lora_products(model: Any, *kinds: Literal["lora_A", "lora_B", "lora_magnitude_vector"]) -> list[Any]:
    """The small matrix products of a PEFT model's LoRA layers, and what DoRA puts around them."""
    return [m for name, m in model.named_modules() if name.rpartition(".")[0].endswith(kinds)]


class ArmMask:
    """The switch on a PEFT model's LoRA layers. It is the model's state: one user at a time."""

    def __init__(self, model: Any):
        # Each gives what is added to the base's own output. DoRA's calls lora_B for its weights too.
        magnitudes = lora_products(model, "lora_magnitude_vector")
        layers, self.plain = magnitudes or lora_products(model, "lora_B"), not magnitudes
        if not layers:
            what, fix = "the adapter holds no LoRA layers.", "Use an adapter that medcot or PEFT trained."
            raise BadInput.of("adapter", what, fix)
        self._model = model
        self._tuned = torch.ones(1, 1, 1, device=model.device, dtype=torch.bool)
        for layer in layers:
            layer.register_forward_hook(self._masked)

    def set(self, tuned: Tensor, *, any_tuned: bool) -> None:
        """tuned (rows, 1, 1): true for tuned, false for base. If no row is tuned the layers are not computed."""
        self._tuned = tuned.bool()
        if any_tuned:
            self._model.base_model.enable_adapter_layers()
        else:
            self._model.base_model.disable_adapter_layers()

    def _masked(self, _module: Any, _inputs: Any, output: Tensor) -> Tensor:
        """The output, (rows, length, width) or all tokens of all rows in one (tokens, width), with 0 for base."""
        by_row = output.reshape(self._tuned.shape[0], -1, output.shape[-1])
        return torch.where(self._tuned, by_row, 0).view_as(output)

    def cast_adapter(self, dtype: torch.dtype) -> None:
        """Compute the adapter in the base's dtype; PEFT's float32 costs two casts and a slow product a layer."""
        for module in lora_products(self._model, "lora_A", "lora_B"):
            module.to(dtype)


class StepRunner(ABC):
    """How the model runs a batch; logits are (rows, vocabulary)."""

    def warm_up(self, length: int) -> None:  # noqa: B027  # most have nothing to prepare
        """Prepare for texts of up to `length` tokens, so that no answer waits for that."""

    @abstractmethod
    def start(self, ids: Tensor, attention: Tensor, tuned: list[bool], most: int) -> Tensor:
        """Logits after prompts (rows, width), left padding being 0 in `attention`; at most `most` tokens follow."""

    @abstractmethod
    def keep(self, going: list[int], rows: int) -> list[int] | None:
        """Drop finished rows if that pays. Returns the kept indices, or None if nothing was dropped."""

    @abstractmethod
    def step(self, tokens: Tensor) -> Tensor:
        """Logits after one more token a row; the next step may overwrite them."""


def left_padded(prompts: Sequence[list[int]], pad: int, device: Any) -> tuple[Tensor, Tensor]:
    """(ids, attention), both (rows, width); attention is 0 for padding."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]
    attention = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(attention, device=device)


def positions_of(attention: Tensor) -> Tensor:
    """Each token's position in its text (rows, width); padding is at 0."""
    return (attention.cumsum(-1) - 1).clamp(min=0)


def last_logits(model: Any, ids: Tensor, attention: Tensor, positions: Tensor, cache: Any) -> Tensor:
    """Logits (rows, vocabulary) after the last of the ids (rows, length), which are added to the cache if any."""
    inputs = {"input_ids": ids, "attention_mask": attention, "position_ids": positions, "past_key_values": cache}
    logits: Tensor = model(**inputs, use_cache=cache is not None, logits_to_keep=1).logits[:, -1]
    return logits
