"""Further arms of an evaluation: other runs, adapter folders, Hub ids, and checkpoints of the run itself."""

from collections.abc import Sequence

from medcot.adapters import Adapter, open_adapter, other_base
from medcot.engine.checkpoints import damage
from medcot.errors import BadInput, Problem
from medcot.evaluating.arms import TITLES
from medcot.evaluating.order import CHECKPOINTS
from medcot.runs import Run, RunStore


def further_arms(run: Run, main: Adapter, names: Sequence[str]) -> dict[str, Adapter]:
    """Arm name -> adapter, in the order given; checkpoints by step. Raises BadInput with every problem at once."""
    found: dict[str, Adapter] = {}
    problems: list[Problem] = []
    for name in names:
        try:
            opened = _checkpoints(run, main, name) or _open(run, main, name)
        except BadInput as bad:
            problems += bad.problems
            continue
        for arm, adapter in opened.items():
            if arm in TITLES or (arm in found and found[arm].path != adapter.path):
                arm = f"{adapter.path.parent.name}/{arm}"  # of two folders of one name
            if arm in found or arm in TITLES:
                problems.append(Problem("--arm", f"{arm} is an arm already.", "Name each once."))
            elif other := _other_base(main, adapter):
                problems.append(Problem("--arm", f"{arm} {other}", "Compare adapters of one base."))
            found[arm] = adapter
    if problems:
        raise BadInput(problems)
    return found


def _checkpoints(run: Run, main: Adapter, name: str) -> dict[str, Adapter]:
    """The run's own checkpoints of that name, oldest first; none where the name means something else."""
    if name != CHECKPOINTS and not name.startswith("checkpoint-"):
        return {}
    kept = [p for p in reversed(run.checkpoints()) if name in (CHECKPOINTS, p.name)]
    if not kept:
        has = ", ".join(p.name for p in run.checkpoints()) or "none"
        raise BadInput(Problem("--arm", f"{run.id} has kept no {name}; it has {has}.", "Name one of these."))
    hurt = [Problem("--arm", f"{p.name}: {what}.", "Leave it out.") for p in kept if (what := damage(p))]
    if hurt:
        raise BadInput(hurt)
    return {p.name: main.model_copy(update={"name": f"{run.id}, {p.name}", "path": p}) for p in kept}


def _open(run: Run, main: Adapter, name: str) -> dict[str, Adapter]:
    """The adapter of that name. One that does not come from a run is taken to be for this run's base, see below."""
    adapter = open_adapter(name, RunStore(run.path.parent), base=main.base.id, checked=False)
    return {adapter.name: adapter}


def _other_base(main: Adapter, adapter: Adapter) -> str | None:
    """What to say of an adapter whose base is not the one that answers for base here."""
    if main.trained_on and adapter.trained_on and main.trained_on != adapter.trained_on:
        return f"was trained on {adapter.trained_on}, and this run on {main.trained_on}."
    if adapter.base.id != main.base.id:
        return f"is an adapter for {adapter.base.id}, and this run's is for {main.base.id}."
    if named := other_base(adapter.path, main.base.id):
        return f"is an adapter for {named}, and this run's is for {main.base.id}."
    return None
