"""Start, stop, resume: jobs are detached child processes, one at a time for each runs folder.

A job outlives its starter; its run directory says how it goes. The queue is the workers themselves: each waits, before
it loads a model, until it is the oldest and the slot is free. So a waiting job outlives the app too, and is cancelled
like a running one.
"""

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from medcot import machine
from medcot.adapters.open import of_run
from medcot.errors import BadInput, Failure, Problem
from medcot.evaluation import choice_files
from medcot.hub import SETTINGS
from medcot.machine import child_environment, disk_in_words, write_atomically
from medcot.runs import judging, liveness
from medcot.runs.export import Export, exports_of, new_export
from medcot.runs.job_dir import ALIVE, WORKER_MODULE, JobDir
from medcot.runs.run import JUDGE, Evaluation, Run
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.settings.evaluation import KEY_VARIABLE, EvaluationOrder
from medcot.settings.export import ExportOrder
from medcot.settings.judging import JudgeOrder
from medcot.workers import reading

Job = Run | Evaluation | Export
CHAT = "chat"  # how the service worker calls itself when it holds the slot


def start_training(store: RunStore, settings: RunSettings, secrets: Mapping[str, str] | None = None) -> Run:
    """A new run and its worker. `secrets` are environment variables for that worker alone; they are written nowhere."""
    run = store.create(settings)
    with _writing(run.path), run.place():
        _spawn(run, "train", secrets)
    return run


def _writing(folder: Path) -> contextlib.AbstractContextManager[None]:
    return disk_in_words("--runs-dir", f"{folder} cannot be written", "Free some space, or fix its rights.")


def resume_training(run: Run, secrets: Mapping[str, str] | None = None) -> None:
    """Go on from the newest complete checkpoint. Raises BadInput if the run is alive, done, or has none."""
    with _writing(run.path), run.claimed("--resume"):
        if run.status().state == "finished":
            raise BadInput.of("--resume", f"{run.id} is finished.", "Start a new run to train further.")
        if not run.checkpoints():
            raise BadInput.of("--resume", f"{run.id} has no checkpoint to go on from.", "Start a new run.")
        _spawn(run, "train", secrets)


def start_evaluation(
    run: Run,
    order: EvaluationOrder | None = None,
    secrets: Mapping[str, str] | None = None,
    *,
    after_training: bool = False,
) -> Evaluation:
    """Measure base against tuned as ordered, else by the run's settings. Raises BadInput if that is impossible.

    `after_training` queues it behind the run's own training; it fails, saying so, if that leaves no adapter.
    """
    wanted = order or EvaluationOrder(**run.settings().evaluation.model_dump())
    if not after_training:
        state = run.status().state
        if state in ALIVE:
            fix = "Wait until it is finished, or stop it."
            raise BadInput.of("run", f"{run.id} is still training ({state}).", fix)
        run.require_adapter()
    problems = machine.problems(wanted.processes, "evaluation.processes")
    if wanted.endpoint and wanted.processes > 1:
        what = "a server answers many requests at once by itself."
        problems.append(Problem("evaluation.processes", what, "Set it to 1, or leave --endpoint out."))
    if problems:
        raise BadInput(problems)
    with _writing(run.path), tempfile.TemporaryDirectory(dir=run.path, prefix=".") as draft:
        kept = Path(draft) / choice_files.KEPT
        if wanted.questions:
            wanted = reading.questions(wanted, kept)
        evaluation = run.new_evaluation()
        if wanted.questions:
            kept.replace(evaluation.path / choice_files.KEPT)
        write_atomically(evaluation.path / SETTINGS, wanted.model_dump_json(indent=1))
        with evaluation.place():
            _spawn(evaluation, "evaluate", secrets)
    return evaluation


