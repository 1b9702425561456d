"""`medcot score`: anybody's outputs against references, with floors, without a model."""

import json
from pathlib import Path
from typing import Any

from medcot import data, metrics
from medcot.errors import BadInput, Problem
from medcot.settings import DataSettings


def score_files(
    references: DataSettings, predictions: Path, variant: metrics.Variant = metrics.VARIANT
) -> dict[str, Any]:
    """{"scores", "floors", "metric", "problems"} of a predictions JSONL.

    Outputs and references are matched by `id` where both have one, else by order.

    Raises BadInput where the files do not fit together.
    """
    rows = list(data.read_rows(references))
    examples = data.check(rows, references)
    outputs = _read_outputs(predictions)
    by_record = dict(
        zip((number for number, _ in rows), _match([row for _, row in rows], outputs, predictions), strict=True)
    )
    matched = [by_record[e.record] for e in examples]  # without those of records that are passed over
    scores = [
        metrics.score(output, e.reasoning, e.answer, variant=variant)
        for output, e in zip(matched, examples, strict=True)
    ]
    summary = metrics.summarise(scores)
    for name in ("truncated", "truncated_before_answer"):  # how an output ended is not in the file
        summary.pop(name)
    floors = metrics.floors([(e.question, e.reasoning, e.answer) for e in examples], variant)
    return {"scores": summary, "floors": floors, "metric": str(variant), "problems": leaks(examples, matched)}


def leaks(examples: list[data.Example], outputs: list[str]) -> list[str]:
    """Outputs that hold question and reference answer word for word: somebody scored the prompt."""
    found = [e.record for e, o in zip(examples, outputs, strict=True) if e.question in o and e.answer in o]
    if not found:
        return []
    return [
        f"{len(found)} of {len(examples)} outputs hold both the question and the reference answer word for word "
        f"(record {', '.join(map(str, found[:5]))}{' ...' if len(found) > 5 else ''}): "
        "the prompt was scored, not an answer. Score newly generated text only."
    ]


def _read_outputs(path: Path) -> list[dict[str, Any]]:
    problems, rows = [], []
    for number, row in data.read_rows(DataSettings(source=str(path))):
        if isinstance(row, json.JSONDecodeError):
            problems.append(Problem(f"{path.name}, record {number}", f"is not JSON: {row.msg}.", "Mend the line."))
        elif not isinstance(row, dict) or not isinstance(row.get("output"), str):
            problems.append(
                Problem(f"{path.name}, record {number}", "has no text `output`.", 'Give each line {"output": "..."}.')
            )
        else:
            rows.append(row)
    if problems:
        raise BadInput(problems[: data.MOST_PROBLEMS])
    return rows


def _match(references: list[dict[str, Any]], outputs: list[dict[str, Any]], path: Path) -> list[str]:
    if outputs and all("id" in r for r in [*references, *outputs]):
        by_id = {str(o["id"]): o["output"] for o in outputs}
        wanted = [str(r["id"]) for r in references]
        missing = [i for i in wanted if i not in by_id]
        if missing:
            raise BadInput(
                Problem(
                    path.name, f"has no output for id {', '.join(missing[:10])}.", "Add one, empty if there was none."
                )
            )
        if len(by_id) < len(outputs) or len(by_id) != len(wanted):
            raise BadInput(
                Problem(path.name, f"holds {len(outputs)} outputs for {len(wanted)} references.", "Give each id once.")
            )
        return [by_id[i] for i in wanted]
    if len(outputs) != len(references):
        raise BadInput(
            Problem(
                path.name,
                f"holds {len(outputs)} outputs for {len(references)} references.",
                "Give one line each, in the same order, or an `id` in both files.",
            )
        )
    return [o["output"] for o in outputs]
