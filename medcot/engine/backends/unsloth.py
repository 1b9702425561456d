"""Unsloth on a CUDA GPU: the same adapter, trained faster."""

import os
from typing import Any
from unittest import mock

from medcot.data.starter import cache_dir
from medcot.engine import no_trainer_but_sft
from medcot.engine.backends import ActivationProfile
from medcot.engine.models import LocalModel, compute_dtype, load_tokenizer
from medcot.settings import LoraSettings, ModelSettings

# A batch's loss is computed in chunks: as many as keep 16 bytes a logit within 4 GiB (Unsloth's own rule), of which its
# compiled kernel takes 4.
CHUNK_GIB, RULE_BYTES, LOGIT_BYTES = 4, 16, 4


def logit_bytes(tokens: int, vocabulary: int, gradient_bytes: float) -> float:
    budget = CHUNK_GIB * 2**30 - gradient_bytes
    wanted = tokens * vocabulary * RULE_BYTES / budget
    chunks = 1 if wanted <= 1 else -(-wanted // 4) * 4  # in fours
    return tokens / chunks * vocabulary * LOGIT_BYTES


class UnslothBackend:
    """Loads and attaches through FastLanguageModel; what it saves is a plain PEFT adapter."""

    name = "unsloth"
    caches_in_training = False
    # Both residual inputs, both norm outputs, queries, attention's output; keys and values; gate and up. Without
    # padding it joins the outputs of single sequences, one hidden width more. The MLP's gradients overwrite what was
    # kept. Under checkpointing each layer's input moves to the host's memory, and two are on the device.
    memory = ActivationProfile(
        hidden=6, keys=2, inner=2, backward=1, joined_hidden=7, checkpoint_inputs=2, logit_bytes=logit_bytes
    )

    def __init__(self) -> None:
        """Import Unsloth, which must come before transformers, trl and peft."""
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")  # it would contact a hub on load
        # What it writes of other libraries' code, to import it: by default into the folder one happens to be in.
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache_dir() / "unsloth"))
        with no_trainer_but_sft():
            from unsloth import FastLanguageModel

        self._models = FastLanguageModel

    def device(self) -> str:
        import torch

        return torch.cuda.get_device_name()

    def load(self, local: LocalModel, model: ModelSettings, *, max_length: int) -> Any:
        # Unsloth loads a tokenizer twice, slow and fast, and may add a padding token past the embedding's end.
        # (https://github.com/unslothai/unsloth/blob/main/unsloth/tokenizer_utils.py, load_correct_tokenizer)
        with mock.patch("unsloth.models.llama.load_correct_tokenizer", return_value=load_tokenizer(local.path)):
            base, _ = self._models.from_pretrained(
                model_name=str(local.path),
                max_seq_length=max_length,
                dtype=compute_dtype(model.dtype),
                load_in_4bit=model.quantization == "4bit",
                local_files_only=True,
            )
        return base

    def attach(self, model: Any, lora: LoraSettings, *, seed: int, checkpointing: bool) -> Any:
        from medcot.engine.lora import shape  # after Unsloth, as it imports peft

        kept = {"use_gradient_checkpointing": "unsloth" if checkpointing else False, "random_state": seed}
        return self._models.get_peft_model(model, **shape(model, lora), **kept)


BACKEND = UnslothBackend
