"""The `medcot` command: arguments to calls, results to words or JSON. No model library is loaded here."""

from typing import Annotated

import typer

from medcot import __version__
from medcot.cli import evaluating, looking, managing, measuring, sharing, training

app = typer.Typer(
    help="Fine-tune a small language model on medical chain-of-thought, measure whether it helped, and show it. "
    "For research only: not for care, and no patient data.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

for command in (
    training.quickstart,
    training.plan,
    training.train,
    looking.runs,
    looking.show,
    looking.stop,
    managing.rename,
    managing.note,
    managing.delete,
    evaluating.evaluate,
    evaluating.results,
    measuring.score,
    measuring.ask,
    sharing.publish,
    sharing.export,
    looking.doctor,
):
    app.command()(command)
app.command("init-config")(training.init_config)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"medcot {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


def main() -> None:
    app()
