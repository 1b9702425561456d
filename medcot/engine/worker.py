"""A job's child process: `python -m medcot.engine.worker JOB_DIR`.

The one place that turns any exception into a `failed` event. It reads its input to the end before it does anything, so
that its starter can record its pid first; then it waits for the slot, without having loaded a model library.
"""

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from medcot.engine import launcher, without_broken_torchvision
from medcot.engine.outcome import Outcome, StopRequested, StopSignal, explain
from medcot.hub import SETTINGS
from medcot.machine import write_atomically
from medcot.runs import liveness
from medcot.runs.events import Failed, Finished, Started, Stopped
from medcot.runs.export import MADE, Export
from medcot.runs.job_dir import JobDir
from medcot.runs.judging import order_of
from medcot.runs.run import Evaluation, Run
from medcot.runs.store import RunStore
from medcot.workers.slot import wait_for_slot


class Stop:
    """SIGTERM handler. Raises StopRequested at once; inside `graceful()` it only sets `requested`."""

    def __init__(self, job: JobDir):
        self.requested = self._graceful = False
        self._job = job

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        if self.requested:
            return
        self.requested = True
        with contextlib.suppress(OSError):  # a full disk is no reason not to stop
            self._job.write_status("stopping")
        if not self._graceful:
            raise StopRequested

    @contextlib.contextmanager
    def graceful(self) -> Iterator[None]:
        self._graceful = True
        try:
            yield
        finally:
            self._graceful = False


def main() -> int:
    sys.stdin.read()
    job, run = opened(Path(sys.argv[1]))
    liveness.keep_touching(job.path)
    stop = Stop(job)
    try:
        signal.signal(signal.SIGTERM, stop)
        slot = wait_for_slot(RunStore(run.path.parent), job, run)
        try:
            if job.status().pid != os.getpid():
                return 0  # another worker was started for this job since; it goes on
            job.end_half_line()
            job.write_status("running")
            before, began = job.worked_seconds(), time.monotonic()
            if (count := job.processes()) == 1:
                outcome = work(job, run, stop)
            else:
                with stop.graceful():
                    outcome = launcher.run(job, count, stop)
        finally:
            slot.release()
        if outcome.failure is None and outcome.stopped_at is None:
            seconds = before + time.monotonic() - began
            job.append(Finished(seconds=seconds, peak_memory_gib=outcome.peak_memory_gib))
            job.write_status("finished")
            return 0
    except StopRequested:
        outcome = Outcome(stopped_at=0)
    except BaseException as error:  # noqa: BLE001  # the last place that can say why
        with contextlib.suppress(OSError):  # the log may lie on a disk that is full
            traceback.print_exc()
        outcome = Outcome(failure=explain(error, evaluating=isinstance(job, Evaluation)))
    failure = outcome.failure
    with contextlib.suppress(OSError):
        job.end_half_line()
        job.append(Failed(error=failure.error, hint=failure.hint) if failure else Stopped(step=outcome.stopped_at or 0))
    with contextlib.suppress(OSError):
        job.write_status("failed" if failure else "stopped", failure=failure)
    return 1 if failure else 0


def opened(path: Path) -> tuple[Run | Evaluation | Export, Run]:
    """(job, its run): an evaluation or an export in its run's folder, or the run itself."""
    if path.parent.name == "evaluation" and (path.parent.parent / SETTINGS).is_file():
        return Evaluation(path), Run(path.parent.parent)
    if path.parent.name == "export" and (path.parent.parent / SETTINGS).is_file():
        return Export(path), Run(path.parent.parent)
    return (run := Run(path)), run


def work(job: Run | Evaluation | Export, run: Run, stop: StopSignal) -> Outcome:
    """Do what this job is for. The heavy imports begin here."""
    if isinstance(job, Export):
        return export(job, run)
    settings, stopped_at = run.settings(), None
    without_broken_torchvision()
    from medcot.engine import backends, distributed, tracking

    heard = job.append if distributed.is_main_process() else lambda event: None
    with tracking.follow(run, settings, heard) as report:
        if isinstance(job, Evaluation) and job.is_judged:
            from medcot.engine.judge import judge

            report(Started(job="judge", device=order_of(job).where))
            judge(run, job, report)
            if summary := job.summary():
                report.figures(summary)
        elif isinstance(job, Evaluation):
            from medcot.engine.backends.peft import PeftBackend
            from medcot.engine.evaluate import evaluate

            decoding = PeftBackend()
            report(Started(job="evaluate", device=decoding.device()))
            evaluate(run, job, job.order(), decoding, report)
            if distributed.is_main_process() and (summary := job.summary()):
                report.figures(summary)
        else:
            backend = backends.for_training(settings)
            from medcot.engine.train import training

            report(Started(job="train", device=backend.device()))
            stopped_at = training.train(run, settings, backend, report, stop)
    return Outcome(stopped_at=stopped_at, peak_memory_gib=distributed.peak_memory_gib())


def export(job: Export, run: Run) -> Outcome:
    """Write the run's adapter as ordered, and what is said of it. What is left of one that was cut short goes first."""
    from medcot.adapters.open import of_run
    from medcot.engine import distributed
    from medcot.engine.service import result_of
    from medcot.workers.protocol import ExportRequest

    request = ExportRequest(adapter=of_run(run), target=job.target, order=job.order())
    job.append(Started(job="export", device="CPU"))
    made = result_of(request, job.append)
    write_atomically(job.path / MADE, made.model_dump_json(indent=1))
    return Outcome(peak_memory_gib=distributed.peak_memory_gib())


if __name__ == "__main__":
    sys.exit(main())
