"""Settings from a recipe, a file and `path=value` pairs, and back: recipes.toml, compose, to_toml."""

import json
import tomllib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from medcot.errors import Problem
from medcot.machine import Gpu
from medcot.settings.build import BadSettings, Raw, build, differences, endless_warmup, fields, idle_choice, value_at
from medcot.settings.names import STARTER
from medcot.settings.schema import RunSettings
from medcot.settings.sources import MOST_LINE, as_line

RECIPES: dict[str, Raw] = tomllib.loads(files("medcot.settings").joinpath("recipes.toml").read_text(encoding="utf-8"))
MORE = "data.more"  # further data, written as a line
MOST_DOTS = 9  # more than the path of any setting has; each is a level to go down
MOST_VALUE = 1000  # characters of a value that is no text; all texts are quoted
LARGE_GIB = 7.0  # what the 3B recipes need in 4-bit at 2 x 8 sequences with checkpointing, with room for the driver


def recommended(gpus: Iterable[Gpu]) -> str:
    """The recipe that fits this machine, by total GPU memory: what uses the memory now may end before a training."""
    return "llama-3.2-3b-medical-cot" if any(gpu.memory_gib >= LARGE_GIB for gpu in gpus) else STARTER


def compose(recipe: str | None = None, config: Path | None = None, overrides: list[str] | None = None) -> RunSettings:
    """Settings from a recipe (the file's, else "starter"), overridden by a TOML file, then by `path=value` pairs.

    Other data drops the recipe's configuration and revision. Raises BadSettings with all problems of the three.
    """
    problems: list[Problem] = []
    own = _read_toml(config, problems) if config else {}
    named = own.get("recipe", recipe) or STARTER
    if recipe and named != recipe:
        what = f"is {recipe}, and {config} says recipe = {named!r}."
        problems.append(Problem("--recipe", what, "Give one, or make them agree."))
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


ADVISED_RATE = 2e-4  # the upper end of published LoRA advice for models of some billion parameters


def cautions(settings: RunSettings, steps: int | None = None) -> list[str]:
    """Warnings to read before a start; none of them prevents it. `steps` are the run's, where they are known.

    A recipe's own learning rate is no reason for one: it is what that recipe was made with.
    """
    t = settings.training
    idle = list(filter(None, [idle_choice(t, steps)]))
    if endless := endless_warmup(t, steps or t.max_steps):
        return [endless, *idle]
    own = RECIPES.get(settings.recipe, {}).get("training", {}).get("learning_rate", ADVISED_RATE)
    if t.learning_rate <= max(ADVISED_RATE, own) or settings.model.id == STARTER:
        return idle
    times = f"{t.learning_rate / ADVISED_RATE:.3g} times the upper end of published LoRA advice"
    return [*idle, f"training.learning_rate={t.learning_rate:g} is {times} (1e-4 to {ADVISED_RATE:g})."]


def changed_settings(settings: RunSettings) -> list[str]:
    """The `path=value` pairs by which settings differ from their recipe, for the equivalent command."""
    start = build(_merged({"recipe": settings.recipe}, RECIPES.get(settings.recipe, {})))
    return [f"{path}={_as_text(path, now)}" for path, _, now in differences(start, settings)]


def override(settings: RunSettings, pairs: Sequence[str], *, trained: bool = True) -> RunSettings:
    """Apply evaluation pairs to a run's settings, and data pairs if nothing was `trained`. Raises BadSettings."""
    if trained:
        sections, what, fix = ["evaluation"], "can be changed for a run that is there.", "Start a new run to change it."
    else:
        sections, what, fix = ["data", "evaluation"], "can be set where nothing is trained.", "Leave it out."
    only = f"only {' and '.join(f'{section}.*' for section in sections)} {what}"
    problems = [Problem(f"--set {pair}", only, fix) for pair in pairs if pair.partition(".")[0] not in sections]
    return _built(_with_pairs(settings.model_dump(mode="json"), pairs, problems), problems)


def _built(raw: Raw, problems: list[Problem]) -> RunSettings:
    """Build the settings. Raises BadSettings with the problems found so far and those of the values."""
    try:
        settings = build(raw)
    except BadSettings as bad:
        raise BadSettings(problems + bad.problems, bad.rest) from None
    if problems:
        raise BadSettings(problems, settings)
    return settings


