"""The LoRA layers that a base gets, by PEFT's own rules, found on a model without weights.

Training attaches by the same configuration, so what is counted here is what is trained.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from medcot.engine.models import UNREADABLE
from medcot.errors import BadInput, Problem, first_line
from medcot.settings import ALL_LINEAR, LoraSettings

Shape = dict[str, Any]  # arguments of PEFT's LoraConfig


def outline(folder: Path) -> Any:
    """A folder's model on the meta device: loaded as for training, and no weight of it read.

    Raises BadInput if it is no model that continues a text, or if weights are missing or of another shape than its
    configuration says: transformers would draw these at random.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if getattr(config, "quantization_config", None):  # its names and shapes of weights are another library's
            with torch.device("meta"):
                model, found = AutoModelForCausalLM.from_config(config, trust_remote_code=False), {}
        else:
            options = {"use_safetensors": True, "trust_remote_code": False, "ignore_mismatched_sizes": True}
            model, found = AutoModelForCausalLM.from_pretrained(
                folder, device_map="meta", output_loading_info=True, **options
            )
    except UNREADABLE as error:
        what = f"{folder} cannot be loaded as a language model: {first_line(error).rstrip(' .:')}."
        raise BadInput.of("model.id", what, "Name a causal model that transformers itself knows.") from error
    if getattr(config, "is_decoder", None) is False:  # the families of encoders alone have this
        what = f"{folder} reads a text in both directions ({config.model_type}) and cannot continue one."
        raise BadInput.of("model.id", what, "Name a causal language model.")
    if problems := list(_unlike(folder, model, found)):
        raise BadInput(problems)
    return model


def _unlike(folder: Path, model: Any, found: Mapping[str, Any]) -> Iterator[Problem]:
    """How the weights differ from what the configuration says, in the language model."""
    begins = tuple(_inside(model))
    kinds = {"missing_keys": "are missing", "mismatched_keys": "have other shapes than config.json says"}
    for kind, words in kinds.items():
        names = sorted(str(key if isinstance(key, str) else key[0]) for key in found.get(kind, ()))
        if inside := [name for name in names if name.startswith(begins)]:
            what = f"{len(inside)} weights of {folder} {words}, {inside[0]} first."
            yield Problem(
                "model.id", what, "Download or copy the model again, with the configuration that belongs to it."
            )


def linear_layers(model: Any) -> dict[str, torch.nn.Module]:
    """All linear layers by name, without the one that makes the logits."""
    output = model.get_output_embeddings()
    return {name: m for name, m in model.named_modules() if _is_linear(m) and m is not output}


def lora_config(model: Any, lora: LoraSettings) -> LoraConfig:
    """PEFT's configuration of the adapter. Of a model that sees too, only the language model gets layers: text alone
    does not reach the others."""
    inside, begins = _inside(model), _prefix(model)
    kept = [re.escape(begins), *(re.escape(name) + "$" for name in inside if not name.startswith(begins))]
    excluded = None if inside.keys() >= linear_layers(model).keys() else f"(?!{'|'.join(kept)}).*"
    return LoraConfig(**shape(model, lora), exclude_modules=excluded, task_type="CAUSAL_LM")


def shape(model: Any, lora: LoraSettings) -> Shape:
    """What an adapter is made with, by PEFT's names, which Unsloth has too."""
    scales = {"r": lora.rank, "lora_alpha": lora.alpha, "use_rslora": lora.rslora}
    scales |= {"use_dora": True} if lora.dora else {}
    return {**scales, "lora_dropout": lora.dropout, "bias": lora.bias, "target_modules": targets(model, lora)}


def targets(model: Any, lora: LoraSettings) -> list[str]:
    """The names of the layers that get an adapter; for all-linear, the model's own."""
    return own_names(model) if lora.target_modules == (ALL_LINEAR,) else list(lora.target_modules)


