"""Commands around an evaluation: evaluate, and results, which shows one again."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medcot.cli.common import (
    DEFAULT_RUNS,
    AsJson,
    Base,
    Processes,
    RunId,
    RunsDir,
    Set,
    Style,
    emit,
    follow_or_exit,
    refusing,
    with_processes,
)
from medcot.errors import BadInput, Problem

if TYPE_CHECKING:
    from medcot.evaluating.order import EvaluationOrder
    from medcot.runs import Evaluation, Run
    from medcot.settings import EvaluationSettings

LATEST = "latest"


def evaluate(
    run: RunId = LATEST,
    overrides: Set = None,
    questions: Annotated[
        str | None, typer.Option(help="Multiple choice: a file of question, options, answer_idx, or 'starter'.")
    ] = None,
    arms: Annotated[
        list[str] | None,
        typer.Option(
            "--arm", help="One more adapter: a run, folder, Hub id, checkpoint-N or 'checkpoints'; repeatable."
        ),
    ] = None,
    processes: Processes = None,
    force: Annotated[bool, typer.Option("--force", help="Go on though the prompt contract does not match.")] = False,
    resume: Annotated[
        str | None, typer.Option(metavar="EVALUATION", help="Go on with one that ended early; 'latest' is the newest.")
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An OpenAI-compatible server that answers; see docs/evaluation.md."),
    ] = None,
    base_model: Annotated[str | None, typer.Option(help="The base's model name on the server.")] = None,
    tuned_model: Annotated[str | None, typer.Option(help="The adapter's model name on the server.")] = None,
    adapter: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Not a run: OWNER/NAME[@revision] on the Hub, or an adapter folder."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="With --adapter: a file, Hub data set or 'starter'. All its records are asked."),
    ] = None,
    style: Style = None,
    base: Base = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Measure base against tuned on held-out questions or multiple choice. --set takes evaluation.* settings.

    With --adapter: an adapter from elsewhere, on --data or --questions; --set takes data.* settings too.
    """
    from medcot import adopting, endpoints, jobs, recipes, terminal
    from medcot.runs import RunStore

    pairs = with_processes(overrides, "evaluation", processes)

    def ordered(settings: "EvaluationSettings") -> "EvaluationOrder":
        return _order(settings, questions, arms, force, endpoints.given(endpoint, base_model, tuned_model))

    with refusing(as_json):
        store = RunStore(runs_dir)
        _require_agreement(run, adapter, data, style or base, questions, resume)
        if adapter:
            with terminal.err.status("Looking for the adapter"):
                found, evaluation = adopting.measure(store, adapter, data, ordered, style=style, base=base, pairs=pairs)
        elif resume:
            if pairs or questions or arms or force or endpoint:
                raise BadInput(
                    Problem("--resume", "goes on with the evaluation's own settings.", "Leave the other options out.")
                )
            found = store.get(run)
            evaluation = one_of(found, resume)
            jobs.resume_evaluation(evaluation)
        else:
            found = store.get(run)
            settings = recipes.override(found.settings(), pairs, only="evaluation").evaluation
            evaluation = jobs.start_evaluation(found, ordered(settings))
    follow_or_exit(evaluation, "Evaluation", found.id, as_json)
    summary = evaluation.summary() or {}
    if as_json:
        emit({"run": found.id, "run_dir": str(found.path), "summary": summary})
        return
    terminal.summary(summary)
    terminal.out.print(f"report {evaluation.path / 'report.html'}", soft_wrap=True)


def _require_agreement(
    run: str, adapter: str | None, data: str | None, how: str | None, questions: str | None, resume: str | None
) -> None:
    """A run, or an adapter from elsewhere with what it is asked. Raises BadInput for half of each."""
    found = []
    if adapter is None:
        if data:
            what = "belongs to --adapter; a run is asked what it held out."
            found.append(Problem("--data", what, "Leave it out, or name the adapter: --adapter OWNER/NAME"))
        if how:
            found.append(Problem("--style, --base", "belong to --adapter; a run knows its own.", "Leave them out."))
    else:
        if run != LATEST:
            found.append(Problem("--adapter", f"stands in the place of the run {run}.", "Name one of the two."))
        if resume:
            found.append(Problem("--resume", "names a run's evaluation.", "Leave --adapter out, and name the run."))
        if not (data or questions):
            what = "is missing: nothing was held out from this adapter here."
            found.append(Problem("--data", what, "Name records: --data FILE, --data OWNER/NAME or --data starter"))
    if found:
        raise BadInput(found)


def _order(
    settings: "EvaluationSettings",
    questions: str | None,
    arms: list[str] | None,
    force: bool,
    server: dict[str, Any] | None,
) -> "EvaluationOrder":
    from pydantic import ValidationError

    from medcot.evaluating.order import EvaluationOrder

    try:
        return EvaluationOrder(
            **settings.model_dump(), questions=questions, adapters=arms or [], force=force, endpoint=server
        )
    except ValidationError as error:
        raise BadInput([_wrong(e["loc"], e["msg"]) for e in error.errors()]) from None


def _wrong(where: tuple[int | str, ...], message: str) -> Problem:
    return Problem(f"--{'-'.join(map(str, where))}", f"{message.removeprefix('Value error, ')}.")


def one_of(run: "Run", name: str) -> "Evaluation":
    """The run's evaluation of that id, a part of it, or 'latest'. Raises BadInput where none or several match."""
    known = run.evaluations()
    found = known[:1] if name == "latest" else [e for e in known if name in e.id]
    if len(found) == 1:
        return found[0]
    ids = ", ".join(e.id for e in known[:5]) or "none"
    what = "is no evaluation" if not found else f"fits {len(found)} evaluations"
    raise BadInput(Problem("evaluation", f"{name!r} {what} of {run.id}; it has {ids}.", "Give one id."))


def results(
    run: RunId = LATEST,
    evaluation: Annotated[
        str | None, typer.Option(help="An evaluation's id; the newest finished one if left out.")
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="The table as CSV on standard output.")] = False,
    runs_dir: RunsDir = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Show an evaluation's table again, as text, CSV or JSON."""
    from medcot import terminal
    from medcot.evaluating.table import csv_text
    from medcot.jobdirs import command
    from medcot.runs import RunStore

    with refusing(as_json):
        found = RunStore(runs_dir).get(run)
        chosen = [one_of(found, evaluation)] if evaluation else found.evaluations()
        done = next((e for e in chosen if e.summary() is not None), None)
        if done is None:
            raise BadInput(
                Problem(
                    "evaluation",
                    f"{found.id} has none that is finished.",
                    "Start one: " + command(f"evaluate {found.id}", runs_dir),
                )
            )
        summary = done.summary() or {}
    if as_csv:
        sys.stdout.write(csv_text(summary))
    elif as_json:
        emit({"run": found.id, "run_dir": str(found.path), "evaluation": done.id, "summary": summary})
    else:
        terminal.summary(summary)
        terminal.out.print(f"report {done.path / 'report.html'}", soft_wrap=True)
