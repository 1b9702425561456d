"""An adapter from elsewhere, measured on one's records: it gets a folder among the runs.

The folder holds a copy of the adapter, so that what was measured is kept, and origin.json, which says that nothing was
trained here. Its evaluations are like any other: shown, continued, repeated, deleted.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from medcot import hub
from medcot.adapters.open import Adapter, open_adapter, other_base
from medcot.adapters.tensors import require_finite
from medcot.errors import BadInput, Problem, collected
from medcot.hub import WEIGHTS
from medcot.runs.job_dir import command
from medcot.runs.run import Evaluation, Run
from medcot.runs.store import RunStore
from medcot.settings import STARTER, BadSettings, EvaluationSettings, RunSettings, build
from medcot.settings.evaluation import EvaluationOrder
from medcot.settings.names import NAME_LENGTH
from medcot.settings.recipes import override
from medcot.workers import jobs, preflight

NO_RECIPE = "none"
# There is nothing to split.
SPLITTING = (
    *("data.validation", "data.test", "data.more"),
    *("data.held_out", "data.held_out_from", "data.shuffle_seed", "data.limit"),
)


@dataclass(frozen=True)
class Elsewhere:
    """An adapter that was trained elsewhere, and what it is asked: all records of a file, a Hub data set or starter."""

    name: str
    data: str | None
    style: str | None = None
    base: str | None = None
    pairs: Sequence[str] = ()  # `path=value` settings of data and evaluation


def measure(
    store: RunStore, wanted: Elsewhere, order: Callable[[EvaluationSettings], EvaluationOrder]
) -> tuple[Run, Evaluation]:
    """Adopt an adapter and start its evaluation, as `order` makes it from the settings; both or neither.

    Raises BadInput with everything that is wrong with adapter, base and data.
    """
    run = adopt(store, wanted)
    try:
        return run, jobs.start_evaluation(run, order(run.settings().evaluation))
    except BadInput:
        store.delete(run)
        raise


def adopt(store: RunStore, wanted: Elsewhere) -> Run:
    """A run around a copy of the adapter. Raises BadInput with all that is wrong."""
    split = [pair for pair in wanted.pairs if pair.partition("=")[0].strip() in SPLITTING]
    what, fix = "all records are asked; nothing is held out.", "Ask the first N: evaluation.records=N"
    problems = [Problem(f"--set {pair}", what, fix) for pair in split]
    found: Adapter | None = None
    settings: RunSettings | None = None
    with collected(problems):
        found = open_elsewhere(store, wanted)
    try:
        settings = build({"recipe": NO_RECIPE, "data": {"source": wanted.data or STARTER}})
        settings = override(settings, wanted.pairs, trained=False)
    except BadSettings as bad:
        problems += bad.problems
        settings = bad.rest
    with collected(problems):
        if found and settings:
            settings, _ = preflight.check(_with_adapter(settings, found), whole=True)
        elif settings:
            preflight.check_data(settings.data, whole=True)
    if problems or found is None or settings is None:
        raise BadInput(problems)
    files = [file for wanted in hub.ADAPTER_FILES if (file := found.path / wanted).is_file()]
    return store.adopt(settings, str(found.origin), files)


def open_elsewhere(store: RunStore, wanted: Elsewhere) -> Adapter:
    """The adapter, checked but for its base. Raises BadInput for a run of this folder, and for another base's."""
    found = open_adapter(wanted.name, store, style=wanted.style, base=wanted.base, checked=False)
    if found.origin is None:
        look = command(f"evaluate {found.name}", store.root)
        fix, page = f"Evaluate it as one: {look}", "Choose it under Run, and press Start evaluation."
        raise BadInput.of("--adapter", f"{wanted.name} is the run {found.name}.", fix, page)
    if named := other_base(found.path, found.base.id):
        what = f"{found.name} is an adapter for {named}, not for {found.base.id}."
        raise BadInput.of("--base", what, "Leave --base out, or name a copy of that model.")
    require_finite(found.path / WEIGHTS)
    return found


def _with_adapter(settings: RunSettings, found: Adapter) -> RunSettings:
    last = Path(found.name.partition("@")[0]).name
    slug = re.sub(r"[^\w.-]+", "-", last).lstrip(".")[:NAME_LENGTH] or None
    return settings.model_copy(update={"name": slug, "model": found.base, "prompt": found.prompt})
