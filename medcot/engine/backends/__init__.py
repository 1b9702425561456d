"""The libraries that load and train a model. Training is given one and never chooses it.

Adapters are plain PEFT, whichever backend trained them: PeftBackend decodes them all.

A new backend is a module here, named as in the settings, with a class BACKEND; its name and what it needs of a machine
stand in medcot/settings/extras.py. The module must not import its library before the class is instantiated.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from medcot.engine.models import LocalModel
from medcot.settings import LoraSettings, ModelSettings, RunSettings, backend_for, needs_peft


@dataclass(frozen=True, slots=True)
class ActivationProfile:
    """What a training step keeps in memory.

    `hidden`, `keys` and `inner` say what a decoder layer keeps for the backward pass, in multiples of its widths, for
    each token. `backward` is what the gradients of one layer's MLP take beside it, in inner widths.
    """

    hidden: float
    keys: float
    inner: float
    backward: float
    logit_bytes: Callable[[int, int, float], float]  # of one chunk of the loss: tokens, vocabulary, gradient's bytes
    joined_hidden: float | None = None  # `hidden` where a pass's sequences are joined into one row; None: never
    checkpoint_inputs: int | None = None  # layer inputs on the device under checkpointing; None: all layers'


class Backend(Protocol):
    """Loads a base model, one of transformers, and puts an adapter on it."""

    name: str
    memory: ActivationProfile
    caches_in_training: bool  # whether a model under training can decode with a KV cache

    def device(self) -> str:
        """The device's name, for people."""

    def load(self, local: LocalModel, model: ModelSettings, *, max_length: int) -> Any:
        """The base model. Raises BadInput if this device cannot hold it as asked."""

    def attach(self, model: Any, lora: LoraSettings, *, seed: int, checkpointing: bool) -> Any:
        """The base with a fresh, seeded LoRA adapter to be trained."""


def class_for(settings: RunSettings) -> type[Backend]:
    """The class of the backend that trains; its library is not imported yet."""
    import torch

    name = "peft" if needs_peft(settings.lora) else backend_for(settings.backend, gpu=torch.cuda.is_available())
    found: type[Backend] = importlib.import_module(f"{__name__}.{name}").BACKEND
    return found


def for_training(settings: RunSettings) -> Backend:
    """The backend that trains. Call this before importing transformers, trl or peft: Unsloth patches them."""
    return class_for(settings)()
