"""What the page's choices order an evaluation to do."""

from pathlib import Path

from medcot.errors import BadInput, Problem
from medcot.evaluating.order import CHECKPOINTS, EvaluationOrder
from medcot.runs import Run
from medcot.settings import STARTER

HELD_OUT, STARTER_CHOICE, OWN_CHOICE = (
    "Held-out records",
    "Multiple choice, the starter's 40",
    "Multiple choice, a file",
)


def order_of(run: Run, what: object, file: object, told: object, further: object) -> EvaluationOrder:
    """The order that the page's choices make. Raises BadInput where they do not fit together."""
    questions = None
    if what == STARTER_CHOICE:
        questions = STARTER
    elif what == OWN_CHOICE:
        if not isinstance(file, str):
            raise BadInput(Problem("questions", "no file is chosen.", "Choose one, or ask the held-out records."))
        if not Path(file).is_file():  # an upload is kept for an hour or two
            raise BadInput(Problem("questions", "the file is no longer kept.", "Choose it again."))
        questions = file
    known = {CHECKPOINTS, *(p.name for p in run.checkpoints()), *(p.name for p in run.path.parent.iterdir())}
    arms = [name for name in further if name in known] if isinstance(further, list) else []
    settings = run.settings().evaluation.model_copy(update={"tell_base": bool(told)})
    return EvaluationOrder(**settings.model_dump(), questions=questions, adapters=tuple(arms))
