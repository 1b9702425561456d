"""The first measure: held-out records with a reference reasoning and answer, scored by shared wording."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medcot import data, metrics, starter
from medcot.errors import BadInput, Problem
from medcot.evaluating.answers import Answer, Question, shown
from medcot.evaluating.arms import BASE, TUNED, comparisons
from medcot.evaluating.measure import Cut, Prompt
from medcot.metrics import RecordScore, Variant
from medcot.settings import DataSettings
from medcot.tags import completion_text

LEAK_WORDS = 5  # an answer of fewer words can stand in its question by chance
MEASURED = tuple(name for name in RecordScore.__slots__ if name != "answer_rouge_l")


@dataclass(frozen=True)
class Records:
    """Held-out records, and the sample questions that are asked along with them."""

    source: DataSettings
    held_out: list[data.Example]
    fingerprint: str
    variant: Variant
    notes: tuple[str, ...] = ()  # what was found when they were chosen
    kind: str = "records"

    @property
    def questions(self) -> list[Question]:
        asked = [Question(kind="record", number=i, text=e.question) for i, e in enumerate(self.held_out)]
        samples = [Question(kind="sample", number=i, text=q) for i, (_, q) in enumerate(starter.SAMPLE_QUESTIONS)]
        return asked + samples

    def check(self, prompt: Prompt, arms: Sequence[str]) -> list[str]:
        """No prompt may hold the reference answer, and saying nothing must score 0.

        A short answer ("No", an option's name) may well stand in its question; that is only said.
        """
        leaks = [e for e in self.held_out if any(e.answer in prompt(arm, e.question) for arm in arms)]
        long = [e.record for e in leaks if metrics.word_count(e.answer) >= LEAK_WORDS]
        if long:
            raise BadInput(
                Problem(
                    "data.source",
                    f"the prompt of record {', '.join(map(str, long[:10]))} holds its reference answer, "
                    "so a score would measure copying.",
                    "Remove the answer from the question.",
                )
            )
        if any(metrics.rouge_l("", e.answer, self.variant) for e in self.held_out):
            raise RuntimeError("An empty output scored above 0; the metric is broken.")
        short = f"The short reference answers of {len(leaks)} records stand in their own questions."
        return [*self.notes, *([short] if leaks else [])]

    def row(self, question: Question, answers: Mapping[str, Answer]) -> dict[str, Any]:
        if question.kind == "sample":
            group = starter.SAMPLE_QUESTIONS[question.number][0]
            return {"group": group, "question": question.text, **{arm: shown(a) for arm, a in answers.items()}}
        example = self.held_out[question.number]
        reference = {"reasoning": example.reasoning, "answer": example.answer}
        row: dict[str, Any] = {"record": example.record, "question": example.question, "reference": reference}
        row |= {arm: {**shown(a), **self._scores(example, a)} for arm, a in answers.items()}
        row["gain"] = row[TUNED]["answer_rouge_l"] - row[BASE]["answer_rouge_l"]
        return row

    def _scores(self, example: data.Example, answer: Answer) -> dict[str, Any]:
        found = metrics.score(
            answer.parsed(), example.reasoning, example.answer, truncated=answer.truncated, variant=self.variant
        )
        return {name: getattr(found, name) for name in RecordScore.__slots__}

    def figures(self, rows: list[dict[str, Any]], arms: Sequence[str], seed: int, cut: Cut) -> dict[str, Any]:
        scores = {arm: [_score_of(row[arm]) for row in rows] for arm in arms}
        return {
            "data": {
                "source": self.source.source,
                "revision": self.source.revision,
                "records": len(self.held_out),
                "fingerprint": self.fingerprint,
            },
            "metric": str(self.variant),
            "arms": {arm: metrics.summarise(found) for arm, found in scores.items()},
            "floors": metrics.floors([(e.question, e.reasoning, e.answer) for e in self.held_out], self.variant),
            "ceiling": self._ceiling(cut),
            "paired": {
                key: _compared(scores[against], scores[arm], seed) for key, (arm, against) in comparisons(arms).items()
            },
        }

    def _ceiling(self, cut: Cut) -> dict[str, float]:
        """What the references themselves score as outputs, each cut at the token budget: no model can do better."""
        scores = []
        for e in self.held_out:
            output, truncated = cut(completion_text(e.reasoning, e.answer))
            scores.append(metrics.score(output, e.reasoning, e.answer, truncated=truncated, variant=self.variant))
        found = metrics.summarise(scores)
        return {name: found[name] for name in ("answer_rouge_l", "truncated", "truncated_before_answer")}


def chosen(settings: DataSettings, split: data.Split, most: int | None, variant: Variant) -> Records:
    """The first `most` held-out records, less those whose question tells the answer; notes say what was found.

    Raises BadInput where none is left.
    """
    asked = split.held_out[:most]
    told = [e.record for e in asked if e.answer in e.question and metrics.word_count(e.answer) >= LEAK_WORDS]
    kept = [e for e in asked if e.record not in told]
    if not kept:
        raise BadInput(
            Problem("data.source", "every held-out question holds its own reference answer.", "Hold out other records.")
        )
    learned = {e.question.casefold() for e in split.train}
    known = sum(e.question.casefold() in learned for e in kept)
    notes = []
    if told:
        numbers = ", ".join(map(str, told[:10])) + (" and more" if len(told) > 10 else "")
        notes.append(f"{len(told)} held-out questions hold their own reference answer and are left out: {numbers}.")
    if known:
        notes.append(
            f"{known} of {len(kept)} held-out questions stand word for word in the training part too, "
            "so what is measured is partly remembering."
        )
    return Records(settings, kept, split.fingerprint, variant, tuple(notes))


def _score_of(shown_arm: dict[str, Any]) -> RecordScore:
    return RecordScore(**{name: shown_arm[name] for name in RecordScore.__slots__})


def _compared(base: list[RecordScore], tuned: list[RecordScore], seed: int) -> dict[str, Any]:
    """The comparison of the answers' scores, and under `measures` the difference and interval of everything else."""

    def values(scores: list[RecordScore], name: str) -> list[float]:
        return [float(getattr(s, name)) for s in scores]

    others = {
        metrics.SUMMARY_NAMES.get(name, name): metrics.compare(values(base, name), values(tuned, name), seed=seed)
        for name in MEASURED
    }
    return {
        **metrics.compare(values(base, "answer_rouge_l"), values(tuned, "answer_rouge_l"), seed=seed),
        "measures": {name: {k: d[k] for k in ("difference", "low", "high")} for name, d in others.items()},
    }
