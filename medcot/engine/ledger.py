"""What has been answered so far, on disk as it comes: an evaluation that ends early is continued from it."""

import json
from collections.abc import Mapping
from typing import Any

from medcot.adapters import Adapter
from medcot.engine import world
from medcot.errors import BadInput, Problem
from medcot.evaluating.answers import Answer, Kind, Question
from medcot.evaluating.measure import Measure
from medcot.evaluating.order import EvaluationOrder
from medcot.events import RecordDone, Report, Sample
from medcot.jobdirs import write_atomically
from medcot.runs import Evaluation
from medcot.starter import sha256_of

INPUTS = "inputs.json"


class Ledger:
    """answers.jsonl, and examples.jsonl and samples.jsonl that are made from it.

    A question's line appears there once the main arms, base and tuned, have answered it; further arms come later and
    join the lines at the end. Of several processes each keeps all answers, and the first alone writes and tells.
    Raises BadInput where the evaluation was begun with other data or adapters.
    """

    def __init__(
        self,
        job: Evaluation,
        measure: Measure,
        main: tuple[str, ...],
        further: tuple[str, ...],
        adapters: Mapping[str, Adapter],
        order: EvaluationOrder,
        report: Report,
    ):
        self._job, self._measure, self._main, self._report = job, measure, main, report
        self.arms = (*main, *further)
        self._questions = {(q.kind, q.number): q for q in measure.questions}
        self._require_same_inputs(adapters)
        self.done = {a.key: a for a in job.answers() if (a.kind, a.number) in self._questions}
        if world.is_first():
            self._write_anew()

    def _write_anew(self) -> None:
        # So that a line that was cut off stands in nobody's way.
        self._job.write_lines("answers", [a.model_dump() for a in self.done.values()])
        self._job.write_lines("examples", [self._row(q) for q in self._asked("record") if self._is_answered(q)])
        self._job.write_lines("samples", [self._row(q) for q in self._asked("sample") if self._is_answered(q)])

    def _require_same_inputs(self, adapters: Mapping[str, Adapter]) -> None:
        weights = {arm: sha256_of(a.path / "adapter_model.safetensors") for arm, a in adapters.items()}
        now = {"questions": self._measure.fingerprint, **{f"adapter of {arm}": w for arm, w in weights.items()}}
        path = self._job.path / INPUTS
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else now
        changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        if changed:
            raise BadInput(
                Problem(
                    "--resume",
                    f"{', '.join(changed)}: not what this evaluation was begun with.",
                    "Start a new evaluation.",
                )
            )
        if world.is_first():
            write_atomically(path, json.dumps(now, indent=1))

    def take(self, answer: Answer) -> None:
        """Keep an answer; where it completes its question, tell."""
        if answer.key in self.done:
            return
        self.done[answer.key] = answer
        if not world.is_first():
            return
        self._job.append_line("answers", answer.model_dump())
        question = self._questions[answer.kind, answer.number]
        if answer.arm not in self._main or not self._is_answered(question):
            return
        row = self._row(question)
        if question.kind == "record":
            self._job.append_line("examples", row)
            self._report(RecordDone(record=row["record"], gain=row["gain"]))
            return
        self._job.append_line("samples", row)
        for arm in self._main:
            self._report(Sample(arm=arm, question=question.text, output=row[arm]["output"]))

    def answers(self) -> list[Answer]:
        """In the order of the questions, so that nothing depends on which ended first."""
        return [self.done[q.kind, q.number, arm] for q in self._questions.values() for arm in self.arms]

    def rows(self, kind: Kind) -> list[dict[str, Any]]:
        """The finished lines of one kind, in order, with all arms."""
        return [self._row(q) for q in self._asked(kind)]

    def _asked(self, kind: str) -> list[Question]:
        return [q for q in self._questions.values() if q.kind == kind]

    def _is_answered(self, question: Question) -> bool:
        return all((question.kind, question.number, arm) in self.done for arm in self._main)

    def _row(self, question: Question) -> dict[str, Any]:
        keys = {arm: (question.kind, question.number, arm) for arm in self.arms}
        return self._measure.row(question, {arm: self.done[k] for arm, k in keys.items() if k in self.done})
