"""Question files as published sets have them, and what is wrong with one told by its record."""

import csv
import json

import pytest

from medcot.errors import BadInput
from medcot.evaluation import choice_files

OPTIONS = {"A": "Liver", "B": "Pancreas", "C": "Spleen", "D": "Kidney"}
TEXTS = list(OPTIONS.values())
ASKED = {"question": "Which organ makes insulin?"}
PLAIN = {**ASKED, "options": OPTIONS, "answer_idx": "B"}


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def problem_of(tmp_path, row) -> str:
    with pytest.raises(BadInput) as refused:
        choice_files.load(write(tmp_path / "q.jsonl", [PLAIN, row]))
    (problem,) = refused.value.problems
    assert problem.where == "q.jsonl, record 2"
    return problem.what


LAYOUTS = {
    "MMLU on the Hub": {**ASKED, "subject": "anatomy", "choices": TEXTS, "answer": 1},
    "ARC on the Hub": {**ASKED, "choices": {"text": TEXTS, "label": list("ABCD")}, "answerKey": "B"},
    "ARC with numbers": {**ASKED, "choices": {"text": TEXTS, "label": list("1234")}, "answer": "Pancreas"},
    "ARC's numbers": {**ASKED, "choices": {"text": TEXTS, "label": list("1234")}, "answerKey": "2"},
    "an object by number from 1": {**ASKED, "options": dict(zip("1234", TEXTS, strict=True)), "answer_idx": 2},
    "an object by number from 0": {**ASKED, "options": dict(zip("0123", TEXTS, strict=True)), "answer": "1"},
    "letters as columns": {**ASKED, **OPTIONS, "answer": "B"},
    "letters as columns, small": {**ASKED, **{k.lower(): v for k, v in OPTIONS.items()}, "answer": "b"},
    "label and text": {**PLAIN, "options": [{"label": k, "text": v} for k, v in OPTIONS.items()]},
    "lines": {**PLAIN, "options": "\n".join(f"{k}. {v}" for k, v in OPTIONS.items())},
    "brackets": {**PLAIN, "options": "\n".join(f"({k}) {v}" for k, v in OPTIONS.items())},
    "one line": {**PLAIN, "options": "; ".join(f"{k}) {v}" for k, v in OPTIONS.items())},
    "a list as Python prints it": {**PLAIN, "options": str(TEXTS)},
    "an object as Python prints it": {**PLAIN, "options": str(OPTIONS)},
    "answer as text": {**ASKED, "options": OPTIONS, "answer": "Pancreas"},
    "answer as text in other letters": {**ASKED, "options": OPTIONS, "answer": " pancreas "},
    "answer as letter and text": {**ASKED, "options": OPTIONS, "answer": "B. Pancreas"},
    "answer_idx as text": {**PLAIN, "answer_idx": "Pancreas"},
    "answer in a list": {**PLAIN, "answer_idx": ["B"]},
    "letter in brackets": {**PLAIN, "answer_idx": "(b)"},
    "letter with a dot": {**PLAIN, "answer_idx": "B."},
    "both agree": {**PLAIN, "answer": "Pancreas"},
    "number of a column with gaps": {**PLAIN, "answer_idx": 1.0},
    "number as text": {**PLAIN, "answer_idx": "1"},
    "number from 1": {**ASKED, "options": TEXTS, "answer_number": 2},
    "label": {**ASKED, "choices": TEXTS, "label": 1},
    "an option of which there is none": {**PLAIN, "options": {**OPTIONS, "E": None}},
}


