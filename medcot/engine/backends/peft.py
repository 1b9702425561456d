"""transformers + peft: any device that torch knows."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, set_seed

from medcot.adapters.tensors import require_finite
from medcot.adapters.verify import Config, require_safe
from medcot.engine.backends import ActivationProfile
from medcot.engine.lora import lora_config
from medcot.engine.models import UNREADABLE, LocalModel, compute_dtype, device_type
from medcot.errors import BadInput, first_line
from medcot.hub import WEIGHTS
from medcot.settings import LoraSettings, ModelSettings

# TRL computes a batch's loss in chunks of 256 tokens, with float32 copies of their logits.
CHUNK_TOKENS, LOGIT_BYTES = 256, 12
Value = TypeVar("Value", int, float)
APPLE = "Apple GPU (mps)"
ROOM_TO_WIDEN = 0.4  # share of the free memory that dequantized 4-bit weights may take


def logit_bytes(tokens: int, vocabulary: int, _gradient_bytes: float) -> float:
    return min(tokens, CHUNK_TOKENS) * vocabulary * LOGIT_BYTES


def widened(model: Any) -> Any:
    """Dequantize a 4-bit base, which is slow to unpack at each token, if most of the free memory stays free."""
    if not getattr(model, "is_loaded_in_4bit", False):
        return model
    linear = [m for m in model.modules() if type(m).__name__ == "Linear4bit"]
    needed = sum(m.in_features * m.out_features for m in linear) * model.dtype.itemsize
    if needed > ROOM_TO_WIDEN * torch.cuda.mem_get_info()[0]:
        return model
    return model.dequantize()


def saved_config(checked: Config, modules: Collection[str]) -> LoraConfig:
    """PEFT's configuration of a saved adapter, of checked values alone: weights and shapes come from its tensors."""
    # Names of layers that this base has not would only cost time; the weights that are not used are counted.
    targets = [name for name in checked.targets if name not in checked.ranks or name in modules]
    rank, ranks = _usual_and_others(checked.ranks)
    alpha, alphas = _usual_and_others(checked.alphas)
    scales = {"r": rank, "lora_alpha": alpha, "rank_pattern": ranks, "alpha_pattern": alphas}
    kinds = {"use_rslora": checked.rank_stabilized, "fan_in_fan_out": checked.fan_in_fan_out}
    kinds["use_dora"] = checked.dora
    return LoraConfig(target_modules=targets, task_type="CAUSAL_LM", **scales, **kinds)


def _usual_and_others(values: Mapping[str, Value]) -> tuple[Value, dict[str, Value]]:
    """The value of most layers, and for each other value one pattern of names: PEFT tries each on each layer."""
    layers: dict[Value, list[str]] = {}
    for layer, value in values.items():
        layers.setdefault(value, []).append(re.escape(layer))
    usual = max(layers, key=lambda value: len(layers[value]))
    return usual, {"|".join(names): value for value, names in layers.items() if value != usual}


class PeftBackend:
    name = "peft"
    caches_in_training = True
    # Beside what Unsloth keeps, each adapter's input and the steps of norms, rotation and activation.
    memory = ActivationProfile(hidden=16, keys=0, inner=5, backward=4, logit_bytes=logit_bytes)

    def __init__(self, place: str = ""):
        """`place` is where models are loaded to: "cpu", "cuda" or "mps"; by default the GPU if there is one."""
        self._place = place or device_type()

    def device(self) -> str:
        cpu = f"CPU, {torch.get_num_threads()} threads"
        return {"cuda": torch.cuda.get_device_name, "mps": lambda: APPLE}.get(self._place, lambda: cpu)()

    def load(self, local: LocalModel, model: ModelSettings, *, max_length: int) -> Any:
        dtype = compute_dtype(model.dtype)
        options: dict[str, Any] = {"dtype": dtype}
        if model.quantization == "4bit":
            if not torch.cuda.is_available():
                raise BadInput.of("model.quantization", "4bit needs a CUDA GPU.", "Set model.quantization=none.")
            nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True, "bnb_4bit_compute_dtype": dtype}
            options["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, **nf4)
            options["device_map"] = {"": torch.cuda.current_device()}
        try:
            options |= {"use_safetensors": True, "trust_remote_code": False}
            base = AutoModelForCausalLM.from_pretrained(local.path, **options)
        except torch.OutOfMemoryError:
            raise
        except UNREADABLE as error:
            what = f"{local.path} cannot be loaded: {first_line(error).rstrip('.')}."
            raise BadInput.of("model.id", what, "Download it again, or name another model.") from error
        return base if "device_map" in options else base.to(self._place)

    def attach(self, model: Any, lora: LoraSettings, *, seed: int, checkpointing: bool) -> Any:
        """Add a fresh adapter to the model, on layers that it is known to have."""
        set_seed(seed)
        return get_peft_model(model, lora_config(model, lora))

    def with_adapter(self, model: Any, adapter_dir: Path) -> Any:
        """Add a saved adapter. Raises BadInput unless it is LoRA in finite safetensors that PEFT loads on this base."""
        checked = require_safe(adapter_dir)
        require_finite(adapter_dir / WEIGHTS)
        model = widened(model)
        what = "does not fit this base: their layers differ in name, number or size."
        misfit = BadInput.of(str(adapter_dir), what, "Name the base that the adapter was trained on.")
        try:
            config = saved_config(checked, {name for name, _ in model.named_modules()})
            tuned = PeftModel.from_pretrained(model, adapter_dir, config=config, use_safetensors=True).eval()
        except torch.OutOfMemoryError:
            raise
        except UNREADABLE as error:
            if "size mismatch" in str(error) or "not found in the base model" in str(error):
                raise misfit from None
            what = f"PEFT cannot load it: {first_line(error).rstrip('.')}."
            raise BadInput.of(str(adapter_dir), what, "Save it as plain LoRA, or use another adapter.") from error
        # PEFT silently skips weights whose names do not match; count them.
        if sum("lora_" in name for name in tuned.state_dict()) != (3 if checked.dora else 2) * len(checked.ranks):
            raise misfit
        return tuned


BACKEND = PeftBackend
