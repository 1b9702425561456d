"""An adapter merged into its base, in 16 bits, and checked to say the same before it is kept.

The merged model answers fixed questions in float32 and must give the same tokens as base and adapter. It is then
rounded to 16 bits, which can change a greedy choice between near ties, and read back to compute in that format, as any
user will: hidden values of some families are too large for float16. How many tokens it still chooses is reported.
"""

import gc
import itertools
import json
import math
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import psutil
import torch
from transformers import GenerationConfig

from medcot import prompts
from medcot.adapters.card import base_licence, llama_licence
from medcot.adapters.open import Adapter
from medcot.adapters.tensors import header, require_finite
from medcot.data import starter
from medcot.engine import models
from medcot.engine.backends.peft import PeftBackend
from medcot.engine.models import LocalModel
from medcot.errors import BadInput, Problem, WorkerFailed
from medcot.hub import CONTRACT, WEIGHTS
from medcot.machine import write_atomically
from medcot.prompts.contract import PromptContract
from medcot.prompts.pinned import pinned
from medcot.runs.events import Progress, Report
from medcot.runs.export import Exported, drafting
from medcot.settings import ModelSettings
from medcot.workers.protocol import ExportRequest

CHECKED_TOKENS = 48  # of each answer
FORMATS = ("float16", "bfloat16")  # the finer first
AGREEMENT = 0.9  # of the tokens at least, in 16-bit arithmetic: roundings change a few near ties
INSTEAD = "Nothing was kept: use the adapter itself."
CARD = Template(Path(__file__).with_name("merged.md").read_text(encoding="utf-8"))
ROOM = 1.1  # of the disk and memory that the figures say
BYTES_MERGING, BYTES_BESIDE_GPU = 8, 2  # a parameter: float32 twice at the check; a file on its way to and from a GPU


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged model in a folder, checked: its format, its contract, and how many tokens it still chooses in it."""

    folder: Path
    dtype: str
    contract: PromptContract
    tokenizer: Any
    device: str  # where it was checked
    counts: dict[str, int]

    def exported(self, target: Path, **more: Any) -> Exported:
        """The answer to a request whose files lie in the target now."""
        size = sum(file.stat().st_size for file in target.iterdir())
        return Exported(path=str(target), dtype=self.dtype, bytes=size, **self.counts, **more)


def export(request: ExportRequest, report: Report) -> Exported:
    """Write the merged model to the target. Raises BadInput for want of room, WorkerFailed if it answers otherwise."""
    with drafting(request.target) as draft:
        merged = merge(request.adapter, draft, report)
        draft.rename(request.target)
    name = request.adapter.name.replace(" ", "-")
    serve = f"vllm serve {shlex.quote(str(request.target))} --served-model-name {shlex.quote(name)}"
    return merged.exported(request.target, commands=[serve])


def merge(adapter: Adapter, draft: Path, report: Report, *, more_bits: float = 0) -> Merged:
    """Write the merged model to the draft folder; `more_bits` a number are going to stand beside it on the disk.

    Raises BadInput for want of room, WorkerFailed if it answers otherwise than base and adapter.
    """
    local = models.resolve(adapter.base, report)
    size = sum(sum(map(math.prod, header(file).values())) for file in sorted(local.path.glob("*.safetensors")))
    device = roomy_device(size)
    require_room(size, draft, device, 2 + more_bits / 8)
    require_finite(adapter.path / WEIGHTS)
    report(Progress(stage="Loading base and adapter"))
    base, tokenizer = load(local.path, "float32", device)
    adapter.use_own_template(tokenizer)
    contract = adapter.contract or prompts.make_contract(adapter.prompt, tokenizer)
    asked = [prompts.encode_prompt(tokenizer, contract, q) for _, q in starter.SAMPLE_QUESTIONS]
    defaults = generation_defaults(base.generation_config, contract, tokenizer)
    base.generation_config = GenerationConfig()  # the checks are greedy, whatever the base's defaults are
    tuned = PeftBackend().with_adapter(base, adapter.path)
    report(Progress(stage="Asking base and adapter"))
    wanted = [greedy(tuned, ids, contract, tokenizer) for ids in asked]
    report(Progress(stage="Merging"))
    merged = tuned.merge_and_unload(safe_merge=True)
    del tuned, base
    if difference := first_difference(wanted, [greedy(merged, ids, contract, tokenizer) for ids in asked]):
        raise WorkerFailed(f"The merged model does not say what base and adapter say: {difference}. {INSTEAD}")
    merged.generation_config = defaults
    refused = []
    for name in formats(merged, local.path):
        report(Progress(stage=f"Writing in {name}"))
        write(merged, tokenizer, adapter, contract, draft, name)
        report(Progress(stage=f"Reading back and asking again in {name}"))
        same, tokens = same_tokens(load(draft, name, device)[0], asked, wanted), sum(map(len, wanted))
        gc.collect()
        if same is not None and same >= AGREEMENT * tokens:
            counts = {"prompts": len(asked), "tokens": tokens, "same_tokens": same}
            return Merged(draft, name, contract, tokenizer, device, counts)
        broken = "its logits are not finite" if same is None else f"{same} of {tokens} tokens are the same"
        refused.append(f"in {name} {broken}")
    raise WorkerFailed(f"The merged model cannot be had in 16 bits: {'; '.join(refused)}. {INSTEAD}")


def roomy_device(size: int) -> str:
    """Where `size` parameters are merged and checked: the GPU with 8 bytes free for each, else the CPU."""
    roomy = torch.cuda.is_available() and torch.cuda.mem_get_info()[0] > BYTES_MERGING * size * ROOM
    return "cuda" if roomy else "cpu"


def require_room(size: int, draft: Path, device: str, each: float = 2) -> None:
    """Raise BadInput if `size` parameters do not fit on the disk, at `each` bytes, or into this machine's memory."""
    a_parameter = BYTES_MERGING if device == "cpu" else BYTES_BESIDE_GPU
    disk, memory = each * size * ROOM / 2**30, a_parameter * size * ROOM / 2**30
    there = next(folder for folder in draft.parents if folder.exists())
    free_disk, free_memory = shutil.disk_usage(there).free / 2**30, psutil.virtual_memory().available / 2**30
    problems = []
    if free_disk < disk:
        what = f"{there} has {free_disk:.1f} GiB free, and {disk:.1f} are needed."
        problems.append(Problem("--to", what, "Free some space, or name another disk."))
    if free_memory < memory:
        what = f"{free_memory:.1f} GiB are free, and merging needs {memory:.1f}."
        problems.append(Problem("memory", what, "Close other programs, or use a larger machine."))
    if problems:
        raise BadInput(problems)


