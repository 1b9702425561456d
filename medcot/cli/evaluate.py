"""Commands that measure: evaluate, results, which shows an evaluation again, and score, which needs no model."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from medcot.cli import options as o
from medcot.errors import BadInput, Problem

if TYPE_CHECKING:
    from medcot.runs.run import Evaluation, Run
    from medcot.settings import EvaluationSettings
    from medcot.settings.evaluation import EvaluationOrder


LATEST = "latest"


def _order(settings: "EvaluationSettings", server: tuple[str | None, ...], **asked: object) -> "EvaluationOrder":
    """Add what the options ask to the settings. Raises BadInput with all that is wrong."""
    from pydantic import ValidationError

    from medcot.settings import message_of
    from medcot.settings.evaluation import EvaluationOrder, given

    values = {**settings.model_dump(), **asked, "endpoint": given(*server)}
    try:
        return EvaluationOrder.model_validate(values)
    except ValidationError as error:
        wrong = [("-".join(map(str, e["loc"])), message_of(e)) for e in error.errors()]
        raise BadInput([Problem(f"--{where}", f"{message}.") for where, message in wrong]) from None


def _require_agreement(
    run: str, resume: str | None, adapter: str | None, how: str | None, data: str | None, questions: str | None
) -> None:
    """Raise BadInput unless the options name a run, or an adapter, how it is opened and what it is asked."""
    held_out = "belongs to --adapter; a run is asked what it held out."
    checks: list[tuple[object, str, str, str]] = [
        (data, "--data", held_out, "Leave it out, or name the adapter: --adapter OWNER/NAME"),
        (how, "--style, --base", "belong to --adapter; a run knows its own.", "Leave them out."),
    ]
    if adapter:
        missing, unasked = "is missing: nothing was held out from this adapter here.", not (data or questions)
        checks = [
            (run != LATEST, "--adapter", f"cannot be combined with the run {run}.", "Name one of the two."),
            (resume, "--resume", "names a run's evaluation.", "Leave --adapter out, and name the run."),
            (unasked, "--data", missing, "Name records: --data FILE, --data OWNER/NAME or --data starter"),
        ]
    if wrong := [Problem(*problem) for holds, *problem in checks if holds]:
        raise BadInput(wrong)


def evaluate(
    run: o.RunId = LATEST,
    overrides: o.Set = None,
    questions: Annotated[
        str | None,
        Option(
            help="Multiple choice: medqa, medmcqa, pubmedqa, 'starter', or a file of question, options, answer_idx."
        ),
    ] = None,
    arms: Annotated[
        list[str] | None,
        Option("--arm", help="One more: a run, folder, Hub id, checkpoint-N, 'checkpoints' or GGUF file; repeatable."),
    ] = None,
    processes: o.Processes = None,
    force: Annotated[bool, Option("--force", help="Go on though the prompt contract does not match.")] = False,
    resume: Annotated[
        str | None, Option(metavar="EVALUATION", help="Go on with one that ended early; 'latest' is the newest.")
    ] = None,
    endpoint: Annotated[
        str | None, Option(metavar="URL", help="An OpenAI-compatible server that answers; see docs/evaluation.md.")
    ] = None,
    base_model: Annotated[str | None, Option(help="The base's model name on the server.")] = None,
    tuned_model: Annotated[str | None, Option(help="The adapter's model name on the server.")] = None,
    adapter: Annotated[
        str | None, Option(metavar="NAME", help="Not a run: OWNER/NAME[@revision] on the Hub, or an adapter folder.")
    ] = None,
    data: Annotated[
        str | None, Option(help="With --adapter: a file, Hub data set or 'starter'. All its records are asked.")
    ] = None,
    style: o.Style = None,
    base: o.Base = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    as_json: o.AsJson = False,
) -> None:
    """Measure base against tuned on held-out questions or multiple choice. --set takes evaluation.* settings.

    With --adapter: an adapter from elsewhere, on --data or --questions; --set takes data.* settings too.
    """
    from medcot.cli import display
    from medcot.settings.export import is_file
    from medcot.settings.recipes import override
    from medcot.workers import adopt, jobs

    pairs = o.pairs(overrides, {"evaluation.processes": processes})
    server = (endpoint, base_model, tuned_model)
    further = [str(Path(arm).expanduser().resolve()) if is_file(arm) else arm for arm in arms or []]
    order = partial(_order, server=server, questions=questions, adapters=further, force=force)
    store = o.store(runs_dir)
    _require_agreement(run, resume, adapter, style or base, data, questions)
    if adapter:
        with display.working("Looking for the adapter"):
            found, evaluation = adopt.measure(store, adopt.Elsewhere(adapter, data, style, base, pairs), order)
    elif resume:
        if pairs or questions or arms or force or endpoint:
            what = "goes on with the evaluation's own settings."
            raise BadInput.of("--resume", what, "Leave the other options out.")
        found = store.get(run)
        evaluation = one_of(found, resume)
        jobs.resume_evaluation(evaluation)
    else:
        found = store.get(run)
        settings = override(found.settings(), pairs).evaluation
        evaluation = jobs.start_evaluation(found, order(settings))
    o.follow_or_exit(evaluation, "Evaluation", found, as_json)
    show(found, evaluation, as_json)


def show(run: "Run", done: "Evaluation", as_json: bool, **more: str) -> None:
    """Print a finished evaluation, in JSON with `more` keys."""
    from medcot.cli import display

    summary = done.summary()
    assert summary is not None
    if as_json:
        o.emit({"run": run.id, "run_dir": str(run.path), **more, "summary": summary.as_json()})
        return
    display.summary(summary)
    o.echo(f"report {done.path / 'report.html'}")


def one_of(run: "Run", name: str) -> "Evaluation":
    """Find the run's evaluation by its id, a part of it, or 'latest'. Raises BadInput unless exactly one matches."""
    known = run.evaluations()
    found = known[:1] if name == LATEST else [e for e in known if name in e.id]
    if len(found) == 1:
        return found[0]
    ids = ", ".join(e.id for e in known[:5]) or "none"
    what = "is no evaluation" if not found else f"fits {len(found)} evaluations"
    raise BadInput.of("evaluation", f"{name!r} {what} of {run.id}; it has {ids}.", "Give one id.")


