"""What of a run goes to the Hub, checked file by file. A child process, which alone has the token, pushes it."""

import io
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from PIL import Image, ImageDraw, ImageFont
from pydantic import BaseModel, ConfigDict, TypeAdapter

from medcot import machine
from medcot.adapters.card import base_name, llama_licence, model_card, public_settings, source_name
from medcot.adapters.open import of_run
from medcot.adapters.tensors import LONGEST_HEADER, require_finite
from medcot.adapters.verify import require_safe
from medcot.errors import BadInput, Failure, Problem, WorkerFailed, collected
from medcot.hub import CONFIG, CONTRACT, SETTINGS, WEIGHTS
from medcot.machine import child_environment
from medcot.runs.events import AnyEvent, Step, Validation
from medcot.runs.run import Run
from medcot.settings import HUB_NAME, is_local_model, is_path

TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "merges.txt", "chat_template.jinja", "tokenizer.model"),
)
BAD_NAME = re.compile(r"--|\.\.|\.git$|[.-](?:$|/)")
SUMMARY = "evaluation/summary.json"
# What a push replaces or removes in an existing repository.
MANAGED = (WEIGHTS, CONFIG, CONTRACT, SETTINGS, SUMMARY, "README.md", "NOTICE", "loss.png", *TOKENIZER)
PUSHER = "medcot.adapters.push"
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


class PushOrder(BaseModel):
    """What the child process is asked to push."""

    run_dir: Path
    repo: str
    public: bool
    about: str


class PushedFile(BaseModel):
    path: str
    bytes: int

    @classmethod
    def of(cls, file: Published) -> Self:
        return cls(path=file.path, bytes=file.size)


class Pushed(BaseModel):
    """What the Hub holds after a push, as `medcot publish --json` prints it; a dry run has no url and no commit."""

    model_config = ConfigDict(extra="forbid")
    repo: str
    url: str = ""
    commit: str = ""
    public: bool
    created: bool = False
    files: list[PushedFile]


def collect(run: Run, repo: str, about: str = "") -> list[Published]:
    """The files that would go to `repo`. Writes nothing. Raises BadInput with everything that is wrong."""
    return _checked(run, name_problems(run, repo), repo, about)


def portable(run: Run) -> list[Published]:
    """The same files for somebody who takes them elsewhere by hand."""
    return _checked(run, [], None, "")


def _checked(run: Run, problems: list[Problem], repo: str | None, about: str) -> list[Published]:
    files = list[Published]()
    if origin := run.origin():
        what = f"{run.id} measures {origin}, which was not trained here."
        raise BadInput([*problems, Problem("run", what, "Publish it from where it was trained.")])
    if (state := run.status().state) != "finished":
        what = f"{run.id} is {state}, and only a finished run is published."
        raise BadInput([*problems, Problem("run", what, "Finish it.")])
    adapter = of_run(run)
    assert adapter.contract, "of_run refuses a run that was trained here and has none"
    with collected(problems):
        require_safe(adapter.path)
    with collected(problems):
        require_finite(adapter.path / WEIGHTS)
    with collected(problems):
        files = _files(run, model_card(run, adapter.contract, repo=repo, about=about))
        problems += _leaks(files, run)
    if problems:
        raise BadInput(problems)
    return files


def name_problems(run: Run, repo: str) -> list[Problem]:
    """What is wrong with the name OWNER/NAME for this run's adapter."""
    owner, _, name = repo.partition("/")
    if not HUB_NAME.fullmatch(repo) or BAD_NAME.search(repo) or len(repo) > 96:
        fix = "Name it OWNER/NAME, of letters, digits, '-', '_' and '.': ada/llama-3b-medical-cot"
        return [Problem("--repo", f"{repo!r} is no repository's name.", fix)]
    llama = llama_licence(run.settings().model)
    if llama and not name.lower().startswith("llama"):
        what = f"{name} is made from Llama {llama.version}, whose licence asks that the name begins with Llama."
        return [Problem("--repo", what, f"Name it {owner}/Llama-{name}.")]
    return []


