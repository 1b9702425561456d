"""The layers that get an adapter: what is counted is trained, and what cannot be trained is refused by name."""

import json
import re

import pytest

from medcot.errors import BadInput
from medcot.settings import LoraSettings
from tests.families import USUAL, on_meta

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
WITH_EXPERTS = ("qwen3_moe", "mixtral", "gpt_oss")


def counted(family: str, *targets: str) -> int:
    from medcot.engine.lora import trained_parameters

    return trained_parameters(on_meta(family), settings(*targets))


def settings(*targets: str) -> LoraSettings:
    return LoraSettings(rank=4, **({"target_modules": targets} if targets else {}))


def attached(family: str, *targets: str):
    """The family's model as training attaches it."""
    from peft import get_peft_model

    from medcot.engine.lora import lora_config

    model = on_meta(family)
    return get_peft_model(model, lora_config(model, settings(*targets)), low_cpu_mem_usage=True)


def really_trained(family: str, *targets: str) -> int:
    return sum(p.numel() for p in attached(family, *targets).parameters() if p.requires_grad)


def refused(family: str, *targets: str) -> tuple[str, tuple[str, ...]]:
    """What is said, and the names that are offered instead."""
    with pytest.raises(BadInput) as raised:
        counted(family, *targets)
    (problem,) = raised.value.problems
    assert problem.where == "lora.target_modules"
    offered = re.fullmatch(r"Its own: --set 'lora.target_modules=(\[.*\])'", problem.fix)
    return problem.what, tuple(json.loads(offered[1]))


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        *((family, ()) for family in ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "gemma3")),
        *((family, ATTENTION) for family in WITH_EXPERTS),
        ("llama", ("self_attn.q_proj",)),
        ("llama", ("model.layers.1.mlp.up_proj",)),
        ("llama", ("lm_head",)),
        ("llama", ("q_proj", "q_proj")),
        ("gpt2", ("c_attn",)),
        ("gpt2", ("attn.c_proj", "c_fc")),
        ("opt", ("q_proj", "fc1", "fc2")),
        ("phi3", ("qkv_proj", "gate_up_proj")),
        ("lfm2", ("in_proj", "w1", "q_proj")),
        ("qwen2_moe", ("shared_expert.gate_proj",)),
        ("gemma3", ("lm_head", "self_attn.v_proj")),
        *((family, ("all-linear",)) for family in ("llama", "gpt2", "phi3", "opt", "lfm2", "gemma3")),
    ],
)
def test_what_is_counted_is_what_is_trained(family, targets):
    assert counted(family, *targets) == really_trained(family, *targets) > 0


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_all_linear_layers_are_those_of_the_language_model_less_the_one_that_makes_the_logits(family):
    from medcot.engine.lora import linear_layers

    model = attached(family, "all-linear")
    got = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    own = {f"base_model.model.{name}" for name in linear_layers(on_meta(family)) if "vision" not in name}
    assert got == {name for name in own if "multi_modal" not in name}
    assert not any("lm_head" in name for name in got)


def test_a_rank_above_the_layers_width_is_counted_as_it_is_trained():
    from medcot.engine.lora import trained_parameters

    assert trained_parameters(on_meta("llama"), LoraSettings(rank=512, target_modules=("q_proj",))) == 2 * 512 * 128


def test_layers_named_one_by_one_are_counted_as_by_their_common_name():
    from medcot.engine.lora import linear_layers, trained_parameters

    model = on_meta("llama", num_hidden_layers=4)
    one_by_one = settings(*linear_layers(model))
    assert len(one_by_one.target_modules) == 28
    assert trained_parameters(model, one_by_one) == trained_parameters(model, settings()) > 0


def test_counting_leaves_the_model_as_it_was():
    from medcot.engine.lora import trained_parameters

    model = on_meta("qwen3_moe")
    before = [name for name, _ in model.named_modules()]
    for _ in range(2):
        trained_parameters(model, settings(*ATTENTION))
    assert [name for name, _ in model.named_modules()] == before


@pytest.mark.parametrize("family", ["phi", "phi3", "gpt2", "opt", "bloom", "gpt_neox", "lfm2", *WITH_EXPERTS])
def test_where_the_usual_names_are_not_all_there_the_familys_own_are_offered_and_train(family):
    said, offered = refused(family)
    assert "no linear layers named" in said
    assert counted(family, *offered) == really_trained(family, *offered)
    elsewhere = set(LoraSettings().target_modules) - set(offered)
    assert elsewhere
    assert all(name in said for name in elsewhere)


def test_names_that_a_model_has_are_told_apart_from_those_that_it_has_not():
    said, offered = refused("phi3")
    assert (
        said
        == "this model has o_proj, down_proj, and no linear layers named q_proj, k_proj, v_proj, gate_proj, up_proj."
    )
    assert set(offered) == {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}


@pytest.mark.parametrize(
    ("family", "target"),
    [
        ("llama", "embed_tokens"),
        ("llama", "mlp"),
        ("llama", "input_layernorm"),
        ("llama", "proj"),
        ("llama", "Q_PROJ"),
        ("llama", ""),
        ("llama", "q_proj "),
        ("llama", ".*q_proj"),
        ("llama", "layers.9.self_attn.q_proj"),
        ("gpt2", "wte"),
        ("gpt2", "attn"),
        ("lfm2", "conv"),
        ("gemma3", "fc1"),
        ("gemma3", "vision_tower.encoder.layers.0.self_attn.q_proj"),
    ],
)
def test_a_name_that_means_no_linear_layer_is_refused(family, target):
    said, _ = refused(family, "lm_head", target)
    assert f"has lm_head, and no linear layers named {target}" in said


@pytest.mark.parametrize("family", WITH_EXPERTS)
@pytest.mark.parametrize("target", ["gate_proj", "gate", "gate_up_proj", "experts", "mlp.experts.down_proj", "w1"])
def test_experts_that_are_one_tensor_are_refused_with_the_reason(family, target):
    said, offered = refused(family, *ATTENTION, target)
    assert "its experts' weights are one tensor a layer" in said
    assert offered == ATTENTION


def test_layers_that_peft_itself_refuses_are_refused_in_its_words():
    said, _ = refused("mamba", "out_proj")
    assert "does not take these" in said
    assert "Mamba" in said


def test_a_model_that_sees_too_gets_layers_where_text_reaches_them():
    names = {name for name, p in attached("gemma3").named_parameters() if p.requires_grad}
    assert names
    assert all(".language_model." in name for name in names)


@pytest.mark.parametrize("family", sorted(USUAL))
def test_other_models_adapters_are_configured_as_ever(family):
    from medcot.engine.lora import lora_config

    assert lora_config(on_meta(family), settings()).exclude_modules is None
