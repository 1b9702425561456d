"""transformers + peft: any device that torch knows."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed

from medcot.engine.models import LocalModel
from medcot.errors import BadInput, Problem, first_line
from medcot.safe_adapter import WEIGHTS, header, require_safe
from medcot.settings import LoraSettings, ModelSettings

# Llama 3's own padding token. Adding one by name would grow the vocabulary past the embedding.
LLAMA_PAD = "<|finetune_right_pad_id|>"
ROOM_TO_WIDEN = 0.4  # of the free memory, that 4-bit weights may take when they are held wide for decoding


def torch_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(wanted: str) -> torch.dtype:
    """The torch dtype of a `model.dtype` setting on this machine; "auto" is what the hardware computes in."""
    if wanted != "auto":
        return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[wanted]
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return torch.bfloat16 if native else torch.float32


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer, with a padding token that is within the vocabulary."""
    # Said and not left open: left open, transformers asks on standard input whether to run a model's own code.
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = LLAMA_PAD if LLAMA_PAD in tokenizer.get_vocab() else tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def add_lora(model: Any, config: LoraConfig) -> Any:
    """The model with a fresh adapter. Raises BadInput where it has none of the layers named."""
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        if "not found in the base model" not in str(error):
            raise
        raise no_layers(config.target_modules or []) from None


def no_layers(names: Collection[str]) -> BadInput:
    return BadInput(
        Problem(
            "lora.target_modules",
            f"this model has no layers named {', '.join(sorted(names))}.",
            "Name layers that it has.",
        )
    )


def widened(model: Any) -> Any:
    """A 4-bit base with the very same values held in the format it computes in, where most free memory stays free.

    Unpacking them for each token is what makes 4-bit slow to decode. A base that is not 4-bit, or has no room, is
    returned as it is.
    """
    if not getattr(model, "is_loaded_in_4bit", False):
        return model
    linear = [m for m in model.modules() if type(m).__name__ == "Linear4bit"]
    needed = sum(m.in_features * m.out_features for m in linear) * model.dtype.itemsize
    if needed > ROOM_TO_WIDEN * torch.cuda.mem_get_info()[0]:
        return model
    return model.dequantize()


class PeftBackend:
    name = "peft"

    def device(self) -> str:
        return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"

    def load(self, local: LocalModel, model: ModelSettings, *, max_length: int) -> tuple[Any, Any]:
        dtype = compute_dtype(model.dtype)
        options: dict[str, Any] = {"dtype": dtype}
        if model.quantization == "4bit":
            if not torch.cuda.is_available():
                raise BadInput(Problem("model.quantization", "4bit needs a CUDA GPU.", "Set model.quantization=none."))
            options["quantization_config"] = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
            options["device_map"] = {"": torch.cuda.current_device()}
        try:
            tokenizer = load_tokenizer(local.path)
            base = AutoModelForCausalLM.from_pretrained(
                local.path, use_safetensors=True, trust_remote_code=False, **options
            )
        except (OSError, ValueError) as error:
            raise BadInput(
                Problem(
                    "model.id",
                    f"{local.path} cannot be loaded: {first_line(error)}",
                )
            ) from error
        return (base if "device_map" in options else base.to(torch_device())), tokenizer

    def attach(self, model: Any, lora: LoraSettings, *, seed: int, checkpointing: bool) -> Any:
        set_seed(seed)
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            bias=lora.bias,
            target_modules=list(lora.target_modules),
            task_type="CAUSAL_LM",
        )
        return add_lora(model, config)

    def with_adapter(self, model: Any, adapter_dir: Path) -> Any:
        """Raises BadInput for an adapter that is not LoRA in safetensors, or was made for another base."""
        require_safe(adapter_dir)
        tensors = header(adapter_dir / WEIGHTS)
        model = widened(model)
        try:
            tuned = PeftModel.from_pretrained(model, adapter_dir, use_safetensors=True).eval()
        except (RuntimeError, ValueError) as error:
            if "size mismatch" not in str(error) and "not found in the base model" not in str(error):
                raise
            tuned = None
        # What does not fit by name, PEFT passes over and leaves as it was made, with a warning at most.
        if tuned is None or sum("lora_" in name for name in tuned.state_dict()) != len(tensors):
            raise BadInput(
                Problem(
                    str(adapter_dir),
                    "does not fit this base: their layers differ in name, number or size.",
                    "Name the base that the adapter was trained on.",
                )
            )
        return tuned