def own_names(model: Any) -> list[str]:
    """The ends of the names of the language model's linear layers, without the one that makes the logits."""
    inside = _inside(model)
    return list(dict.fromkeys(name.rpartition(".")[2] for name in linear_layers(model) if name in inside))


def loraplus_optimizer(model: Any, arguments: Any, ratio: float | None) -> torch.optim.Optimizer | None:
    """The optimizer of the Trainer's arguments, with a higher rate for lora_B; None for the Trainer's own."""
    if ratio is None:
        return None
    from transformers import Trainer

    kind, named = Trainer.get_optimizer_cls_and_kwargs(arguments)
    decay = {"loraplus_weight_decay": arguments.weight_decay}
    made: torch.optim.Optimizer = create_loraplus_optimizer(model, kind, loraplus_lr_ratio=ratio, **named, **decay)
    return made


def trained_parameters(model: Any, lora: LoraSettings) -> int:
    """How many parameters an adapter of a model without weights trains. It is attached, and taken off again.

    Raises BadInput unless each target means linear layers of the language model, and no experts.
    """
    inside = _inside(model)
    linear = [name for name, module in inside.items() if _is_linear(module)]
    others = [name for name in inside if name not in linear]
    own, named = own_names(model), targets(model, lora)
    if unfit := [t for t in named if not _means(t, linear) or _means(t, others)]:
        fit = [t for t in named if t not in unfit]
        has = f"has {', '.join(fit)}, and no" if fit else "has no"
        raise _unfit(model, lora, own, f"{has} linear layers named {', '.join(unfit)}")
    try:
        tuned = _attached(model, lora_config(model, lora))
    except ValueError as error:
        raise _unfit(model, lora, own, f"does not take these: {first_line(error).rstrip('.')}") from error
    count = int(sum(p.numel() for p in tuned.parameters() if p.requires_grad))
    tuned.unload()
    if _has_experts(tuned):
        named = [t for t in named if t not in tuned.peft_config["default"].target_modules]
        raise _unfit(model, lora, own, f"has experts named {', '.join(named)}")
    return count


def _is_linear(module: Any) -> bool:
    return isinstance(module, torch.nn.Linear | Conv1D)


def _prefix(model: Any) -> str:
    """What the names of the language model's modules begin with."""
    decoder = model.get_decoder()
    name = next(name for name, module in model.named_modules() if module is decoder)
    return f"{name}." if name else ""


def _inside(model: Any) -> dict[str, torch.nn.Module]:
    """The modules of the language model by name, with the one that makes the logits."""
    begins, output = _prefix(model), model.get_output_embeddings()
    return {name: m for name, m in model.named_modules() if name and (name.startswith(begins) or m is output)}


def _means(target: str, names: Collection[str]) -> bool:
    """Whether a target means one of the modules, as in PEFT: by its whole name or the end of it."""
    return any(name == target or name.endswith(f".{target}") for name in names)


def _attached(model: Any, config: LoraConfig) -> PeftModel:
    return get_peft_model(model, config, low_cpu_mem_usage=True)


def _has_experts(tuned: PeftModel) -> bool:
    """Whether PEFT took names out of the targets, to train tensors of experts instead of layers."""
    return bool(tuned.base_model.targeted_parameter_names)


def _unfit(model: Any, lora: LoraSettings, own: list[str], what: str) -> BadInput:
    """The error for target modules that a model cannot train, with its own layers that it can."""
    try:
        tuned = _attached(model, lora_config(model, lora.model_copy(update={"target_modules": tuple(own)})))
    except ValueError:
        pass
    else:
        if _has_experts(tuned):
            own = [name for name in own if name in tuned.peft_config["default"].target_modules]
    if any(".experts." in name for name, _ in model.named_parameters()):
        what += "; its experts' weights are one tensor a layer, and an adapter on that is none that base can share"
    return BadInput.of(
        "lora.target_modules", f"this model {what}.", f"Its own: --set 'lora.target_modules={json.dumps(own)}'"
    )
