"""The first measure where the references have no reasoning: nothing is made up for it."""

import pytest

from medcot import data
from medcot.evaluation import records
from medcot.evaluation.answers import Answer
from medcot.evaluation.metrics import Variant
from medcot.settings import DataSettings
from tests.conftest import make_records
from tests.data.test_examples import write

ARMS = ("base", "tuned")


@pytest.fixture
def measure(tmp_path):
    rows = [{"Question": r["Question"], "Response": r["Response"]} for r in make_records(12)]
    settings = DataSettings(source=str(write(tmp_path, rows)))
    return records.select(settings, data.load(settings, whole=True), None, Variant())


def answered(measure, question):
    record = measure.held_out[question.number]
    said = {"base": "I do not know.", "tuned": f"<think>x</think><response>{record.answer}</response>"}
    return {
        arm: Answer(kind="record", number=question.number, arm=arm, output=o, tokens=1, ended="finished", seconds=1.0)
        for arm, o in said.items()
    }


def test_only_answers_and_format_are_scored_and_it_is_noted(measure):
    asked = [q for q in measure.questions if q.kind == "record"]
    examples = [measure.example(q, answered(measure, q)) for q in asked]
    assert examples[0].reference.reasoning is None
    figures = measure.figures(examples, ARMS, 42, lambda text: (text, False))
    unknown = {"reasoning_rouge_l", "both_rouge_l"}
    assert all(not unknown & found.keys() for found in figures.arms.values())
    assert figures.arms["tuned"]["answer_rouge_l"] == 1.0
    assert not unknown & figures.paired["tuned-base"].measures.keys()
    assert "gold_reasoning" not in figures.floors
    assert any("no reasoning to compare with" in note for note in measure.notes)
