"""TensorBoard and trackio: files in the run's folder, no account, nothing sent.

Both get the numbers that W&B gets, and an evaluation's table as text. A run that goes on from a checkpoint writes its
later steps again; what was written of them before is hidden by TensorBoard, and trackio keeps both.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

from medcot.runs.events import Report
from medcot.runs.run import Run
from medcot.settings import RunSettings
from medcot.settings.recipes import to_toml

TABLE = "table"  # the last part of the name under which an evaluation's CSV text is logged
FLUSH_SECONDS = 10  # how old TensorBoard's files may be while a run is at work
TRACKIO_DIR = "TRACKIO_DIR"  # trackio's own variable


class TensorBoard:
    """Event files for `tensorboard --logdir`, written by torch.utils.tensorboard."""

    def __init__(self, run: Run, settings: RunSettings, step: int, _: Report):
        from torch.utils.tensorboard import SummaryWriter

        folder = run.path / "tensorboard"
        self.later = f"What TensorBoard's files hold: tensorboard --logdir {folder}"
        self._again = step + 1 if folder.is_dir() else None  # from where a training's earlier figures are hidden
        self._settings = None if folder.is_dir() else as_code(to_toml(settings))
        self._open: Any = partial(SummaryWriter, str(folder), flush_secs=FLUSH_SECONDS)
        self._writer: Any = None

    def log(self, figures: Mapping[str, float]) -> None:
        if self._writer is None:
            self._writer = self._open(purge_step=self._again)
            if self._settings:
                self._writer.add_text("settings", self._settings)
        for name, value in figures.items():
            if name != "step":
                self._writer.add_scalar(name, value, int(figures["step"]))

    def results(self, figures: Mapping[str, float | int | str], step: int) -> None:
        if self._writer is None:  # an evaluation, which hides nothing
            self._writer = self._open()
        for name, value in figures.items():
            if not isinstance(value, str):
                self._writer.add_scalar(name, value, step)
            elif name.endswith(f"/{TABLE}"):
                self._writer.add_text(name, as_code(value), step)

    def close(self, code: int) -> None:
        if self._writer is not None:
            self._writer.close()


class Trackio:
    """A run in a database of trackio's, in the run's folder or the one that TRACKIO_DIR names.

    trackio.init is passed over: it asks the Hub who is logged in, and can log to a Space.
    """

    def __init__(self, run: Run, settings: RunSettings, step: int, _: Report):
        folder = os.environ.setdefault(TRACKIO_DIR, str(run.path / "trackio"))  # read when trackio is imported
        import trackio

        class LocalRun(trackio.Run):  # type: ignore[misc]  # trackio has no types here
            def _get_username(self) -> None:
                return None  # the original asks the Hub

        project = settings.tracking.project
        self.later = f"What trackio's files hold: {TRACKIO_DIR}={folder} trackio show --project {project}"
        trackio.SQLiteStorage.validate_project_name(project)
        named = {"name": settings.tracking.run_name or run.id, "run_id": run.id}
        self._run: Any = LocalRun(
            url=None, project=project, client=None, config=settings.model_dump(mode="json"), **named
        )
        self._expected = self._held()

    def log(self, figures: Mapping[str, float]) -> None:
        self._log({name: value for name, value in figures.items() if name != "step"}, int(figures["step"]))

    def results(self, figures: Mapping[str, float | int | str], step: int) -> None:
        texts = {name: value for name, value in figures.items() if name.endswith(f"/{TABLE}")}
        self._log({name: value for name, value in figures.items() if not isinstance(value, str)} | texts, step)

    def _log(self, figures: Mapping[str, float | int | str], step: int) -> None:
        self._expected += 1
        self._run.log(dict(figures), step=step)

    def close(self, code: int) -> None:
        """Write what is left. trackio's own thread only prints what it cannot write, so it is counted."""
        self._run.finish()
        if (missing := self._expected - self._held()) > 0:
            raise OSError(f"{missing} of its entries were not written; worker.log says why")

    def _held(self) -> int:
        from trackio.sqlite_storage import SQLiteStorage

        return len(SQLiteStorage.get_logs(self._run.project, run_id=self._run.id))


def as_code(text: str) -> str:
    """Text that Markdown shows as it is."""
    return "".join(f"    {line}\n" for line in text.splitlines())
