"""The first measure: held-out records with a reference reasoning and answer, scored by shared wording."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from medcot.data import Example as Record
from medcot.data import Split, load, starter
from medcot.data.facts import starter_facts
from medcot.errors import BadInput
from medcot.evaluation import metrics
from medcot.evaluation.answers import BASE, TUNED, Answer, Example, Question, Reference, Sample, Shown, comparisons
from medcot.evaluation.facts import FIGURES, find
from medcot.evaluation.in_training import ELSEWHERE, Trained
from medcot.evaluation.measure import WORDS, Asked, Cut, Figures, Measure, Prompt
from medcot.evaluation.metrics import ArmScores, Comparison, Interval, RecordScore
from medcot.evaluation.rouge import Variant, rouge_l, word_count
from medcot.prompts.tags import Parsed, completion_text
from medcot.settings import DataSettings, is_local_data
from medcot.settings.evaluation import EvaluationOrder

LEAK_WORDS = 5  # an answer of fewer words can stand in its question by chance
HEADLINE = "answer_rouge_l"


@dataclass(frozen=True)
class Records(Measure):
    """Held-out records, and the sample questions that are asked along with them."""

    source: DataSettings
    held_out: list[Record]
    fingerprint: str
    variant: Variant
    trained: Trained
    notes: tuple[str, ...] = ()  # what was found when they were chosen

    kind: ClassVar = "records"
    tracked_as: ClassVar = "evaluation"
    words: ClassVar = WORDS["records"]

    @classmethod
    def open(
        cls, order: EvaluationOrder, folder: Path, data: DataSettings, trained_on: str | None, adopted: bool
    ) -> "Records":
        split = load(data, whole=adopted)
        if trained_on and trained_on != split.fingerprint:
            what = "the data has changed since this run was trained, so 'held out' means nothing."
            raise BadInput.of("data.source", what, "Put the data back as it was, or train again.")
        source = data if adopted else data.part("test") or data
        return select(source, split, order.records, Variant(order.rouge, order.stemmer), adopted=adopted)

    @property
    def questions(self) -> list[Question]:
        asked = [Question(kind="record", number=i, text=e.question) for i, e in enumerate(self.held_out)]
        samples = enumerate(starter.SAMPLE_QUESTIONS)
        return asked + [Question(kind="sample", number=i, text=text, group=group) for i, (group, text) in samples]

    def check(self, prompt: Prompt, arms: Sequence[str]) -> list[str]:
        """Refuse prompts that hold their reference answer, and a metric that scores an empty output above 0.

        A short answer ("No", an option's name) may well stand in its question; that is only a note.
        """
        leaks = [e for e in self.held_out if any(e.answer in prompt(arm, e.question) for arm in arms)]
        if long := [e.record for e in leaks if word_count(e.answer) >= LEAK_WORDS]:
            numbers = ", ".join(map(str, long[:10]))
            what = f"the prompt of record {numbers} holds its reference answer, so a score would measure copying."
            raise BadInput.of("data.source", what, "Remove the answer from the question.")
        if any(rouge_l("", e.answer, self.variant) for e in self.held_out):
            raise RuntimeError("An empty output scored above 0; the metric is broken.")
        short = f"The short reference answers of {len(leaks)} records stand in their own questions."
        return [*self.notes, *([short] if leaks else [])]

    def example(self, question: Question, answers: Mapping[str, Answer]) -> Example:
        record, scores = self.held_out[question.number], {}
        for arm, answer in answers.items():
            parsed, cut = answer.parsed(), answer.truncated
            scores[arm] = self._score(record, parsed, cut)
        return Example(
            record=record.record,
            question=record.question,
            reference=Reference(reasoning=record.reasoning or None, answer=record.answer),
            gain=scores[TUNED].answer_rouge_l - scores[BASE].answer_rouge_l,
            **({"in_training": seen} if (seen := self.trained.seen.get(record.record)) else {}),
            **{arm: Shown.of(answers[arm], **score.model_dump(exclude_none=True)) for arm, score in scores.items()},
        )

    def sample(self, question: Question, answers: Mapping[str, Answer]) -> Sample:
        """A sample is not scored; which facts its answers name is shown."""
        listed, shown = starter_facts().get(question.text), dict[str, Shown]()
        for arm, answer in answers.items():
            found = {"facts": find(answer.parsed().answer, listed).model_dump()} if listed else {}
            shown[arm] = Shown.of(answer, **found)
        return Sample(group=question.group, question=question.text, **shown)

    def _score(self, e: Record, output: str | Parsed, truncated: bool) -> RecordScore:
        return metrics.score(output, e.reasoning, e.answer, truncated=truncated, variant=self.variant, facts=e.facts)

    def figures(self, examples: Sequence[Example], arms: Sequence[str], seed: int, cut: Cut) -> Figures:
        scores = {arm: [RecordScore.model_validate(e.arms[arm].model_dump()) for e in examples] for arm in arms}
        texts, facts = [(e.question, e.reasoning, e.answer) for e in self.held_out], [e.facts for e in self.held_out]
        asked = {**self.source.model_dump(include={"source", "revision"}), "records": len(self.held_out)}
        if not is_local_data(self.source.source):
            asked["split"] = self.source.split
        return Figures(
            data=Asked(**asked, fingerprint=self.fingerprint),
            metric=str(self.variant),
            arms={arm: metrics.summarise(found) for arm, found in scores.items()},
            floors=metrics.floors(texts, self.variant),
            further_floors=metrics.facts_floors(texts, facts),
            ceiling=self._ceiling(cut),
            paired={key: _compared(scores[b], scores[a], seed) for key, (a, b) in comparisons(arms).items()},
        )

    def asking(self, kept: Collection[int]) -> "Records":
        return replace(self, held_out=[e for e in self.held_out if e.record in kept])

    def _ceiling(self, cut: Cut) -> ArmScores:
        """Score the references themselves as outputs, each cut at the token budget: no model can do better."""
        outputs = [cut(completion_text(e.reasoning, e.answer)) for e in self.held_out]
        found = metrics.summarise([self._score(e, *output) for e, output in zip(self.held_out, outputs, strict=True)])
        kept = (HEADLINE, *FIGURES, "truncated", "truncated_before_answer")
        return {name: found[name] for name in kept if name in found}

    @classmethod
    def cautions(cls, figures: Figures) -> list[str]:
        base, tuned = figures.arms[BASE], figures.arms[TUNED]
        far = "wording like the reference's is still far off."
        notes = [
            f"The floor '{name.replace('_', ' ')}' ({cls.words.floors[name]}) scores {value:.3f}, above tuned: {far}"
            for name, value in figures.floors.items()
            if value > tuned[HEADLINE]
        ]
        if base["length_ratio"] > 2 * max(tuned["length_ratio"], 0.5):
            notes.append(
                f"Base answers are {base['length_ratio']:.1f} times as long as the reference, tuned "
                f"{tuned['length_ratio']:.1f}. F1 punishes length, so part of the difference is length."
            )
        if figures.ceiling and figures.ceiling["truncated"] > 0.1:
            share = f"{figures.ceiling['truncated']:.0%}"
            notes.append(f"{share} of the references themselves do not fit the token budget: it is too short.")
        return notes


def select(
    settings: DataSettings, split: Split, most: int | None, variant: Variant, *, adopted: bool = False
) -> Records:
    """Take the first `most` held-out records but those that hold their answer. Raises BadInput if none is left."""
    asked = split.held_out[:most]
    leaks = [e.record for e in asked if e.answer in e.question and word_count(e.answer) >= LEAK_WORDS]
    kept = [e for e in asked if e.record not in leaks]
    if not kept:
        raise BadInput.of(
            "data.source", "every held-out question holds its own reference answer.", "Hold out other records."
        )
    notes = []
    if leaks:
        numbers = ", ".join(map(str, leaks[:10])) + (" and more" if len(leaks) > 10 else "")
        notes.append(f"{len(leaks)} held-out questions hold their own reference answer and are left out: {numbers}.")
    if several := sum(bool(e.more) for e in kept):
        notes.append(f"Held-out conversations of several turns: {several}. Each is asked its first question alone.")
    if not any(e.reasoning for e in kept):
        notes.append("The records have no reasoning to compare with: only answers and format are scored.")
    trained = Trained(None, ELSEWHERE) if adopted else Trained(split.train)
    trained = trained.looked_for({e.record: [e.question] for e in kept})
    return Records(settings, kept, split.fingerprint, variant, trained, tuple(notes))


def _compared(base: list[RecordScore], tuned: list[RecordScore], seed: int) -> Comparison:
    """Compare the answers' scores; `measures` gets the difference and interval of everything else."""
    columns = metrics.columns(base), metrics.columns(tuned)
    found = {name: metrics.compare(columns[0][name], columns[1][name], seed=seed) for name in columns[0]}
    headline = found.pop(HEADLINE)
    measures = {name: Interval(difference=d.difference, low=d.low, high=d.high) for name, d in found.items()}
    return headline.model_copy(update={"measures": measures})


MEASURE = Records