def resume_evaluation(evaluation: Evaluation, secrets: Mapping[str, str] | None = None) -> None:
    """Answer what is left of an evaluation that ended early. Raises BadInput if it is alive, done or unreadable."""
    with _writing(evaluation.path), evaluation.claimed("--resume"):
        evaluation.order()
        if evaluation.status().state == "finished":
            raise BadInput.of("--resume", f"{evaluation.named} is finished.", "Start a new one.")
        _spawn(evaluation, JUDGE if evaluation.is_judged else "evaluate", secrets)


def start_judging(run: Run, evaluation: Evaluation, order: JudgeOrder, given: judging.Given) -> None:
    """Have the answers of a finished evaluation judged.

    Raises BadInput if there is nothing to judge, or the evaluation has a worker.
    """
    with _writing(evaluation.path), evaluation.claimed("evaluation"):
        judging.require_answers(run, evaluation)
        judging.write_order(evaluation, order, given)
        _spawn(evaluation, JUDGE, None)


def start_export(run: Run, order: ExportOrder) -> Export:
    """Write the run's adapter in another format, in the run's folder. Raises BadInput if that is impossible."""
    if run.status().state in ALIVE:
        raise BadInput.of("run", f"{run.id} is still training.", "Wait until it is finished, or stop it.")
    of_run(run)
    for one in exports_of(run.path):
        if one.status().state in ALIVE:
            raise BadInput.of("run", f"{one.named} is at work.", "Wait until it ends, or stop it.")
        one.clear()
    with _writing(run.path):
        export = new_export(run.path, order)
        with export.place():
            _spawn(export, "export", None)
    return export


def _keys(job: Job, kind: str) -> dict[str, str]:
    """This process's own keys that this job needs, beside those that every child has."""
    asks_a_server: object = None
    if isinstance(job, Evaluation):
        asks_a_server = judging.order_of(job).server if kind == JUDGE else job.order().endpoint
    return machine.own("WANDB_API_KEY", *([KEY_VARIABLE] if asks_a_server else []))


Kind = Literal["train", "evaluate", "judge", "export"]


def _spawn(job: Job, kind: Kind, secrets: Mapping[str, str] | None) -> None:
    keys = {**_keys(job, kind), **(secrets or {})}
    job.write_status("queued", job=kind)
    environment = child_environment(keys, job.processes())
    with job.log_path.open("ab") as log:
        given = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log, "env": environment}
        # The worker has its place in the folder from its first moment on.
        given |= {"start_new_session": True, "pass_fds": [liveness.sign(job.path)]}
        worker = machine.spawn(WORKER_MODULE, str(job.path.resolve()), **given)
    # The worker waits for the end of its input, so its pid is on record before it does anything.
    job.write_status("queued", pid=worker.pid)
    assert worker.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        worker.stdin.close()


def stop(job: JobDir, *, now: bool = False, timeout: float = 10.0) -> None:
    """Ask a job to end at its next step, saving a checkpoint; `now` kills its process group and saves nothing."""
    status = job.status()
    if status.state not in ALIVE or status.pid is None:
        raise BadInput.of("run", f"{job.path.name} is {status.state}; there is nothing to stop.")
    if not job.has_process(status.pid):
        if job.worker_alive(status.pid):  # else it has just ended
            where = f"in another container or on another machine ({liveness.host(job.path)})"
            raise BadInput.of("run", f"{job.id} is {status.state} {where}.", "Stop it there.")
        return
    waiting = status.state == "queued"
    try:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            if now:
                os.killpg(status.pid, signal.SIGKILL)
            else:
                os.kill(status.pid, signal.SIGTERM)
    except PermissionError:
        raise BadInput.of("run", f"{job.path.name} is another user's job.", "Ask who started it.") from None
    if not now:
        job.ask_to_stop(status.pid)
    if not (now or waiting):
        return
    deadline = time.monotonic() + timeout
    while job.worker_alive(status.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    if job.status().state == "interrupted":  # it had no chance to say so itself
        lost = Failure(problems=[Problem("", "Ended at once, on request; the last steps were not saved.")])
        job.write_status("stopped", failure=None if waiting else lost)
