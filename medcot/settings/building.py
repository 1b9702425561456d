"""From plain values to settings: every problem at once, in words, also of values that exclude each other."""

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from medcot.errors import BadInput, Problem
from medcot.settings.sections import STARTER, RunSettings, Section, is_folder, is_local_data


class BadSettings(BadInput):
    """Settings that cannot be used; `rest` is what is left without the wrong values, so that more can be checked."""

    def __init__(self, problems: Sequence[Problem], rest: RunSettings | None):
        super().__init__(problems)
        self.rest = rest


def build(raw: dict[str, Any]) -> RunSettings:
    """Settings from nested plain values.

    Raises BadSettings with every problem at once: unknown names (with the nearest known one), values out of bounds,
    and values that exclude each other, the last even where other fields are wrong.
    """
    try:
        settings = RunSettings.model_validate(raw)
        problems = []
    except ValidationError as error:
        problems = [_as_problem(e) for e in error.errors()]
        pruned = raw
        for item in error.errors():
            pruned = _without(pruned, list(item["loc"]))
        try:
            settings = RunSettings.model_validate(pruned)
        except ValidationError:  # a whole section of the wrong shape: its own message has to do
            raise BadSettings(problems, None) from None
    problems += conflicts(settings)
    if problems:
        raise BadSettings(problems, settings)
    return settings


def _as_problem(error: Any) -> Problem:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = _nearest(path)
        return Problem(
            path,
            "no such setting.",
            f"Did you mean {near}?" if near else "`medcot init-config` prints all of them.",
        )
    what = error["msg"].removeprefix("Value error, ")
    return Problem(path, f"{what[0].lower()}{what[1:]}; got {error['input']!r:.80}.")


def _nearest(path: str) -> str | None:
    """The known setting or section whose name is most like that of an unknown one, in its own section if it can be."""
    section, _, name = path.rpartition(".")
    known = [*field_paths(), *RunSettings.model_fields]
    close = difflib.get_close_matches(name, {k.rpartition(".")[2] for k in known}, n=1)
    named = [k for k in known if [k.rpartition(".")[2]] == close]
    return next((k for k in named if k.rpartition(".")[0] == section), named[0] if named else None)


def _without(raw: dict[str, Any], location: list[Any]) -> dict[str, Any]:
    """`raw` less the value at `location`; the input is left as it was."""
    head, *rest = location
    if not isinstance(raw, dict) or head not in raw:
        return raw
    if not rest or not isinstance(raw[head], dict):
        return {k: v for k, v in raw.items() if k != head}
    return {**raw, head: _without(raw[head], rest)}


def value_at(settings: RunSettings, path: str) -> Any:
    """A setting's value by its dotted path."""
    value: Any = settings
    for part in path.split("."):
        value = getattr(value, part)
    return value


def differences(one: RunSettings, other: RunSettings) -> list[tuple[str, Any, Any]]:
    """(path, value in one, value in the other) of every setting in which two runs differ."""
    pairs = ((path, value_at(one, path), value_at(other, path)) for path in field_paths())
    return [(path, a, b) for path, a, b in pairs if a != b]


def field_paths() -> list[str]:
    """Every setting as a dotted path, in the order of the models."""
    paths = []
    for name, field in RunSettings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            paths += [f"{name}.{inner}" for inner in field.annotation.model_fields]
        else:
            paths.append(name)
    return paths


def conflicts(settings: RunSettings) -> list[Problem]:
    """Values that are each within bounds and exclude each other."""
    found = []
    data, prompt, model = settings.data, settings.prompt, settings.model
    if model.quantization == "4bit" and model.dtype == "float32":
        found.append(
            Problem(
                "model.quantization",
                "4bit computes in bfloat16 or float16, and model.dtype is float32.",
                "Set model.dtype=auto.",
            )
        )
    if prompt.style == "plain" and prompt.system:
        found.append(
            Problem(
                "prompt.system",
                "the plain contract has no system text.",
                "Remove it, or set prompt.style=chat.",
            )
        )
    t = settings.training
    sequences = t.micro_batch * t.accumulation
    if sequences % t.processes:
        even = ", ".join(str(n) for n in range(1, min(sequences, 64) + 1) if sequences % n == 0)
        found.append(
            Problem(
                "training.processes",
                f"{t.processes} processes cannot share a step's {t.micro_batch} x {t.accumulation} = {sequences} "
                "sequences evenly.",
                f"Set it to one of {even}, or change training.micro_batch or training.accumulation.",
            )
        )
    if settings.evaluation.temperature == 0 and settings.evaluation.top_p < 1:
        found.append(
            Problem(
                "evaluation.top_p",
                "has no effect at temperature 0, which is greedy.",
                "Set evaluation.temperature above 0, or top_p=1.",
            )
        )
    columns = [data.question_column, data.reasoning_column, data.answer_column]
    if len(set(columns)) < 3:
        found.append(
            Problem(
                "data.question_column",
                f"question, reasoning and answer need three columns, not {columns}.",
                "Name a column for each.",
            )
        )
    if is_local_data(data.source) and (data.config or data.revision):
        found.append(
            Problem(
                "data.config",
                f"a configuration or revision belongs to a Hub data set; {data.source} is not one.",
                "Remove data.config and data.revision.",
            )
        )
    if model.revision and (model.id == STARTER or is_folder(model.id)):
        found.append(
            Problem("model.revision", f"a revision belongs to a Hub model; {model.id} is not one.", "Remove it.")
        )
    return found


ADVISED_RATE = 2e-4  # the upper end of published LoRA advice for models of some billion parameters


def cautions(settings: RunSettings) -> list[str]:
    """What a person should know before starting, and what forbids nothing."""
    rate = settings.training.learning_rate
    if rate <= ADVISED_RATE or settings.model.id == STARTER:
        return []
    return [
        f"training.learning_rate={rate:g} is {rate / ADVISED_RATE:.3g} times the upper end of published LoRA advice "
        f"(1e-4 to {ADVISED_RATE:g})."
    ]
