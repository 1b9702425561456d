"""Columns are guessed by their names, only where the usual ones are missing, and never in silence."""

import pytest

from medcot import columns, data, preflight
from medcot.errors import BadInput
from medcot.settings import DataSettings, build
from tests.conftest import tiny_raw
from tests.test_data import write

NAMED = [
    (["instruction", "cot", "output"], ("instruction", "cot", "output")),
    (["input", "prompt", "rationale", "answer"], ("prompt", "rationale", "answer")),
    (
        ["id", "question_text", "Chain-of-Thought", "final answer"],
        ("question_text", "Chain-of-Thought", "final answer"),
    ),
    (["Query", "Thinking", "Completion", "Explanation"], ("Query", "Thinking", "Completion")),
]


@pytest.mark.parametrize(("there", "wanted"), NAMED)
def test_names_that_published_data_sets_use_are_guessed(there, wanted):
    found = columns.fitted(DataSettings(), there)
    assert tuple(columns.of(found).values()) == wanted
    assert "question from " in columns.in_words(columns.guessed(DataSettings(), found))


def test_the_usual_names_and_those_that_somebody_gave_are_left_alone():
    usual = ["question", "Question", "Complex_CoT", "Response", "answer"]
    assert columns.fitted(DataSettings(), usual) == DataSettings()
    named = DataSettings(question_column="frage", answer_column="Q")
    found = columns.fitted(named, ["question", "Q", "cot"])
    assert columns.of(found) == {"question": "frage", "reasoning": "cot", "answer": "Q"}


def test_what_no_name_fits_is_refused_with_the_columns_there_are(tmp_path):
    path = write(tmp_path, [{"a": "1", "b": "2", "output": "3"}] * 3)
    with pytest.raises(BadInput) as refused:
        data.load_fitted(DataSettings(source=str(path), held_out=1))
    assert [p.where for p in refused.value.problems] == ["data.question_column", "data.reasoning_column"]
    assert "'a', 'b', 'output'" in refused.value.problems[0].what


def test_a_wrong_name_is_answered_with_the_likely_one(tmp_path):
    path = write(tmp_path, [{"instruction": "q", "cot": "r", "output": "a"}] * 3)
    with pytest.raises(BadInput) as refused:
        data.load_fitted(DataSettings(source=str(path), held_out=1, question_column="frage"))
    assert [p.fix for p in refused.value.problems] == ["Name the right one: --set data.question_column=instruction"]


def test_the_guess_is_what_the_run_is_made_with_and_is_told(tmp_path, tiny_model):
    path = write(tmp_path, [{"instruction": f"q{i}", "cot": "r", "output": "a"} for i in range(8)])
    settings, split = preflight.prepare(lambda: build(tiny_raw(tiny_model, path)))
    assert split.guessed == {"question": "instruction", "reasoning": "cot", "answer": "output"}
    assert data.load(settings.data).fingerprint == split.fingerprint


def test_empty_records_are_refused_or_passed_over_as_the_settings_say(tmp_path):
    rows = [{"Question": f"q{i}", "Complex_CoT": "r", "Response": "" if i == 2 else "a"} for i in range(5)]
    path = write(tmp_path, [*rows, {"Question": "q", "Complex_CoT": None, "Response": "a"}])
    refusing = DataSettings(source=str(path), held_out=1)
    with pytest.raises(BadInput) as refused:
        data.load(refusing)
    assert [p.where for p in refused.value.problems] == [f"{path.name}, record 3", f"{path.name}, record 6"]
    split = data.load(refusing.model_copy(update={"empty_records": "skip"}))
    assert split.skipped == [3, 6]
    assert [e.record for e in split.train] == [2, 4, 5]


def test_skipping_empties_hides_no_broken_record(tmp_path):
    row = {"Question": "q", "Complex_CoT": "r", "Response": "a"}
    path = write(tmp_path, [row, row, {**row, "Response": 3}, ["no record"]])
    with pytest.raises(BadInput) as refused:
        data.load(DataSettings(source=str(path), held_out=1, empty_records="skip"))
    assert len(refused.value.problems) == 2
