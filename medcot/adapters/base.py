"""Checks of a base model's folder before anything opens it: a configuration, whole weights, a tokenizer.

Loads no model library. The weights that are checked are those that transformers would read, and no others.
"""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from medcot import hub
from medcot.errors import BadInput, Problem, collected
from medcot.hub import CONFIG
from medcot.machine import has_cuda
from medcot.safety.foreign import LFS_POINTER, read_json
from medcot.settings import HUB_NAME, STARTER, ModelSettings, is_folder

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken.json")
IMPLEMENTATIONS = ("_implementation", "_implementation_internal")  # how such settings' names end
AGAIN = "Download or copy the model again."


def check_base(model: ModelSettings) -> ModelSettings:
    """Pin a base's Hub commit, or check its local folder. Raises BadInput for what is missing or no model."""
    checked = hub.check_model(model)
    if folder := local_folder(checked):
        problems: list[Problem] = []
        with collected(problems):
            require_model(folder)
        if problems and HUB_NAME.fullmatch(model.id):
            fix = "For the Hub's model of this name, start from a folder that does not hold it."
            problems.append(_problem(f"{model.id} is a folder here, which comes first.", fix))
        if problems:
            raise BadInput(problems)
    return checked


def local_folder(model: ModelSettings) -> Path | None:
    """The folder that the settings name; None for the starter and for models on the Hub, which a commit tells."""
    is_local = model.id != STARTER and not model.revision and is_folder(model.id)
    return Path(model.id).expanduser() if is_local else None


def require_model(folder: Path) -> None:
    """Check the files of a model. Raises BadInput with all that is missing, cut off or of another kind."""
    if not (folder / "config.json").is_file() or (folder / CONFIG).is_file():
        raise BadInput(_no_model(folder))
    problems = [_problem(f"{folder / name} {what}", fix) for name, what, fix in _weight_damage(folder)]
    try:
        foreign = _foreign_kernels(read_json(folder / "config.json"))
    except (OSError, ValueError):
        problems.append(_problem(f"{folder / 'config.json'} cannot be read.", AGAIN))
    else:
        problems += [_problem(f"{folder / 'config.json'} {what}", "Take the line out.") for what in foreign]
    if not any(any(folder.glob(pattern)) for pattern in TOKENIZERS):
        fix = "Copy tokenizer.json and tokenizer_config.json of the model that it was made from into it."
        problems.append(_problem(f"{folder} holds no tokenizer.", fix))
    if problems:
        raise BadInput(problems)


def quantized(folder: Path) -> Problem | None:
    """Why a model whose weights are stored in a few bits cannot be trained on here; None if it can, or is none."""
    try:
        method = read_json(folder / "config.json")["quantization_config"]["quant_method"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if method == "bitsandbytes":
        what = f"{folder} is quantized with bitsandbytes, which needs a CUDA GPU."
        return None if has_cuda() else _problem(what, "Name the model in 16 bits.")
    what = f"the weights in {folder} are quantized ({method}), and nothing is trained on those."
    return _problem(what, "Name the model in 16 bits; model.quantization=4bit makes it small on a CUDA GPU.")


def _foreign_kernels(config: Any) -> list[str]:
    """Settings of a configuration that name code on the Hub, which transformers would fetch and run."""
    found, parts = [], [config]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            parts += part.values()
            named = {key: value for key, value in part.items() if key.endswith(IMPLEMENTATIONS) and "/" in str(value)}
            found += [f"asks for code of the Hub, which is never run ({k}: {v!s:.60})." for k, v in named.items()]
    return found


def _problem(what: str, fix: str) -> Problem:
    return Problem("model.id", what, fix)


def _no_model(folder: Path) -> Problem:
    """What a folder is that has no configuration of a model, or an adapter's beside it."""
    if (folder / CONFIG).is_file():  # transformers would load the base that it names
        fix = f"Name the base; where the model itself lies in the same folder, move {CONFIG} out of it."
        return _problem(f"{folder} holds an adapter, and a base is needed.", fix)
    if any(folder.glob("*.gguf")):
        fix = "Name the model that it was made from, in safetensors."
        return _problem(f"{folder} holds a GGUF file and no config.json; GGUF is not trained on.", fix)
    return _problem(f"{folder} holds no config.json, so it is no model.", "Name a folder that save_pretrained wrote.")


def _weight_damage(folder: Path) -> list[tuple[str, str, str]]:
    """(file, what is wrong, what to do) of the weights."""
    if (folder / SINGLE).is_file():
        names: list[Any] = [SINGLE]
    elif (folder / INDEX).is_file():
        try:
            names = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return [(INDEX, "cannot be read.", AGAIN)]
    elif pickles := sorted(p.name for p in folder.glob("*.bin")):
        return [("", f"{hub.NO_SAFETENSORS} {pickles[0]} is a pickle, which can run code.", "Convert it.")]
    else:
        return [("", f"{hub.NO_SAFETENSORS}", f"Weights are in {SINGLE}, or in the files that {INDEX} names.")]
    return [(str(name), *damage) for name in names if (damage := _damage(folder, name))]


def _damage(folder: Path, name: Any) -> tuple[str, str] | None:
    """What is wrong with a file of weights and what to do, or None."""
    file = folder / str(name)
    if file.name != name or not file.is_file():
        return f"is not there, and {INDEX} names it.", AGAIN
    with file.open("rb") as opened:
        if opened.read(len(LFS_POINTER)) == LFS_POINTER:
            return "is a Git LFS pointer and not the weights.", "Fetch them: git lfs pull"
    try:
        with safe_open(file, "np") as tensors:
            return None if tensors.keys() else ("holds no weights.", AGAIN)
    except (OSError, SafetensorError):
        return "is cut off or no safetensors file.", AGAIN
