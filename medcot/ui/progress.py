"""How far a job is, what it waits for, or how it ended, in the page's words."""

from medcot.errors import Problem
from medcot.runs.job_dir import ALIVE, JobDir, Status
from medcot.runs.run import Evaluation, Run, duration
from medcot.ui.components import EVERYWHERE, bar, labelled, problems, stage, text, working
from medcot.ui.job_reader import Seen


def progress(job: JobDir, status: Status, seen: Seen, waits_for: str) -> str:
    """A job's stage in words and as a bar, with the time left if it is known; or how it ended, and what to do then."""
    if status.state not in ALIVE:
        return ending(job, status, seen)
    if silence := job.silence(status):
        at_once = "Stop now, without saving" if isinstance(job, Run) else "Stop evaluation"
        fix = f"It may hang, or its machine may be at rest. {at_once} ends it."
        return problems([Problem("", f"There is {silence}.", fix)], "It cannot be seen at work")
    if waits_for:
        return working(f"Waiting: {waits_for}. It starts by itself.")
    if status.state == "stopping":
        return working(f"Stopping after this {'batch of answers' if isinstance(job, Evaluation) else 'step'}")
    if (now := seen.stage) is None:
        return working("Starting")
    count = f" · {now.done} of {now.total}" if now.total else ""
    left = f" · about {duration(now.eta_seconds)} left" if now.eta_seconds is not None else ""
    return stage(f"{now.stage}{count}{left}") + bar(now.done / now.total if now.total else None)


def ending(job: JobDir, status: Status, seen: Seen) -> str:
    """How a job ended, and what to do about it."""
    if status.state == "finished" and (end := seen.finished):
        memory = f", {end.peak_memory_gib:.1f} GiB at the peak" if end.peak_memory_gib else ""
        return stage(f"Took {duration(end.seconds)}{memory}.")
    if status.state == "stopped":
        return stage(status.error or stopped(job, seen))
    if status.state == "finished":
        return ""
    if status.problems:
        return problems(status.problems, EVERYWHERE[status.state])
    error, hint = text(labelled(status.error)), text(labelled(status.hint))
    return f'<div class="mc-problems" role="alert"><strong>{error}</strong><p>{hint}</p></div>'


def stopped(job: JobDir, seen: Seen) -> str:
    """What is kept of a job that was stopped on request."""
    if not seen.device:
        return "Cancelled before it started."
    if isinstance(job, Evaluation):
        of_all = f" of {seen.stage.total}" if seen.stage and seen.stage.total else ""
        return f"Stopped on request; {len(job.answers())}{of_all} answers are kept."
    kept = job.checkpoints() if isinstance(job, Run) else []
    if not kept:
        return "Stopped on request, before anything was saved."
    return f"Stopped on request; the checkpoint of step {kept[0].name.rpartition('-')[2]} is kept."
