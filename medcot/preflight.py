"""Everything that can be known to be wrong before a worker is started, found at once.

What passes has its Hub revisions pinned, so that the run says for ever which model and which data it used.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path

from medcot import data, hub, processes
from medcot.device import has_cuda
from medcot.errors import BadInput, Problem
from medcot.settings import STARTER, BadSettings, DataSettings, ModelSettings, RunSettings, is_folder, is_local_data


def prepare(compose: Callable[[], RunSettings]) -> tuple[RunSettings, data.Split]:
    """Compose settings and check them. Raises BadInput with the problems of both at once.

    Where some values are wrong, device, model and data are still checked with the rest of them.
    """
    try:
        settings = compose()
    except BadSettings as bad:
        problems = list(bad.problems)
        if bad.rest:
            known = {p.where for p in problems}
            try:
                check(bad.rest)
            except BadInput as more:
                problems += [p for p in more.problems if p.where not in known]
        raise BadInput(problems) from None
    return check(settings)


def check(settings: RunSettings, *, whole: bool = False) -> tuple[RunSettings, data.Split]:
    """Settings with pinned revisions, and the split. Raises BadInput with all problems of device, model and data.

    `whole`: every record is held out, as where nothing is trained.
    """
    problems = device_problems(settings)
    model, records, split = settings.model, settings.data, None
    hub_answers = True
    try:
        model = check_model(settings.model)
    except BadInput as bad:
        problems += bad.problems
        hub_answers = not isinstance(bad, hub.Unreachable)
    if hub_answers or is_local_data(records.source):
        try:
            records, split = check_data(records, whole=whole)
        except BadInput as bad:
            problems += bad.problems
    if problems or split is None:
        raise BadInput(list({str(p): p for p in problems}.values()))
    return settings.model_copy(update={"model": model, "data": records}), split


def check_data(records: DataSettings, *, whole: bool = False) -> tuple[DataSettings, data.Split]:
    """The data with its Hub commit pinned and its columns found, and the split. Raises BadInput with all problems."""
    if not is_local_data(records.source):
        records = hub.pin_data(records)
    records, split = data.load_fitted(records, whole=whole)
    if is_local_data(records.source) and records.source != STARTER:
        # So that the run finds its data again from any folder.
        records = records.model_copy(update={"source": str(Path(records.source).expanduser().resolve())})
    return records, split


def device_problems(settings: RunSettings) -> list[Problem]:
    found = processes.problems(settings.training.processes, "training.processes")
    if settings.model.quantization == "4bit" and not has_cuda():
        found.append(
            Problem(
                "model.quantization",
                "4bit needs a CUDA GPU, and this machine has none.",
                "Use --recipe starter here, or --set model.quantization=none with a small model.",
            )
        )
    elif settings.model.quantization == "4bit" and not importlib.util.find_spec("bitsandbytes"):
        found.append(
            Problem(
                "model.quantization",
                "4bit needs bitsandbytes, which is not installed.",
                "Install it: pip install 'medcot[gpu]'",
            )
        )
    if settings.backend == "unsloth" and not has_cuda():
        found.append(
            Problem(
                "backend", "unsloth needs a CUDA GPU, and this machine has none.", "Set backend=auto or backend=peft."
            )
        )
    elif settings.backend == "unsloth" and not importlib.util.find_spec("unsloth"):
        found.append(Problem("backend", "unsloth is not installed.", "Install it: pip install 'medcot[gpu]'"))
    return found


def check_model(model: ModelSettings) -> ModelSettings:
    """The model with its Hub commit pinned. Raises BadInput where it does not exist or is not safetensors."""
    if model.id == STARTER:
        return model
    if is_folder(model.id):
        path = Path(model.id).expanduser()
        if not (path / "config.json").is_file():
            raise BadInput(
                Problem(
                    "model.id",
                    f"{path} holds no config.json, so it is no model.",
                    "Name a folder that save_pretrained wrote.",
                )
            )
        if not any(path.glob("*.safetensors")):
            raise BadInput(
                Problem(
                    "model.id",
                    f"{path} has no safetensors weights, and nothing else is loaded.",
                    "Convert the model to safetensors.",
                )
            )
        return model.model_copy(update={"id": str(path.resolve())})
    if model.id.startswith((".", "/", "~")) or model.id.count("/") > 1:
        raise BadInput(
            Problem("model.id", f"there is no folder {model.id}.", "Check the path; a Hub model is named OWNER/NAME.")
        )
    return hub.pin_model(model)
