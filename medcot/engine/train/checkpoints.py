"""Complete checkpoints only: written aside, hashed, renamed; a resume takes the newest that is whole and fits.

The stock Trainer resumes from a checkpoint that lacks its optimizer or random state, silently, to other weights,
and fails on one that was cut off. Here each has a manifest of its files' hashes and of what it depends on.
"""

import functools
import json
import os
import shutil
from pathlib import Path

from pydantic import BaseModel

from medcot.errors import BadInput, Problem
from medcot.hub import WEIGHTS
from medcot.machine import sha256_of, write_atomically
from medcot.runs.run import checkpoint_steps
from medcot.settings import RunSettings

MANIFEST = "manifest.json"
TRAINER_STATE = "trainer_state.json"
ARGUMENTS = "training_args.bin"  # a pickle of the Trainer's, which nothing reads again
REQUIRED = (WEIGHTS, "optimizer.pt", "scheduler.pt", TRAINER_STATE)
# How often a run reports, validates or saves, and which step it keeps, does not change a step's weights.
NOT_SHAPING = {
    "training": {
        *("log_steps", "validate_steps", "save_steps", "keep_checkpoints", "sample_tokens", "sample_base"),
        *("keep", "patience", "backup"),
    }
}


# Settings that older checkpoints do not name, as what they were.
BEFORE = {"lora.rslora": "false", "lora.dora": "false", "lora.loraplus_ratio": "null"}


class Manifest(BaseModel):
    """manifest.json: what a checkpoint depends on and how it was computed.

    `micro_batch` is how many sequences went through the model at once: a resume goes on with that many. `computed` says
    on what kind of device, in what numbers and by which backend: a resume that differs in it is not exact.
    """

    depends_on: dict[str, str]
    files: dict[str, str] = {}  # name: SHA-256
    micro_batch: int
    computed: str = ""


class Checkpoint:
    """A complete checkpoint: the Trainer's folder `checkpoint-N` with a manifest."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def step(self) -> int:
        return int(self.path.name.partition("-")[2])

    @functools.cached_property
    def manifest(self) -> Manifest:
        return Manifest.model_validate_json((self.path / MANIFEST).read_text(encoding="utf-8"))

    def damage(self) -> str | None:
        """What is missing or damaged, or None."""
        try:
            files = self.manifest.files
            processes = int(self.manifest.depends_on.get("training.processes", 1))
        except (OSError, ValueError):
            return f"{MANIFEST} is missing or damaged"
        # The Trainer's names for the random states, one a process.
        random = ["rng_state.pth"] if processes == 1 else [f"rng_state_{n}.pth" for n in range(processes)]
        for name in sorted({*files, *REQUIRED, *random}):
            if not (self.path / name).is_file() or name not in files:
                return f"{name} is missing"
            if sha256_of(self.path / name) != files[name]:
                return f"{name} is damaged"
        return None

    def require_same(self, depends_on: dict[str, str]) -> None:
        """Compare dependencies. Raises BadInput naming each that has changed since the checkpoint was written."""
        changed = []
        for name in sorted({*self.manifest.depends_on, *depends_on}):
            before, now = self.manifest.depends_on.get(name), depends_on.get(name)
            if before != now:
                what = f"was {before} when {self.path.name} was written, and is {now} now."
                changed.append(Problem(name, what, "Put it back, or start a new run."))
        if changed:
            raise BadInput(changed)


def dependencies(settings: RunSettings, fingerprint: str, model: str) -> dict[str, str]:
    """What a checkpoint's weights depend on, name by name: settings that shape training, the data, the model."""
    shaping = settings.model_dump(mode="json", include={"prompt", "lora", "training"}, exclude=NOT_SHAPING)
    flat = {f"{section}.{key}": json.dumps(v) for section, values in shaping.items() for key, v in values.items()}
    dtype = {"model.dtype": settings.model.dtype, "model.quantization": settings.model.quantization}
    # Checkpoints that were written before there was a choice are of runs that cut.
    overlong = {} if settings.data.overlong == "cut" else {"data.overlong": settings.data.overlong}
    for name, before in BEFORE.items():
        if flat[name] == before:
            del flat[name]
    return {**flat, **dtype, **overlong, "data": fingerprint, "model": model}


def save(written: Path, target: Path, manifest: Manifest, *, most: int, best: int | None = None) -> Checkpoint:
    """Turn a Trainer's folder `checkpoint-N` into a complete checkpoint under `target`.

    The newest `most` are kept, and that of the step `best`, as long as it may become the adapter. Checkpoints of later
    steps go too: they were skipped when the run went on from an earlier one.
    """
    (written / ARGUMENTS).unlink(missing_ok=True)
    files = {p.name: sha256_of(p) for p in sorted(written.iterdir()) if p.is_file()}
    for name in files:
        _to_disk(written / name)
    write_atomically(written / MANIFEST, manifest.model_copy(update={"files": files}).model_dump_json(indent=1))
    final = Checkpoint(target / written.name)
    _remove(final.path, written.parent)
    written.rename(final.path)
    _to_disk(target)  # before the older ones go: a power cut may take one of the two, never both
    kept = sorted(map(Checkpoint, checkpoint_steps(target)), key=lambda c: c.step)
    until_now = [c for c in kept if c.step <= final.step]
    for stale in [*(c for c in until_now[:-most] if c.step != best), *kept[len(until_now) :]]:
        _remove(stale.path, written.parent)
    return final


def _remove(checkpoint: Path, workspace: Path) -> None:
    """Take a checkpoint out of its place before its files go, so that a kill between two of them leaves no half one."""
    if checkpoint.exists():
        shutil.rmtree(checkpoint.rename(workspace / f"old-{checkpoint.name}"), ignore_errors=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
