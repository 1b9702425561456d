"""Named starting points for a run, and the TOML file that holds one.

`reference-exact` has the settings of the notebook behind AzzamShahid/llama-3b-medical-cot, kept so that others'
results can be reproduced; `llama-3.2-3b-medical-cot` is the same work with what is better today; `starter` runs
anywhere in minutes.
"""

import json
import tomllib
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medcot.errors import Problem
from medcot.settings import STARTER, BadSettings, RunSettings, Section, build

DATASET = "FreedomIntelligence/medical-o1-reasoning-SFT"
DATASET_REVISION = "fc2c9e8a37b38f38da6d449564a8c350b244aef4"  # of 2025-04-22: 19,704 English records

_LLAMA_TRAINING = {
    "epochs": 1.0,
    "micro_batch": 2,
    "accumulation": 8,
    "learning_rate": 5e-4,
    "weight_decay": 0.01,
    "max_length": 2048,
    "warmup_steps": 25,
    "gradient_checkpointing": True,
    "log_steps": 25,
    "validate_steps": 500,
    "sample_tokens": 192,
    "save_steps": 1000,
    "keep_checkpoints": 1,
}
_LLAMA = {"id": "unsloth/Llama-3.2-3B-Instruct", "quantization": "4bit"}

RECIPES: dict[str, dict[str, Any]] = {
    "starter": {
        "training": {
            "micro_batch": 4,
            "accumulation": 1,
            "learning_rate": 1e-3,
            "max_length": 512,
            "validate_steps": 20,
            "sample_tokens": 32,
            "save_steps": 20,
        },
        # A third arm would take half as long again, and this model tells little by being told.
        "evaluation": {"max_new_tokens": 320, "choice_max_new_tokens": 320, "tell_base": False},
    },
    "reference-exact": {
        "model": _LLAMA,
        # The notebook shuffled with seed 42 and then took the first 100, at whatever revision it found.
        "data": {
            "source": DATASET,
            "config": "en",
            "held_out": 100,
            "held_out_from": "shuffled",
            "shuffle_seed": 42,
        },
        "prompt": {"style": "plain", "loss_on": "all"},
        "training": {**_LLAMA_TRAINING, "arrangement": "as-given"},
    },
    "llama-3.2-3b-medical-cot": {
        "model": _LLAMA,
        "data": {"source": DATASET, "config": "en", "revision": DATASET_REVISION, "held_out": 100},
        "prompt": {"style": "chat", "loss_on": "completion"},
        "training": _LLAMA_TRAINING,
    },
}


def compose(recipe: str | None = None, config: Path | None = None, overrides: list[str] | None = None) -> RunSettings:
    """Settings from a recipe (the file's, else "starter"), then a TOML file, then `path=value` pairs over it.

    Where file or pairs name other data, the recipe's configuration and revision do not stay with it.
    Raises BadSettings with every problem of all three at once.
    """
    problems: list[Problem] = []
    own = _read_toml(config, problems) if config else {}
    named = own.get("recipe", recipe) or STARTER
    if recipe and named != recipe:
        problems.append(
            Problem("--recipe", f"is {recipe}, and {config} says recipe = {named!r}.", "Give one, or make them agree.")
        )
    own = _with_pairs(own, overrides or [], problems)
    start = RECIPES.get(str(named), {})
    if str(named) not in RECIPES:
        problems.append(Problem("recipe", f"there is no recipe {named!r}.", f"Choose one of: {', '.join(RECIPES)}."))
    raw = _merged(_merged({"recipe": named}, start), own)
    own_data: Any = own.get("data")
    recipe_source = start.get("data", {}).get("source")
    if isinstance(own_data, dict) and own_data.get("source", recipe_source) != recipe_source:
        raw["data"] = {k: v for k, v in raw["data"].items() if k in own_data or k not in ("config", "revision")}
    return _built(raw, problems)


def override(settings: RunSettings, pairs: list[str], *, only: str) -> RunSettings:
    """A run's settings with `path=value` pairs of one section over them. Raises BadInput for any other section."""
    return _override(
        settings, pairs, (only,), "can be changed for a run that is there.", "Start a new run to change it."
    )


def measuring(settings: RunSettings, pairs: list[str]) -> RunSettings:
    """Settings of what is measured and not trained here, with pairs of data and evaluation over them."""
    return _override(settings, pairs, ("data", "evaluation"), "can be set where nothing is trained.", "Leave it out.")


def _override(settings: RunSettings, pairs: list[str], only: tuple[str, ...], what: str, fix: str) -> RunSettings:
    named = " and ".join(f"{section}.*" for section in only)
    problems = [
        Problem(f"--set {pair}", f"only {named} {what}", fix) for pair in pairs if pair.partition(".")[0] not in only
    ]
    raw = _with_pairs(settings.model_dump(mode="json"), pairs, problems)
    return _built(raw, problems)


