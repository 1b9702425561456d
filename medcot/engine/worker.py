"""A job's child process: `python -m medcot.engine.worker JOB_DIR`.

The one place that turns any exception into a `failed` event. It reads its input to the end before it does anything, so
that whoever started it has its pid on record first; then it waits for the slot, without having loaded a model library.
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

from medcot.engine import together
from medcot.engine.memory import OutOfMemory, is_out_of_memory, peak_memory_gib
from medcot.errors import BadInput, is_full_disk
from medcot.events import AnyEvent, Failed, Finished, Report, Started, Stopped
from medcot.jobdirs import JobDir
from medcot.jobs import wait_for_slot
from medcot.runs import Evaluation, Run, RunStore


class StopRequested(BaseException):
    """Not an Exception, so that no library's `except Exception` swallows it."""

    def __init__(self, step: int = 0):
        self.step = step


class Stop:
    """SIGTERM as a wish. It ends what is under way at once, except inside `graceful`, where it only raises a flag."""

    def __init__(self, job: JobDir):
        self.requested = False
        self._graceful = False
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
    def graceful(self) -> Iterator["Stop"]:
        """While inside, the work itself looks at `requested` and ends when it can be continued."""
        self._graceful = True
        try:
            yield self
        finally:
            self._graceful = False


def main() -> int:
    sys.stdin.read()
    job, run = opened(Path(sys.argv[1]))
    stop = Stop(job)
    started = time.monotonic()
    try:
        signal.signal(signal.SIGTERM, stop)
        slot = wait_for_slot(RunStore(run.path.parent), job, run)
        try:
            if job.status().pid != os.getpid():
                return 0  # another worker was started for this job since; it goes on
            job.end_half_line()
            job.write_status("running")
            peak = alone_or_together(job, run, stop)
        finally:
            slot.release()
        job.append(Finished(seconds=time.monotonic() - started, peak_memory_gib=peak))
        job.write_status("finished")
        return 0
    except StopRequested as stopped:
        with contextlib.suppress(OSError):
            job.append(Stopped(step=stopped.step))
        job.write_status("stopped")
        return 0
    except BaseException as error:  # noqa: BLE001  # the last place that can say why
        with contextlib.suppress(OSError):  # the log may lie on a disk that is full
            traceback.print_exc()
        message, hint, bad_input = explain(error, evaluating=job is not run)
        with contextlib.suppress(OSError):
            job.end_half_line()
            job.append(Failed(error=message, hint=hint))
        with contextlib.suppress(OSError):
            job.write_status("failed", error=message, hint=hint, bad_input=bad_input)
        return 1


def opened(path: Path) -> tuple[Run | Evaluation, Run]:
    """(job, its run): an evaluation in its run's folder, or the run itself."""
    if path.parent.name == "evaluation" and (path.parent.parent / "settings.json").is_file():
        return Evaluation(path), Run(path.parent.parent)
    run = Run(path)
    return run, run


def alone_or_together(job: Run | Evaluation, run: Run, stop: Stop) -> float:
    """Do the work in this process, or in as many as the job asks for; returns the peak of memory in GiB.

    Raises StopRequested where it was stopped before its end.
    """
    count = job.processes()
    if count == 1:
        stopped_at, peak = work(job, run, stop), peak_memory_gib()
    else:
        with stop.graceful():
            outcome = together.run(job, count, stop)
        stopped_at, peak = outcome.stopped_at, outcome.peak_memory_gib
    if stopped_at is not None:
        raise StopRequested(stopped_at)
    return peak


def work(job: Run | Evaluation, run: Run, stop: Stop | together.Together) -> int | None:
    """Do what this job is for; returns None, or the step at which it was stopped. The heavy imports begin here."""
    settings = run.settings()
    from medcot.engine import backends, tracking, world

    heard: Report = job.append if world.is_first() else unheard
    with tracking.follow(run, settings, heard) as report:
        if isinstance(job, Evaluation):
            backend = backends.for_generation()
            from medcot.engine import evaluation

            report(Started(job="evaluate", device=backend.device()))
            evaluation.evaluate(run, job, job.order(), backend, report)
            if world.is_first():
                report.figures(job.summary() or {})
            return None
        backend = backends.for_training(settings)
        from medcot.engine import training  # after the backend: Unsloth has to be imported before transformers

        report(Started(job="train", device=backend.device()))
        return training.train(run, settings, backend, report, stop)


def unheard(event: AnyEvent) -> None:
    """How a process reports that is not the first of its job."""


def explain(error: BaseException, *, evaluating: bool = False) -> tuple[str, str, bool]:
    """What went wrong and what to do next, for a person; and whether it is bad input."""
    if isinstance(error, together.ProcessFailed):
        return str(error), error.hint, error.bad_input
    return *in_words(error, evaluating=evaluating), isinstance(error, BadInput)


def in_words(error: BaseException, *, evaluating: bool) -> tuple[str, str]:
    text = f"{type(error).__name__}: {str(error).strip()}"[:600]
    if isinstance(error, BadInput):
        return str(error), "Mend this and start again."
    if isinstance(error, FloatingPointError):
        return str(error), (
            "Start a new run with a lower training.learning_rate or more training.warmup_steps. "
            "The last good checkpoint is kept."
        )
    if is_out_of_memory(error) and evaluating:
        return text, "Ask fewer at once: medcot evaluate RUN --set evaluation.batch_size=8"
    if isinstance(error, OutOfMemory):
        return str(error), (
            "Lower training.micro_batch if it is above 1, shorten training.max_length, set "
            "training.gradient_checkpointing=true or model.quantization=4bit, "
            "or choose a smaller model."
        )
    if is_out_of_memory(error):
        return text, "Halve training.micro_batch and double training.accumulation, or shorten training.max_length."
    if is_full_disk(error):
        return text, "The disk is full: free some space, then continue the run with --resume."
    return text, "The whole traceback is at the end of worker.log."


if __name__ == "__main__":
    sys.exit(main())
