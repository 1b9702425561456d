"""One way to open an adapter: a run's id, a local folder, or OWNER/NAME[@revision] on the Hub.

What comes out is a small value that travels to a worker: where the adapter lies, its base, its prompt contract. Nothing
that an adapter's files say is followed as a path, and nothing but safetensors is fetched or read.
"""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from medcot import hub
from medcot.device import has_cuda
from medcot.errors import BadInput, Problem, first_line
from medcot.jobdirs import command
from medcot.preflight import check_model
from medcot.prompts import PromptContract
from medcot.runs import Run, RunStore
from medcot.safe_adapter import CONFIG, require_safe
from medcot.settings import STARTER, EvaluationSettings, ModelSettings, PromptSettings, RunSettings

CONTRACT = "prompt_contract.json"
SETTINGS = "settings.json"
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
# Unsloth publishes copies of a model that are in 4 bits already; these load on a CUDA GPU alone.
IN_4BIT = re.compile(r"(?:-unsloth)?-bnb-4bit$")


class Adapter(BaseModel):
    """An adapter that can be loaded. `name` is its identity for people: a run's id, a folder, OWNER/NAME@commit.

    `origin` says where exactly one that is no run's lies: the folder's path, or OWNER/NAME with the whole commit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    path: Path
    base: ModelSettings
    prompt: PromptSettings
    contract: PromptContract | None = None  # None: made from `prompt` and the base's tokenizer
    origin: str | None = None
    trained_on: str | None = None  # the exact base that it was trained on, where a run says so
    max_new_tokens: int = EvaluationSettings().max_new_tokens


def open_adapter(
    name: str, store: RunStore, *, style: str | None = None, base: str | None = None, checked: bool = True
) -> Adapter:
    """The adapter that `name` means. `style` and `base` say what an adapter without contract or base does not.

    `checked` asks whether the base is there, on the Hub where it lies there, and pins its commit. Raises BadInput where
    there is no such adapter, where it is not LoRA in safetensors, or where how to ask it is unknown.
    """
    if (run := _run(name, store)) is not None:
        return of_run(run, style=style)
    folder = _folder(name)
    if folder is not None:
        found = of_folder(folder, style=style, base=base)
    elif HUB_NAME.fullmatch(name.partition("@")[0]):
        hub_id, _, revision = name.partition("@")
        commit, folder = hub.download_adapter(hub_id, revision or None)
        found = of_folder(folder, name=f"{hub_id}@{commit[:12]}", style=style, base=base)
        found = found.model_copy(update={"origin": f"{hub_id}@{commit}"})
    else:
        return of_run(store.get(name), style=style)
    return found.model_copy(update={"base": check_model(found.base)}) if checked else found


def _run(name: str, store: RunStore) -> Run | None:
    """The run whose id, folder or adapter folder this is; None where it is none."""
    exact = next((run for run in store.list() if run.id == name), None)
    if exact is not None or name == "latest":
        return exact or store.get(name)
    folder = _folder(name)
    if folder is None:
        return None
    folder = folder.parent if folder.name == "adapter" else folder
    return Run(folder) if (folder / SETTINGS).is_file() and (folder / "status.json").is_file() else None


def _folder(name: str) -> Path | None:
    """The folder that a name means: a path plainly written as one, or a folder here that looks like an adapter."""
    plainly = name.startswith((".", "/", "~"))
    try:
        path = Path(name).expanduser()
        if path.is_dir() and (plainly or (path / CONFIG).is_file() or (path / SETTINGS).is_file()):
            return path.resolve()
    except (OSError, ValueError, RuntimeError):
        return None
    if plainly:
        raise BadInput(Problem(name, "there is no such folder.", "Name an adapter folder, a run, or OWNER/NAME."))
    return None


def of_run(run: Run, *, style: str | None = None) -> Adapter:
    """A run's adapter. Raises BadInput where it has none, or one without its contract."""
    if not run.has_adapter:
        raise BadInput(
            Problem(
                "run",
                f"{run.id} has no adapter; it is {run.status().state}.",
                f"Choose a finished run: `{command('runs', run.path.parent)}` lists them.",
            )
        )
    settings = run.settings()
    contract, adopted = read_contract(run.adapter_dir), run.origin() is not None
    if contract is None and style is None and not adopted:
        raise BadInput(no_contract(run.id))
    plan = run.plan()
    return Adapter(
        name=run.id,
        path=run.adapter_dir.resolve(),
        base=settings.model,
        # Whoever adopted an adapter without a contract has said how to ask it.
        prompt=settings.prompt if contract or (adopted and style is None) else _prompt(style),
        contract=contract,
        trained_on=plan.model if plan else None,
        max_new_tokens=settings.evaluation.max_new_tokens,
    )


