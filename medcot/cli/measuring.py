"""Commands that ask and score without an evaluation: score, ask."""

from pathlib import Path
from typing import Annotated

import typer

from medcot.cli.common import (
    DEFAULT_RUNS,
    AdapterName,
    AsJson,
    Base,
    RunsDir,
    Set,
    Style,
    emit,
    refusing,
)
from medcot.errors import BadInput, Problem


def score(
    data: Annotated[Path, typer.Option(help="References: a file with question, reasoning and answer columns.")],
    predictions: Annotated[Path, typer.Option(help="JSONL with `output`, in the same order, or with `id` in both.")],
    overrides: Set = None,
    rouge_lsum: Annotated[bool, typer.Option("--rouge-lsum", help="rougeLsum, line by line, for rougeL.")] = False,
    no_stemmer: Annotated[bool, typer.Option("--no-stemmer", help="Score words as they are written.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score any system's outputs against references. Needs no model."""
    from medcot import recipes, scoring, terminal
    from medcot.metrics import Variant

    with refusing(as_json):
        settings = recipes.compose("starter", None, [f"data.source={data}", *(overrides or [])])
        variant = Variant("rougeLsum" if rouge_lsum else "rougeL", stemmer=not no_stemmer)
        found = scoring.score_files(settings.data, predictions, variant)
    if as_json:
        emit(found)
        return
    terminal.out.print(f"[bold]{found['metric']}[/bold]")
    for name, value in found["scores"].items():
        terminal.out.print(f"{name:20} {value:.4g}")
    terminal.out.print("floors of answer ROUGE-L: " + ", ".join(f"{k} {v:.3f}" for k, v in found["floors"].items()))
    for problem in found["problems"]:
        terminal.err.print(f"[yellow]![/yellow] {problem}")


def ask(
    adapter: AdapterName,
    question: Annotated[str, typer.Argument(help="The question, in quotes.")],
    style: Style = None,
    base: Base = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, max=32_768, help="Budget for each; the run's own by default.")
    ] = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Ask base and tuned the same question. Nothing of it is kept."""
    from medcot import safety, terminal
    from medcot.adapters import open_adapter
    from medcot.asking import ask_once
    from medcot.runs import RunStore

    with refusing(as_json):
        if not question.strip():
            raise BadInput(Problem("question", "is empty.", "Put it in quotes."))
        emergency = safety.told(question)
        terminal.alarm(emergency)
        with terminal.err.status("Looking for the adapter") as status:
            found = open_adapter(adapter, RunStore(runs_dir), style=style, base=base)
            budget = max_new_tokens or found.max_new_tokens
            answered = ask_once(runs_dir, found, question, budget, on_stage=status.update)
    arms = {arm: getattr(answered, arm).model_dump() for arm in ("base", "tuned")}
    if as_json:
        emit({"question": question, "emergency": emergency, **arms})
        return
    terminal.answers(question, arms)
    terminal.out.print("For research only: not for care.", style="dim")
