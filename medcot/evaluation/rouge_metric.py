"""medcot's scores as an `evaluate.Metric`, for other people's code.

A separate module, because importing `evaluate` loads torch. `evaluate.load("rouge")` would download code at run time;
this metric needs no network.
"""

from typing import Any

import datasets
import evaluate

from medcot.evaluation import metrics


class MedcotRougeL(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """ROUGE-L F1 (stemmer) of the answer part of tagged outputs, and the share in strict format.

    predictions: generated texts, tags and all; references: reference answers. Both lists of str of one length.
    """

    def _info(self) -> Any:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=str(MedcotRougeL.__doc__),
            citation="",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        summary = metrics.summarise([metrics.score(p, "", r) for p, r in zip(predictions, references, strict=True)])
        return {"answer_rouge_l": summary["answer_rouge_l"], "format_strict": summary["format_strict"]}
