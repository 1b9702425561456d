"""An adapter merged into its base, in 16 bits, and proven to say the same before anybody gets it.

The sum of base and adapter is rounded to 16 bits, and a rounding can change a greedy choice. So what was written is
read back, asked fixed questions, and compared with base and adapter token by token, all in float32 on the CPU.
"""

import gc
import json
import shutil
from pathlib import Path
from typing import Any

import psutil
import torch

from medcot import licences, prompts, starter
from medcot.adapters import CONTRACT, Adapter
from medcot.engine import models
from medcot.engine.backends.peft import PeftBackend
from medcot.errors import BadInput, Problem, WorkerFailed, is_full_disk
from medcot.events import Progress, Report
from medcot.exporting import draft_of
from medcot.jobdirs import write_atomically
from medcot.prompts import PromptContract
from medcot.safe_adapter import parameters, require_finite
from medcot.settings import ModelSettings

CHECKED_TOKENS = 48  # of each answer
FORMATS = ("float16", "bfloat16")  # the finer first; it is passed over where a weight would not fit
ROOM = 1.1  # of the disk and memory that the figures say


def export(adapter: Adapter, target: Path, report: Report) -> dict[str, Any]:
    """Write the merged model to `target`. Raises BadInput for want of room, WorkerFailed where the texts differ."""
    local = models.resolve(adapter.base, report)
    size = sum(parameters(file) for file in sorted(local.path.glob("*.safetensors")))
    require_room(size, target)
    require_finite(adapter.path / "adapter_model.safetensors")
    report(Progress(stage="Loading base and adapter"))
    base, tokenizer = load_in_float32(local.path)
    contract = adapter.contract or prompts.make_contract(adapter.prompt, tokenizer)
    asked = [prompts.encode_prompt(tokenizer, contract, q) for _, q in starter.SAMPLE_QUESTIONS]
    tuned = PeftBackend().with_adapter(base, adapter.path)
    report(Progress(stage="Asking base and adapter"))
    wanted = [greedy(tuned, ids, contract, tokenizer) for ids in asked]
    report(Progress(stage="Merging"))
    merged = tuned.merge_and_unload(safe_merge=True)
    del tuned, base
    draft, largest = draft_of(target), max(float(p.abs().max()) for p in merged.parameters())
    differences = []
    for name in FORMATS:
        if largest >= torch.finfo(getattr(torch, name)).max:
            continue
        report(Progress(stage=f"Writing in {name}"))
        write(merged, tokenizer, adapter, contract, draft, name)
        report(Progress(stage="Reading back and asking again"))
        written, _ = load_in_float32(draft)
        difference = first_difference(wanted, [greedy(written, ids, contract, tokenizer) for ids in asked])
        del written
        gc.collect()
        if difference is None:
            draft.rename(target)
            total = sum(file.stat().st_size for file in target.iterdir())
            tokens = sum(map(len, wanted))
            return {"path": str(target), "dtype": name, "bytes": total, "prompts": len(asked), "tokens": tokens}
        differences.append(f"{name}: {difference}")
    shutil.rmtree(draft, ignore_errors=True)
    raise WorkerFailed(
        f"The merged model does not say what base and adapter say ({'; '.join(differences)}), so it was not kept. "
        "Use the adapter itself."
    )


def require_room(size: int, target: Path) -> None:
    """Raises BadInput where `size` parameters do not fit: 2 bytes each on the disk, 4 in memory, twice at the check."""
    disk, memory = 2 * size * ROOM, 8 * size * ROOM
    free_disk, free_memory = shutil.disk_usage(target.parent).free, psutil.virtual_memory().available
    problems = []
    if free_disk < disk:
        what = f"{target.parent} has {free_disk / 2**30:.1f} GiB free, and {disk / 2**30:.1f} are needed."
        problems.append(Problem("--to", what, "Free some space, or name another disk."))
    if free_memory < memory:
        what = f"{free_memory / 2**30:.1f} GiB are free, and merging needs {memory / 2**30:.1f}."
        problems.append(Problem("memory", what, "Close other programs, or use a larger machine."))
    if problems:
        raise BadInput(problems)


def load_in_float32(folder: Path) -> tuple[Any, Any]:
    backend, settings = PeftBackend(), ModelSettings(id=str(folder), dtype="float32")
    model, tokenizer = backend.load(models.LocalModel(folder, folder.name), settings, max_length=0)
    return model.to("cpu").eval(), tokenizer


@torch.inference_mode()
def greedy(model: Any, prompt: list[int], contract: PromptContract, tokenizer: Any) -> list[int]:
    """The most likely tokens after a prompt, by transformers' own generate."""
    ids = torch.tensor([prompt])
    found = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=CHECKED_TOKENS,
        do_sample=False,
        eos_token_id=contract.eos_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    tokens: list[int] = found[0, len(prompt) :].tolist()
    return tokens


def first_difference(wanted: list[list[int]], found: list[list[int]]) -> str | None:
    for number, (one, other) in enumerate(zip(wanted, found, strict=True), start=1):
        if one != other:
            pairs = zip(one, other, strict=False)
            at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
            return f"question {number} differs from token {at + 1} on"
    return None


def write(model: Any, tokenizer: Any, adapter: Adapter, contract: PromptContract, draft: Path, dtype: str) -> None:
    """The folder, aside. Raises BadInput for a full disk."""
    with Aside(draft):
        once: dict[int, Any] = {}  # tied weights stay one
        rounded = {
            name: once.setdefault(tensor.data_ptr(), tensor.to(getattr(torch, dtype)))
            for name, tensor in model.state_dict().items()
        }
        model.save_pretrained(draft, state_dict=rounded, safe_serialization=True)
        config = json.loads((draft / "config.json").read_text(encoding="utf-8"))
        write_atomically(draft / "config.json", json.dumps({**config, "dtype": dtype}, indent=2))
        tokenizer.save_pretrained(draft)
        write_atomically(draft / CONTRACT, contract.model_dump_json(indent=1))
        write_atomically(draft / "README.md", card(adapter, contract, dtype))
        if llama := licences.of_llama(adapter.base):
            write_atomically(draft / "NOTICE", f"{llama.notice}\n{llama.link}\n")


class Aside:
    """A folder that is begun anew, and gone when what is written there fails; a full disk is said in words."""

    def __init__(self, draft: Path):
        self._draft = draft

    def __enter__(self) -> None:
        shutil.rmtree(self._draft, ignore_errors=True)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            return
        shutil.rmtree(self._draft, ignore_errors=True)
        if is_full_disk(error):
            raise BadInput(Problem("--to", "the disk is full; nothing was left there.", "Free some space.")) from None


def card(adapter: Adapter, contract: PromptContract, dtype: str) -> str:
    """README.md of the merged model."""
    return f"""# {adapter.name}, merged

**For research only.** Not for care, and no output was checked by a clinician.

Base {adapter.base.id} with the adapter {adapter.name} added in, in {dtype}; checked to say what base and adapter say to
{len(starter.SAMPLE_QUESTIONS)} questions, greedily, {CHECKED_TOKENS} tokens each, in float32. It is asked under the
contract {contract.style} (prompt_contract.json). Licence of the base: {licences.of_base(adapter.base)}
"""
