"""A run's backup, found, fetched, checked: a private model repository on the Hub with its checkpoints and records.

What is fetched is foreign: files of expected names alone, LoRA in finite safetensors, and of the Trainer's own state
what it reads with `weights_only`, which builds tensors and plain values and calls nothing.
"""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from medcot import hub
from medcot.adapters.tensors import require_finite
from medcot.adapters.verify import require_safe
from medcot.errors import BadInput, first_line
from medcot.hub import SETTINGS, WEIGHTS
from medcot.machine import disk_in_words
from medcot.runs.ids import has_plain_name
from medcot.runs.job_dir import EVENTS, command
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.safety.foreign import read_json
from medcot.settings import RunSettings, as_written
from medcot.settings.names import HUB_NAME

MARK = "medcot-backup.json"  # says whose backup it is
RECORDS = (SETTINGS, EVENTS, "status.json", "about.json")
CHECKPOINT = re.compile(
    r"checkpoints/(?P<name>checkpoint-(0|[1-9]\d{0,7}))/"
    r"([A-Za-z0-9_][\w.-]{0,99}\.(json|jinja|md|txt|model|safetensors)"
    r"|(optimizer|scheduler|scaler)\.pt|rng_state(_\d{1,4})?\.pth)"
)
EMPTY = {".gitattributes", "README.md"}  # what a repository holds before anything of ours
ANOTHER = "Name another repository: training.backup=OWNER/NAME"


class Mark(BaseModel):
    """medcot-backup.json."""

    version: Literal[1] = 1
    run: str


def is_backup(text: str) -> bool:
    """Whether a text names a repository, and no run: no run's name holds a slash."""
    return HUB_NAME.fullmatch(text) is not None


def require_free(repo: str, run_id: str | None = None) -> Any | None:
    """What the Hub says of the repository for a run's backup; None if there is none yet.

    Raises BadInput if it is public, or holds anything but a backup of this very run.
    """
    if (found := hub.repository("backup", repo)) is None:
        return None
    if not found.private:
        what = f"{repo} is public, and a backup holds the run's records and settings."
        raise BadInput.of("training.backup", what, f"Make it private on its page. Or: {ANOTHER}")
    files = {sibling.rfilename for sibling in found.siblings or []}
    if files <= EMPTY:
        return found
    if MARK not in files:
        raise BadInput.of("training.backup", f"{repo} holds something else than a backup.", ANOTHER)
    with tempfile.TemporaryDirectory() as folder:
        hub.fetch("backup", repo, found.sha, [MARK], Path(folder))
        owner = _mark(Path(folder), repo, "training.backup").run
    if owner != run_id:
        raise BadInput.of("training.backup", f"{repo} holds the backup of another run, {owner}.", ANOTHER)
    return found


def restore(store: RunStore, repo: str) -> Run:
    """Make the run of a backup here, stopped, as it was at its newest checkpoint.

    Raises BadInput if it is missing, public, no backup, without a checkpoint, of another version, or here already.
    """
    hub.require_hub("--resume")
    if hub.is_offline():
        raise BadInput.of("HF_HUB_OFFLINE", "is set, so nothing can be fetched.", "Unset it.")
    if (found := hub.repository("run", repo)) is None:
        fix = "Check the name, and HF_TOKEN: a private repository is seen with a token of its owner alone."
        raise BadInput.of("--resume", f"there is no {repo} on {hub.endpoint()} that this account sees.", fix)
    sizes = {sibling.rfilename: sibling.size or 0 for sibling in found.siblings or []}
    if not found.private:
        what = f"{repo} is public, and a backup is private: others may have made this one for you to open."
        raise BadInput.of("--resume", what, "Make it private on its page if it is yours.")
    if MARK not in sizes or SETTINGS not in sizes:
        what = f"{repo} holds no backup of a run: it has no {MARK if MARK not in sizes else SETTINGS}."
        raise BadInput.of("--resume", what, "Name the repository that training.backup named.")
    wanted = [name for name in sizes if name in (MARK, SETTINGS, EVENTS) or CHECKPOINT.fullmatch(name)]
    if not any(name.endswith(f"/{WEIGHTS}") for name in wanted):
        what = f"{repo} holds no checkpoint: the run ended before its first."
        raise BadInput.of("--resume", what, "Start a new run.")
    with disk_in_words("--runs-dir", f"{store.root} cannot be written", "Choose another folder: --runs-dir DIR"):
        store.root.mkdir(parents=True, exist_ok=True)
        if (needed := sum(sizes[name] for name in wanted)) > (free := shutil.disk_usage(store.root).free):
            what = f"{repo} has {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {store.root}."
            raise BadInput.of("--runs-dir", what, "Free some space, or choose another folder.")
        with tempfile.TemporaryDirectory(dir=store.root, prefix=".restore-") as folder:
            hub.fetch("run", repo, found.sha, wanted, Path(folder))
            return _made(store, repo, Path(folder), wanted)


def _made(store: RunStore, repo: str, fetched: Path, files: list[str]) -> Run:
    """The run of checked files, each of which is moved to its place."""
    run_id, settings = _mark(fetched, repo, "--resume").run, _settings(fetched, repo)
    if not has_plain_name(Path(run_id)) or "/" in run_id:
        raise BadInput.of("--resume", f"{repo} names a run as none is called: {run_id!r:.80}.", "Name another.")
    if (store.root / run_id).exists():
        fix = f"Go on with it: {command(f'train --resume {run_id}', store.root)}"
        raise BadInput.of("--resume", f"the run {run_id} is in {store.root} already.", fix)
    for name in {found["name"] for file in files if (found := CHECKPOINT.fullmatch(file))}:
        folder = fetched / "checkpoints" / name
        try:
            for file in ("manifest.json", "trainer_state.json"):
                read_json(folder / file)
        except (OSError, ValueError, RecursionError) as error:
            what = f"{name} of {repo} is not whole: {file} cannot be read ({first_line(error)[:120]})."
            raise BadInput.of("--resume", what, "Start a new run.") from None
        require_safe(folder)
        require_finite(folder / WEIGHTS)

    def fill(draft: Path) -> None:
        for file in files:
            if file not in (MARK, SETTINGS):
                (draft / file).parent.mkdir(parents=True, exist_ok=True)
                (fetched / file).rename(draft / file)
        Run(draft).write_status("stopped", job="train")

    return store.put_back(run_id, settings, fill)


def _mark(folder: Path, repo: str, where: str) -> Mark:
    try:
        return Mark.model_validate(read_json(folder / MARK))
    except (OSError, ValueError, RecursionError):
        what = f"{repo} is a backup of another version of medcot, or damaged: {MARK} cannot be read."
        raise BadInput.of(where, what, "Use the version that made it, or name another repository.") from None


def _settings(folder: Path, repo: str) -> RunSettings:
    try:
        return as_written((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        what = f"{repo} is of another version of medcot, or damaged: {SETTINGS} says {first_line(error)[:200]}."
        raise BadInput.of("--resume", what, "Use the version that made it.") from None
