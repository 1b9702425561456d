"""Unsloth on a CUDA GPU: the same adapter, trained faster. It must be imported before transformers, trl and peft."""

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")  # it would contact a hub on load

from unsloth import FastLanguageModel

from medcot.engine.backends.peft import PeftBackend, compute_dtype, load_tokenizer
from medcot.engine.models import LocalModel
from medcot.settings import LoraSettings, ModelSettings


class UnslothBackend:
    """Loads and attaches through FastLanguageModel; what it saves is a plain PEFT adapter."""

    name = "unsloth"

    def device(self) -> str:
        return PeftBackend().device()

    def load(self, local: LocalModel, model: ModelSettings, *, max_length: int) -> tuple[Any, Any]:
        base, _ = FastLanguageModel.from_pretrained(
            model_name=str(local.path),
            max_seq_length=max_length,
            dtype=compute_dtype(model.dtype),
            load_in_4bit=model.quantization == "4bit",
            local_files_only=True,
        )
        # Not Unsloth's tokenizer: it may add a padding token by name, past the embedding's end.
        return base, load_tokenizer(local.path)

    def attach(self, model: Any, lora: LoraSettings, *, seed: int, checkpointing: bool) -> Any:
        return FastLanguageModel.get_peft_model(
            model,
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            bias=lora.bias,
            target_modules=list(lora.target_modules),
            use_gradient_checkpointing="unsloth" if checkpointing else False,
            random_state=seed,
        )

    def with_adapter(self, model: Any, adapter_dir: Path) -> Any:
        return PeftBackend().with_adapter(model, adapter_dir)
