"""Commands on an adapter: ask it, publish it, export it."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Context, Exit, Option

from medcot.cli import options as o
from medcot.errors import BadInput, Problem

if TYPE_CHECKING:
    from medcot.settings.evaluation import EndpointSettings


def ask(
    adapter: o.AdapterName,
    question: Annotated[str, Argument(help="The question, in quotes.")],
    style: o.Style = None,
    base: o.Base = None,
    max_new_tokens: Annotated[
        int | None, Option(min=1, max=32_768, help="Budget for each; the run's own by default.")
    ] = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    as_json: o.AsJson = False,
) -> None:
    """Ask base and tuned the same question, or a GGUF file of `medcot export`. Nothing of it is kept."""
    from medcot import safety
    from medcot.adapters.open import open_adapter
    from medcot.cli import display
    from medcot.evaluation.answers import Reply
    from medcot.settings.export import is_file
    from medcot.workers.client import ServiceClient
    from medcot.workers.protocol import Answered, AskFileRequest, AskRequest, LoadRequest

    if not question.strip():
        raise BadInput.of("question", "is empty.", "Put it in quotes.")
    if long := safety.too_long(question):
        raise BadInput(long)
    emergency = safety.notice(question)
    display.alarm(emergency)
    if is_file(adapter):
        with display.working("Starting llama.cpp") as say, closing(ServiceClient(runs_dir)) as client:
            asked = AskFileRequest(file=Path(adapter), question=question, max_new_tokens=max_new_tokens or 512)
            reply = client.result(asked, Reply, say)
        if as_json:
            o.emit({"question": question, "emergency": emergency, "file": reply.whole()})
            return
        display.answers(question, {"file": reply})
        display.out.print("For research only: not for care.", style="dim")
        return
    with display.working("Looking for the adapter") as say:
        found = open_adapter(adapter, o.store(runs_dir), style=style, base=base)
        budget = max_new_tokens or found.max_new_tokens
        with closing(ServiceClient(runs_dir)) as client:
            client.call(LoadRequest(adapter=found), say)
            answered = client.call(AskRequest(question=question, max_new_tokens=budget), say)
    assert isinstance(answered, Answered)
    if as_json:
        o.emit({"question": question, "emergency": emergency, **answered.arms()})
        return
    display.answers(question, {"base": answered.base, "tuned": answered.tuned})
    display.out.print("For research only: not for care.", style="dim")


def publish(
    run: o.RunId,
    repo: Annotated[str, Option("--repo", metavar="OWNER/NAME", help="Where to; made where it is not there.")],
    public: Annotated[bool, Option("--public", help="Everybody may read it. Private otherwise.")] = False,
    about: Annotated[str, Option("--about", help="Your own words for the card.")] = "",
    dry_run: Annotated[bool, Option("--dry-run", help="List the files with sizes; push nothing.")] = False,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    as_json: o.AsJson = False,
) -> None:
    """Push a finished run's adapter and its card to the Hub. The token comes from HF_TOKEN or the Hub login."""
    from medcot.adapters import publish as publishing
    from medcot.cli import display

    found = o.store(runs_dir).get(run)
    files = list(map(publishing.PushedFile.of, publishing.collect(found, repo, about)))
    done = publishing.Pushed(repo=repo, public=public, files=files)
    if not dry_run:
        with display.working(f"Pushing {len(files)} files to {repo}"):
            done = publishing.publish(found, repo, public=public, about=about)
    if as_json:
        o.emit({"run": found.id, "dry_run": dry_run, **done.model_dump(exclude_unset=True)})
        return
    for file in done.files:
        o.echo(f"{file.bytes:>12,}  {file.path}")
    kind = "public" if done.public else "private"
    if dry_run:
        o.echo(f"Nothing was pushed. Without --dry-run these go to {repo}, {kind}.")
    else:
        o.echo(f"{done.url} ({kind}), commit {done.commit[:12]}")