def _built(raw: dict[str, Any], problems: list[Problem]) -> RunSettings:
    """Settings from raw values. Raises BadSettings with the problems found so far and those of the values."""
    try:
        settings = build(raw)
    except BadSettings as bad:
        raise BadSettings(problems + bad.problems, bad.rest) from None
    if problems:
        raise BadSettings(problems, settings)
    return settings


def _with_pairs(raw: dict[str, Any], pairs: list[str], problems: list[Problem]) -> dict[str, Any]:
    """`raw` with `path=value` pairs over it; what is not a pair is added to problems."""
    for pair in pairs:
        path, separator, text = pair.partition("=")
        if not separator or not path.strip():
            problems.append(
                Problem(f"--set {pair}", "is not path=value.", "Example: --set training.learning_rate=1e-4")
            )
            continue
        path = path.strip()
        if path == "recipe":
            problems.append(Problem(f"--set {pair}", "only names a recipe.", "Start from one: --recipe NAME"))
            continue
        nested: Any = _parse_value(path, text)
        for part in reversed(path.split(".")):
            nested = {part: nested}
        raw = _merged(raw, nested)
    return raw


def _read_toml(path: Path, problems: list[Problem]) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(
            Problem(
                str(path),
                f"cannot be read: {error.strerror}.",
                "`medcot init-config` prints a file to start from.",
            )
        )
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(Problem(str(path), f"is not TOML: {error}."))
    return {}


def _parse_value(path: str, text: str) -> Any:
    """A `--set` value as its setting has it: TOML's spelling of numbers, booleans, lists and quoted strings.

    Anything else is the text itself, and for a setting that is text so is everything unquoted: a model may be called
    12. Empty or `none` is no value where a setting may have none.
    """
    kinds = _kinds(path)
    if text in ("", "none") and (not kinds or type(None) in kinds):
        return None
    if str in kinds and not text.startswith(('"', "'")):
        return text
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def _kinds(path: str) -> set[type]:
    """The types that a setting's value may have; none for a path that is no setting."""
    section, _, name = path.rpartition(".")
    inner = RunSettings.model_fields.get(section)
    owner = inner.annotation if inner else RunSettings
    field = owner.model_fields.get(name) if isinstance(owner, type) and issubclass(owner, BaseModel) else None
    if field is None or (section and inner is None):
        return set()
    union = get_origin(field.annotation) in (UnionType, Literal)
    options = get_args(field.annotation) if union else (get_origin(field.annotation) or field.annotation,)
    return {o if isinstance(o, type) else type(o) for o in options}


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def to_toml(settings: RunSettings) -> str:
    """The settings as a TOML file with every field's help and bounds as comments; values of None are commented out."""
    lines = ["# medcot run settings. Use: medcot train --config THIS_FILE"]
    sections: list[str] = []
    for name, field in RunSettings.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Section):
            sections += ["", f"[{name}]"]
            for inner, inner_field in type(value).model_fields.items():
                sections += _toml_field(inner, inner_field, getattr(value, inner))
        else:
            lines += _toml_field(name, field, value)
    return "\n".join(lines + sections) + "\n"


def bounds(field: FieldInfo) -> list[str]:
    """A field's limits as a person reads them, such as `>= 1`."""
    return [
        f"{sign} {getattr(m, attribute)}"
        for m in field.metadata
        for attribute, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if hasattr(m, attribute)
    ]


def _toml_field(name: str, field: FieldInfo, value: Any) -> list[str]:
    limits = bounds(field)
    comment = f"# {field.description}" + (f" ({', '.join(limits)})" if limits else "")
    # JSON's spelling of strings, numbers, booleans and lists is TOML's too.
    assignment = f"# {name} =" if value is None else f"{name} = {json.dumps(value, ensure_ascii=False)}"
    return [comment, assignment]


def changed_settings(settings: RunSettings) -> list[str]:
    """The `path=value` pairs by which settings differ from their recipe: what the equivalent command has to say."""
    start = build(_merged({"recipe": settings.recipe}, RECIPES.get(settings.recipe, {}))).model_dump(mode="json")
    pairs = []
    for section, value in settings.model_dump(mode="json").items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for key, now in inner:
            before = start[section][key] if key else start[section]
            if now != before:
                path = f"{section}.{key}" if key else section
                text = "none" if now is None else now if isinstance(now, str) else json.dumps(now)
                pairs.append(f"{path}={text if _parse_value(path, text) == now else json.dumps(now)}")
    return pairs
