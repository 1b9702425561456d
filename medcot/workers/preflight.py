"""All checks that can be made before a worker is started, and all their problems at once.

The settings that pass have their Hub revisions pinned, so that the run records which model and which data it used.
"""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from medcot import hub, machine
from medcot.adapters import backup
from medcot.adapters.base import check_base, local_folder, quantized
from medcot.data import columns
from medcot.errors import BadInput, Problem, collected
from medcot.machine import has_cuda
from medcot.prompts import STYLES
from medcot.settings import (
    PARTS,
    STARTER,
    BadSettings,
    DataSettings,
    FurtherSource,
    Part,
    RunSettings,
    backend_problem,
    is_local_data,
    tracker_problems,
)
from medcot.settings.inputs import STYLES_WITH_SYSTEM
from medcot.workers import reading
from medcot.workers.reading import Preview


def prepare(compose: Callable[[], RunSettings]) -> tuple[RunSettings, Preview]:
    """Compose settings and check them, even if some values are wrong. Raises BadInput with the problems of both."""
    try:
        settings = compose()
    except BadSettings as bad:
        problems = list(bad.problems)
        if bad.rest:
            known = {p.where for p in problems}
            try:
                check(bad.rest)
            except BadInput as more:
                problems += [p for p in more.problems if p.where not in known]
        raise BadInput(problems) from None
    return check(settings)


def check(settings: RunSettings, *, whole: bool = False, run_id: str | None = None) -> tuple[RunSettings, Preview]:
    """Pin revisions and check the data; `whole` holds out every record, `run_id` names a run that goes on.

    Raises BadInput with all problems.
    """
    problems = device_problems(settings)
    model, records, preview = settings.model, settings.data, None
    if whole or settings.prompt.system or settings.prompt.style not in STYLES_WITH_SYSTEM:
        records = records.model_copy(update={"system_messages": "leave_out"})
    hub_answers = True
    try:
        model = check_base(settings.model)
    except BadInput as bad:
        problems += bad.problems
        hub_answers = not isinstance(bad, hub.Unreachable)
    folder = None if whole else local_folder(model)  # nothing is trained where every record is held out
    if folder and (unusable := quantized(folder)):
        problems.append(unusable)
    if hub_answers and settings.training.backup:
        with collected(problems):
            check_backup(settings.training.backup, run_id)
    if hub_answers or is_local_data(records.source):
        with collected(problems):
            records, preview = check_data(records, whole=whole)
    style = settings.prompt.style
    if preview and preview.several and not whole and not STYLES[style].follow_ups:
        what = f"record {preview.several} has several turns, and the {style} contract has no follow-ups."
        fix = "Set prompt.style=chat, or give each question and answer a record of its own."
        problems.append(Problem("prompt.style", what, fix))
    if problems or preview is None:
        raise BadInput(problems)
    as_set = records.model_copy(update={"system_messages": settings.data.system_messages})
    if not set(columns.systems(as_set)) & set(preview.unused):  # there are none to leave out
        records = as_set
    settings = settings.model_copy(update={"model": model, "data": records})
    if preview.system:  # all records have it, so the contract can say it
        settings = settings.replacing("prompt", system=preview.system)
        settings = settings.replacing("data", system_messages="leave_out")
    return settings, preview


def check_backup(repo: str, run_id: str | None) -> None:
    """Raise BadInput where a run cannot be backed up there. A token given to its worker alone is not known here."""
    from huggingface_hub import get_token

    if hub.is_offline():
        raise BadInput.of("training.backup", "HF_HUB_OFFLINE is set, so nothing can be pushed.", "Unset one of them.")
    if get_token():
        hub.require_hub("training.backup")
        backup.require_free(repo, run_id)


def check_data(records: DataSettings, *, whole: bool = False) -> tuple[DataSettings, Preview]:
    """Pin the data's Hub commit, find its columns, check its records. Raises BadInput with all problems."""
    problems, pinned = list[Problem](), records
    if not is_local_data(records.source):
        with collected(problems):
            pinned = hub.pin_data(records)
    for part in PARTS:
        with collected(problems):
            pinned = pinned.model_copy(update={part: _pinned(pinned, part)})
    more = list[FurtherSource]()
    for further in () if whole else pinned.more:
        with collected(problems):
            more.append(_pinned_further(pinned, further))
    if problems:
        raise BadInput(problems)
    pinned = pinned.model_copy(update={"more": tuple(more)})
    found = reading.records(pinned, whole=whole)
    return found.data.model_copy(update={"source": _located(found.data.source)}), found.preview


def _pinned_further(records: DataSettings, further: FurtherSource) -> FurtherSource:
    """A further data set with its commit, or its file by its whole path. Raises BadInput."""
    if is_local_data(further.source):
        return further.model_copy(update={"source": _located(further.source)})
    with _blamed("data.more"):
        return further.model_copy(update={"revision": hub.pin_data(records.beside(further)).revision})


def _located(source: str) -> str:
    """A file by its whole path, so that the run finds it again from any folder; all else as it is."""
    if not is_local_data(source) or source == STARTER:
        return source
    return str(Path(source).expanduser().resolve())


def _pinned(records: DataSettings, part: Part) -> str | None:
    """A part as it is written, a file by its whole path, another Hub data set with its commit. Raises BadInput."""
    written: str | None = getattr(records, part)
    own = records.part(part)
    if written is None or own is None or own.source == records.source:
        return written
    if is_local_data(own.source):
        return _located(own.source)
    with _blamed(f"data.{part}"):
        commit = hub.pin_data(own).revision
    return f"{own.source}{f'@{commit}' if commit else ''}:{own.split}"


@contextmanager
def _blamed(where: str) -> Iterator[None]:
    """Put what goes wrong under this setting."""
    try:
        yield
    except BadInput as bad:
        raise BadInput([replace(problem, where=where) for problem in bad.problems]) from None


def device_problems(settings: RunSettings) -> list[Problem]:
    """What this machine lacks for these settings."""
    found = machine.problems(settings.training.processes, "training.processes")
    if settings.model.quantization == "4bit":
        if not has_cuda():
            what = "4bit needs a CUDA GPU, and this machine has none."
            fix = "Use --recipe starter here, or --set model.quantization=none with a small model."
            found.append(Problem("model.quantization", what, fix))
        elif not importlib.util.find_spec("bitsandbytes"):
            what = "4bit needs bitsandbytes, which is not installed."
            found.append(Problem("model.quantization", what, "Install it: pip install 'medcot[gpu]'"))
    if settings.backend != "auto" and (problem := backend_problem(settings.backend, gpu=has_cuda())):
        found.append(problem)
    return found + tracker_problems(settings.tracking.to)
