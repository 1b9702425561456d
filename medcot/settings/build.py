"""Settings from plain values, with every problem reported at once, conflicts between values included."""

import difflib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from medcot.errors import BadInput, Problem
from medcot.safety.foreign import parse_json
from medcot.settings.inputs import PARTS, STYLES_WITH_SYSTEM, DataSettings, is_split
from medcot.settings.names import STARTER, data_suffix, is_address, is_folder, is_local_data
from medcot.settings.schema import ALL_LINEAR, LoraSettings, RunSettings, TrainingSettings

Raw = dict[str, Any]  # settings as a file holds them: sections of plain values


class BadSettings(BadInput):
    """Invalid settings; `rest` leaves the wrong values out, so that device, model and data can still be checked."""

    def __init__(self, problems: Sequence[Problem], rest: RunSettings | None):
        super().__init__(problems)
        self.rest = rest


def build(raw: Raw) -> RunSettings:
    """Build settings from nested plain values. Raises BadSettings with every problem at once: unknown names (with the
    nearest known one), values out of bounds, and values that exclude each other, even if other fields are wrong."""
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
        except ValidationError:  # a whole section has the wrong type: its own message has to do
            raise BadSettings(problems, None) from None
    problems += conflicts(settings)
    if problems:
        raise BadSettings(problems, settings)
    return settings


# What was done before a setting was there, where that is not its default: a run goes on as it began.
BEFORE: Raw = {"data": {"overlong": "cut", "system_messages": "leave_out"}}


def as_written(text: str) -> RunSettings:
    """The settings of a settings.json, of whichever version. Raises ValueError if it holds none."""
    raw = parse_json(text)
    for section, values in BEFORE.items():
        if isinstance(raw, dict) and isinstance(raw.get(section), dict):
            raw[section] = {**values, **raw[section]}
    return RunSettings.model_validate(raw)


def _as_problem(error: Any) -> Problem:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = _nearest(path)
        if near:
            return Problem(path, "no such setting.", f"Did you mean {near}?")
        return Problem(
            path, "no such setting.", "`medcot init-config` prints all of them.", page="Save as TOML has them all."
        )
    what = message_of(error)
    return Problem(path, f"{what[0].lower()}{what[1:]}; got {error['input']!r:.80}.")


# pydantic's wording, and ours; the first takes away how it came to know.
_WORDINGS = (
    (r"^Value error, |, (unable to parse|unable to interpret|got a number with) .*", ""),
    (r"^(Input|String|List|Tuple|Value) should ", "must "),
    (r"\ba valid integer\b", "a whole number"),
    (r"\ba valid boolean\b", "true or false"),
    (r"\ba valid (?=\w)", "a "),
    (r"^Field required$", "is missing"),
)


def message_of(error: Mapping[str, Any]) -> str:
    """What is wrong, from one of pydantic's errors, in words for whoever typed the value."""
    message = str(error["msg"])
    for pattern, words in _WORDINGS:
        message = re.sub(pattern, words, message)
    return message


def _nearest(path: str) -> str | None:
    """The known setting or section nearest to an unknown name, in the same section if possible."""
    section, _, name = path.rpartition(".")
    known = [*fields(), *RunSettings.model_fields]
    close = difflib.get_close_matches(name, {k.rpartition(".")[2] for k in known}, n=1)
    named = [k for k in known if [k.rpartition(".")[2]] == close]
    return next((k for k in named if k.rpartition(".")[0] == section), named[0] if named else None)


def _without(raw: Raw, location: list[Any]) -> Raw:
    """A copy of `raw` without the value at `location`."""
    head, *rest = location
    if not isinstance(raw, dict) or head not in raw:
        return raw
    if not rest or not isinstance(raw[head], dict):
        return {k: v for k, v in raw.items() if k != head}
    return {**raw, head: _without(raw[head], rest)}


def value_at(settings: RunSettings, path: str) -> Any:
    """A setting's value by its dotted path."""
    return functools.reduce(getattr, path.split("."), settings)


def differences(*runs: RunSettings) -> list[tuple[Any, ...]]:
    """(path, value in each of them) of every setting in which runs differ."""
    known = ((path, *(value_at(run, path) for run in runs)) for path in fields())
    return [(path, *values) for path, *values in known if any(value != values[0] for value in values)]


def fields() -> dict[str, FieldInfo]:
    """Every setting by its dotted path, in the order of the models."""
    found: dict[str, FieldInfo] = {}
    for name, field in RunSettings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        found |= {f"{name}.{key}": value for key, value in inner.items()} if inner else {name: field}
    return found


