"""Commands that hand an adapter on: publish, export."""

from pathlib import Path
from typing import Annotated

import typer

from medcot.cli.common import (
    DEFAULT_RUNS,
    AdapterName,
    AsJson,
    Base,
    RunId,
    RunsDir,
    Style,
    emit,
    refusing,
)


def publish(
    run: RunId,
    repo: Annotated[str, typer.Option("--repo", metavar="OWNER/NAME", help="Where to; made where it is not there.")],
    public: Annotated[bool, typer.Option("--public", help="Everybody may read it. Private otherwise.")] = False,
    about: Annotated[str, typer.Option("--about", help="Your own words for the card.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files with sizes; push nothing.")] = False,
    runs_dir: RunsDir = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Push a finished run's adapter and its card to the Hub. The token comes from HF_TOKEN or the Hub login."""
    from medcot import publishing, terminal
    from medcot.runs import RunStore

    with refusing(as_json):
        found = RunStore(runs_dir).get(run)
        files = publishing.collect(found, repo, about)
        if not dry_run:
            with terminal.err.status(f"Pushing {len(files)} files to {repo}"):
                done = publishing.publish(found, repo, public=public, about=about)
    if dry_run:
        done = {"repo": repo, "public": public, "files": [{"path": f.path, "bytes": f.size} for f in files]}
    if as_json:
        emit({"run": found.id, "dry_run": dry_run, **done})
        return
    for file in done["files"]:
        terminal.out.print(f"{file['bytes']:>12,}  {file['path']}")
    kind = "public" if done["public"] else "private"
    if dry_run:
        terminal.out.print(f"Nothing was pushed. Without --dry-run these go to {repo}, {kind}.")
    else:
        terminal.out.print(f"{done['url']} ({kind}), commit {done['commit'][:12]}", soft_wrap=True)


def export(
    adapter: AdapterName,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A folder that is not there yet.")],
    style: Style = None,
    base: Base = None,
    runs_dir: RunsDir = DEFAULT_RUNS,
    as_json: AsJson = False,
) -> None:
    """Merge an adapter into its base, in 16 bits, and check that it says the same. For llama.cpp, Ollama and others."""
    from medcot import exporting, terminal
    from medcot.adapters import open_adapter
    from medcot.runs import RunStore

    with refusing(as_json), terminal.err.status("Looking for the adapter") as status:
        found = open_adapter(adapter, RunStore(runs_dir), style=style, base=base)
        made = exporting.export(runs_dir, found, to, on_stage=status.update)
    if as_json:
        emit({"adapter": found.name, **made})
        return
    terminal.out.print(f"{made['path']}  {made['bytes'] / 2**30:.2f} GiB, {made['dtype']}", soft_wrap=True)
    terminal.out.print(
        f"Checked: {made['tokens']} greedy tokens to {made['prompts']} questions are those of base and adapter."
    )
