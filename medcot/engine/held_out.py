"""A run's held-out questions for what it was shipped as, and tuned's answers to hold the new ones against."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medcot.adapters.open import Adapter
from medcot.data import Example as Record
from medcot.data import starter
from medcot.errors import BadInput
from medcot.evaluation import metrics
from medcot.evaluation.answers import TUNED, Reply, Shown
from medcot.evaluation.facts import FIGURES
from medcot.evaluation.metrics import RecordScore
from medcot.evaluation.records import HEADLINE, Records
from medcot.evaluation.rouge import VARIANT, Variant
from medcot.hub import SETTINGS
from medcot.runs.run import Run
from medcot.settings.evaluation import EvaluationOrder

SHOWN = (HEADLINE, "reasoning_rouge_l", "format_strict", "truncated", *FIGURES)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a file is asked; `records` are the references of held-out questions, empty for the sample questions."""

    questions: list[str]
    records: list[Record]
    variant: Variant = VARIANT
    tuned: Sequence[Shown] = ()  # its answers to these, of the run's newest greedy evaluation that has them all
    most: int = 0  # tokens that each of tuned's answers could have
    note: str = ""

    def named(self, number: int) -> str:
        """Which question it is, counted from 0, for who has the data."""
        return f"record {self.records[number].record}" if self.records else f"sample question {number + 1}"

    def within(self, most: int) -> "Asked":
        """Only the questions that tuned answered in fewer tokens: with so many at most, its other answers are cut."""
        kept = [i for i, answer in enumerate(self.tuned) if 0 < answer.tokens < most]
        questions, records = [self.questions[i] for i in kept], [self.records[i] for i in kept]
        tuned = [self.tuned[i] for i in kept]
        left = len(self.questions) - len(kept)
        note = f"{left} questions are left out: tuned's answers to them have {most} tokens or more." if left else ""
        return replace(self, questions=questions, records=records, tuned=tuned, note=note)

    def scores(self, replies: Sequence[Reply]) -> dict[str, float]:
        """The figures of answers to the records, in their order; none without records."""
        scored = []
        for record, reply in zip(self.records, replies, strict=False):
            given, cut = (record.reasoning, record.answer), reply.ended == "limit"
            scored.append(metrics.score(reply.text, *given, truncated=cut, variant=self.variant, facts=record.facts))
        return shown(scored)

    def tuned_scores(self) -> dict[str, float]:
        return shown([RecordScore.model_validate(answer.model_dump()) for answer in self.tuned])


def asked_of(adapter: Adapter, most: int) -> Asked:
    """The run's first held-out questions, or the sample questions for an adapter that is no run's."""
    samples = Asked([q for _, q in starter.SAMPLE_QUESTIONS][:most], [])
    run = Run(adapter.path.parent)
    if not (run.path / SETTINGS).is_file() or run.origin() is not None:
        return samples
    settings, plan = run.settings(), run.plan()
    order = EvaluationOrder.model_validate(settings.evaluation.model_dump())
    try:
        measure = Records.open(order, run.path, settings.data, plan.fingerprint if plan else None, False)
    except BadInput as bad:
        note = f"The sample questions were asked: the held-out ones cannot be had ({bad.problems[0].what.rstrip('.')})."
        return Asked(samples.questions, [], note=note)
    records = measure.held_out[:most]
    tuned, budget = tuned_answers(run, [e.record for e in records])
    return Asked([e.question for e in records], records, measure.variant, tuned, budget)


def tuned_answers(run: Run, records: Sequence[int]) -> tuple[list[Shown], int]:
    """Tuned's answers to these records with their budget, of the newest greedy evaluation that has them; else none."""
    for evaluation in run.evaluations():
        summary = evaluation.summary()
        if summary is None or summary.measure is not Records or summary.decoding.temperature:
            continue
        scored = {e.record: e.arms[TUNED] for e in evaluation.examples()}
        if scored.keys() >= set(records):
            return [scored[number] for number in records], summary.decoding.max_new_tokens
    return [], 0


def shown(scores: Sequence[RecordScore]) -> dict[str, float]:
    found = metrics.summarise(scores) if scores else {}
    return {name: float(found[name]) for name in SHOWN if name in found}
