"""What has been answered so far, on disk as it comes: an evaluation that ends early is continued from it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from medcot.engine import distributed
from medcot.errors import BadInput
from medcot.evaluation import answers
from medcot.evaluation.answers import Answer, Example, Question
from medcot.evaluation.measure import Measure
from medcot.machine import sha256_of, write_atomically
from medcot.runs.events import RecordDone, Report, Sample
from medcot.runs.run import Evaluation

INPUTS = "inputs.json"


class AnswerLog:
    """answers.jsonl, and examples.jsonl and samples.jsonl that are made from it.

    A question's line appears there once the main arms, base and tuned, have answered it; further arms come later and
    join the lines at the end. Every process keeps all answers, and only the first writes and reports.
    Raises BadInput if the evaluation was begun with other data or adapters.
    """

    def __init__(
        self, job: Evaluation, measure: Measure, main: tuple[str, ...], weights: Mapping[str, Path], report: Report
    ):
        """Take the file of weights of each arm but base."""
        self._job, self._measure, self._main, self._report = job, measure, main, report
        self.arms = (*main, *(arm for arm in weights if arm not in main))
        self._questions = {(q.kind, q.number): q for q in measure.questions}
        self._require_same_inputs(weights)
        self.done = {a.key: a for a in job.answers() if (a.kind, a.number) in self._questions}
        if distributed.is_main_process():  # rewritten, without a line that was cut off
            job.write_lines("answers", list(self.done.values()))
            job.write_lines("examples", self.examples())
            job.write_lines("samples", self.samples())

    def _require_same_inputs(self, weights: Mapping[str, Path]) -> None:
        found = {f"adapter of {arm}": sha256_of(file) for arm, file in weights.items()}
        now = {"questions": self._measure.fingerprint, **found}
        path = self._job.path / INPUTS
        before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else now
        changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        if changed:
            what = f"{', '.join(changed)}: not what this evaluation was begun with."
            raise BadInput.of("--resume", what, "Start a new evaluation.")
        if distributed.is_main_process():
            write_atomically(path, json.dumps(now, indent=1))

    def left(self, arms: tuple[str, ...]) -> bool:
        """True if one of these arms has yet to answer a question."""
        return any((*key, arm) not in self.done for key in self._questions for arm in arms)

    def add(self, answer: Answer) -> None:
        """Keep an answer, and report its question once that is complete."""
        if answer.key in self.done:
            return
        self.done[answer.key] = answer
        if not distributed.is_main_process():
            return
        self._job.append_line("answers", answer)
        question = self._questions[answer.kind, answer.number]
        given = self._answers_to(question)
        if answer.arm not in self._main or not given.keys() >= set(self._main):
            return
        if question.kind == "record":
            example = self._measure.example(question, given)
            self._job.append_line("examples", example)
            self._report(RecordDone(record=example.record, gain=example.gain))
            return
        self._job.append_line("samples", self._measure.sample(question, given))
        for arm in self._main:
            self._report(Sample(arm=arm, question=question.text, output=given[arm].output))

    def scored(self, arm: str) -> list[Answer]:
        """An arm's answers to scored questions, in order, so that nothing depends on which ended first."""
        return [self.done[*key, arm] for key in self._questions if key[0] == "record"]

    def examples(self) -> list[Example]:
        """The complete lines of examples.jsonl, in order, with all arms."""
        return [self._measure.example(*answered) for answered in self._answered("record")]

    def samples(self) -> list[answers.Sample]:
        return [self._measure.sample(*answered) for answered in self._answered("sample")]

    def _answered(self, kind: answers.Kind) -> Iterator[tuple[Question, dict[str, Answer]]]:
        """The questions that the main arms have answered, each with all its answers."""
        for question in self._questions.values():
            given = self._answers_to(question)
            if question.kind == kind and given.keys() >= set(self._main):
                yield question, given

    def _answers_to(self, question: Question) -> dict[str, Answer]:
        answered = (self.done.get((question.kind, question.number, arm)) for arm in self.arms)
        return {answer.arm: answer for answer in answered if answer}
