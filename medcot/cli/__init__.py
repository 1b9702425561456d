"""The `medcot` command: arguments to calls, results to words or JSON. No model library is loaded here."""

from typing import Annotated

import typer
from typer import Option

from medcot import __version__
from medcot.cli import adapters, evaluate, judge, runs, train
from medcot.cli.options import in_words
from medcot.machine import escape_unknown_letters

app = typer.Typer(
    help="Fine-tune a small language model on medical chain-of-thought, measure whether it helped, and show it. "
    "For research only: not for care, and no patient data.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

for command in (
    *(train.quickstart, train.plan, train.train),
    *(runs.runs, runs.show, runs.stop, runs.rename, runs.note, runs.delete),
    *(evaluate.evaluate, judge.judge, evaluate.results, evaluate.score),
    *(adapters.ask, adapters.publish, adapters.export, runs.doctor, train.init_config),
):
    # Words too many are refused by the command that can say why.
    app.command(context_settings={"allow_extra_args": command is adapters.export})(in_words(command))


def _version(value: bool) -> None:
    if value:
        typer.echo(f"medcot {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None: ...


def main() -> None:
    """Run the command that the arguments name."""
    escape_unknown_letters()
    app()