def export(
    context: Context,
    adapter: o.AdapterName,
    to: Annotated[Path | None, Option("--to", metavar="DIR", help="A folder that is not there yet.")] = None,
    format: Annotated[str, Option("--format", help="merged, gguf (llama.cpp, Ollama) or lora-gguf.")] = "merged",
    quantize: Annotated[
        list[str] | None,
        Option(
            "--quantize", help="With gguf: f16, q8_0 (the default), q4_0 and others; several with commas, or again."
        ),
    ] = None,
    check: Annotated[
        str | None, Option("--check", metavar="URL", help="Ask a server that it was deployed on; nothing is written.")
    ] = None,
    model: Annotated[str | None, Option("--model", help="With --check: what the server calls it.")] = None,
    questions: Annotated[
        int, Option(help="So many held-out questions are asked, of a GGUF file by llama.cpp; 0 asks none.")
    ] = 24,
    max_new_tokens: Annotated[
        int | None, Option(min=1, max=32_768, help="Budget for each answer; the run's own by default.")
    ] = None,
    style: o.Style = None,
    base: o.Base = None,
    runs_dir: o.RunsDir = o.DEFAULT_RUNS,
    as_json: o.AsJson = False,
) -> None:
    """Write base and adapter as one model, or as GGUF for llama.cpp and Ollama, and check that it says the same.

    With --check: ask a server the run's held-out questions, and hold the answers against tuned's own.
    """
    from medcot.adapters.open import open_adapter
    from medcot.cli import display
    from medcot.settings.export import export_order
    from medcot.workers import client

    _require_no_more(context.args, quantize)
    named = [name for given in quantize or [] for name in given.replace(",", " ").split()]
    order = export_order(format, named, questions=questions, max_new_tokens=max_new_tokens)
    server = _server(check, model, to)
    with display.working("Looking for the adapter") as say:
        found = open_adapter(adapter, o.store(runs_dir), style=style, base=base)
        if server:
            said = client.check(runs_dir, found, server, say, order)
        else:
            assert to
            made = client.export(runs_dir, found, to, on_stage=say, order=order)
    if as_json:
        o.emit({"adapter": found.name, **(said if server else made).model_dump(mode="json")})
    elif server:
        display.checked(said)
    else:
        display.exported(made)
    if said.problem if server else any(file.refused for file in made.files):
        raise Exit(o.FAILED)


def _require_no_more(more: list[str], quantize: list[str] | None) -> None:
    """Raise BadInput for words that belong to nothing."""
    if not more:
        return
    if quantize:
        fix = f"Join several with commas: --quantize {','.join([*quantize, *more])}"
        raise BadInput.of("--quantize", f"takes one word, and {' '.join(more)} stands apart.", fix)
    raise BadInput.of("RUN", f"{' '.join(more)} is too much: one is exported at a time.", "Leave it out.")


def _server(url: str | None, model: str | None, to: Path | None) -> "EndpointSettings | None":
    """The server that --check names; None where a folder is to be written. Raises BadInput unless it is one of them."""
    from pydantic import ValidationError

    from medcot.settings import message_of
    from medcot.settings.evaluation import EndpointSettings

    checks = [
        (not url and not to, "--to", "is missing.", "Name a folder that is not there yet: --to DIR"),
        (url and to, "--check", "cannot be combined with --to.", "Give one of the two."),
        (url and not model, "--model", "is missing.", "Say what the server calls it: --model NAME"),
        (model and not url, "--model", "belongs to --check.", "Leave it out."),
    ]
    if wrong := [Problem(*problem) for holds, *problem in checks if holds]:
        raise BadInput(wrong)
    if not url:
        return None
    try:
        return EndpointSettings.model_validate({"url": url, "base": model, "tuned": model, "concurrency": 4})
    except ValidationError as error:
        raise BadInput([Problem("--check", f"{message_of(e)}.") for e in error.errors()]) from None