def conflicts(settings: RunSettings) -> list[Problem]:
    """Values that are each within bounds and exclude each other."""
    data, prompt, model, t = settings.data, settings.prompt, settings.model, settings.training
    found = _of_lora(settings)

    def conflict(where: str, what: str, fix: str) -> None:
        found.append(Problem(where, what, fix))

    if model.quantization == "4bit" and model.dtype == "float32":
        what = "4bit computes in bfloat16 or float16, and model.dtype is float32."
        conflict("model.quantization", what, "Set model.dtype=auto.")
    if prompt.system and prompt.style not in STYLES_WITH_SYSTEM:
        fix = f"Remove it, or set prompt.style={' or '.join(STYLES_WITH_SYSTEM)}."
        conflict("prompt.system", f"the {prompt.style} contract has no system text.", fix)
    if (sequences := t.micro_batch * t.accumulation) % t.processes:
        product = f"{t.micro_batch} x {t.accumulation} = {sequences}"
        divisors = ", ".join(str(n) for n in range(1, min(sequences, 64) + 1) if sequences % n == 0)
        fix = f"Set it to one of {divisors}, or change training.micro_batch or training.accumulation."
        what = f"{t.processes} processes cannot share a step's {product} sequences evenly."
        conflict("training.processes", what, fix)
    if settings.evaluation.temperature == 0 and settings.evaluation.top_p < 1:
        fix = "Set evaluation.temperature above 0, or top_p=1."
        conflict("evaluation.top_p", "has no effect at temperature 0, which is greedy.", fix)
    found += [*source_conflicts(data), *parts_conflicts(data), *choice_conflicts(t)]
    for further in data.more:
        found += [replace(one, where="data.more") for one in source_conflicts(data.beside(further))]
    if model.revision and (model.id == STARTER or is_folder(model.id)):
        conflict("model.revision", f"a revision belongs to a Hub model; {model.id} is not one.", "Remove it.")
    return found


def source_conflicts(data: DataSettings) -> Iterator[Problem]:
    """Columns that are named twice, and what only a Hub data set has."""
    columns = [data.question_column, data.reasoning_column, data.answer_column]
    # Reasoning and answer may share one, and all three, told apart by tags.
    if data.question_column in columns[1:] and len(set(columns)) > 1:
        what = f"the question needs a column of its own; question, reasoning and answer are from {columns}."
        yield Problem("data.question_column", what, "Name another.")
    for name in ("context_column", "facts_column"):
        column = getattr(data, name)
        if column in columns:
            yield Problem(f"data.{name}", f"{column!r} is used already.", "Name another, or none.")
        columns.append(column or "")
    if is_local_data(data.source) and not is_address(data.source) and (data.config or data.revision):
        what = f"a configuration or revision belongs to a Hub data set; {data.source} is not one."
        yield Problem("data.config", what, "Remove data.config and data.revision.")


def choice_conflicts(training: TrainingSettings) -> Iterator[Problem]:
    """Choices between validations in a run that has too few of them."""
    steps, every = training.max_steps, training.validate_steps
    if not steps or steps > every:
        return
    what = f"there is nothing to choose from: the run ends at step {steps}, and validates every {every} steps."
    fix = f"Set training.validate_steps below {steps}." if steps > 1 else "Train for more steps."
    for name, chooses in (("keep", training.keep == "best"), ("patience", bool(training.patience))):
        if chooses:
            yield Problem(f"training.{name}", what, fix)


def parts_conflicts(data: DataSettings) -> Iterator[Problem]:
    """Parts of the data that cannot be what they are called."""
    for name in PARTS:
        written, own = getattr(data, name), data.part(name)
        if own and own.source == data.source and own.split == data.split:
            what = f"{written} is what is trained on: data.source, and its split or list {data.split!r}."
            yield Problem(f"data.{name}", what, "Name other records, or a number of them to hold out.")
        # Of all files only a JSON one may hold several lists.
        elif own and is_split(written) and is_local_data(data.source) and data_suffix(data.source) != ".json":
            what = f"{data.source} has no splits, and {written!r} is no file."
            yield Problem(f"data.{name}", what, "Name a file, or a number of records to hold out.")
    if data.test and data.test == data.validation and data.part("test"):
        what = f"{data.test} chooses already, as data.validation: what measures has to be other records."
        yield Problem("data.test", what, "Name other records for one of the two.")


def idle_choice(training: TrainingSettings, steps: int | None) -> str | None:
    """The warning of a choice between validations that a run of so many steps cannot make, or None."""
    known = training.model_copy(update={"max_steps": steps})
    return next((f"{p.where}: {p.what} {p.fix}" for p in choice_conflicts(known)), None)


def needs_peft(lora: LoraSettings) -> list[str]:
    """The settings in use that the backend peft alone takes."""
    used = {"lora.dora": lora.dora, "lora.loraplus_ratio": lora.loraplus_ratio is not None}
    return [name for name in used if used[name]]


def _of_lora(settings: RunSettings) -> list[Problem]:
    found, lora = [], settings.lora
    if ALL_LINEAR in lora.target_modules and len(lora.target_modules) > 1:
        what = f"{ALL_LINEAR} names all layers, and others stand beside it."
        found.append(Problem("lora.target_modules", what, "Give one of the two."))
    for name in needs_peft(lora) if settings.backend == "unsloth" else ():
        fix = f"Set backend=peft or auto, or leave {name} as it is by default."
        found.append(Problem(name, "unsloth was not tried with it.", fix))
    return found


def endless_warmup(training: TrainingSettings, steps: int | None) -> str | None:
    """The warning of a warm-up that a run of so many steps does not outlast, or None."""
    if not steps or training.warmup_steps < steps:
        return None
    share = (steps - 1) / training.warmup_steps  # the first step has none of it
    learns = f"at most {share:.2g} of training.learning_rate is reached, so little is learned."
    fix = f"Set training.warmup_steps={steps // 10}, or train for more steps."
    return f"training.warmup_steps={training.warmup_steps} does not end within the run's {steps} steps: {learns} {fix}"
