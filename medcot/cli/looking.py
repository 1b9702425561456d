"""Commands that look, and stop: runs, show, stop, doctor."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from medcot.runs import Run

from medcot.cli.common import DEFAULT_RUNS, AsJson, RunId, RunsDir, emit, refusing


def facts(run: "Run") -> dict[str, object]:
    """What people said of a run, its size, and the adapter that it measures where that was not trained here."""
    origin = {"adapter": adapter} if (adapter := run.origin()) else {}
    return {**run.about().model_dump(), "size_bytes": run.size_bytes(), **origin}


def runs(runs_dir: RunsDir = DEFAULT_RUNS, as_json: AsJson = False) -> None:
    """List runs, newest first."""
    from medcot import terminal
    from medcot.runs import RunStore

    with refusing(as_json):
        found = RunStore(runs_dir).list()
    if as_json:
        emit(
            {"runs": [{"id": r.id, "state": r.shown_status().state, "metrics": r.metrics(), **facts(r)} for r in found]}
        )
    elif found:
        terminal.out.print(terminal.run_table(found))
    else:
        terminal.out.print(f"No runs in {runs_dir}. Start one: medcot quickstart")


def show(run: RunId = "latest", runs_dir: RunsDir = DEFAULT_RUNS, as_json: AsJson = False) -> None:
    """One run: state, figures, and where its files lie."""
    from medcot import terminal
    from medcot.recipes import changed_settings
    from medcot.runs import RunStore

    with refusing(as_json):
        found = RunStore(runs_dir).get(run)
        settings, status = found.settings(), found.shown_status()
    if as_json:
        emit(
            {
                "id": found.id,
                "state": status.state,
                "settings": settings.model_dump(mode="json"),
                "metrics": found.metrics(),
                **facts(found),
                "run_dir": str(found.path),
                "error": status.error,
                "hint": status.hint,
            }
        )
        return
    terminal.out.print(terminal.run_table([found]))
    if note := found.about().note:
        terminal.out.print(f"note {note}", markup=False)
    if adapter := found.origin():
        asked = f"base {settings.model.id}, contract {settings.prompt.style}, data {settings.data.source}"
        terminal.out.print(f"adapter {adapter}, not trained here\n{asked}", markup=False, soft_wrap=True)
    else:
        pairs = "".join(f"\n  {pair}" for pair in changed_settings(settings))
        terminal.out.print(f"recipe {settings.recipe}{pairs}", markup=False)
    if status.error:
        terminal.ending(found.id, status)
    if summary := found.latest_summary():
        terminal.summary(summary)
    terminal.out.print(f"files {found.path}", soft_wrap=True)


def stop(
    run: RunId = "latest",
    runs_dir: RunsDir = DEFAULT_RUNS,
    as_json: AsJson = False,
    now: Annotated[bool, typer.Option("--now", help="End it at once, without saving.")] = False,
) -> None:
    """Ask a run's worker to end after its step and save a checkpoint; a waiting one is cancelled."""
    from medcot import jobs, terminal
    from medcot.jobdirs import ALIVE
    from medcot.runs import RunStore

    with refusing(as_json):
        found = RunStore(runs_dir).get(run)
        alive = [job for job in found.job_dirs() if job.status().state in ALIVE]
        for job in alive or [found]:
            jobs.stop(job, now=now)
    if as_json:
        emit({"run": found.id, "state": found.status().state})
    else:
        terminal.out.print(f"{found.id} is {'stopped' if now else 'asked to stop'}.")


def doctor(runs_dir: RunsDir = DEFAULT_RUNS, as_json: AsJson = False) -> None:
    """What this machine has, whether the Hub answers, and which recipe fits."""
    from medcot import doctoring, terminal

    with terminal.err.status("Looking"):
        found = doctoring.examine(runs_dir)
    if as_json:
        emit(found)
        return
    for heading, value in doctoring.lines(found):
        terminal.out.print(f"{heading:12} {value}", soft_wrap=True)
