"""What every command shares: the options' names and help, refusing with all problems, following a job to its end."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from medcot.errors import BadInput, Busy, WorkerFailed

RunsDir = Annotated[Path, typer.Option("--runs-dir", envvar="MEDCOT_RUNS_DIR", help="Where runs are kept.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")
]
Recipe = Annotated[
    str | None, typer.Option("--recipe", help="starter (the default), reference-exact or llama-3.2-3b-medical-cot.")
]
Config = Annotated[Path | None, typer.Option("--config", help="A TOML file as `medcot init-config` prints it.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change one setting; may be repeated.")
]
Processes = Annotated[
    int | None, typer.Option("--processes", metavar="N", help="Share the work among N processes, a GPU each.")
]
RunId = Annotated[str, typer.Argument(help="A run's id, a part of it, or 'latest'.")]
AdapterName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run, a local adapter folder, or OWNER/NAME[@revision] on the Hub.")
]
Style = Annotated[
    str | None, typer.Option("--style", help="chat or plain: the contract of an adapter that brings none.")
]
Base = Annotated[
    str | None, typer.Option("--base", help="The base of an adapter that names none: OWNER/NAME, a folder or starter.")
]
DEFAULT_RUNS = Path("runs")

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


@contextmanager
def refusing(as_json: bool) -> Iterator[None]:
    """Bad input ends with all its problems and exit code 2, in words and, where asked, as JSON."""
    from medcot import terminal

    try:
        yield
    except BadInput as bad:
        terminal.problems(bad.problems)
        if as_json:
            emit({"problems": [str(p) for p in bad.problems]})
        raise typer.Exit(BAD_INPUT) from None
    except (Busy, WorkerFailed) as refused:
        terminal.problems([str(refused)])
        if as_json:
            emit({"problems": [str(refused)]})
        raise typer.Exit(FAILED) from None


def emit(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def with_processes(overrides: list[str] | None, section: str, count: int | None) -> list[str]:
    """--processes as the setting that it is."""
    return [*(overrides or []), *([f"{section}.processes={count}"] if count is not None else [])]


def follow_or_exit(job: Any, title: str, run_id: str, as_json: bool) -> None:
    """Show a job to its end; leave with the right exit code where it does not finish."""
    from medcot import following, terminal
    from medcot.jobdirs import command
    from medcot.runs import Run

    run_dir = str(job.path if isinstance(job, Run) else job.path.parent.parent)
    try:
        status = following.follow(job, title)
    except KeyboardInterrupt:
        look = command(f"show {run_id}", Path(run_dir).parent)
        terminal.err.print(f"Left to end by itself. Look at it with: {look}", soft_wrap=True)
        if as_json:
            emit({"run": run_id, "run_dir": run_dir, "state": job.status().state, "problems": []})
        raise typer.Exit(INTERRUPTED) from None
    if status.state == "finished":
        return
    terminal.ending(run_id, status)
    if status.state == "stopped" and isinstance(job, Run) and job.checkpoints():
        go_on = command(f"train --resume {run_id}", Path(run_dir).parent)
        terminal.err.print(f"Continue it with: {go_on}", soft_wrap=True)
    if as_json:
        emit(
            {
                "run": run_id,
                "run_dir": run_dir,
                "state": status.state,
                "problems": [status.error] if status.error else [],
            }
        )
    raise typer.Exit(INTERRUPTED if status.state == "stopped" else BAD_INPUT if status.bad_input else FAILED)
