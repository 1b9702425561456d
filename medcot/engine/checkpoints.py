"""Complete checkpoints only: written aside, hashed, renamed; a resume takes the newest that is whole and fits.

The stock Trainer resumes from a checkpoint that lacks its optimizer or random state without a word, to other weights,
and stumbles over one that was cut off. Here each has a manifest of its files' hashes and of what it depends on.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from medcot.errors import BadInput, Problem
from medcot.jobdirs import write_atomically
from medcot.settings import RunSettings
from medcot.starter import sha256_of

MANIFEST = "manifest.json"
REQUIRED = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json")


def dependencies(settings: RunSettings, fingerprint: str, model: str) -> dict[str, str]:
    """What a checkpoint's weights depend on, name by name: settings that shape training, the data, the model."""
    shaping = settings.model_dump(mode="json", include={"prompt", "lora", "training"})
    # How often one looks or keeps does not change the weights.
    for name in ("log_steps", "validate_steps", "save_steps", "keep_checkpoints", "sample_tokens"):
        shaping["training"].pop(name)
    flat = {
        f"{section}.{key}": json.dumps(value) for section, values in shaping.items() for key, value in values.items()
    }
    dtype = {"model.dtype": settings.model.dtype, "model.quantization": settings.model.quantization}
    return {**flat, **dtype, "data": fingerprint, "model": model}


def keep(written: Path, target: Path, depends_on: dict[str, str], most: int, micro_batch: int, computed: str) -> Path:
    """Turn a finished Trainer folder `checkpoint-N` into a complete checkpoint under `target`; drop the oldest.

    Those of later steps go too: they were passed over when the run went on from an earlier one.
    `micro_batch` is how many sequences went through the model at once: a resume goes on with that many. `computed` says
    on what kind of device, in what numbers and through what: a resume elsewhere is told of, since it is not exact.
    """
    files = {p.name: sha256_of(p) for p in sorted(written.iterdir()) if p.is_file()}
    for name in files:
        _to_disk(written / name)
    manifest = {"depends_on": depends_on, "files": files, "micro_batch": micro_batch, "computed": computed}
    write_atomically(written / MANIFEST, json.dumps(manifest, indent=1))
    final = target / written.name
    shutil.rmtree(final, ignore_errors=True)
    written.rename(final)
    _to_disk(target)  # before the older ones go: a power cut may take one of the two, never both
    kept = sorted(target.glob("checkpoint-*"), key=step_of)
    until_now = kept[: kept.index(final) + 1]
    for stale in [*until_now[:-most], *kept[len(until_now) :]]:
        shutil.rmtree(stale, ignore_errors=True)
    return final


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def micro_batch(checkpoint: Path) -> int:
    """How many sequences went through the model at once when a whole checkpoint was written."""
    return int(_manifest(checkpoint)["micro_batch"])


def computed(checkpoint: Path) -> str:
    """How its steps were computed; empty where it does not say."""
    return str(_manifest(checkpoint).get("computed", ""))


def _manifest(checkpoint: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    return found


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.partition("-")[2])


def damage(checkpoint: Path) -> str | None:
    """What is missing or damaged in a checkpoint, or None where it is whole."""
    try:
        manifest = _manifest(checkpoint)
        files, _ = manifest["files"], manifest["micro_batch"]
        random = random_files(int(manifest["depends_on"].get("training.processes", 1)))
    except (OSError, ValueError, KeyError, TypeError):
        return f"{MANIFEST} is missing or damaged"
    for name in sorted({*files, *REQUIRED, *random}):
        if not (checkpoint / name).is_file() or name not in files:
            return f"{name} is missing"
        if sha256_of(checkpoint / name) != files[name]:
            return f"{name} is damaged"
    return None


def random_files(processes: int) -> list[str]:
    """The Trainer's names for the random states, one a process."""
    return ["rng_state.pth"] if processes == 1 else [f"rng_state_{n}.pth" for n in range(processes)]


def require_same(checkpoint: Path, depends_on: dict[str, Any]) -> None:
    """Raises BadInput naming each thing that has changed since the checkpoint was written."""
    before = _manifest(checkpoint)["depends_on"]
    changed = [k for k in sorted({*before, *depends_on}) if before.get(k) != depends_on.get(k)]
    if changed:
        raise BadInput(
            [
                Problem(
                    k,
                    f"was {before.get(k)} when {checkpoint.name} was written, and is {depends_on.get(k)} now.",
                    "Put it back, or start a new run.",
                )
                for k in changed
            ]
        )
