"""Start, stop, resume: jobs are detached child processes, one at a time for each runs folder.

Whoever starts a job may go away; whoever reads the run directory sees how it goes on. The queue is the workers
themselves: each waits, light and without any model, until it is the oldest that waits and the slot is free. So a queue
outlives the app, and a waiting job is cancelled like a running one.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from medcot import processes
from medcot.errors import BadInput, Problem, disk_in_words
from medcot.evaluating import questions
from medcot.evaluating.order import EvaluationOrder
from medcot.jobdirs import ALIVE, WORKER_MODULE, JobDir, command, write_atomically
from medcot.runs import Evaluation, Run, RunStore
from medcot.settings import RunSettings

POLL_SECONDS = 0.3
CHAT = "chat"  # how the service worker calls itself when it holds the slot


def start_training(store: RunStore, settings: RunSettings, secrets: Mapping[str, str] | None = None) -> Run:
    """A new run and its worker. `secrets` are environment variables for that worker alone; they are written nowhere."""
    run = store.create(settings)
    with _writing(run.path):
        _spawn(run, "train", secrets)
    return run


def _writing(folder: Path) -> contextlib.AbstractContextManager[None]:
    return disk_in_words("--runs-dir", f"{folder} cannot be written", "Free some space, or mend its rights.")


def resume_training(run: Run, secrets: Mapping[str, str] | None = None) -> None:
    """Go on from the newest complete checkpoint. Raises BadInput where the run is alive, done, or has none."""
    with _writing(run.path), run.lock():
        _require_resumable(run)
        _spawn(run, "train", secrets)


def _require_resumable(run: Run) -> None:
    state = run.status().state
    if state in ALIVE:
        stop_it = command(f"stop {run.id}", run.path.parent)
        raise BadInput(Problem("--resume", f"{run.id} is {state}.", f"Stop it first: {stop_it}"))
    if state == "finished":
        raise BadInput(Problem("--resume", f"{run.id} is finished.", "Start a new run to train further."))
    if not run.checkpoints():
        raise BadInput(Problem("--resume", f"{run.id} has no checkpoint to go on from.", "Start a new run."))


def start_evaluation(
    run: Run, order: EvaluationOrder | None = None, secrets: Mapping[str, str] | None = None
) -> Evaluation:
    """Measure base against tuned as ordered, else as the run's settings say. Raises BadInput where that cannot be."""
    settings = run.settings().evaluation
    wanted = order or EvaluationOrder(**settings.model_dump())
    state = run.status().state
    if state in ALIVE:
        raise BadInput(
            Problem("run", f"{run.id} is still training ({state}).", "Wait until it is finished, or stop it.")
        )
    if not run.has_adapter:
        raise BadInput(
            Problem(
                "run",
                f"{run.id} has no adapter; it is {state}.",
                f"Choose a finished run: `{command('runs', run.path.parent)}` lists them.",
            )
        )
    problems = processes.problems(wanted.processes, "evaluation.processes")
    if wanted.endpoint and wanted.processes > 1:
        many = "a server answers many requests at once by itself."
        problems.append(Problem("evaluation.processes", many, "Set it to 1, or leave --endpoint out."))
    if problems:
        raise BadInput(problems)
    asked = questions.load(wanted.questions)[0] if wanted.questions else []
    with _writing(run.path):
        evaluation = run.new_evaluation()
        if asked:
            write_atomically(evaluation.path / questions.KEPT, questions.as_lines(asked))
        write_atomically(evaluation.path / "settings.json", wanted.model_dump_json(indent=1))
        _spawn(evaluation, "evaluate", secrets)
    return evaluation


def resume_evaluation(evaluation: Evaluation, secrets: Mapping[str, str] | None = None) -> None:
    """Answer what is left of an evaluation that ended early. Raises BadInput where it is alive, done or unreadable."""
    with _writing(evaluation.path), FileLock(evaluation.path / ".resume.lock"):
        evaluation.order()
        state = evaluation.status().state
        if state in ALIVE or state == "finished":
            raise BadInput(Problem("--resume", f"the evaluation {evaluation.id} is {state}.", "Start a new one."))
        _spawn(evaluation, "evaluate", secrets)


def child_environment(secrets: Mapping[str, str] | None = None, count: int = 1) -> dict[str, str]:
    """For any worker: no telemetry, output at once, a GPU for each of its `count` processes, and this job's secrets."""
    quiet = {
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "UNSLOTH_DISABLE_STATISTICS": "1",
    }
    return {**os.environ, **quiet, "CUDA_VISIBLE_DEVICES": processes.visible_gpus(count), **(secrets or {})}


def _spawn(job: Run | Evaluation, kind: Literal["train", "evaluate"], secrets: Mapping[str, str] | None) -> None:
    environment = child_environment(secrets, job.processes())
    job.write_status("queued", job=kind)
    with job.log_path.open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", WORKER_MODULE, str(job.path.resolve())],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    # The worker waits for the end of its input, so its pid is on record before it does anything.
    job.write_status("queued", pid=worker.pid)
    assert worker.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.close()


def stop(job: JobDir, *, now: bool = False, timeout: float = 10.0) -> None:
    """Ask a job to end at its next step, saving a checkpoint; `now` kills its process group and saves nothing."""
    status = job.status()
    if status.state not in ALIVE or status.pid is None:
        raise BadInput(Problem("run", f"{job.path.name} is {status.state}; there is nothing to stop."))
    waiting = status.state == "queued"
    try:
        if now:
            os.killpg(status.pid, signal.SIGKILL)
        else:
            os.kill(status.pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError:
        raise BadInput(Problem("run", f"{job.path.name} is another user's job.", "Ask who started it.")) from None
    if not (now or waiting):
        return
    deadline = time.monotonic() + timeout
    while job.worker_alive(status.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    if job.status().state == "interrupted":  # it had no chance to say so itself
        job.write_status(
            "stopped", error="" if waiting else "Ended at once, on request; the last steps were not saved."
        )


class Slot:
    """The right to use the device, for one process at a time and one runs folder; the kernel frees it at death."""

    def __init__(self, root: Path):
        self._note = root / ".slot-holder"
        self._lock = FileLock(root / ".slot.lock")

    def try_acquire(self, holder: str) -> bool:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        self._note.write_text(holder, encoding="utf-8")
        return True

    def release(self) -> None:
        self._note.unlink(missing_ok=True)
        self._lock.release()

    def busy(self) -> str:
        """Who has it and what to do, in words."""
        try:
            holder = self._note.read_text(encoding="utf-8")
        except OSError:
            holder = ""
        if holder == CHAT:
            return "The device is in use by a chat. It is given back when nobody has asked for some minutes."
        if not holder:
            return "The device is in use by another process. Try again."
        stop_it = command(f"stop {holder}", self._note.parent)
        return f"The device is in use by the run {holder}. Wait until it is done, or stop it: {stop_it}"


def waiting_jobs(store: RunStore) -> list[JobDir]:
    """Queued jobs with a living worker, oldest first."""
    queued = [(s.started, j) for run in store.list() for j in run.job_dirs() if (s := j.status()).state == "queued"]
    return [job for _, job in sorted(queued, key=lambda pair: (pair[0], str(pair[1].path)))]


def wait_for_slot(store: RunStore, job: JobDir, run: Run) -> Slot:
    """Block until it is this job's turn, then hold the slot in its run's name. Called by a worker before it loads."""
    slot = Slot(store.root)
    while True:
        first = next(iter(waiting_jobs(store)), None)
        if (first is None or first.path.resolve() == job.path.resolve()) and slot.try_acquire(run.id):
            return slot
        time.sleep(POLL_SECONDS)
