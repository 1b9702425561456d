"""Columns are guessed by their names, only where the usual ones are missing, and never in silence."""

import pytest

from medcot import data
from medcot.data import columns
from medcot.errors import BadInput
from medcot.settings import DataSettings, build
from medcot.workers import preflight
from tests.conftest import tiny_raw
from tests.data.test_examples import write


def row_of(*names):
    return [(1, dict.fromkeys(names, "text"))]


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
    found = columns.fitted(DataSettings(), row_of(*there))
    assert tuple(columns.of(found).values()) == wanted
    assert "question from " in columns.in_words(columns.guessed(DataSettings(), found))


def test_the_usual_names_and_those_that_somebody_gave_are_left_alone():
    usual = ["question", "Question", "Complex_CoT", "Response", "answer"]
    assert columns.fitted(DataSettings(), row_of(*usual)) == DataSettings()
    named = DataSettings(question_column="frage", answer_column="Q")
    found = columns.fitted(named, row_of("question", "Q", "cot"))
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


def test_the_input_of_alpaca_is_joined_to_its_instruction_and_told(tmp_path, tiny_model):
    row = {"instruction": "Answer as a doctor would.", "rationale": "r", "output": "a"}
    path = write(tmp_path, [{**row, "input": f"Why {i}?"} for i in range(7)] + [{**row, "input": None}])
    settings, told = preflight.prepare(lambda: build(tiny_raw(tiny_model, path)))
    split = data.load(settings.data)
    assert settings.data.context_column == "input"
    assert [e.question for e in split.held_out[:2]] == [f"Answer as a doctor would.\n\nWhy {i}?" for i in range(2)]
    assert split.train[-1].question == "Answer as a doctor would.", "where there is none, the instruction is whole"
    assert "the question's context from 'input'" in columns.in_words(told.guessed)
    assert columns.named(settings.data)["context"] == "input"


def test_a_context_is_named_rightly_or_refused(tmp_path):
    row = {"Question": "q", "Complex_CoT": "r", "Response": "a", "note": "n"}
    path = write(tmp_path, [{**row, "Question": f"q{i}"} for i in range(3)] + [{**row, "note": 3}])
    given = DataSettings(source=str(path), held_out=1)
    with pytest.raises(BadInput, match="record 4: note is not text"):
        data.load(given.model_copy(update={"context_column": "note"}))
    with pytest.raises(BadInput, match=r"data.context_column: no record of .* has a column 'notes'"):
        data.load(given.model_copy(update={"context_column": "notes"}))
    with pytest.raises(BadInput, match=r"data.context_column: 'Response' is used already"):
        build({"data": {"context_column": "Response"}})


def test_the_guess_is_what_the_run_is_made_with_and_is_told(tmp_path, tiny_model):
    path = write(tmp_path, [{"instruction": f"q{i}", "cot": "r", "output": "a"} for i in range(8)])
    settings, told = preflight.prepare(lambda: build(tiny_raw(tiny_model, path)))
    assert told.guessed == {"question": "instruction", "reasoning": "cot", "answer": "output"}
    assert (
        data.load_fitted(build(tiny_raw(tiny_model, path)).data)[1].fingerprint == data.load(settings.data).fingerprint
    )


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


@pytest.mark.parametrize(
    "nothing",
    [
        float("nan"),
        None,
        "",
        " \n",
        "nan",
        "NaN",
        "#N/A",
        "None",
        "null",
        "<NA>",
        "\u200b",
        "\ufeff\u2060",
        "\u3164",
        "\u00ad \u200d",
    ],
)
@pytest.mark.parametrize("column", ["Question", "Complex_CoT", "Response"])
def test_what_programs_write_for_nothing_is_no_text(tmp_path, column, nothing):
    rows = [{"Question": f"q{i}", "Complex_CoT": "r", "Response": "a"} for i in range(4)]
    rows[2][column] = nothing
    settings = DataSettings(source=str(write(tmp_path, rows)), held_out=1)
    with pytest.raises(BadInput, match=f"record 3: has (no|an empty) {column}"):
        data.load(settings)
    assert data.load(settings.model_copy(update={"empty_records": "skip"})).skipped == [3]


@pytest.mark.parametrize("text", ["None.", "none", "nandrolone", "NA+ 140", "0", "-", "👍🏽", "无", "\u200bA"])
def test_a_short_answer_is_text(tmp_path, text):
    rows = [{"Question": f"q{i}", "Complex_CoT": "r", "Response": text} for i in range(3)]
    assert len(data.load(DataSettings(source=str(write(tmp_path, rows)), held_out=1)).train) == 2


def test_where_every_record_is_skipped_it_is_said_and_no_count_of_nothing(tmp_path):
    rows = [{"Question": f"q{i}", "Complex_CoT": "nan", "Response": "a"} for i in range(3)]
    settings = DataSettings(source=str(write(tmp_path, rows)), held_out=1, empty_records="skip")
    with pytest.raises(BadInput, match=r"each of the 3 records of .* lacks text") as refused:
        data.load(settings)
    assert " of 0 " not in str(refused.value)


@pytest.mark.parametrize(
    ("more", "unused"),
    [
        ({}, []),
        ({"note": "see the chart"}, ["note"]),
        ({"year": 2020, "score": 0.5, "row": "17", "gone": None, "blank": " ", "no": "nan"}, []),
        ({"tags": ["asthma"], "options": {"A": "yes", "B": "1"}}, ["tags", "options.A"]),
        ({"备注": "参考"}, ["备注"]),
        ({"question": "Another?", "answer": "x"}, ["question", "answer"]),
    ],
)
def test_columns_with_text_that_nothing_uses_are_named(tmp_path, more, unused):
    row = {"Question": "q", "Complex_CoT": "r", "Response": "a"}
    path = write(tmp_path, [{**row, "Question": f"q{i}"} for i in range(3)] + [{**row, **more}])
    assert data.load(DataSettings(source=str(path), held_out=1)).unused == unused


def test_records_that_are_only_measured_need_no_reasoning(tmp_path):
    rows = [{"Question": f"q{i}", "Response": "a"} for i in range(3)]
    settings = DataSettings(source=str(write(tmp_path, rows)), held_out=1)
    assert [e.reasoning for e in data.load(settings, whole=True).held_out] == [""] * 3
    with pytest.raises(BadInput, match="an evaluation of an adapter from elsewhere does without"):
        data.load(settings)
    named = settings.model_copy(update={"reasoning_column": "cot"})
    with pytest.raises(BadInput, match="has a column 'cot'"):
        data.load(named, whole=True)