@pytest.mark.parametrize("row", LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_gives_the_same_question(tmp_path, row):
    ((found,), *_) = choice_files.load(write(tmp_path / "q.jsonl", [row]))
    assert (found.question, found.options, found.letter) == (ASKED["question"], OPTIONS, "B")


@pytest.mark.parametrize(
    "header", [[], [["question", "A", "B", "C", "D", "answer"]], [["Question", *"ABCD", "Answer"]]]
)
def test_mmlus_own_csv_has_no_line_of_names(tmp_path, header):
    path = tmp_path / "anatomy_test.csv"
    rows = [[ASKED["question"], *TEXTS, "B"], ["Which of them, if any?", "0", "1", "0", "none", "D"]]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([*header, *rows])
    found, *_ = choice_files.load(str(path))
    assert [(q.record, q.question, q.letter) for q in found] == [(1, ASKED["question"], "B"), (2, rows[1][0], "D")]
    assert found[0].options == OPTIONS


def test_the_lists_of_a_file_are_asked_one_after_another(tmp_path):
    path = tmp_path / "eval_data.json"
    path.write_text(json.dumps({"MedQA_test": [PLAIN, PLAIN], "None": [], "PubMedQA_test": [PLAIN]}))
    assert [q.record for q in choice_files.load(str(path))[0]] == [1, 2, 3]


@pytest.mark.parametrize("several", ["AB", "A,B", "A, C and D", "A;B", "A&B", ["A", "B"], ["Liver", "Spleen"]])
@pytest.mark.parametrize("name", ["answer_idx", "answer"])
def test_several_right_options_are_called_so(tmp_path, name, several):
    told = problem_of(tmp_path, {**ASKED, "options": OPTIONS, name: several})
    assert "has several right options" in told
    assert "Remove the record" in told


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**PLAIN, "answer": "Spleen"}, "says B in `answer_idx`, and in `answer` the text of C"),
        ({**PLAIN, "options": TEXTS, "answer_idx": 2, "answer": "Pancreas"}, "says C in `answer_idx`"),
        ({**PLAIN, "answer_idx": "Pancreass"}, "has no `answer_idx`"),
        ({**ASKED, "options": OPTIONS, "answer": "the pancreas makes it"}, "has no `answer_idx`"),
        ({**ASKED, "options": OPTIONS}, "has no `answer_idx`"),
        ({**PLAIN, "options": "Liver, Pancreas, Spleen"}, "has no `options`"),
        ({**PLAIN, "options": True}, "has no `options`"),
        ({**PLAIN, "options": 3}, "has no `options`"),
        ({**PLAIN, "options": [["Liver"], ["Pancreas"]], "answer_idx": "C"}, "has no `answer_idx`"),
        ({**PLAIN, "options": "A. Liver\nC. Spleen"}, "has no `options`"),
        ({**PLAIN, "options": {"A": "Liver", "B": " "}}, "has no `options`"),
        (
            {**ASKED, "options": {"A": "AB", "B": "A", "C": "O", "D": "B"}, "answer": "B"},
            "a letter and the text of D",
        ),
    ],
)
def test_an_answer_that_is_not_plain_is_refused(tmp_path, row, words):
    assert words in problem_of(tmp_path, row)


@pytest.mark.parametrize(
    ("row", "letter"),
    [
        ({**ASKED, "options": {"A": "AB", "B": "A", "C": "O", "D": "B"}, "answer_idx": "D", "answer": "B"}, "D"),
        ({**ASKED, "options": ["1", "2", "3"], "answer": "3"}, "C"),
        ({**ASKED, "options": "A. vitamin B. or so\nB. iron", "answer_idx": "B"}, "B"),
        ({**ASKED, "options": ["2", "1", "0"], "answer_idx": 0}, "A"),
        ({**ASKED, "options": {"A": "AB", "B": "BA"}, "answer": "AB"}, "A"),
    ],
)
def test_texts_that_look_like_letters_and_numbers_are_texts(tmp_path, row, letter):
    ((found,), *_) = choice_files.load(write(tmp_path / "q.jsonl", [row]))
    assert found.letter == letter


def test_lines_that_are_no_json_are_told_with_the_other_bad_records(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(PLAIN) + '\n{"question": \n' + json.dumps({**PLAIN, "options": None}) + "\n")
    with pytest.raises(BadInput) as refused:
        choice_files.load(str(path))
    assert [p.where for p in refused.value.problems] == ["q.jsonl, record 2", "q.jsonl, record 3"]
    assert "is not JSON" in refused.value.problems[0].what