def results(
    run: o.RunId = LATEST,
    evaluation: Annotated[str | None, Option(help="An evaluation's id; the newest finished one if left out.")] = None,
    as_csv: Annotated[bool, Option("--csv", help="The table as CSV on standard output.")] = False,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    as_json: o.AsJson = False,
) -> None:
    """Show an evaluation's table again, as text, CSV or JSON."""
    from medcot.evaluation.table_csv import csv_text
    from medcot.runs.job_dir import command

    found = o.store(runs_dir).get(run)
    chosen = [one_of(found, evaluation)] if evaluation else found.evaluations()
    done, summary = next(((e, s) for e in chosen if (s := e.summary())), (None, None))
    if done is None or summary is None:
        start = "Start one: " + command(f"evaluate {found.id}", runs_dir)
        raise BadInput.of("evaluation", f"{found.id} has none that is finished.", start)
    if as_csv:
        sys.stdout.write(csv_text(summary))
    else:
        show(found, done, as_json, evaluation=done.id)


def score(
    data: Annotated[
        Path, Option(help="References: a file with question and answer columns; reasoning is scored if there.")
    ],
    predictions: Annotated[Path, Option(help="JSONL with `output`, in the same order, or with `id` in both.")],
    overrides: o.Set = None,
    rouge_lsum: Annotated[bool, Option("--rouge-lsum", help="rougeLsum, line by line, for rougeL.")] = False,
    no_stemmer: Annotated[bool, Option("--no-stemmer", help="Score words as they are written.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Score any system's outputs against references. Needs no model."""
    from medcot.cli import display
    from medcot.evaluation import score_files
    from medcot.evaluation.rouge import Variant
    from medcot.settings.recipes import compose

    settings = compose("starter", None, [f"data.source={data}", *(overrides or [])])
    variant = Variant("rougeLsum" if rouge_lsum else "rougeL", stemmer=not no_stemmer)
    found = score_files.score_files(settings.data, predictions, variant, display.counted)
    if as_json:
        o.emit(found.model_dump())
        return
    display.out.print(found.metric, style="bold")
    for name, value in found.scores.items():
        o.echo(f"{name:20} {value:.4g}")
    for name, floors in {"answer ROUGE-L": found.floors, **found.further_floors}.items():
        o.echo(f"floors of {name}: " + ", ".join(f"{floor} {value:.3f}" for floor, value in floors.items()))
    display.notes(found.problems)