def formats(merged: Any, base: Path) -> list[str]:
    """The 16-bit formats to try, the base's first; without those too small for a weight."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    own = config.get("dtype") or config.get("torch_dtype")
    largest = max(float(p.abs().max()) for p in merged.parameters())
    fitting = [name for name in FORMATS if largest < torch.finfo(getattr(torch, name)).max]
    return sorted(fitting, key=lambda name: name != own)


def load(folder: Path, dtype: str, device: str) -> tuple[Any, Any]:
    """(model, tokenizer) on the device, computing in that format."""
    settings = ModelSettings(id=str(folder), dtype=dtype)
    tokenizer = models.load_tokenizer(folder)
    model = PeftBackend(device).load(LocalModel(folder, folder.name), settings, max_length=0)
    return model.eval(), tokenizer


def generation_defaults(own: GenerationConfig, contract: PromptContract, tokenizer: Any) -> GenerationConfig:
    """The base's defaults of generate, ending at the contract's end token too.

    Its special tokens alone if transformers, which reads defaults that contradict themselves, refuses to write them.
    """
    ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    own.eos_token_id = [end for end in dict.fromkeys([*ends, contract.eos_id]) if end is not None]
    try:
        own.validate(strict=True)
    except (TypeError, ValueError):
        kept = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
        return GenerationConfig(**kept, eos_token_id=own.eos_token_id)
    return own


@torch.inference_mode()
def same_tokens(model: Any, asked: list[list[int]], wanted: list[list[int]]) -> int | None:
    """How many of the wanted tokens the model itself chooses after the text before; None if a logit is not finite."""
    same = 0
    for prompt, tokens in zip(asked, wanted, strict=True):
        logits = model(torch.tensor([prompt + tokens], device=model.device)).logits[0, len(prompt) - 1 : -1]
        if not bool(logits.amax(-1).isfinite().all()):
            return None
        same += int((logits.argmax(-1).cpu() == torch.tensor(tokens)).sum())
    return same


@torch.inference_mode()
def greedy(model: Any, prompt: list[int], contract: PromptContract, tokenizer: Any) -> list[int]:
    """The most likely tokens after a prompt, by transformers' generate."""
    ids = torch.tensor([prompt], device=model.device)
    options: dict[str, Any] = {"max_new_tokens": CHECKED_TOKENS, "do_sample": False, "eos_token_id": contract.eos_id}
    options |= {"pad_token_id": tokenizer.pad_token_id, "attention_mask": torch.ones_like(ids)}
    found = model.generate(input_ids=ids, **options)
    return [int(token) for token in found[0, len(prompt) :]]


def first_difference(wanted: list[list[int]], found: list[list[int]]) -> str | None:
    for number, (one, other) in enumerate(zip(wanted, found, strict=True), start=1):
        if one != other:
            same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
            return f"question {number} differs from token {len(list(same)) + 1} on"
    return None


def write(model: Any, tokenizer: Any, adapter: Adapter, contract: PromptContract, draft: Path, dtype: str) -> None:
    """Write the draft folder."""
    shutil.rmtree(draft, ignore_errors=True)
    kind, once = getattr(torch, dtype), dict[int, Any]()  # tied weights stay one
    rounded = {name: once.setdefault(t.data_ptr(), t.to(kind)) for name, t in model.state_dict().items()}
    model.save_pretrained(draft, state_dict=rounded, safe_serialization=True)
    config = json.loads((draft / "config.json").read_text(encoding="utf-8"))
    write_atomically(draft / "config.json", json.dumps({**config, "dtype": dtype}, indent=2))
    pinned(tokenizer, contract).save_pretrained(draft)
    write_atomically(draft / CONTRACT, contract.model_dump_json(indent=1))
    write_atomically(draft / "README.md", card(adapter, contract, dtype))
    if llama := llama_licence(adapter.base):
        write_atomically(draft / "NOTICE", f"{llama.notice}\n{llama.link}\n")


def card(adapter: Adapter, contract: PromptContract, dtype: str) -> str:
    """README.md of the merged model."""
    questions, licence = len(starter.SAMPLE_QUESTIONS), base_licence(adapter.base)
    checked = {"questions": questions, "tokens": CHECKED_TOKENS, "agreement": f"{AGREEMENT:.0%}"}
    ends = ", ".join(map(json.dumps, contract.rules.stops))
    stops = f" Some answers go on after {ends}: tell the server to stop there." if ends else ""
    named = {"name": adapter.name, "base": adapter.base.id, "dtype": dtype, "style": contract.title, "licence": licence}
    return CARD.substitute(checked, stops=stops, **named)
