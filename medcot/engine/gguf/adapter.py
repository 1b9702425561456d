"""An adapter alone as GGUF: the two matrices of each layer, to be loaded on a GGUF file of its base."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import safe_open

from medcot.adapters.verify import LAYER, Config, require_safe
from medcot.engine.gguf.family import family_of, refused
from medcot.engine.gguf.tensors import heads_of, in_neighbours, plain_name
from medcot.engine.gguf.writer import CONTRACT_KEY, Naming, describe_file, written
from medcot.errors import BadInput
from medcot.hub import WEIGHTS
from medcot.prompts.contract import PromptContract


@dataclass(frozen=True, slots=True)
class Scale:
    """What a layer's product is multiplied by in PEFT, and what llama.cpp makes of the file's alpha and its rank."""

    own: float
    there: float

    @classmethod
    def of(cls, layer: str, checked: Config, alpha: float) -> "Scale":
        rank = checked.ranks[layer]
        return cls(checked.alphas[layer] / (rank**0.5 if checked.rank_stabilized else rank), alpha / rank)


def write_adapter(folder: Path, config: Any, contract: PromptContract, naming: Naming, target: Path) -> None:
    """Write an adapter folder as one GGUF file. Raises BadInput for a family or a layer that is not written."""
    family, checked = family_of(config), require_safe(folder)
    if checked.dora:
        what = "llama.cpp's file of an adapter has no place for DoRA's magnitudes."
        raise BadInput.of("--format", what, "Merge it: --format gguf, or the default.")
    names = gguf.get_tensor_name_map(family.arch, config.get_text_config().num_hidden_layers)
    alpha = next(iter(checked.alphas.values()))
    with written(target, family) as writer, safe_open(folder / WEIGHTS, "pt") as weights:
        describe_file(writer, naming, "adapter")
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        writer.add_string(CONTRACT_KEY, contract.model_dump_json())
        for layer, keys in _pairs(weights).items():
            plain = plain_name(layer)
            name = names.get_name(f"{plain}.weight", try_suffixes=(".weight",))
            if name is None or name.startswith("token_embd"):
                raise refused(config, f"llama.cpp has no adapter for the layer {layer}")
            down, up = (weights.get_tensor(keys[side]).float() for side in "AB")
            if checked.fan_in_fan_out:
                raise refused(config, "its layers are stored the other way round")
            if heads := heads_of(f"{plain}.weight", config, family):
                up = in_neighbours(up, heads)
            scale = Scale.of(layer, checked, alpha)
            writer.add_tensor(f"{name}.lora_a", _array(down))
            writer.add_tensor(f"{name}.lora_b", _array(up * (scale.own / scale.there)))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(tensor.numpy())


def _pairs(weights: Any) -> Mapping[str, dict[str, str]]:
    """The keys of each layer's two matrices, A and B."""
    pairs: dict[str, dict[str, str]] = {}
    for key in weights.keys():  # noqa: SIM118  # no mapping
        if found := LAYER.fullmatch(key):
            pairs.setdefault(found[1], {})[found[2]] = key
    return pairs
