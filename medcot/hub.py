"""The Hugging Face Hub: is it there, what commit is meant, and what it holds. Every failure is in words, and soon.

Only the real clients are used, so HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE work as everywhere.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medcot.errors import BadInput, Problem, first_line
from medcot.settings import DataSettings, ModelSettings

CONNECT_SECONDS = 4.0
WHERE = {"model": "model.id", "data set": "data.source", "adapter": "adapter"}  # what a problem is said to be with
# No pickles: weights come as safetensors or not at all.
MODEL_FILES = [
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "*.jinja",
]


def is_offline() -> bool:
    """Whether the user chose to work from the local cache alone."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def unreachable() -> str | None:
    """Why the Hub does not answer, or None. Any HTTP answer counts; takes at most about CONNECT_SECONDS."""
    import httpx

    try:
        httpx.head(endpoint(), timeout=CONNECT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return str(error) or type(error).__name__
    return None


class Unreachable(BadInput):
    """Nobody answers at the Hub's address. Asking again for something else would only wait as long again."""


def require_hub(where: str) -> None:
    if not is_offline() and (reason := unreachable()):
        raise Unreachable(
            Problem(
                where,
                f"the Hugging Face Hub at {endpoint()} cannot be reached ({reason}).",
                "Check the network, set HF_HUB_OFFLINE=1 to use what is cached, or name local files.",
            )
        )


def pin_model(model: ModelSettings) -> ModelSettings:
    """The same model with the commit that its revision means now.

    Raises BadInput where the Hub, the model, or its safetensors weights are missing.
    """
    from huggingface_hub import HfApi

    require_hub("model.id")
    if is_offline():
        pinned = model if model.revision else model.model_copy(update={"revision": _cached_commit(model.id)})
        return pinned.model_copy(update={"revision": download_model(pinned).name})
    with _in_words("model", model.id, model.revision):
        info = HfApi().model_info(model.id, revision=model.revision, timeout=10)
        if info.gated:  # the Hub describes it to everybody, and gives its files to those who accepted its terms
            HfApi().auth_check(model.id)
    names = [s.rfilename for s in info.siblings or []]
    if not any(n.endswith(".safetensors") for n in names):
        raise BadInput(
            Problem(
                "model.id",
                f"{model.id} has no safetensors weights, and nothing else is loaded.",
                "Choose a repository that has them.",
            )
        )
    return model.model_copy(update={"revision": info.sha})


def _cached_commit(name: str) -> str | None:
    """The commit of a model in the local cache: of its main branch, or the newest, since what was fetched by its commit
    has no branch's name there."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = [r for r in scan_cache_dir().repos if (r.repo_type, r.repo_id) == ("model", name)]
    except CacheNotFound:
        return None
    found = next(iter(repos), None)
    if found is None or not found.revisions:
        return None
    return (found.refs.get("main") or max(found.revisions, key=lambda r: r.last_modified)).commit_hash


def download_model(model: ModelSettings) -> Path:
    """The local folder of a Hub model at its pinned commit. Raises BadInput where it cannot be fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        with _in_words("model", model.id, model.revision):
            return Path(snapshot_download(model.id, revision=model.revision, allow_patterns=MODEL_FILES))
    except LocalEntryNotFoundError:
        raise BadInput(
            Problem(
                "model.id",
                f"{model.id} is not in the local cache, and the Hub was not asked or did not answer.",
                "Unset HF_HUB_OFFLINE, or check the network.",
            )
        ) from None


# A few small files, none of them code: weights, how they are shaped, how they were asked, and the run's settings.
ADAPTER_FILES = ["adapter_config.json", "adapter_model.safetensors", "prompt_contract.json", "settings.json"]


def download_adapter(name: str, revision: str | None) -> tuple[str, Path]:
    """An adapter's commit and its local folder. Raises BadInput where it is missing, or no LoRA in safetensors."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    require_hub("adapter")
    try:
        with _in_words("adapter", name, revision):
            if is_offline():
                folder = Path(snapshot_download(name, revision=revision, allow_patterns=ADAPTER_FILES))
                return folder.name, folder  # the cache names a snapshot's folder by its commit
            info = HfApi().model_info(name, revision=revision, timeout=10)
            _require_adapter(name, {s.rfilename for s in info.siblings or []})
            commit = str(info.sha)
            return commit, Path(snapshot_download(name, revision=commit, allow_patterns=ADAPTER_FILES))
    except LocalEntryNotFoundError:
        what = f"{name} is not in the local cache, and the Hub was not asked or did not answer."
        raise BadInput(Problem("adapter", what, "Unset HF_HUB_OFFLINE, or check the network.")) from None


def _require_adapter(name: str, files: set[str]) -> None:
    if {"adapter_config.json", "adapter_model.safetensors"} <= files:
        return
    if "adapter_config.json" not in files:
        what, fix = "is no adapter: it has no adapter_config.json.", "Name a PEFT adapter."
    elif "adapter_model.bin" in files:
        what, fix = "has its weights in a pickle, which can run code.", "Ask its author for safetensors."
    else:
        what, fix = "has no adapter_model.safetensors.", "Ask its author for it."
    raise BadInput(Problem(name, what, fix))


def pin_data(data: DataSettings) -> DataSettings:
    """The same data set with the commit that its revision means now. Raises BadInput where it is missing."""
    from huggingface_hub import HfApi

    require_hub("data.source")
    if is_offline():
        return data
    with _in_words("data set", data.source, data.revision):
        info = HfApi().dataset_info(data.source, revision=data.revision, timeout=10)
        if info.gated:
            HfApi().auth_check(data.source, repo_type="dataset")
    return data.model_copy(update={"revision": info.sha})


def load_hub_rows(data: DataSettings) -> Iterator[dict[str, Any]]:
    """The rows of a Hub data set's split. Raises BadInput for a missing data set, configuration or split."""
    import datasets

    require_hub("data.source")
    datasets.disable_progress_bars()
    try:
        with _in_words("data set", data.source, data.revision):
            rows = datasets.load_dataset(data.source, data.config, split=data.split, revision=data.revision)
    except datasets.exceptions.DatasetNotFoundError as error:
        raise BadInput(_not_on_hub("data set", data.source, data.revision, error)) from None
    except (ValueError, OSError, datasets.exceptions.DatasetGenerationError) as error:
        # `datasets` says by ValueError which configurations or splits there are.
        raise BadInput(
            Problem(
                "data.source",
                f"{data.source} (configuration {data.config}, split {data.split}) "
                f"cannot be loaded: {first_line(error)}",
                "Set data.config and data.split to what it has.",
            )
        ) from None
    yield from rows


@contextmanager
def _in_words(kind: str, name: str, revision: str | None) -> Iterator[None]:
    """Raises BadInput for whatever the Hub's clients raise inside."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except (HfHubHTTPError, HFValidationError) as error:
        raise BadInput(_not_on_hub(kind, name, revision, error)) from None
    except httpx.HTTPError as error:
        where = WHERE[kind]
        what = f"the Hub stopped answering about the {kind} {name} ({str(error) or type(error).__name__})."
        raise BadInput(Problem(where, what, "Try again.")) from None
    except OSError as error:
        if error.errno is None:  # the Hub's clients, and requests', derive their own from it
            raise
        what = f"the {kind} {name} cannot be stored: {error.strerror}."
        raise BadInput(Problem(WHERE[kind], what, "Free some space, or set HF_HOME to another folder.")) from None


def _not_on_hub(kind: str, name: str, revision: str | None, error: Exception) -> Problem:
    where = WHERE[kind]
    at = f" at revision {revision}" if revision else ""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return Problem(
            where,
            f"the Hub does not give the {kind} {name}{at} to this account, or there is none (HTTP {status}).",
            "Check the name; for a gated one accept its terms on its page and set HF_TOKEN.",
        )
    if status in (404, None):
        return Problem(
            where,
            f"there is no {kind} {name}{at} on {endpoint()}.",
            "Check the spelling, or name a local path.",
        )
    return Problem(where, f"the Hub answered HTTP {status} for the {kind} {name}{at}.", "Try again later.")
