"""All runs below one folder."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from medcot.errors import BadInput
from medcot.hub import SETTINGS
from medcot.machine import disk_in_words
from medcot.runs.ids import has_plain_name, new_id
from medcot.runs.job_dir import command
from medcot.runs.run import ORIGIN, Run
from medcot.runs.snapshot import Folder, Snapshot
from medcot.settings import RunSettings

START_ELSEWHERE = "Free some space there, or start the page with another folder for its runs."


class RunStore:
    """A folder of runs."""

    def __init__(self, root: Path):
        try:
            self.root = root.expanduser()
        except RuntimeError:
            raise BadInput.of("--runs-dir", f"{root} names no user's folder.", "Name another folder.") from None
        self._folder = Folder(self.root)

    def look(self, at_most_old: float = 0.0) -> Snapshot:
        """All runs as lists show them, now or so many seconds ago at most. To look again and again costs little."""
        return self._folder.look(at_most_old)

    def create(self, settings: RunSettings) -> Run:
        """A new queued run; it appears whole or not at all. Raises BadInput if the folder cannot be written."""
        return self._make(settings, lambda draft: Run(draft).write_status("queued", job="train"))

    def adopt(self, settings: RunSettings, adapter: str, files: Sequence[Path]) -> Run:
        """A run around a copy of an adapter that was trained elsewhere, as `create` makes one to train."""

        def fill(draft: Path) -> None:
            run = Run(draft)
            run.adapter_dir.mkdir()
            for file in files:
                shutil.copyfile(file, run.adapter_dir / file.name)
            (draft / ORIGIN).write_text(json.dumps({"adapter": adapter}, indent=1), encoding="utf-8")
            run.write_status("finished", job="adopt")

        return self._make(settings, fill)

    def put_back(self, run_id: str, settings: RunSettings, fill: Callable[[Path], None]) -> Run:
        """A run under the id that it had elsewhere; `fill` is given the folder that becomes its own."""
        return self._make(settings, fill, run_id)

    def _make(self, settings: RunSettings, fill: Callable[[Path], None], known_as: str = "") -> Run:
        run_id = known_as or new_id(settings.name or settings.recipe)
        other = "Choose another folder: --runs-dir DIR"
        with disk_in_words("--runs-dir", f"{self.root} cannot be written", other, page=START_ELSEWHERE):
            self.root.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=self.root, prefix=".new-"))
        try:
            (draft / SETTINGS).write_text(settings.model_dump_json(indent=1), encoding="utf-8")
            fill(draft)
            draft.chmod(0o755)
            draft.rename(self.root / run_id)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            what = f"a run could not be made in {self.root}: {error.strerror}."
            raise BadInput.of("--runs-dir", what, "Free some space, or choose another folder.") from None
        return Run(self.root / run_id)

    def list(self) -> list[Run]:
        """Newest first. Folders that are not runs are passed over."""
        folders = [path.parent for path in sorted(self.root.glob(f"*/{SETTINGS}"), reverse=True)]
        return [Run(folder) for folder in folders if has_plain_name(folder)]

    def get(self, run_id: str) -> Run:
        """By id, name or unambiguous part of an id; 'latest' is the newest. Raises BadInput if none or several fit."""
        runs = self.list()
        if run_id == "latest" and runs:
            return runs[0]
        found = (
            [r for r in runs if r.id == run_id]
            or [r for r in runs if r.about().name == run_id]
            or [r for r in runs if run_id in r.id]
        )
        if len(found) == 1:
            return found[0]
        if not found:
            listed = f"`{command('runs', self.root)}` lists them."
            fix = "Choose one of the list."
            raise BadInput.of("run", f"there is no run {run_id!r} in {self.root}.", listed, page=fix)
        fitting = ", ".join(r.id for r in found[:5])
        raise BadInput.of("run", f"{run_id!r} fits {len(found)} runs: {fitting}.", "Give more of the id.")

    def delete(self, run: Run) -> None:
        """Remove a run with everything in it. Raises BadInput while it, or an evaluation of it, is alive."""
        with disk_in_words("run", f"{run.path} cannot be removed"), contextlib.ExitStack() as places:
            for job in run.job_dirs():
                places.enter_context(job.claimed("run"))
            # Renamed first, which takes it out of every list: a deletion that is cut short leaves no half run.
            doomed = run.path.with_name(f".deleted-{run.id}")
            run.path.rename(doomed)
        if doomed.is_symlink():
            doomed.unlink()
        else:
            shutil.rmtree(doomed, ignore_errors=True)