def _with_pairs(raw: Raw, pairs: Sequence[str], problems: list[Problem]) -> Raw:
    """Apply `path=value` pairs to `raw`; what is not a pair is added to problems."""
    for pair in pairs:
        path, separator, text = pair.partition("=")
        path = path.strip()
        if not separator or not path:
            fix = "Example: --set training.learning_rate=1e-4"
            problems.append(Problem(f"--set {pair}", "is not path=value.", fix))
        elif path == "recipe":
            problems.append(Problem(f"--set {pair}", "only names a recipe.", "Start from one: --recipe NAME"))
        elif path.count(".") > MOST_DOTS:
            problems.append(Problem(f"--set {pair:.60}", "names no setting: none has so many parts."))
        else:
            nested: Any = _parse_value(path, text)
            for part in reversed(path.split(".")):
                nested = {part: nested}
            raw = _merged(raw, nested)
    return raw


def _read_toml(path: Path, problems: list[Problem]) -> Raw:
    try:
        # Windows writes UTF-8 with a mark, or UTF-16; JSON's way of telling them apart holds for TOML too.
        return tomllib.loads(path.read_text(encoding=json.detect_encoding(path.read_bytes())))
    except OSError as error:
        fix, page = "`medcot init-config` prints a file to start from.", "Save as TOML makes a file to start from."
        problems.append(Problem(str(path), f"cannot be read: {error.strerror}.", fix, page))
    except UnicodeDecodeError as error:
        what = f"is not TOML: byte {error.object[error.start]:#04x} is not {error.encoding}."
        problems.append(Problem(str(path), what, "Save it as UTF-8."))
    except RecursionError:
        problems.append(Problem(str(path), "is not TOML that can be read: its brackets are nested too deeply."))
    except ValueError as error:
        problems.append(Problem(str(path), f"is not TOML: {error}."))
    return {}


def _parse_value(path: str, text: str) -> Any:
    """A `--set` value: numbers, booleans, lists and quoted strings in TOML's spelling, anything else as text.

    For a setting that holds text, everything unquoted is text: a model may be called 12. Empty or `none` is None where
    the setting allows it.
    """
    kinds = _kinds(path)
    if text in ("", "none") and (not kinds or type(None) in kinds):
        return None
    if path == MORE and (not text.startswith("[") or len(text) > MOST_LINE):
        return text  # a line, with quotation marks of its own; of what is too long its field says so
    is_quoted, is_list = text.startswith(('"', "'")), text.startswith("[") and tuple in kinds
    if str in kinds and not is_quoted:
        return text
    # A value that sets keys of its own, `{a.a.a=1}`, takes time by the square of its length; no setting's value does.
    if not is_list and ("\n" in text or (len(text) > MOST_VALUE and not is_quoted)):
        return text
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except (ValueError, RecursionError):
        return text


def _kinds(path: str) -> set[type]:
    """The types that a setting's value may have; empty for an unknown path."""
    if (field := fields().get(path)) is None:
        return set()
    union = get_origin(field.annotation) in (UnionType, Literal)
    options = get_args(field.annotation) if union else (get_origin(field.annotation) or field.annotation,)
    return {o if isinstance(o, type) else type(o) for o in options}


def _merged(base: Raw, over: Raw) -> Raw:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _as_text(path: str, value: Any) -> str:
    if path == MORE:
        return as_line(value) or "none"
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if _parse_value(path, text) == value else json.dumps(value)


def to_toml(settings: RunSettings) -> str:
    """The settings as a TOML file with every field's help and bounds as comments; values of None are commented out."""
    lines, section = ["# medcot run settings. Use: medcot train --config THIS_FILE"], ""
    for path, field in fields().items():
        before, (section, _, name) = section, path.rpartition(".")
        lines += ["", f"[{section}]"] if section != before else []
        limits, value = bounds(field), value_at(settings, path)
        lines.append(f"# {field.description}" + (f" ({', '.join(limits)})" if limits else ""))
        value = as_line(value) if path == MORE else value
        # JSON's spelling of strings, numbers, booleans and lists is TOML's too.
        lines.append(f"# {name} =" if value is None else f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def bounds(field: FieldInfo) -> list[str]:
    """A field's limits as a person reads them, such as `>= 1`."""
    return [
        f"{sign} {getattr(m, attribute)}"
        for m in field.metadata
        for attribute, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if hasattr(m, attribute)
    ]