def of_folder(folder: Path, *, name: str | None = None, style: str | None = None, base: str | None = None) -> Adapter:
    """The adapter in a folder, with the base that its files name or the caller does. Raises BadInput, all at once."""
    config, name = require_safe(folder), name or folder.name
    contract, problems = read_contract(folder), []
    if contract is None and style is None:
        problems.append(no_contract(name))
    model = None
    try:
        model = _model_settings("--base", id=base) if base else _base(name, config, published_settings(folder))
    except BadInput as bad:
        problems += bad.problems
    if problems or model is None:
        raise BadInput(problems)
    prompt = PromptSettings(style=contract.style, system=contract.system) if contract else _prompt(style)
    return Adapter(name=name, path=folder, base=model, prompt=prompt, contract=contract, origin=str(folder))


def read_contract(folder: Path) -> PromptContract | None:
    """The contract that lies beside an adapter; None where there is none. Raises BadInput where it cannot be read."""
    path = folder / CONTRACT
    try:
        return PromptContract.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadInput(
            Problem(str(path), f"cannot be read: {first_line(error)}.", "Use the adapter as it was saved.")
        ) from None


def no_contract(name: str) -> Problem:
    return Problem(
        name,
        f"has no {CONTRACT}, so how it was asked in training is unknown.",
        "Say which contract: --style chat (the base's chat template), or --style plain (the text that the reference "
        "project trained on).",
    )


def _prompt(style: str | None) -> PromptSettings:
    try:
        return PromptSettings.model_validate({"style": style})
    except ValidationError:
        raise BadInput(Problem("--style", f"is chat or plain, not {style!r}.")) from None


def published_settings(folder: Path) -> RunSettings | None:
    """The run's settings, where medcot published the adapter with them."""
    try:
        return RunSettings.model_validate_json((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def other_base(folder: Path, base: str) -> str | None:
    """The base that an adapter's own files name, where that is another model than the Hub's `base`.

    Models count by what follows the owner: copies of one have many owners.
    """
    named = str(require_safe(folder).get("base_model_name_or_path"))
    both = HUB_NAME.fullmatch(named) and HUB_NAME.fullmatch(base)
    return named if both and _model(named) != _model(base) else None


def _model(name: str) -> str:
    return IN_4BIT.sub("", name.partition("/")[2]).lower()


def _base(name: str, config: dict[str, Any], published: RunSettings | None) -> ModelSettings:
    """The base that an adapter's files name, if it is the starter or on the Hub; a path of another machine is not."""
    if published and published.model.id == STARTER:
        return ModelSettings(id=STARTER)
    named, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(named, str) or not HUB_NAME.fullmatch(named) or Path(named).exists():
        raise BadInput(
            Problem(
                name,
                f"names {json.dumps(named)} as its base, which is no model on the Hub or could be a folder here, "
                "and is not followed.",
                "Say which base: --base OWNER/NAME, --base FOLDER or --base starter",
            )
        )
    revision = revision if isinstance(revision, str) else None
    if IN_4BIT.search(named):
        if not has_cuda():
            full = IN_4BIT.sub("", named)
            raise BadInput(
                Problem(name, f"has the base {named}, which needs a CUDA GPU.", f"Name another copy: --base {full}")
            )
        return _model_settings(name, id=named, revision=revision, quantization="4bit")
    quantization = published.model.quantization if published and has_cuda() else "none"
    return _model_settings(name, id=named, revision=revision, quantization=quantization)


def _model_settings(where: str, **values: Any) -> ModelSettings:
    """Raises BadInput where what a person or an adapter's file says cannot be a base."""
    try:
        return ModelSettings(**values)
    except ValidationError as error:
        what = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())
        raise BadInput(
            Problem(where, f"names no base that can be used ({what}).", "Say which: --base OWNER/NAME")
        ) from None
