"""What every command shares: the options with their help, its boundary, following a job to its end."""

import errno
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Abort, Argument, Exit, Option

from medcot.errors import DEBUG, IN_WORDS, Failure
from medcot.safety.foreign import UNSEEN, visible

if TYPE_CHECKING:  # commands import what they need themselves, so that --help answers at once
    from medcot.runs.run import Evaluation, Run
    from medcot.runs.store import RunStore


RunsDir = Annotated[Path, Option("--runs-dir", envvar="MEDCOT_RUNS_DIR", help="Where runs are kept.")]
AsJson = Annotated[bool, Option("--json", help="Print one JSON object on standard output, and nothing else there.")]
Recipe = Annotated[
    str | None, Option("--recipe", help="starter (the default), reference-exact or llama-3.2-3b-medical-cot.")
]
Config = Annotated[Path | None, Option("--config", help="A TOML file as `medcot init-config` prints it.")]
Set = Annotated[list[str] | None, Option("--set", metavar="PATH=VALUE", help="Change one setting; may be repeated.")]
Processes = Annotated[
    int | None, Option("--processes", metavar="N", help="Share the work among N processes, a GPU each.")
]
RunId = Annotated[str, Argument(help="A run's id, a part of it, or 'latest'.")]
AdapterName = Annotated[
    str, Argument(metavar="RUN", help="A run, a local adapter folder, or OWNER/NAME[@revision] on the Hub.")
]
Style = Annotated[str | None, Option("--style", help="chat or plain: the contract of an adapter that brings none.")]
Base = Annotated[
    str | None, Option("--base", help="The base of an adapter that names none: OWNER/NAME, a folder or starter.")
]
DEFAULT_RUNS = Path("runs")

BAD_INPUT, FAILED, INTERRUPTED = 2, 1, 130


def in_words(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command its boundary, where whatever it raises becomes words, with `--json` also JSON, and an exit code.

    Bad input exits with code 2 and all its problems, all else with 1. MEDCOT_DEBUG=1 adds the traceback.
    """

    @functools.wraps(command)
    def bounded(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
            if sys.stdout:
                sys.stdout.flush()  # what cannot be written is to be known here, and not when Python ends
        except (Exit, Abort):
            raise
        except Exception as error:  # the last place that can say why
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # whoever read the output has read enough; typer ends quietly then
            failure = Failure.of(error)
            _show(failure, error, as_json=options.get("as_json", False))
            raise Exit(BAD_INPUT if failure.kind == "input" else FAILED) from None

    return bounded


def _show(failure: Failure, error: Exception, *, as_json: bool) -> None:
    from medcot.cli import display

    if os.environ.get(DEBUG) and not isinstance(error, IN_WORDS):
        traceback.print_exception(error)
    display.problems(failure.problems)
    if as_json:
        with suppress(OSError):  # it may be the output that failed
            emit({"problems": [str(p) for p in failure.problems]})


def store(runs_dir: Path) -> "RunStore":
    from medcot.runs.store import RunStore

    return RunStore(runs_dir)


def emit(value: Mapping[str, object]) -> None:
    """Write one JSON object, with escapes for letters that the output's encoding may not have."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(value, indent=1, ensure_ascii=not unicode)
    sys.stdout.write(UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def echo(text: str, *, err: bool = False) -> None:
    """Print a line, in which no text from elsewhere commands the terminal."""
    typer.echo(visible(text), err=err)


def say(as_json: bool, value: Mapping[str, object], text: str) -> None:
    """Print a result as JSON, or in words."""
    if as_json:
        emit(value)
    else:
        echo(text)


def pairs(overrides: list[str] | None, options: Mapping[str, int | None]) -> list[str]:
    """The `path=value` pairs of --set, and those of options that are settings too."""
    return [*(overrides or []), *(f"{path}={value}" for path, value in options.items() if value is not None)]


def follow_or_exit(job: "Run | Evaluation", title: str, run: "Run", as_json: bool) -> None:
    """Show a job to its end; exit with the right code if it does not finish."""
    from medcot.cli import display, follow
    from medcot.runs.job_dir import command

    def emit_state(state: str, *problems: str) -> None:
        if as_json:
            emit({"run": run.id, "run_dir": str(run.path), "state": state, "problems": problems})

    try:
        status = follow.follow(job, title)
    except KeyboardInterrupt:
        look = command(f"show {run.id}", run.path.parent)
        echo(f"Left to end by itself. Look at it with: {look}", err=True)
        emit_state(job.status().state)
        raise Exit(INTERRUPTED) from None
    if status.state == "finished":
        return
    display.ending(run.id, status)
    if status.state == "stopped" and job is run and run.checkpoints():
        go_on = command(f"train --resume {run.id}", run.path.parent)
        echo(f"Continue it with: {go_on}", err=True)
    emit_state(status.state, *([status.error] if status.error else []))
    raise Exit(INTERRUPTED if status.state == "stopped" else BAD_INPUT if status.bad_input else FAILED)
