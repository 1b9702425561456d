"""An export of a run's adapter: a job in the run's folder, with what was ordered, how far it is, and what was made."""

from pathlib import Path

from medcot.errors import BadInput
from medcot.hub import SETTINGS
from medcot.machine import write_atomically
from medcot.runs.ids import has_plain_name, new_id
from medcot.runs.job_dir import STATUS, JobDir, command
from medcot.settings.export import ExportOrder

MADE = "exported.json"  # what the worker says of it


class Export(JobDir):
    """runs/<run>/export/<id>/; the model is in its folder `model`, whole and checked, or not at all."""

    @property
    def target(self) -> Path:
        return self.path / "model"

    def order(self) -> ExportOrder:
        """What it was ordered to write. Raises BadInput if settings.json cannot be read."""
        try:
            return ExportOrder.model_validate_json((self.path / SETTINGS).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            what = f"cannot be read: {error}."
            raise BadInput.of(str(self.path / SETTINGS), what, "Start a new export.") from None

    def processes(self) -> int:
        return 1

    def files(self) -> list[Path]:
        """What was made, the model card first; empty before."""
        found = (path for path in self.target.rglob("*") if path.is_file())
        return sorted(found, key=lambda path: (path.name != "README.md", str(path)))

    @property
    def named(self) -> str:
        return f"the export {self.id} of {self.path.parent.parent.name}"

    @property
    def how_to_stop(self) -> str:
        return command(f"stop {self.path.parent.parent.name}", self.path.parents[2])


def exports_of(run: Path) -> list[Export]:
    """The exports in a run's folder, newest first."""
    folders = sorted((run / "export").glob("*/"), reverse=True)
    return [Export(path) for path in folders if has_plain_name(path) and (path / STATUS).exists()]


def new_export(run: Path, order: ExportOrder) -> Export:
    """Make the folder of an export."""
    path = run / "export" / new_id()
    path.mkdir(parents=True)
    write_atomically(path / SETTINGS, order.model_dump_json(indent=1))
    return Export(path)
