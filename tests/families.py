"""Tiny random models of many families: what makes each, and the layers of it that an adapter is put on."""

import json
from collections.abc import Sequence
from pathlib import Path

from medcot.engine import without_broken_torchvision

SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
WIDE = {"vocab_size": 512, "initializer_range": 0.15, **SPECIAL}
# The shape of most families that came after Llama: grouped keys, and names as in Llama.
PLAIN = {
    **WIDE,
    **{"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "max_position_embeddings": 2048, "tie_word_embeddings": False},
}
HEADS = {**PLAIN, "head_dim": 16}
UNGROUPED = {**PLAIN, "num_key_value_heads": 4}
NARROW = {"sliding_window": 16}  # less than any prompt
MIXED = {**NARROW, "layer_types": ["sliding_attention", "full_attention"]}
GPT2 = {**WIDE, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}
OPT = {**WIDE, "init_std": 0.15, "hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LINEAR = {
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16},
    **{"layer_types": ["linear_attention", "full_attention"]},
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8}

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
UNGATED = (*ATTENTION, "up_proj", "down_proj")
JOINED = (*ATTENTION, "gate_up_proj", "down_proj")
FLAT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
NEOX = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
CONV1D = ("c_attn", "c_proj", "c_fc")

Family = tuple[dict, tuple[str, ...]]  # configuration, target modules
USUAL: dict[str, Family] = {
    "llama": (PLAIN, ALL),
    "mistral": ({**PLAIN, **NARROW}, ALL),
    "mixtral": ({**PLAIN, **LOCAL_EXPERTS}, ATTENTION),
    "qwen2": (PLAIN, ALL),
    "qwen3": (HEADS, ALL),
    "qwen3_moe": ({**HEADS, **EXPERTS}, ATTENTION),
    "gemma2": ({**HEADS, **NARROW, "query_pre_attn_scalar": 16}, ALL),
    "gemma3_text": ({**HEADS, **MIXED, "query_pre_attn_scalar": 16}, ALL),
    "phi": (UNGROUPED, ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2")),
    "phi3": (PLAIN, ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")),
    "opt": ({**OPT, "word_embed_proj_dim": 64, "max_position_embeddings": 512}, FLAT),
    "gpt2": (GPT2, CONV1D),
    "gpt_oss": ({**HEADS, **LOCAL_EXPERTS, **NARROW}, ATTENTION),
    "lfm2": (
        {**PLAIN, "layer_types": ["conv", "full_attention"]},
        ("q_proj", "k_proj", "v_proj", "out_proj", "in_proj", "w1", "w2", "w3"),
    ),
}
FURTHER: dict[str, Family] = {
    "apertus": (PLAIN, UNGATED),
    "arcee": (PLAIN, UNGATED),
    "bamba": ({**PLAIN, **MAMBA, "attn_layer_indices": [1], "mamba_n_groups": 1}, ATTENTION),
    "biogpt": ({**OPT, "intermediate_size": 128, "max_position_embeddings": 512}, FLAT),
    "bloom": ({**WIDE, "hidden_size": 64, "n_layer": 2, "n_head": 4}, NEOX),
    "codegen": ({**GPT2, "rotary_dim": 8}, ("qkv_proj", "out_proj", "fc_in", "fc_out")),
    "cohere": (PLAIN, ALL),
    "cohere2": ({**PLAIN, **MIXED}, ALL),
    "deepseek_v3": (
        {
            **UNGROUPED,
            **{"kv_lora_rank": 16, "q_lora_rank": None, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16},
            **{"v_head_dim": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
            **{"moe_intermediate_size": 32, "first_k_dense_replace": 1},
        },
        ("q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"),
    ),
    "diffllama": (PLAIN, ALL),
    "ernie4_5": (HEADS, ALL),
    "exaone4": ({**PLAIN, **MIXED}, ALL),
    "falcon": ({**WIDE, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}, NEOX),
    "falcon_h1": ({**PLAIN, **MAMBA, "mamba_d_ssm": 128}, ATTENTION),
    "gemma": (HEADS, ALL),
    "gemma4_text": (HEADS, ATTENTION),
    "glm": (HEADS, JOINED),
    "glm4": (HEADS, JOINED),
    "gpt_bigcode": (GPT2, CONV1D),
    "gpt_neo": (
        {**WIDE, **{"hidden_size": 64, "num_layers": 2, "num_heads": 4, "window_size": 16}}
        | {"attention_types": [[["global", "local"], 1]], "max_position_embeddings": 512},
        ("q_proj", "k_proj", "v_proj", "out_proj", "c_fc", "c_proj"),
    ),
    "gpt_neox": (UNGROUPED, NEOX),
    "gptj": ({**GPT2, "rotary_dim": 8}, ("q_proj", "k_proj", "v_proj", "out_proj", "fc_in", "fc_out")),
    "granite": (PLAIN, ALL),
    "granitemoe": ({**PLAIN, **LOCAL_EXPERTS}, ATTENTION),
    "helium": (HEADS, ALL),
    "hunyuan_v1_dense": (HEADS, ALL),
    "jamba": (
        {**PLAIN, "num_experts": 1, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
        (*ATTENTION, "in_proj"),
    ),
    "minicpm3": (UNGROUPED, ("q_a_proj", "q_b_proj", "kv_b_proj", "o_proj")),
    "mpt": ({**WIDE, "d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 512}, ("Wqkv", "out_proj")),
    "nanochat": (PLAIN, (*ATTENTION, "fc1", "fc2")),
    "nemotron": (PLAIN, UNGATED),
    "olmo": (PLAIN, ALL),
    "olmo2": (PLAIN, ALL),
    "olmo3": ({**PLAIN, **MIXED}, ALL),
    "olmoe": ({**PLAIN, **EXPERTS}, ATTENTION),
    "persimmon": (UNGROUPED, NEOX),
    "phimoe": ({**PLAIN, **LOCAL_EXPERTS}, ATTENTION),
    "qwen2_moe": ({**PLAIN, **EXPERTS, "shared_expert_intermediate_size": 32}, ALL),
    "qwen3_5_text": ({**HEADS, **LINEAR}, ATTENTION),
    "qwen3_next": ({**HEADS, **LINEAR, **EXPERTS, "shared_expert_intermediate_size": 32}, ATTENTION),
    "recurrent_gemma": (
        {**PLAIN, "attention_window_size": 16, "lru_width": 64, "block_types": ["recurrent", "attention"]},
        ATTENTION,
    ),
    "seed_oss": (HEADS, ALL),
    "smollm3": (PLAIN, ALL),
    "stablelm": (PLAIN, ALL),
    "starcoder2": (PLAIN, (*ATTENTION, "c_fc", "c_proj")),
    "vaultgemma": ({**HEADS, **MIXED, "query_pre_attn_scalar": 16}, ALL),
    "xglm": (
        {**WIDE, "init_std": 0.15, "d_model": 64, "ffn_dim": 128, "num_layers": 2, "attention_heads": 4}
        | {"max_position_embeddings": 512},
        FLAT,
    ),
}
REFUSED: dict[str, Family] = {
    "openai-gpt": (GPT2, CONV1D),
    "rwkv": ({**SPECIAL, "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2}, ("key", "value", "receptance")),
    "mamba": ({**WIDE, "hidden_size": 64, "state_size": 8, "num_hidden_layers": 2}, ("in_proj", "x_proj")),
    "mamba2": (
        {**WIDE, "hidden_size": 64, "state_size": 8, "num_heads": 8, "head_dim": 16, "n_groups": 1}
        | {"num_hidden_layers": 2},
        ("in_proj",),
    ),
}
FAMILIES = USUAL | FURTHER | REFUSED
SEEING = {  # with a vision tower, which text does not reach
    "gemma3": {
        "text_config": HEADS,
        "vision_config": {**UNGROUPED, "num_hidden_layers": 1, "image_size": 28},
        "mm_tokens_per_image": 4,
    }
}
# Decoded by transformers' own attention and cache: attention with sinks, and states from which no row can be dropped.
SLOWER = {"bamba", "falcon_h1", "gpt_oss", "jamba", "lfm2", "qwen3_5_text", "qwen3_next", "recurrent_gemma"}


def config(name: str, **values):
    """The configuration of a family's tiny model, with `values` of its own."""
    from transformers import AutoConfig

    without_broken_torchvision()

    return AutoConfig.for_model(name, **{**(SEEING.get(name) or FAMILIES[name][0]), **values})


def on_meta(name: str, **values):
    """A family's model without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    made = config(name, **values)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(made)


def build(name: str, folder: Path, **values) -> Path:
    """Save a random model of that family with the tiny tokenizer into `folder`, and return it."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    from tests import tiny

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = AutoModelForCausalLM.from_config(config(name, **values)).float()
        for parameter, weights in model.named_parameters():
            if "sinks" in parameter:
                torch.nn.init.normal_(weights)
    model.generation_config = GenerationConfig(**SPECIAL)
    model.save_pretrained(folder)
    tiny.build_tokenizer().save_pretrained(folder)
    return folder


def change(folder: Path, file: str, **values) -> None:
    """Change values of a JSON file; None removes one."""
    path = folder / file
    merged = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in merged.items() if value is not None}))


def adapter(model: Path, targets: Sequence[str] | str, folder: Path, **more) -> Path:
    """Save a random adapter for a model folder into `folder`, and return it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    layers = targets if isinstance(targets, str) else list(targets)
    fixed = {"task_type": "CAUSAL_LM", "init_lora_weights": False}
    config = LoraConfig(r=4, lora_alpha=8, target_modules=layers, **fixed, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        get_peft_model(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), config).save_pretrained(folder)
    return folder
