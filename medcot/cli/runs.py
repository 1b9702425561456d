"""Commands on runs: runs, show, stop, rename, note, delete; and doctor, which looks at the machine."""

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option, confirm

from medcot.cli import options as o
from medcot.errors import BadInput
from medcot.safety.foreign import visible
from medcot.settings.names import STARTER

if TYPE_CHECKING:
    from medcot.runs.run import Run
    from medcot.settings import RunSettings

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that its --max-lora-rank takes


def facts(run: "Run") -> dict[str, object]:
    """A run's name and note, its size, and its adapter if that was not trained here."""
    origin = {"adapter": adapter} if (adapter := run.origin()) else {}
    return {**run.about().model_dump(), "size_bytes": run.size_bytes(), **origin}


def serving(run: "Run", settings: "RunSettings") -> str:
    """The command by which vLLM serves base and tuned; empty where there is nothing that it takes."""
    rank = next((r for r in VLLM_RANKS if r >= settings.lora.rank), None)
    if not run.has_adapter or run.origin() or settings.model.id == STARTER or settings.lora.dora or rank is None:
        return ""
    base = [settings.model.id, *(["--revision", settings.model.revision] if settings.model.revision else [])]
    words = ["vllm", "serve", *base, "--served-model-name", "base", "--enable-lora", "--max-lora-rank", str(rank)]
    return shlex.join([*words, "--lora-modules", f"tuned={run.adapter_dir}"])


def runs(runs_dir: o.RunsDir = o.DEFAULT_RUNS, as_json: o.AsJson = False) -> None:
    """List runs, newest first."""
    from medcot.cli import display

    found = o.store(runs_dir).list()
    if as_json:
        listed = [{"id": r.id, "state": r.shown_status().state, "metrics": r.metrics(), **facts(r)} for r in found]
        o.emit({"runs": listed})
    elif found:
        display.runs(found)
    else:
        o.echo(f"No runs in {runs_dir}. Start one: medcot quickstart")


def show(run: o.RunId = "latest", runs_dir: o.RunsDir = o.DEFAULT_RUNS, as_json: o.AsJson = False) -> None:
    """One run: state, figures, and where its files lie."""
    from medcot.cli import display
    from medcot.settings.recipes import changed_settings

    found = o.store(runs_dir).get(run)
    settings, status = found.settings(), found.shown_status()
    if as_json:
        figures = {"settings": settings.model_dump(mode="json"), "metrics": found.metrics()}
        ended = {
            "run_dir": str(found.path),
            "error": status.error,
            "hint": status.hint,
            "serve": serving(found, settings),
        }
        o.emit({"id": found.id, "state": status.state, **figures, **facts(found), **ended})
        return
    display.runs([found])
    if note := found.about().note:
        o.echo(f"note {note}")
    if adapter := found.origin():
        o.echo(f"adapter {adapter}, not trained here")
        o.echo(f"base {settings.model.id}, contract {settings.prompt.style}, data {settings.data.source}")
    else:
        o.echo("\n  ".join([f"recipe {settings.recipe}", *changed_settings(settings)]))
    if status.error:
        display.ending(found.id, status)
    if summary := found.latest_summary():
        display.summary(summary)
    if command := serving(found, settings):
        o.echo(f"serve {command}")
    o.echo(f"files {found.path}")


def stop(
    run: o.RunId = "latest",
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    as_json: o.AsJson = False,
    now: Annotated[bool, Option("--now", help="End it at once, without saving.")] = False,
) -> None:
    """Ask a run's worker to end after its step and save a checkpoint; a waiting one is cancelled."""
    from medcot.runs.job_dir import ALIVE
    from medcot.workers import jobs

    found = o.store(runs_dir).get(run)
    alive = [job for job in found.job_dirs() if job.status().state in ALIVE]
    for job in alive or [found]:
        jobs.stop(job, now=now)
    done = "stopped" if now else "asked to stop"
    silent = next(filter(None, (job.silence(job.status()) for job in alive)), "")
    advice = f" There is {silent}; this ends it without saving: {found.how_to_stop} --now" if silent else ""
    o.say(as_json, {"run": found.id, "state": found.status().state}, f"{found.id} is {done}.{advice}")


def rename(
    run: o.RunId,
    name: Annotated[str, Argument(help="The name to show; empty takes it away. The run's id stays.")],
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    as_json: o.AsJson = False,
) -> None:
    """Give a run a name, by which it is also found."""
    _write(run, runs_dir, as_json, name=name)


def note(
    run: o.RunId,
    text: Annotated[str, Argument(help="What to remember; empty takes it away.")],
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    as_json: o.AsJson = False,
) -> None:
    """Write a note to a run."""
    _write(run, runs_dir, as_json, note=text)


def _write(run: str, runs_dir: o.RunsDir, as_json: bool, *, name: str | None = None, note: str | None = None) -> None:
    found = o.store(runs_dir).get(run)
    now = found.describe(name=name, note=note)
    said = f"{found.id}: {now.name or 'no name'}; {now.note or 'no note'}"
    o.say(as_json, {"run": found.id, **now.model_dump()}, said)


def delete(
    run: o.RunId,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Remove a run with its adapter, checkpoints and evaluations. Asks first; never a running one."""
    from medcot.runs.run import size

    store = o.store(runs_dir)
    found = store.get(run)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise BadInput.of("--yes", "nobody can be asked here.", f"To delete {found.id}, add --yes.")
        confirm(visible(f"Delete {found.id}, {size(found.size_bytes())}, for good?"), abort=True, err=True)
    store.delete(found)
    o.say(as_json, {"run": found.id, "deleted": True}, f"{found.id} is deleted.")


def doctor(runs_dir: o.RunsDir = o.DEFAULT_RUNS, as_json: o.AsJson = False) -> None:
    """What this machine has, whether the Hub answers, and which recipe fits."""
    from medcot.cli import display
    from medcot.workers.doctor import examine

    with display.working("Looking"):
        found = examine(runs_dir)
    o.say(as_json, found.model_dump(mode="json"), "\n".join(f"{name:12} {text}" for name, text in found.lines()))
