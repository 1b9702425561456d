"""One way to open an adapter: a run's id, a local folder, or OWNER/NAME[@revision] on the Hub.

The result is a small value that is sent to a worker: the adapter's place, its base, its prompt contract. Nothing in an
adapter's files is followed as a path; only safetensors, JSON and a chat template are fetched and read.
"""

import json
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from medcot import hub
from medcot.adapters.base import check_base
from medcot.adapters.verify import Config, require_safe
from medcot.errors import BadInput, Problem, collected, first_line
from medcot.hub import CONFIG, CONTRACT, SETTINGS
from medcot.machine import has_cuda
from medcot.prompts.chat_template import saved_template, template_hash
from medcot.prompts.contract import STYLES, PromptContract
from medcot.runs.job_dir import STATUS
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.safety.foreign import read_small
from medcot.settings import (
    HUB_NAME,
    STARTER,
    EvaluationSettings,
    ModelSettings,
    PromptSettings,
    RunSettings,
    as_written,
    is_path,
)
from medcot.settings.names import located

# Unsloth publishes copies of models in 4 bits, which load only on a CUDA GPU.
IN_4BIT = re.compile(r"(?:-unsloth)?-bnb-4bit$")


class Adapter(BaseModel):
    """An adapter that can be loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str  # for people: a run's id, a folder, OWNER/NAME@commit
    path: Path
    base: ModelSettings
    prompt: PromptSettings
    contract: PromptContract | None = None  # None: made from `prompt` and the base's tokenizer
    origin: str | None = None  # of one that is no run's: the folder's path, or OWNER/NAME with the whole commit
    trained_on: str | None = None  # the exact base that it was trained on, if a run says so
    max_new_tokens: int = EvaluationSettings().max_new_tokens

    def use_own_template(self, tokenizer: Any) -> str | None:
        """Give the base's tokenizer the chat template saved with the adapter, if it was trained under that; say so.

        A contract says by its hash which template that was; without one it is the adapter's own.
        """
        own, base = saved_template(self.path), tokenizer.chat_template
        base = base.get("default") if isinstance(base, dict) else base  # some tokenizers have several, by name
        if own is None or own == base or STYLES[self.prompt.style].text:
            return None
        if self.contract and self.contract.template_hash != template_hash(own):
            return None
        tokenizer.chat_template = own
        return (
            "This adapter was saved with another chat template than its base's. Both arms are asked with the adapter's."
        )


def open_adapter(
    name: str, store: RunStore, *, style: str | None = None, base: str | None = None, checked: bool = True
) -> Adapter:
    """The adapter that `name` means. `style` and `base` say what an adapter without contract or base does not.

    `checked`: look up the base, on the Hub if it is no local one, and pin its commit. Raises BadInput if there is no
    such adapter, it is not LoRA in safetensors, or how to ask it is unknown.
    """
    if run := _run(name, store):
        return of_run(run, style=style)
    if folder := _folder(name):
        found = of_folder(folder, style=style, base=base)
    elif HUB_NAME.fullmatch(name.partition("@")[0]):
        hub_id, _, revision = name.partition("@")
        commit, folder = hub.download_adapter(hub_id, revision or None)
        found = of_folder(folder, name=f"{hub_id}@{commit[:12]}", style=style, base=base)
        found = found.model_copy(update={"origin": f"{hub_id}@{commit}"})
    else:
        return of_run(store.get(name), style=style)
    return found.model_copy(update={"base": check_base(found.base)}) if checked else found


def _run(name: str, store: RunStore) -> Run | None:
    """The run whose id, folder or adapter folder this is; None if it is none."""
    exact = next((run for run in store.list() if run.id == name), None)
    if exact is not None or name == "latest":
        return exact or store.get(name)
    if (folder := _folder(name)) is None:
        return None
    folder = folder.parent if folder.name == "adapter" else folder
    return Run(folder) if (folder / SETTINGS).is_file() and (folder / STATUS).is_file() else None


def _folder(name: str) -> Path | None:
    """The folder that a name means: anything written as a path, or a folder here that looks like an adapter."""
    plainly = is_path(name)
    try:
        path = Path(name).expanduser()
        if path.is_dir() and (plainly or (path / CONFIG).is_file() or (path / SETTINGS).is_file()):
            return path.resolve()
    except (OSError, ValueError, RuntimeError):
        return None
    if plainly:
        raise BadInput.of(name, "there is no such folder.", "Name an adapter folder, a run, or OWNER/NAME.")
    return None


def of_run(run: Run, *, style: str | None = None) -> Adapter:
    """A run's adapter. Raises BadInput if it has none, or one without its contract."""
    run.require_adapter()
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
    config = require_safe(folder)
    contract, model, name = read_contract(folder), None, name or folder.name
    problems = [no_contract(name)] if contract is None and style is None else []
    with collected(problems):
        model = _model_settings("--base", id=located(base)) if base else _base(name, config, folder)
    if problems or model is None:
        raise BadInput(problems)
    prompt = PromptSettings(style=contract.style, system=contract.system) if contract else _prompt(style)
    return Adapter(name=name, path=folder, base=model, prompt=prompt, contract=contract, origin=str(folder))


