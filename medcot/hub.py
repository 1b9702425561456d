"""Reading from the Hugging Face Hub. Every failure comes soon and says what to do.

Only the real clients are used, so HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE work as everywhere.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medcot.errors import BadInput, Problem, first_line
from medcot.settings import STARTER, DataSettings, ModelSettings
from medcot.settings.names import is_folder, is_hub_name, located

CONNECT_SECONDS = 4.0
# Where a problem with it lies. A benchmark is a data set too.
WHERE = {"model": "model.id", "data set": "data.source", "adapter": "adapter", "benchmark": "--questions"}
WHERE |= {"backup": "training.backup", "run": "--resume"}
NOT_THE_HUB = "If this network has a sign-in page, sign in with a browser; else check the proxy and HF_ENDPOINT."
NO_SAFETENSORS = "has no safetensors weights, and nothing else is loaded."
# No pickles: weights come as safetensors or not at all.
MODEL_FILES = [
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "*.jinja"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt"),
]
# A few small files, none of them code: weights, how they are shaped, how they were asked, and the run's settings.
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
CONTRACT, SETTINGS = "prompt_contract.json", "settings.json"
# Of a tokenizer only what may hold a chat template: the tokens are the base's.
ADAPTER_FILES = [CONFIG, WEIGHTS, CONTRACT, SETTINGS, "chat_template.jinja", "tokenizer_config.json"]


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE says to work from the local cache alone."""
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
    """Nothing answers at the Hub's address. A second request would only wait as long again."""


def require_hub(where: str) -> None:
    """Raise BadInput if the token is none that can be sent, Unreachable if nothing answers."""
    from huggingface_hub import get_token

    if not (token := get_token() or "").isascii() or not token.isprintable():
        fix = "Copy it once more from your account's page of access tokens."
        raise BadInput.of("HF_TOKEN", "holds a character that no token has, perhaps one that is not seen.", fix)
    if not is_offline() and (reason := unreachable()):
        what = f"the Hugging Face Hub at {endpoint()} cannot be reached ({reason})."
        fix = "Check the network, set HF_HUB_OFFLINE=1 to use what is cached, or name local files."
        raise Unreachable.of(where, what, fix)


def check_model(model: ModelSettings) -> ModelSettings:
    """Pin a Hub model's commit, or resolve a local folder. Raises BadInput where there is none."""
    if model.id == STARTER:
        return model
    if not is_folder(model.id):
        if not is_hub_name(model.id):
            fix = "Check the path; a Hub model is named OWNER/NAME."
            raise BadInput.of("model.id", f"there is no folder {model.id}.", fix)
        return pin_model(model)
    return model.model_copy(update={"id": located(model.id)})


def pin_model(model: ModelSettings) -> ModelSettings:
    """Pin the commit that the revision means now. Raises BadInput without the Hub, the model or its safetensors."""
    require_hub("model.id")
    if is_offline():
        pinned = model if model.revision else model.model_copy(update={"revision": _cached_commit(model.id)})
        return pinned.model_copy(update={"revision": download_model(pinned).name})
    info = _info("model", model.id, model.revision)
    if not any(name.endswith(".safetensors") for name in _files(info)):
        raise BadInput.of("model.id", f"{model.id} {NO_SAFETENSORS}", "Choose a repository that has them.")
    return model.model_copy(update={"revision": info.sha})


def _info(kind: str, name: str, revision: str | None) -> Any:
    """What the Hub says of a repository. Raises BadInput where it is missing or closed to this account."""
    from huggingface_hub import HfApi

    repo_type = "dataset" if kind in ("data set", "benchmark") else "model"
    with _in_words(kind, name, revision):
        info = HfApi().repo_info(name, revision=revision, repo_type=repo_type, timeout=10)
        if not info.sha:
            raise ValueError("no commit")
        if info.gated:  # anybody may read its description, and only those who accepted its terms its files
            HfApi().auth_check(name, repo_type=repo_type)
    return info


def repository(kind: str, name: str) -> Any | None:
    """What the Hub says of a repository, its files with their sizes; None if this account sees none of that name."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    with _in_words(kind, name, None):
        try:
            return HfApi(endpoint=endpoint()).model_info(name, files_metadata=True, timeout=10)
        except RepositoryNotFoundError:
            return None


def fetch(kind: str, name: str, revision: str, files: list[str], folder: Path) -> None:
    """Download the named files of a repository into a folder. Raises BadInput where they cannot be had."""
    from huggingface_hub import HfApi

    with _in_words(kind, name, revision):
        HfApi(endpoint=endpoint()).snapshot_download(name, revision=revision, allow_patterns=files, local_dir=folder)


def _files(info: Any) -> set[str]:
    return {sibling.rfilename for sibling in info.siblings or []}


def _cached_commit(name: str) -> str | None:
    """The commit of a cached model: of its main branch, or the newest where it was fetched by commit alone."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = [r for r in scan_cache_dir().repos if (r.repo_type, r.repo_id) == ("model", name)]
    except CacheNotFound:
        return None
    if not repos or not repos[0].revisions:
        return None
    return (repos[0].refs.get("main") or max(repos[0].revisions, key=lambda r: r.last_modified)).commit_hash


def download_model(model: ModelSettings) -> Path:
    """The local folder of a Hub model at its pinned commit. Raises BadInput where it cannot be fetched."""
    return _download("model", model.id, model.revision, MODEL_FILES)


