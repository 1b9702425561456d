"""Data files that a person uploaded in the page: kept under the runs folder, because that person chose to."""

import re
import shutil
import tempfile
from pathlib import Path

from medcot.errors import BadInput
from medcot.machine import disk_in_words, sha256_of
from medcot.settings import DATA_SUFFIXES, PACKED, data_suffix

FOLDER = ".uploads"
MOST_BYTES = 500_000_000


def keep(runs_dir: Path, file: Path) -> Path:
    """Copy an uploaded file to where runs find it, under a name made of its own and its content's hash.

    Raises BadInput for another kind of file, one that is too large, and a folder that cannot be written.
    """
    if not data_suffix(file.name):
        what = f"{file.name:.80} is none of {', '.join(DATA_SUFFIXES)}."
        raise BadInput.of("data.source", what, "Convert it to one.")
    if (size := file.stat().st_size) > MOST_BYTES:
        what = f"{file.name:.80} has {size:,} bytes, and an upload may have {MOST_BYTES:,}."
        raise BadInput.of("data.source", what, "Put it on the machine's disk and name its path.")
    suffix = data_suffix(file.name) + (PACKED if file.suffix.lower() == PACKED else "")
    slug = re.sub(r"[^a-z0-9]+", "-", file.stem.lower()).strip("-")[:40] or "data"
    folder = runs_dir.expanduser() / FOLDER
    target = folder / f"{slug}-{sha256_of(file)[:16]}{suffix}"
    with disk_in_words("--runs-dir", f"{folder} cannot be written", "Free some space, or fix its permissions."):
        folder.mkdir(parents=True, exist_ok=True)
        _copy_whole(file, target)
    return target.resolve()


def _copy_whole(file: Path, target: Path) -> None:
    """Copy so that the target appears whole or not at all, and no partial copy stays on a full disk."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".new-", delete=False) as draft:
        try:
            shutil.copyfile(file, draft.name)
            Path(draft.name).replace(target)
        except OSError:
            Path(draft.name).unlink(missing_ok=True)
            raise
