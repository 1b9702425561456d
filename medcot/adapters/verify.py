"""Checks of an adapter folder before anything opens it: LoRA, in safetensors, of values that can do no harm.

What is loaded is built from checked values alone: ranks and layers are read off the weights, and of
adapter_config.json only a few plain numbers and names are used. Loads no model library.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcot.adapters.tensors import Shape, header
from medcot.errors import BadInput, Problem
from medcot.hub import ADAPTER_FILES, CONFIG, WEIGHTS
from medcot.safety.foreign import read_json

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
# Files that the stock Trainer leaves beside an adapter. Nothing here opens them, so they do not matter.
TRAINER_STATE = re.compile(r"optimizer\.pt|scheduler\.pt|rng_state(_\d+)?\.pth|scaler\.pt|training_args\.bin")
# Each changes more than the products of LoRA layers, or other layers than those that it names.
BEYOND_LORA = (
    *("modules_to_save", "use_qalora", "use_bdlora", "layer_replication", "target_parameters"),
    *("trainable_token_indices", "alora_invocation_tokens", "arrow_config", "megatron_config", "monteclora_config"),
    *("lora_bias", "kasa_config", "velora_config"),
)
LEAVE_BASE_ALONE = ("gaussian", "eva", "lora_ga", "orthogonal")  # ways to start an adapter, for its config's True
LAYER = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_(A|B)\.weight")
MAGNITUDE = re.compile(r"(?:base_model\.model\.)?(.+)\.lora_magnitude_vector(?:\.weight)?")  # DoRA's
PLAIN = re.compile(r"\^?[\w.-]{1,300}")  # a name, which cannot be a costly pattern
MOST_TARGETS = 1000
MOST_SCALES = 256  # different ranks, or alphas; PEFT tries each on each layer
AGAIN = "Copy or download the adapter again, or use another."
PLAIN_LORA = "Use a plain LoRA adapter, with bias none and no modules_to_save."

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Config:
    """What adapter_config.json may say, checked against the weights. `base` and `revision` are as they stand there."""

    base: object
    revision: object
    ranks: Mapping[str, int]  # of each layer, by its name in the base
    alphas: Mapping[str, float]  # likewise
    targets: tuple[str, ...]  # names of layers, or ends of these
    rank_stabilized: bool
    fan_in_fan_out: bool
    dora: bool  # each layer has a vector of magnitudes too


def require_safe(folder: Path) -> Config:
    """Read the adapter's configuration. Raises BadInput for an adapter that is not LoRA in safetensors.

    A pickle could run code, so none is read; and base and tuned share one loaded model, so an adapter may hold nothing
    but LoRA layers.
    """
    _require_own_files(folder)
    raw = _read(folder)
    if raw.get("peft_type") != "LORA":
        raise BadInput.of(str(folder), f"is a {raw.get('peft_type')!s:.40} adapter, not LoRA.", "Use a LoRA adapter.")
    if broken := _broken_scales(raw):
        raise BadInput.of(str(folder), f"{CONFIG} has a {broken[0]} that is no finite number above 0.", AGAIN)
    tensors = header(folder / WEIGHTS)
    beyond = [name for name in BEYOND_LORA if raw.get(name)]
    beyond += [] if raw.get("bias", "none") == "none" else ["bias"]
    beyond += ["embed_tokens"] if "embed_tokens" in str(raw.get("target_modules")) else []
    dora = raw.get("use_dora") is True
    beyond += ["use_dora"] if raw.get("use_dora") and not dora else []
    known = (LAYER, MAGNITUDE) if dora else (LAYER,)
    beyond += [f"{name:.100}" for name in tensors if not any(kind.fullmatch(name) for kind in known)][:1]
    if beyond:
        what = f"changes more than LoRA layers ({', '.join(beyond)}), so base and tuned cannot share one model."
        raise BadInput.of(str(folder), what, PLAIN_LORA)
    _require_plain_start(folder, raw.get("init_lora_weights"))
    return _config(folder, raw, tensors)


def _require_own_files(folder: Path) -> None:
    """Raise BadInput for pickles, and for a file that is a pipe, or a link to what lies elsewhere."""
    names = sorted(p.name for p in folder.glob("*"))
    pickles = [n for n in names if n.lower().endswith(PICKLES) and not TRAINER_STATE.fullmatch(n)]
    problems = []
    if pickles:
        what = f"holds pickled files ({', '.join(pickles)}), which can run code."
        problems.append(Problem(str(folder), what, "Use an adapter that is saved as safetensors."))
    here = folder.resolve()
    # The Hub's cache keeps a snapshot's files as links into the blobs beside the snapshots.
    homes = (here, here.parent.parent / "blobs") if here.parent.name == "snapshots" else (here,)
    for name in set(names) & set(ADAPTER_FILES):
        target = (folder / name).resolve()
        if not target.is_file() or not any(target.is_relative_to(home) for home in homes):
            what = "is no file of this folder, but a link to another place, or no file at all."
            problems.append(Problem(str(folder / name), what, "Put the file itself there."))
    if problems:
        raise BadInput(problems)


def _read(folder: Path) -> Raw:
    try:
        config = read_json(folder / CONFIG)
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise BadInput.of(str(folder), f"has no readable {CONFIG}.", "Name a PEFT adapter folder.")
    return config


def _broken_scales(raw: Raw) -> list[str]:
    """Names of scales that are not finite: 0 times infinity would be NaN in the rows of base too."""
    scales: Raw = {name: raw[name] for name in ("r", "lora_alpha") if name in raw}
    for name in ("rank_pattern", "alpha_pattern"):
        pattern = raw.get(name) or {}
        items = pattern.items() if isinstance(pattern, dict) else [("", None)]
        scales |= {f"{name} {key:.60}": value for key, value in items}
    return [name for name, value in scales.items() if not _is_scale(value)]


def _is_scale(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < 2**31 and math.isfinite(value)  # type: ignore[operator, arg-type]


def _require_plain_start(folder: Path, started: object) -> None:
    """Raise BadInput where PEFT would change the base before it adds the adapter."""
    if isinstance(started, bool | None) or started in LEAVE_BASE_ALONE:
        return
    raise changes_base(str(folder), f" (its init_lora_weights is {started!s:.40})")


def changes_base(where: str, why: str = "") -> BadInput:
    """The error for an adapter that is more than what is added to its base."""
    what = f"changes the weights of the base when it is loaded{why}, so base and tuned cannot share one model."
    fix = "Convert it to plain LoRA (PEFT: save_pretrained with path_initial_model_for_weight_conversion)"
    return BadInput.of(where, what, f"{fix}, or use another adapter.")


def _config(folder: Path, raw: Raw, tensors: Mapping[str, Shape]) -> Config:
    """The checked values. Raises BadInput where configuration and weights do not agree."""
    ranks = _ranks(tensors)
    said = {raw.get("r", 8), *(raw.get("rank_pattern") or {}).values()}  # 8 is PEFT's own
    alphas, patterns = raw.get("lora_alpha", 8), raw.get("alpha_pattern") or {}
    wrong = ""
    if not ranks:
        wrong = "has layers that are no pairs of two matrices of one rank."
    elif not said.issuperset(ranks.values()):
        wrong = f"has layers of rank {next(r for r in ranks.values() if r not in said)}, which {CONFIG} does not say."
    elif raw.get("use_dora") and not _has_magnitudes(tensors, ranks):
        wrong = f"has layers without their magnitudes, which use_dora in {CONFIG} promises."
    elif unfit := [key for key in patterns if not PLAIN.fullmatch(key)]:
        wrong = f"{CONFIG} has an alpha_pattern that is no name of a layer: {unfit[0]:.60}."
    elif len(patterns) > MOST_TARGETS or max(len(set(ranks.values())), len(set(patterns.values()))) > MOST_SCALES:
        wrong = f"has more than {MOST_SCALES} different ranks or alphas."
    if wrong:
        raise BadInput.of(str(folder), wrong, AGAIN)
    return Config(
        base=raw.get("base_model_name_or_path"),
        revision=raw.get("revision"),
        ranks=ranks,
        alphas={layer: _of(patterns, layer, alphas) for layer in ranks},
        targets=_targets(raw, ranks),
        rank_stabilized=raw.get("use_rslora") is True,
        fan_in_fan_out=raw.get("fan_in_fan_out") is True,
        dora=raw.get("use_dora") is True,
    )


def _ranks(tensors: Mapping[str, Shape]) -> dict[str, int]:
    """Each layer's rank; none at all if a layer lacks one of its two matrices, or they do not fit each other."""
    sides: dict[str, dict[str, Shape]] = {}
    for name, shape in tensors.items():
        if found := LAYER.fullmatch(name):
            sides.setdefault(found[1], {})[found[2]] = shape
    pairs = {layer: (both.get("A", ()), both.get("B", ())) for layer, both in sides.items()}
    fit = all(len(down) == len(up) == 2 and down[0] == up[1] for down, up in pairs.values())
    return {layer: down[0] for layer, (down, _) in pairs.items()} if fit else {}


