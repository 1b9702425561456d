"""Commands that lead to an adapter: quickstart, init-config, plan, train."""

import sys
from typing import Annotated

import typer

from medcot.cli.common import (
    DEFAULT_RUNS,
    AsJson,
    Config,
    Processes,
    Recipe,
    RunsDir,
    Set,
    emit,
    follow_or_exit,
    refusing,
    with_processes,
)
from medcot.errors import BadInput, Problem


def quickstart(
    overrides: Set = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    as_json: AsJson = False,
    max_steps: Annotated[int | None, typer.Option(help="Train this many steps only, for a trial.")] = None,
    records: Annotated[int | None, typer.Option(help="Evaluate this many held-out questions only.")] = None,
) -> None:
    """Tune the starter model, measure it against its base, answer the sample questions. No GPU, no account."""
    from medcot import jobs, preflight, recipes, terminal
    from medcot.jobdirs import command
    from medcot.runs import RunStore

    pairs = list(overrides or [])
    pairs += [f"training.max_steps={max_steps}"] if max_steps is not None else []
    pairs += [f"evaluation.records={records}"] if records is not None else []
    with refusing(as_json):
        settings, _ = preflight.prepare(lambda: recipes.compose("starter", None, pairs))
        terminal.err.print("Tuning the starter model. For research only: not for care, and no patient data.")
        run = jobs.start_training(RunStore(runs_dir), settings)
        terminal.err.print(f"Run {run.id} in {run.path}")
        follow_or_exit(run, "1/2 Training", run.id, as_json)
        evaluation = jobs.start_evaluation(run)
        follow_or_exit(evaluation, "2/2 Evaluation", run.id, as_json)
    summary = evaluation.summary() or {}
    if as_json:
        emit({"run": run.id, "run_dir": str(run.path), "summary": summary})
        return
    for sample in evaluation.samples():
        terminal.answers(sample["question"], sample)
    figures = run.metrics()
    terminal.out.print("\nA 135M demonstration model: its medical statements are often wrong.\n", style="yellow")
    terminal.summary(summary)
    terminal.out.print(
        f"validation loss {figures['first_validation_loss']:.3f} before, {figures['validation_loss']:.3f} after"
    )
    ask_it = command('ask latest "What is the difference between type 1 and type 2 diabetes?"', runs_dir)
    terminal.out.print(
        f"""
adapter  {run.adapter_dir}
report   {evaluation.path / "report.html"}
next     {ask_it}""",
        soft_wrap=True,
    )


def init_config(recipe: Recipe = None, overrides: Set = None) -> None:
    """Print a recipe as a TOML file with every setting explained."""
    from medcot import recipes

    with refusing(False):
        sys.stdout.write(recipes.to_toml(recipes.compose(recipe, None, overrides)))


def plan(
    recipe: Recipe = None,
    config: Config = None,
    overrides: Set = None,
    processes: Processes = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Audit the data under the model's tokenizer, and estimate the run, without starting it."""
    from medcot import columns, preflight, recipes, terminal
    from medcot.messages import Loading, Result
    from medcot.planner import Planner

    pairs = with_processes(overrides, "training", processes)
    with refusing(as_json):
        settings, split = preflight.prepare(lambda: recipes.compose(recipe, config, pairs))
        planner = Planner(runs_dir)
        try:
            with terminal.err.status("Reading the data under the model's tokenizer") as status:
                for reply in planner.plan(settings):
                    if isinstance(reply, Loading):
                        status.update(reply.stage)
        finally:
            planner.close()
    assert isinstance(reply, Result)
    found = reply.value
    found.pop("tokens")  # for the page, which colours them
    found["audit"]["guessed"] = split.guessed
    found["problems"] = [note for note in (columns.in_words(split.guessed), *found["problems"]) if note]
    if as_json:
        emit(found)
    else:
        terminal.plan(found)


def train(
    recipe: Recipe = None,
    config: Config = None,
    overrides: Set = None,
    processes: Processes = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with a stopped or interrupted run.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train an adapter. Ctrl-C stops it after the step under way and saves a checkpoint."""
    from medcot import columns, jobs, preflight, recipes, terminal
    from medcot.jobdirs import command
    from medcot.runs import RunStore

    pairs = with_processes(overrides, "training", processes)
    with refusing(as_json):
        store = RunStore(runs_dir)
        if resume:
            if recipe or config or pairs:
                raise BadInput(
                    Problem(
                        "--resume",
                        "goes on with the run's own settings; --recipe, --config, --set and --processes change them.",
                        "Leave them out, or start a new run.",
                    )
                )
            run = store.get(resume)
            jobs.resume_training(run)
        else:
            with terminal.err.status("Checking settings, model and data"):
                settings, split = preflight.prepare(lambda: recipes.compose(recipe, config, pairs))
            terminal.notes([columns.in_words(split.guessed)])
            run = jobs.start_training(store, settings)
    terminal.err.print(f"Run {run.id} in {run.path}")
    follow_or_exit(run, "Training", run.id, as_json)
    if as_json:
        emit({"run": run.id, "run_dir": str(run.path), "state": "finished", "metrics": run.metrics()})
        return
    figures = run.metrics()
    terminal.out.print(
        f"finished {run.id}: validation loss {figures['first_validation_loss']:.3f} before, "
        f"{figures['validation_loss']:.3f} after"
    )
    terminal.out.print(
        f"adapter  {run.adapter_dir}\nnext     {command(f'evaluate {run.id}', runs_dir)}", soft_wrap=True
    )