def _files(run: Run, card: str) -> list[Published]:
    """What is published, without folders of this machine and without the address of a server that answered."""
    settings, folder = run.settings(), run.adapter_dir
    base = settings.model
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    revision = None if is_local_model(base.id) else base.revision
    config |= {"base_model_name_or_path": base_name(base), "revision": revision}
    public = public_settings(settings).model_dump()
    made = {"README.md": card.encode(), CONFIG: _json(config), SETTINGS: _json(public)}
    if picture := loss_png(run.events()[0]):
        made["loss.png"] = picture
    if summary := run.latest_summary():
        data = summary.data.model_copy(update={"source": source_name(summary.data.source)})
        server = {"engine": "a model server"} if "://" in summary.engine else {}
        made[SUMMARY] = _json(summary.model_copy(update={"data": data, **server}).as_json())
    if llama := llama_licence(base):
        made["NOTICE"] = f"{llama.notice}\n{llama.link}\n".encode()
    found = [Published(path, content) for path, content in made.items()]
    found += [Published(n, folder / n) for n in (WEIGHTS, CONTRACT, *TOKENIZER) if (folder / n).is_file()]
    return sorted(found, key=lambda file: file.path)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _leaks(files: list[Published], run: Run) -> list[Problem]:
    """Files that hold a secret of this process, what looks like one, a pickle, or a path of this machine."""
    secrets = {v.encode() for k, v in os.environ.items() if SECRET_NAME.search(k) and len(v) >= 8}
    settings = run.settings()
    data = settings.data
    named = (settings.model.id, data.source, data.validation, data.test, *(one.source for one in data.more))
    recorded = [p for p in named if p and is_path(p)]
    here = [str(run.path.resolve().parent), *(p for p in recorded if "/" in p.strip("./~"))]
    problems = []
    for file in files:
        # The weights are numbers, which the checks above have read; their header is text.
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
) -> Pushed:
    """Push a run's adapter in one commit.

    A child process does it, so that `secrets` (HF_TOKEN) live there alone. Raises BadInput if something is wrong
    with the run, the name or the rights, and WorkerFailed, which says what the Hub holds now, if the push failed.
    """
    order = PushOrder(run_dir=run.path.resolve(), repo=repo, public=public, about=about)
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "encoding": "utf-8"}
    with machine.spawn(PUSHER, **piped, env=child_environment(secrets)) as child:
        said, _ = child.communicate(order.model_dump_json())
    try:
        answer = TypeAdapter[Pushed | Failure](Pushed | Failure).validate_json(said.splitlines()[-1])
    except (IndexError, ValueError):
        what = f"The push to {repo} ended unexpectedly (exit code {child.returncode})."
        raise WorkerFailed(f"{what} Look there, then try again.") from None
    if isinstance(answer, Failure):
        raise answer.exception()
    return answer


SIZE = (900, 420)
LEFT, TOP, RIGHT, BOTTOM = 70, 50, 880, 370
INK, GRID = "#33474f", "#dfe6e9"
LINES = (("train loss", "#7fa8b3", 2), ("validation loss", "#0b6e75", 4))


def loss_png(events: Sequence[AnyEvent]) -> bytes:
    """Draw both losses on one scale, with axes and a legend; b"" if there is nothing to draw."""
    train = [(e.step, e.loss) for e in events if isinstance(e, Step)]
    validation = [(e.step, e.loss) for e in events if isinstance(e, Validation)]
    if not (both := train + validation):
        return b""
    last, losses = max(x for x, _ in both) or 1, [y for _, y in both]
    low, span = min(losses), (max(losses) - min(losses)) or 1.0

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point
        return LEFT + (RIGHT - LEFT) * x / last, BOTTOM - (BOTTOM - TOP) * (y - low) / span

    image = Image.new("RGB", SIZE, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(16)
    for part in range(5):
        y = low + span * part / 4
        height = place((0, y))[1]
        draw.line([(LEFT, height), (RIGHT, height)], fill=GRID)
        draw.text((LEFT - 8, height), f"{y:.2f}", fill=INK, font=font, anchor="rm")
        step = round(last * part / 4)
        draw.text((place((step, low))[0], BOTTOM + 8), str(step), fill=INK, font=font, anchor="ma")
    for (name, colour, width), points, at in zip(LINES, (train, validation), (LEFT, LEFT + 180), strict=True):
        draw.line([place(p) for p in points], fill=colour, width=width, joint="curve")
        draw.line([(at, 24), (at + 28, 24)], fill=colour, width=width)
        draw.text((at + 36, 24), name, fill=INK, font=font, anchor="lm")
    draw.text((RIGHT, SIZE[1] - 8), "optimizer step", fill=INK, font=font, anchor="rb")
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
