"""`medcot score`: anybody's outputs against references, with floors, without a model."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from medcot import data
from medcot.errors import BadInput, Problem
from medcot.evaluation import metrics
from medcot.evaluation.rouge import VARIANT, Variant
from medcot.settings import DataSettings


class Scored(BaseModel):
    """The scores of a file of outputs; `problems` name what makes them worth nothing."""

    scores: dict[str, int | float]
    floors: dict[str, float]
    further_floors: dict[str, dict[str, float]]  # of facts, if the references list any
    metric: str
    problems: list[str]


Pairs = Iterable[tuple[str, data.Example]]


def score_files(
    references: DataSettings,
    predictions: Path,
    variant: Variant = VARIANT,
    counted: Callable[[Pairs, int], Pairs] = lambda pairs, _: pairs,
) -> Scored:
    """Score a predictions JSONL, matched by `id` if all have one, else by order; `counted` sees each pair go by.

    Raises BadInput if the files do not fit each other.
    """
    rows = data.read_records(references)
    examples = data.check(rows, references, measured=True)
    outputs = _match([row for _, row in rows], _read_outputs(predictions), predictions)
    by_record = dict(zip((number for number, _ in rows), outputs, strict=True))
    matched = [by_record[e.record] for e in examples]  # without those of records that are passed over
    pairs = counted(zip(matched, examples, strict=True), len(examples))
    scores = [metrics.score(output, e.reasoning, e.answer, variant=variant, facts=e.facts) for output, e in pairs]
    unknown = ("truncated", "truncated_before_answer")  # how an output ended is not in the file
    means = {name: value for name, value in metrics.summarise(scores).items() if name not in unknown}
    texts = [(e.question, e.reasoning, e.answer) for e in examples]
    return Scored(
        scores=means,
        floors=metrics.floors(texts, variant),
        further_floors=metrics.facts_floors(texts, [e.facts for e in examples]),
        metric=str(variant),
        problems=leaks(examples, matched),
    )


def leaks(examples: list[data.Example], outputs: list[str]) -> list[str]:
    """Warn of outputs that hold question and reference answer word for word: the prompt was scored."""
    found = [e.record for e, o in zip(examples, outputs, strict=True) if e.question in o and e.answer in o]
    numbers = ", ".join(map(str, found[:5])) + (" ..." if len(found) > 5 else "")
    what = f"{len(found)} of {len(examples)} outputs hold both the question and the reference answer word for word"
    scored = "the prompt was scored, not an answer. Score newly generated text only."
    return [f"{what} (record {numbers}): {scored}"] if found else []


def _read_outputs(path: Path) -> list[dict[str, Any]]:
    problems, rows = [], []
    for number, row in data.read_rows(DataSettings(source=str(path))):
        where = f"{path.name}, record {number}"
        if isinstance(row, data.BadRow):
            problems.append(Problem(where, str(row)))
        elif not isinstance(row, dict) or not isinstance(row.get("output"), str):
            problems.append(Problem(where, "has no text `output`.", 'Give each line {"output": "..."}.'))
        else:
            rows.append(row)
    if problems:
        raise BadInput(problems[: data.MOST_PROBLEMS])
    return rows


def _match(references: list[dict[str, Any]], outputs: list[dict[str, Any]], path: Path) -> list[str]:
    """The references' outputs, in their order."""
    counts = f"holds {len(outputs)} outputs for {len(references)} references."
    if outputs and all("id" in r for r in [*references, *outputs]):
        by_id = {str(o["id"]): o["output"] for o in outputs}
        wanted = [str(r["id"]) for r in references]
        missing = [i for i in wanted if i not in by_id]
        if missing:
            what = f"has no output for id {', '.join(missing[:10])}."
            raise BadInput.of(path.name, what, "Add one, empty if there was none.")
        if len(by_id) < len(outputs) or len(by_id) != len(wanted):
            raise BadInput.of(path.name, counts, "Give each id once.")
        return [by_id[i] for i in wanted]
    if len(outputs) != len(references):
        raise BadInput.of(path.name, counts, "Give one line each, in the same order, or an `id` in both files.")
    return [o["output"] for o in outputs]
