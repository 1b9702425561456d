"""Commands that change what is said of a run, or remove it: rename, note, delete."""

import sys
from typing import Annotated

import typer

from medcot.cli.common import DEFAULT_RUNS, AsJson, RunId, RunsDir, emit, refusing
from medcot.errors import BadInput, Problem


def rename(
    run: RunId,
    name: Annotated[str, typer.Argument(help="The name to show; empty takes it away. The run's id stays.")],
    runs_dir: RunsDir = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Give a run a name, by which it is also found."""
    _tell(run, runs_dir, as_json, name=name)


def note(
    run: RunId,
    text: Annotated[str, typer.Argument(help="What to remember; empty takes it away.")],
    runs_dir: RunsDir = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Write a note to a run."""
    _tell(run, runs_dir, as_json, note=text)


def _tell(run: str, runs_dir: RunsDir, as_json: bool, *, name: str | None = None, note: str | None = None) -> None:
    from medcot import about, terminal
    from medcot.runs import RunStore

    with refusing(as_json):
        found = RunStore(runs_dir).get(run)
        told = about.write(found.path, name=name, note=note)
    if as_json:
        emit({"run": found.id, **told.model_dump()})
    else:
        terminal.out.print(f"{found.id}: {told.name or 'no name'}; {told.note or 'no note'}", markup=False)


def delete(
    run: RunId,
    runs_dir: RunsDir = DEFAULT_RUNS,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a run with its adapter, checkpoints and evaluations. Asks first; never a running one."""
    from medcot import terminal
    from medcot.runs import RunStore

    with refusing(as_json):
        store = RunStore(runs_dir)
        found = store.get(run)
        if not yes:
            if as_json or not sys.stdin.isatty():
                raise BadInput(Problem("--yes", "nobody can be asked here.", f"To delete {found.id}, add --yes."))
            typer.confirm(f"Delete {found.id}, {terminal.size(found.size_bytes())}, for good?", abort=True, err=True)
        store.delete(found)
    if as_json:
        emit({"run": found.id, "deleted": True})
    else:
        terminal.out.print(f"{found.id} is deleted.")