def read_contract(folder: Path) -> PromptContract | None:
    """The contract that lies beside an adapter; None if there is none. Raises BadInput if it cannot be read."""
    path = folder / CONTRACT
    try:
        return PromptContract.model_validate_json(read_small(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        what = f"cannot be read: {first_line(error)}."
        raise BadInput.of(str(path), what, "Use the adapter as it was saved.") from None


def no_contract(name: str) -> Problem:
    what = f"has no {CONTRACT}, so how it was asked in training is unknown."
    plain = "--style plain (the text that the reference project trained on)."
    chat = "--style chat (the adapter's own chat template, or else its base's)"
    return Problem(name, what, f"Say which contract: {chat}, or {plain}")


def _prompt(style: str | None) -> PromptSettings:
    if style not in STYLES:
        raise BadInput.of("--style", f"is {' or '.join(STYLES)}, not {style!r}.")
    return PromptSettings.model_validate({"style": style})


def published_settings(folder: Path) -> RunSettings | None:
    """The run's settings, if medcot published the adapter with them."""
    try:
        return as_written(read_small(folder / SETTINGS))
    except (OSError, ValueError):
        return None


def other_base(folder: Path, base: str) -> str | None:
    """The base that an adapter's files name, if that is another model than the Hub's `base`.

    Models are compared by what follows the owner: copies of one have many owners.
    """
    named = str(require_safe(folder).base)
    models = {IN_4BIT.sub("", name.partition("/")[2]).lower() for name in (named, base)}
    return named if HUB_NAME.fullmatch(named) and HUB_NAME.fullmatch(base) and len(models) == 2 else None


def _base(name: str, config: Config, folder: Path) -> ModelSettings:
    """The base that an adapter's files name, if it is the starter or on the Hub; a path of another machine is not."""
    published = published_settings(folder)
    if published and published.model.id == STARTER:
        return ModelSettings(id=STARTER)
    named, revision = config.base, config.revision
    if not isinstance(named, str) or not HUB_NAME.fullmatch(named) or Path(named).exists():
        what = f"names {json.dumps(named):.200} as its base, which is no model on the Hub or could be a folder here"
        fix = "Say which base: --base OWNER/NAME, --base FOLDER or --base starter"
        raise BadInput.of(name, f"{what}, and is not followed.", fix)
    quantization = published.model.quantization if published and has_cuda() else "none"
    if IN_4BIT.search(named):
        if not has_cuda():
            what, full = f"has the base {named}, which needs a CUDA GPU.", IN_4BIT.sub("", named)
            raise BadInput.of(name, what, f"Name another copy: --base {full}")
        quantization = "4bit"
    revision = revision if isinstance(revision, str) else None
    return _model_settings(name, id=named, revision=revision, quantization=quantization)


def _model_settings(where: str, **values: object) -> ModelSettings:
    """Raise BadInput if what a person or an adapter's file says cannot be a base."""
    try:
        return ModelSettings.model_validate(values)
    except ValidationError as error:
        what = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())
        raise BadInput.of(where, f"names no base that can be used ({what}).", "Say which: --base OWNER/NAME") from None
