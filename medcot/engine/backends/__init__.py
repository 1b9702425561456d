"""Where a model computes. Training, evaluation and generation are handed a backend and never choose one."""

import importlib.util
from pathlib import Path
from typing import Any, Protocol

from medcot.engine.models import LocalModel
from medcot.settings import LoraSettings, ModelSettings, RunSettings


class Backend(Protocol):
    """A way to load a base model and put an adapter on it. Models are transformers models, tokenizers likewise."""

    name: str

    def device(self) -> str:
        """For people: the device's name."""
        ...

    def load(self, local: LocalModel, model: ModelSettings, *, max_length: int) -> tuple[Any, Any]:
        """(base model, tokenizer). Raises BadInput where this device cannot hold it as asked."""
        ...

    def attach(self, model: Any, lora: LoraSettings, *, seed: int, checkpointing: bool) -> Any:
        """The base with a fresh, seeded LoRA adapter to be trained."""
        ...

    def with_adapter(self, model: Any, adapter_dir: Path) -> Any:
        """The base with a saved adapter, for generation."""
        ...


def name_for_training(settings: RunSettings) -> str:
    import torch

    if settings.backend != "auto":
        return settings.backend
    return "unsloth" if torch.cuda.is_available() and importlib.util.find_spec("unsloth") else "peft"


def for_training(settings: RunSettings) -> Backend:
    """The backend that settings name; "auto" takes Unsloth where it can run, else peft.

    Called before transformers, trl or peft is imported: Unsloth changes them and must come first.
    """
    if name_for_training(settings) == "unsloth":
        from medcot.engine.backends.unsloth import UnslothBackend

        return UnslothBackend()
    return for_generation()


def for_generation() -> Backend:
    """Adapters are plain PEFT whoever trained them, so one path decodes them all."""
    from medcot.engine.backends.peft import PeftBackend

    return PeftBackend()
