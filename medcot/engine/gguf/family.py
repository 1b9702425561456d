"""The families that are written as GGUF: what llama.cpp has to be told of their shape, by their configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gguf

from medcot.engine.models import head_size, key_heads
from medcot.errors import BadInput

ARCH = gguf.MODEL_ARCH
OTHERS = "It can be exported as --format merged, which transformers and vLLM read."
SCALINGS = {"linear": gguf.RopeScalingType.LINEAR, "yarn": gguf.RopeScalingType.YARN}


@dataclass(frozen=True, slots=True)
class Family:
    """How a `model_type` of transformers is named and laid out in llama.cpp."""

    arch: gguf.MODEL_ARCH
    title: str
    activation: str = "silu"
    permuted: bool = False  # llama.cpp rotates neighbours in q and k, where transformers rotates halves
    one_plus: bool = False  # transformers adds 1 to the norms' weights as it computes, llama.cpp reads the sum
    scalings: tuple[str, ...] = ("default", "linear", "yarn")  # of rotary positions


FAMILIES: dict[str, Family] = {
    "llama": Family(ARCH.LLAMA, "Llama", permuted=True, scalings=("default", "linear", "yarn", "llama3")),
    "mistral": Family(ARCH.LLAMA, "Mistral", permuted=True),
    "qwen2": Family(ARCH.QWEN2, "Qwen2"),
    "qwen3": Family(ARCH.QWEN3, "Qwen3"),
    "gemma3_text": Family(ARCH.GEMMA3, "Gemma 3", "gelu_pytorch_tanh", one_plus=True, scalings=("default", "linear")),
    "phi3": Family(ARCH.PHI3, "Phi-3", scalings=("default", "longrope")),
}
FAMILIES["gemma3"] = FAMILIES["gemma3_text"]  # its text part; the vision tower is left out
TITLES = ", ".join(dict.fromkeys(family.title for family in FAMILIES.values()))
# What another value of is not computed by llama.cpp's code for these families.
EXPECTED: dict[str, tuple[object, ...]] = {
    "final_logit_softcapping": (None,),
    "attn_logit_softcapping": (None,),
    "use_bidirectional_attention": (None, False),
    "pretraining_tp": (None, 1),
}


def family_of(config: Any) -> Family:
    """The family of a transformers configuration. Raises BadInput by name for one that is not written."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise refused(config, f"models of the family {config.model_type} are not written as GGUF; {TITLES} are")
    text = config.get_text_config()
    for name, values in EXPECTED.items():
        if getattr(text, name, None) not in values:
            raise refused(config, f"{name}={getattr(text, name)} is nothing that llama.cpp computes for {family.title}")
    activation = getattr(text, "hidden_act", None) or getattr(text, "hidden_activation", None)
    if activation != family.activation:
        raise refused(config, f"llama.cpp computes {family.title} with {family.activation}, and this has {activation}")
    for rope in _ropes(text).values():
        if (kind := rope.get("rope_type", "default")) not in family.scalings:
            raise refused(config, f"llama.cpp does not stretch the positions of {family.title} by {kind}")
    if family.arch is ARCH.GEMMA3:
        _require_gemma(config, text)
    return family


def refused(config: Any, what: str) -> BadInput:
    return BadInput.of("--format", f"{what}.", OTHERS)


def _require_gemma(config: Any, text: Any) -> None:
    if text.query_pre_attn_scalar != head_size(text):
        what = f"query_pre_attn_scalar={text.query_pre_attn_scalar} is not the size of an attention head"
        raise refused(config, f"{what}, which llama.cpp takes for it")
    if _period(text) is None:
        raise refused(config, "the layers with a sliding window do not follow each other regularly")


def _ropes(text: Any) -> dict[str, Mapping[str, Any]]:
    """The rotary parameters by kind of layer; "" where all layers have the same."""
    found = getattr(text, "rope_parameters", None) or {}
    nested: dict[str, Mapping[str, Any]] = {kind: rope for kind, rope in found.items() if isinstance(rope, dict)}
    return nested or {"": found}


def _period(text: Any) -> int | None:
    """Every how manieth layer sees everything, the others a sliding window; None if they are not so regular."""
    kinds, count = list(text.layer_types), len(text.layer_types)
    periods = (count + 1, *range(1, count + 1))
    fits = (p for p in periods if kinds == [_kind(i, p) for i in range(count)])
    return next(fits, None)


def _kind(layer: int, period: int) -> str:
    return "full_attention" if (layer + 1) % period == 0 else "sliding_attention"


def describe(writer: gguf.GGUFWriter, config: Any, family: Family) -> None:
    """Write the model's shape."""
    text = config.get_text_config()
    heads, keys, size = text.num_attention_heads, key_heads(text), head_size(text)
    writer.add_context_length(context_length(text, family))
    writer.add_embedding_length(text.hidden_size)
    writer.add_block_count(text.num_hidden_layers)
    writer.add_feed_forward_length(text.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(keys)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_vocab_size(text.vocab_size)
    ropes = _ropes(text)
    rope = ropes.get("full_attention") or ropes.get("") or next(iter(ropes.values()))
    writer.add_rope_dimension_count(int(size * rope.get("partial_rotary_factor", 1.0)))
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    _describe_scaling(writer, text, rope)
    if family.arch is ARCH.GEMMA3:
        writer.add_sliding_window(text.sliding_window)
        writer.add_sliding_window_pattern(_period(text) or 0)
        writer.add_rope_freq_base_swa(float(ropes["sliding_attention"]["rope_theta"]))
    if family.arch is ARCH.PHI3:
        writer.add_sliding_window(0)


def context_length(text: Any, family: Family) -> int:
    """The most tokens that llama.cpp computes as transformers does.

    Where it has no sliding window, one window alone. Of longrope's two ways to stretch positions it takes the one for
    long texts wherever it keeps room for more than the original length, transformers only for texts that are longer.
    """
    bounds = [int(text.max_position_embeddings)]
    window = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    slides = "sliding_attention" in kinds if kinds else bool(window)
    if window and slides and family.arch is not ARCH.GEMMA3:
        bounds.append(int(window))
    for rope in _ropes(text).values():
        if rope.get("rope_type") == "longrope" and (first := rope.get("original_max_position_embeddings")):
            bounds.append(int(first))
    return min(bounds)


def _describe_scaling(writer: gguf.GGUFWriter, text: Any, rope: Mapping[str, Any]) -> None:
    """Write how positions are stretched; for llama3 and longrope tensors say that."""
    kind = rope.get("rope_type", "default")
    if kind in SCALINGS:
        writer.add_rope_scaling_type(SCALINGS[kind])
        writer.add_rope_scaling_factor(float(rope["factor"]))
    if kind in ("yarn", "longrope") and (first := rope.get("original_max_position_embeddings")):
        writer.add_rope_scaling_orig_ctx_len(int(first))
    if kind == "yarn":
        for name, write in _YARN.items():
            if rope.get(name) is not None:
                write(writer, float(rope[name]))
    if kind == "longrope":
        writer.add_rope_scaling_attn_factors(_attention_factor(text))


_YARN: dict[str, Callable[[Any, float], None]] = {
    "beta_fast": gguf.GGUFWriter.add_rope_scaling_yarn_beta_fast,
    "beta_slow": gguf.GGUFWriter.add_rope_scaling_yarn_beta_slow,
}


def _attention_factor(text: Any) -> float:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    return float(ROPE_INIT_FUNCTIONS["longrope"](text, "cpu")[1])