def _has_magnitudes(tensors: Mapping[str, Shape], ranks: Mapping[str, int]) -> bool:
    """Whether each layer has one magnitude for each of its outputs, and nothing else has."""
    outputs = {m[1]: shape[:1] for name, shape in tensors.items() if (m := LAYER.fullmatch(name)) and m[2] == "B"}
    return {m[1]: shape for name, shape in tensors.items() if (m := MAGNITUDE.fullmatch(name))} == {
        layer: outputs[layer] for layer in ranks
    }


def _of(patterns: Mapping[str, float], layer: str, usual: float) -> float:
    """A layer's own value, by its name or the end of it; else the usual one."""
    for name, value in patterns.items():
        if layer == name.removeprefix("^") or layer.endswith(f".{name}"):
            return value
    return usual


def _targets(raw: Raw, ranks: Mapping[str, int]) -> tuple[str, ...]:
    """The plain names that the file targets, or the layers that have weights where it says it in another way.

    With plain names a base with more such layers than the adapter has weights for is noticed; a pattern may cost
    more time than there is.
    """
    named = raw.get("target_modules")
    narrowed = raw.get("exclude_modules") or raw.get("layers_to_transform") not in (None, [])
    plain = isinstance(named, list) and 0 < len(named) <= MOST_TARGETS and not narrowed
    if plain and all(isinstance(n, str) and PLAIN.fullmatch(n) for n in named):  # type: ignore[union-attr]
        return tuple(named)  # type: ignore[arg-type]
    return tuple(ranks)
