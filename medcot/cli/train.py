"""Commands that lead to an adapter: quickstart, init-config, plan, train."""

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

from typer import Option

from medcot.cli import options as o
from medcot.errors import BadInput

if TYPE_CHECKING:
    from medcot.runs.run import Run
    from medcot.runs.store import RunStore


def quickstart(
    overrides: o.Set = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    as_json: o.AsJson = False,
    max_steps: Annotated[int | None, Option(help="Train this many steps only, for a trial.")] = None,
    records: Annotated[int | None, Option(help="Evaluate this many held-out questions only.")] = None,
) -> None:
    """Tune the starter model, measure it against its base, answer the sample questions. No GPU, no account."""
    from medcot.cli import display
    from medcot.runs.job_dir import command
    from medcot.settings.recipes import compose
    from medcot.workers import jobs, preflight

    pairs = o.pairs(overrides, {"training.max_steps": max_steps, "evaluation.records": records})
    settings, _ = preflight.prepare(lambda: compose("starter", None, pairs))
    display.err.print("Tuning the starter model. For research only: not for care, and no patient data.")
    run = jobs.start_training(o.store(runs_dir), settings)
    display.err.print(f"Run {run.id} in {run.path}")
    o.follow_or_exit(run, "1/2 Training", run, as_json)
    evaluation = jobs.start_evaluation(run)
    o.follow_or_exit(evaluation, "2/2 Evaluation", run, as_json)
    summary = evaluation.summary()
    assert summary is not None
    if as_json:
        o.emit({"run": run.id, "run_dir": str(run.path), "summary": summary.as_json()})
        return
    for sample in evaluation.samples():
        display.answers(sample.question, sample.arms)
    display.out.print("\nA 135M demonstration model: its medical statements are often wrong.\n", style="yellow")
    display.summary(summary)
    ask_it = command('ask latest "What is the difference between type 1 and type 2 diabetes?"', runs_dir)
    report = evaluation.path / "report.html"
    o.echo(f"{_losses(run)}\n\nadapter  {run.adapter_dir}\nreport   {report}\nnext     {ask_it}")


def init_config(recipe: o.Recipe = None, overrides: o.Set = None) -> None:
    """Print a recipe as a TOML file with every setting explained."""
    from medcot.settings.recipes import compose, to_toml

    sys.stdout.write(to_toml(compose(recipe, None, overrides)))


def plan(
    recipe: o.Recipe = None,
    config: o.Config = None,
    overrides: o.Set = None,
    processes: o.Processes = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    as_json: o.AsJson = False,
) -> None:
    """Audit the data under the model's tokenizer, and estimate the run, without starting it."""
    from medcot.cli import display
    from medcot.runs.plan import Planned
    from medcot.settings.recipes import compose
    from medcot.workers import preflight
    from medcot.workers.client import ServiceClient
    from medcot.workers.protocol import PlanRequest

    pairs = o.pairs(overrides, {"training.processes": processes})
    settings, told = preflight.prepare(lambda: compose(recipe, config, pairs))
    reading = display.working("Reading the data under the model's tokenizer")
    with closing(ServiceClient(runs_dir)) as client, reading as say:
        reply = client.result(PlanRequest(settings=settings), Planned, say)
    warnings = [*told.warnings, *reply.problems]
    if as_json:
        audit = reply.audit.model_dump() | {"guessed": told.guessed}
        o.emit({"problems": warnings, "audit": audit, "plan": reply.plan.model_dump()})
    else:
        display.plan(reply, warnings)


def train(
    recipe: o.Recipe = None,
    config: o.Config = None,
    overrides: o.Set = None,
    processes: o.Processes = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    resume: Annotated[
        str | None,
        Option(metavar="RUN", help="Go on with a stopped or interrupted run; OWNER/NAME: with a backup."),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Train an adapter. Ctrl-C stops it after the step under way and saves a checkpoint."""
    from medcot.adapters.backup import is_backup
    from medcot.cli import display
    from medcot.runs.job_dir import command
    from medcot.settings.recipes import compose
    from medcot.workers import jobs, preflight

    pairs = o.pairs(overrides, {"training.processes": processes})
    store = o.store(runs_dir)
    if resume:
        if recipe or config or pairs:
            what = "goes on with the run's own settings; --recipe, --config, --set and --processes change them."
            raise BadInput.of("--resume", what, "Leave them out, or start a new run.")
        run = restored(store, resume) if is_backup(resume) else store.get(resume)
        jobs.resume_training(run)
    else:
        with display.working("Checking settings, model and data"):
            settings, told = preflight.prepare(lambda: compose(recipe, config, pairs))
        display.notes(told.warnings)
        run = jobs.start_training(store, settings)
    display.err.print(f"Run {run.id} in {run.path}")
    o.follow_or_exit(run, "Training", run, as_json)
    if as_json:
        o.emit({"run": run.id, "run_dir": str(run.path), "state": "finished", "metrics": run.metrics()})
        return
    o.echo(f"finished {run.id}: {_losses(run)}\nadapter  {run.adapter_dir}")
    o.echo(f"next     {command(f'evaluate {run.id}', runs_dir)}")


def restored(store: "RunStore", repo: str) -> "Run":
    """The run of a backup, fetched. Raises BadInput if it cannot be had, or could not go on here."""
    from medcot.adapters.backup import restore
    from medcot.cli import display
    from medcot.workers import preflight

    with display.working(f"Fetching the backup {repo}") as say:
        run = restore(store, repo)
        say("Checking settings, model and data")
        preflight.check(run.settings(), run_id=run.id)
    return run


def _losses(run: "Run") -> str:
    from medcot.runs.events import Kept

    figures, kept = run.metrics(), run.newest_event(Kept)
    losses = f"validation loss {figures['first_validation_loss']:.3f} before, {figures['validation_loss']:.3f} after"
    return f"{losses}; {kept}" if kept else losses
