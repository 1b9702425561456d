"""Data files that a person uploaded in the page: kept under the runs folder, because that person chose to."""

import re
import shutil
import tempfile
from pathlib import Path

from medcot.errors import BadInput, Problem, disk_in_words
from medcot.settings import DATA_SUFFIXES
from medcot.starter import sha256_of

FOLDER = ".uploads"
MOST_BYTES = 500_000_000


def keep(runs_dir: Path, file: Path) -> Path:
    """Copy an uploaded file to where runs find it; its new name is made of its own and of its content's hash.

    Raises BadInput for another kind of file, one that is too large, and a folder that cannot be written.
    """
    suffix = file.suffix.lower()
    if suffix not in DATA_SUFFIXES:
        raise BadInput(
            Problem("data.source", f"{file.name:.80} is none of {', '.join(DATA_SUFFIXES)}.", "Convert it to one.")
        )
    if (size := file.stat().st_size) > MOST_BYTES:
        raise BadInput(
            Problem(
                "data.source",
                f"{file.name:.80} has {size:,} bytes, and an upload may have {MOST_BYTES:,}.",
                "Put it on the machine's disk and name its path.",
            )
        )
    slug = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-")[:40] or "data"
    folder = runs_dir.expanduser() / FOLDER
    target = folder / f"{slug}-{sha256_of(file)[:16]}{suffix}"
    with disk_in_words("--runs-dir", f"{folder} cannot be written", "Free some space, or mend its rights."):
        folder.mkdir(parents=True, exist_ok=True)
        _copy_whole(file, target)
    return target.resolve()


def _copy_whole(file: Path, target: Path) -> None:
    """The target appears whole or not at all; half a copy would take room from a disk that may be full."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".new-", delete=False) as draft:
        try:
            shutil.copyfile(file, draft.name)
            Path(draft.name).replace(target)
        except OSError:
            Path(draft.name).unlink(missing_ok=True)
            raise