def download_adapter(name: str, revision: str | None) -> tuple[str, Path]:
    """An adapter's commit and its local folder. Raises BadInput where it is missing, or no LoRA in safetensors."""
    require_hub("adapter")
    if not is_offline():
        info = _info("adapter", name, revision)
        files, revision = _files(info), str(info.sha)
        if CONFIG not in files:
            raise BadInput.of(name, "is no adapter: it has no adapter_config.json.", "Name a PEFT adapter.")
        if WEIGHTS not in files:
            pickled = "adapter_model.bin" in files
            what = "has its weights in a pickle, which can run code." if pickled else f"has no {WEIGHTS}."
            raise BadInput.of(name, what, f"Ask its author for {'safetensors' if pickled else 'it'}.")
    folder = _download("adapter", name, revision, ADAPTER_FILES)
    return folder.name, folder  # the cache names a snapshot's folder by its commit


def _download(kind: str, name: str, revision: str | None, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        with _in_words(kind, name, revision):
            return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except LocalEntryNotFoundError:
        raise _not_cached(kind, name) from None


def _not_cached(kind: str, name: str) -> BadInput:
    what = f"{name} is not in the local cache, and the Hub was not asked or did not answer."
    return BadInput.of(WHERE[kind], what, "Unset HF_HUB_OFFLINE, or check the network.")


def download_data_file(name: str, revision: str, file: str) -> tuple[str, Path]:
    """The commit of a benchmark's revision, and its one file. Raises BadInput where it is missing or not cached."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    require_hub(WHERE["benchmark"])
    if not is_offline():
        info = _info("benchmark", name, revision)
        revision = str(info.sha)
        if file not in (there := _files(info)):
            readable = sorted(other for other in there if other.endswith((".parquet", ".json", ".jsonl")))
            what = f"{name} at revision {revision} has no file {file}; it has {', '.join(readable[:10]) or 'none'}."
            raise BadInput.of(WHERE["benchmark"], what, "Leave the revision out, or download a file and name its path.")
    try:
        with _in_words("benchmark", name, revision):
            path = Path(hf_hub_download(name, file, repo_type="dataset", revision=revision))
    except LocalEntryNotFoundError:
        raise _not_cached("benchmark", name) from None
    return path.parents[file.count("/")].name, path  # the cache names a snapshot's folder by its commit


def pin_data(data: DataSettings) -> DataSettings:
    """Pin the commit that the data set's revision means now. Raises BadInput where it is missing."""
    require_hub("data.source")
    revision = data.revision if is_offline() else _info("data set", data.source, data.revision).sha
    return data.model_copy(update={"revision": revision})


def load_hub_rows(data: DataSettings) -> Iterator[Mapping[str, object]]:
    """The rows of a Hub data set's split. Raises BadInput for a missing data set, configuration or split."""
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    require_hub("data.source")
    datasets.disable_progress_bars()
    with _in_words("data set", data.source, data.revision):
        try:
            rows = datasets.load_dataset(data.source, data.config, split=data.split, revision=data.revision)
        except datasets.exceptions.DatasetNotFoundError as error:
            raise BadInput(_not_on_hub("data set", data.source, data.revision, error)) from None
        except (ValueError, OSError, RuntimeError, datasets.exceptions.DatasetGenerationError) as error:
            if isinstance(error, OSError) and (error.errno is not None or isinstance(error, HfHubHTTPError)):
                raise
            # The text of a ValueError names the configurations or splits that exist.
            what = f"(configuration {data.config}, split {data.split}) cannot be loaded: {first_line(error)}"
            fix = "Set data.config and data.split to what it has."
            if isinstance(error, RuntimeError):  # it brings a script to load it with, which is never run
                fix = "Choose one that is stored as Parquet, JSON or CSV, or download its files and name one."
            if isinstance(error, OSError):
                fix = "Unset HF_HUB_OFFLINE." if is_offline() else "Check network, proxy and HF_ENDPOINT; try again."
            raise BadInput.of("data.source", f"{data.source} {what}", fix) from None
    yield from rows


@contextmanager
def _in_words(kind: str, name: str, revision: str | None) -> Iterator[None]:
    """Turn errors of the Hub's clients into BadInput."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        yield
    except (HfHubHTTPError, HFValidationError) as error:
        raise BadInput(_not_on_hub(kind, name, revision, error)) from None
    except httpx.HTTPError as error:
        what = f"the Hub stopped answering about the {kind} {name} ({str(error) or type(error).__name__})."
        raise BadInput.of(WHERE[kind], what, "Try again.") from None
    except OSError as error:
        if error.errno is None:  # an error of the Hub's clients, which derive theirs from OSError
            raise
        what = f"the {kind} {name} cannot be stored: {error.strerror}."
        raise BadInput.of(WHERE[kind], what, "Free some space, or set HF_HOME to another folder.") from None
    except (ValueError, TypeError, KeyError) as error:  # what the clients raise over an answer that is not the Hub's
        what = f"what answers at {endpoint()} about the {kind} {name} is not the Hub ({first_line(error)})."
        raise BadInput.of(WHERE[kind], what, NOT_THE_HUB) from None


def _not_on_hub(kind: str, name: str, revision: str | None, error: Exception) -> Problem:
    named = f"{kind} {name}" + (f" at revision {revision}" if revision else "")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        what = f"the Hub does not give the {named} to this account, or there is none (HTTP {status})."
        fix = "Check the name; for a gated one accept its terms on its page and set HF_TOKEN."
    elif status in (404, None):
        what, fix = f"there is no {named} on {endpoint()}.", "Check the spelling, or name a local path."
    elif status == 429:
        what = f"the Hub was asked too often, and does not answer for the {named} (HTTP 429)."
        fix = "Wait some minutes; with HF_TOKEN set it answers more often."
    else:
        what, fix = f"the Hub answered HTTP {status} for the {named}.", "Try again later."
    return Problem(WHERE[kind], what, fix)
