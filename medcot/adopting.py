"""An adapter from elsewhere, measured on records of one's own: it gets a folder among the runs, as if it were one.

The folder holds a copy of the adapter, so that what was measured stays, and origin.json, which says that nothing was
trained here. An evaluation of it is then one like any other: shown, continued, repeated, deleted.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from medcot import hub, jobs, preflight, recipes
from medcot.adapters import Adapter, open_adapter, other_base
from medcot.errors import BadInput, Problem
from medcot.evaluating.order import EvaluationOrder
from medcot.jobdirs import command
from medcot.runs import Evaluation, Run, RunStore
from medcot.safe_adapter import WEIGHTS, require_finite
from medcot.settings import NAME_LENGTH, STARTER, BadSettings, EvaluationSettings, RunSettings, build

NO_RECIPE = "none"
SPLITTING = ("data.held_out", "data.held_out_from", "data.shuffle_seed", "data.limit")  # there is nothing to split


def measure(
    store: RunStore,
    name: str,
    data: str | None,
    order: Callable[[EvaluationSettings], EvaluationOrder],
    *,
    style: str | None = None,
    base: str | None = None,
    pairs: Sequence[str] = (),
) -> tuple[Run, Evaluation]:
    """Adopt an adapter and start its evaluation, as `order` makes it from the settings; both or neither.

    `data` is a file, a Hub data set or the starter's records, all of which are asked; `pairs` are `path=value` settings
    of data and evaluation. Raises BadInput with everything that is wrong with adapter, base and data.
    """
    run = adopt(store, name, data, style=style, base=base, pairs=pairs)
    try:
        return run, jobs.start_evaluation(run, order(run.settings().evaluation))
    except BadInput:
        store.delete(run)
        raise


def adopt(
    store: RunStore,
    name: str,
    data: str | None,
    *,
    style: str | None = None,
    base: str | None = None,
    pairs: Sequence[str] = (),
) -> Run:
    """A run around a copy of an adapter that was trained elsewhere. Raises BadInput with all that is wrong."""
    problems = [
        Problem(f"--set {pair}", "all records are asked; nothing is held out.", "Ask the first N: evaluation.records=N")
        for pair in pairs
        if pair.partition("=")[0].strip() in SPLITTING
    ]
    found: Adapter | None = None
    settings: RunSettings | None = None
    try:
        found = _elsewhere(store, name, style, base)
    except BadInput as bad:
        problems += bad.problems
    try:
        settings = recipes.measuring(build({"recipe": NO_RECIPE, "data": {"source": data or STARTER}}), list(pairs))
    except BadSettings as bad:
        problems += bad.problems
        settings = bad.rest
    try:
        if found and settings:
            settings, _ = preflight.check(_with_adapter(settings, found), whole=True)
        elif settings:
            preflight.check_data(settings.data, whole=True)
    except BadInput as bad:
        problems += bad.problems
    if problems or found is None or settings is None:
        raise BadInput(list({str(p): p for p in problems}.values()))
    files = [file for wanted in hub.ADAPTER_FILES if (file := found.path / wanted).is_file()]
    return store.adopt(settings, str(found.origin), files)


def _elsewhere(store: RunStore, name: str, style: str | None, base: str | None) -> Adapter:
    """The adapter, checked but for its base. Raises BadInput for a run of this folder, and for another base's."""
    found = open_adapter(name, store, style=style, base=base, checked=False)
    if found.origin is None:
        look = command(f"evaluate {found.name}", store.root)
        raise BadInput(Problem("--adapter", f"{name} is the run {found.name}.", f"Evaluate it as one: {look}"))
    if named := other_base(found.path, found.base.id):
        what = f"{found.name} is an adapter for {named}, not for {found.base.id}."
        raise BadInput(Problem("--base", what, "Leave --base out, or name a copy of that model."))
    require_finite(found.path / WEIGHTS)
    return found


def _with_adapter(settings: RunSettings, found: Adapter) -> RunSettings:
    last = Path(found.name.partition("@")[0]).name
    slug = re.sub(r"[^\w.-]+", "-", last).lstrip(".")[:NAME_LENGTH] or None
    return settings.model_copy(update={"name": slug, "model": found.base, "prompt": found.prompt})
