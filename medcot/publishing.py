"""What of a run goes to the Hub, checked file by file; a child process with the token of its own takes it there."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcot import licences
from medcot.adapters import CONTRACT, HUB_NAME, SETTINGS, of_run
from medcot.errors import BadInput, Problem, WorkerFailed
from medcot.events import Step, Validation
from medcot.jobs import child_environment
from medcot.loss_picture import loss_png
from medcot.model_card import base_name, model_card, public_settings, source_name
from medcot.runs import Run
from medcot.safe_adapter import CONFIG, LONGEST_HEADER, WEIGHTS, require_finite, require_safe
from medcot.settings import is_local_model

TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "chat_template.jinja", "tokenizer.model"),
)
BAD_NAME = re.compile(r"--|\.\.|\.git$|[.-](?:$|/)")
SUMMARY = "evaluation/summary.json"
# What a push replaces or removes in a repository that is there already.
MANAGED = (WEIGHTS, CONFIG, CONTRACT, SETTINGS, SUMMARY, "README.md", "NOTICE", "loss.png", *TOKENIZER)
PUSHER = "medcot.pushing"
SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|API_KEY|ACCESS_KEY)$")
SECRET_TEXT = re.compile(rb"\bhf_[A-Za-z0-9]{30,}\b|\bsk-[A-Za-z0-9_-]{32,}\b|-----BEGIN [A-Z ]*PRIVATE KEY")
PICKLE_TEXT = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


@dataclass(frozen=True, slots=True)
class Published:
    """One file of a publication: bytes made for it, or a file of the run as it lies there."""

    path: str
    content: bytes | Path

    @property
    def size(self) -> int:
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)


def collect(run: Run, repo: str, about: str = "") -> list[Published]:
    """The files that would go to `repo`. Writes nothing. Raises BadInput with everything that stands against it."""
    problems = [*name_problems(run, repo)]
    if origin := run.origin():
        what = f"{run.id} measures {origin}, which was not trained here."
        raise BadInput([*problems, Problem("run", what, "Publish it from where it was trained.")])
    state = run.status().state
    if state != "finished":
        raise BadInput(
            [*problems, Problem("run", f"{run.id} is {state}, and only a finished run is published.", "Finish it.")]
        )
    adapter = of_run(run)
    if adapter.contract is None:
        raise BadInput([*problems, Problem("run", f"{run.id} has no {CONTRACT}.", "Train again.")])
    files: list[Published] = []
    for step in (lambda: require_safe(adapter.path), lambda: require_finite(adapter.path / WEIGHTS)):
        try:
            step()
        except BadInput as bad:
            problems += bad.problems
    try:
        card = model_card(run, adapter.contract, repo=repo, about=about)
        files = _files(run, card)
        problems += _leaks(files, run)
    except BadInput as bad:
        problems += bad.problems
    if problems:
        raise BadInput(problems)
    return files


def name_problems(run: Run, repo: str) -> list[Problem]:
    """What is wrong with the name OWNER/NAME for this run's adapter."""
    owner, _, name = repo.partition("/")
    well_formed = HUB_NAME.fullmatch(repo) and not BAD_NAME.search(repo) and len(repo) <= 96
    if not well_formed:
        return [
            Problem(
                "--repo",
                f"{repo!r} is no repository's name.",
                "Name it OWNER/NAME, of letters, digits, '-', '_' and '.': --repo ada/llama-3b-medical-cot",
            )
        ]
    llama = licences.of_llama(run.settings().model)
    if llama and not name.lower().startswith("llama"):
        return [
            Problem(
                "--repo",
                f"{name} is made from Llama {llama.version}, whose licence asks that the name begins with Llama.",
                f"Name it {owner}/Llama-{name}.",
            )
        ]
    return []


def _files(run: Run, card: str) -> list[Published]:
    settings, folder = run.settings(), run.adapter_dir
    events, _ = run.events()
    picture = loss_png(
        [(e.step, e.loss) for e in events if isinstance(e, Step)],
        [(e.step, e.loss) for e in events if isinstance(e, Validation)],
    )
    made = {"README.md": card.encode(), CONFIG: _config(run), SETTINGS: _json(public_settings(settings).model_dump())}
    made |= {"loss.png": picture} if picture else {}
    if summary := run.latest_summary():
        made[SUMMARY] = _json(_public_summary(summary))
    if llama := licences.of_llama(settings.model):
        made["NOTICE"] = f"{llama.notice}\n{llama.link}\n".encode()
    found = [Published(path, content) for path, content in made.items()]
    found += [Published(n, folder / n) for n in (WEIGHTS, CONTRACT, *TOKENIZER) if (folder / n).is_file()]
    return sorted(found, key=lambda file: file.path)


def _public_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary without a file's folder, and without the address of a server that answered."""
    public = summary | {"data": summary["data"] | {"source": source_name(summary["data"]["source"])}}
    return public | ({"engine": "a model server"} if "://" in str(summary.get("engine")) else {})


def _config(run: Run) -> bytes:
    """adapter_config.json with the base's name on the Hub in place of a folder of this machine."""
    settings = run.settings()
    config = json.loads((run.adapter_dir / CONFIG).read_text(encoding="utf-8"))
    revision = None if is_local_model(settings.model.id) else settings.model.revision
    return _json(config | {"base_model_name_or_path": base_name(settings.model), "revision": revision})


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _leaks(files: list[Published], run: Run) -> list[Problem]:
    """Files that hold a secret of this process, what looks like one, a pickle, or a path of this machine."""
    secrets = {v.encode() for k, v in os.environ.items() if SECRET_NAME.search(k) and len(v) >= 8}
    settings = run.settings()
    recorded = (settings.model.id, settings.data.source)
    here = [
        str(run.path.resolve().parent),
        *(p for p in recorded if p.startswith((".", "/", "~")) and "/" in p.strip("./~")),
    ]
    problems = []
    for file in files:
        # The weights' own bytes are numbers, which the checks above have read; their header is text.
        content = file.content if isinstance(file.content, bytes) else _head(file.content)
        if SECRET_TEXT.search(content) or any(secret in content for secret in secrets):
            problems.append(Problem(file.path, "holds what looks like a token or a key.", "Remove it, and revoke it."))
        if content.startswith(PICKLE_TEXT):
            problems.append(Problem(file.path, "is a pickle or an archive, not what its name says.", "Train again."))
        if any(folder.encode() in content for folder in here):
            problems.append(Problem(file.path, "names a folder of this machine.", "Write it without the folder."))
    return problems


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        if file.name != WEIGHTS:
            return stream.read()
        start = stream.read(8)
        return start + stream.read(min(int.from_bytes(start, "little"), LONGEST_HEADER))


def publish(
    run: Run, repo: str, *, public: bool = False, about: str = "", secrets: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Push a run's adapter in one commit; returns {"repo", "url", "commit", "public", "created", "files"}.

    A child process does it, so that `secrets` (HF_TOKEN) live there alone. Raises BadInput where something is wrong
    with the run, the name or the rights, and WorkerFailed, which says what the Hub holds now, where the push failed.
    """
    request = {"run_dir": str(run.path.resolve()), "repo": repo, "public": public, "about": about}
    done = subprocess.run(
        [sys.executable, "-m", PUSHER],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=child_environment(secrets),
        check=False,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        raise WorkerFailed(
            f"The push to {repo} ended unexpectedly (exit code {done.returncode}). Look there, then try again."
        ) from None
    if answer.get("kind") == "input":
        raise BadInput([Problem(**p) for p in answer["problems"]])
    if answer.get("kind") == "failed":
        raise WorkerFailed(answer["message"])
    return answer
