"""Where a run's adapter was trained, if not here: origin.json names it, and such a run only measures.

Without this file a run was trained where it lies.
"""

import json
from pathlib import Path

FILE = "origin.json"
UNKNOWN = f"an unknown adapter ({FILE} is damaged)"


def read(run_dir: Path) -> str | None:
    """OWNER/NAME with the whole commit, or the folder that it was copied from; None where it was trained here."""
    path = run_dir / FILE
    if not path.is_file():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["adapter"])
    except (OSError, ValueError, KeyError, TypeError):
        return UNKNOWN


def write(run_dir: Path, adapter: str) -> None:
    (run_dir / FILE).write_text(json.dumps({"adapter": adapter}, indent=1), encoding="utf-8")
