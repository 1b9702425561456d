"""Multiple choice: files of several layouts, the letter that an output states, and tests that claim no more."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from medcot.data import starter
from medcot.errors import BadInput
from medcot.evaluation import choice_files
from medcot.evaluation.answers import Shown
from medcot.evaluation.choice import accuracy, compare, prompt_for, stated_letter

PUBMEDQA = Path(__file__).parents[3] / "shared" / "data" / "pubmedqa_ori_pqal.json"
PLAIN = {"question": "Q?", "options": {"A": "one", "B": "two", "C": "three"}, "answer_idx": "B"}
LAYOUTS = {
    "question, options, answer_idx": PLAIN,
    "options as a list, answer by number from 0": {**PLAIN, "options": ["one", "two", "three"], "answer_idx": 1},
    "options as JSON text": {**PLAIN, "options": '{"A": "one", "B": "two", "C": "three"}'},
    "MedQA of bigbio": {
        **PLAIN,
        "options": [{"key": k, "value": v} for k, v in PLAIN["options"].items()],
        "meta_info": "step1",
        "answer": "two",
    },
}


def write(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


@pytest.mark.parametrize("row", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_of_one_question(tmp_path, row):
    ((found,), *_) = choice_files.load(write(tmp_path / "q.jsonl", [row]))
    assert (found.question, found.options, found.letter) == ("Q?", PLAIN["options"], "B")


def test_half_a_character_is_named(tmp_path):
    rows = [PLAIN, {**PLAIN, "question": "What \ud83d?"}, {**PLAIN, "options": ["a", "\ud83d"], "answer_idx": 0}]
    with pytest.raises(BadInput) as refused:
        choice_files.load(write(tmp_path / "q.jsonl", rows))
    assert [p.where for p in refused.value.problems] == ["q.jsonl, record 2", "q.jsonl, record 3"]
    assert "lone surrogate" in refused.value.problems[0].what


def test_medmcqa_and_pubmedqa_as_they_are_published(tmp_path):
    medmcqa = {"id": "1", "question": "Q?", "opa": "1", "opb": "2", "opc": "3", "opd": "4", "cop": 4, "exp": "e"}
    pubmedqa = {
        "pubid": 1,
        "question": "Does it?",
        "context": {"contexts": ["BACKGROUND.", "RESULTS."], "labels": ["a", "b"]},
        "long_answer": "It does.",
        "final_decision": "yes",
    }
    first, second = choice_files.load(write(tmp_path / "q.jsonl", [medmcqa, pubmedqa]))[0]
    assert (first.options, first.letter) == ({"A": "1", "B": "2", "C": "3", "D": "4"}, "D")
    assert (second.options, second.letter) == ({"A": "yes", "B": "no", "C": "maybe"}, "A")
    assert second.question == "BACKGROUND.\nRESULTS.\nDoes it?"
    assert "It does." not in prompt_for(second)


def test_pubmedqas_own_file_is_an_object_by_id(tmp_path):
    row = {"QUESTION": "Does it?", "CONTEXTS": ["BACKGROUND.", "RESULTS."], "LONG_ANSWER": "No.", "YEAR": "2010"}
    path = tmp_path / "ori_pqal.json"
    path.write_text(json.dumps({"1": {**row, "final_decision": "no"}, "2": {**row, "final_decision": "maybe"}}))
    first, second = choice_files.load(str(path))[0]
    assert (first.letter, second.letter) == ("B", "C")
    assert first.question == "BACKGROUND.\nRESULTS.\nDoes it?"


@pytest.mark.skipif(not PUBMEDQA.is_file(), reason="the authors' own file is not beside this clone")
def test_the_thousand_questions_of_pubmedqas_authors():
    found, *_ = choice_files.load(str(PUBMEDQA))
    assert Counter(q.options[q.letter] for q in found) == {"yes": 552, "no": 338, "maybe": 110}
    assert all(q.question.count("\n") >= 1 for q in found)


MEDMCQA = {"question": "Q?", "opa": "1", "opb": "2", "opc": "3", "opd": "4"}


@pytest.mark.parametrize(
    ("numbers", "letters"),
    [
        ([2, 4, 1, 3], "BDAC"),  # the authors' files count from 1
        ([0, 3], "AD"),  # as the Hub's rows written to JSON
        (["1", "4"], "AD"),
        ([2, 1, 3], "BAC"),  # JSON lines are the authors' format
    ],
)
def test_medmcqa_counts_as_its_numbers_tell(tmp_path, numbers, letters):
    rows = [{**MEDMCQA, "cop": n} for n in numbers]
    found, *_ = choice_files.load(write(tmp_path / "q.jsonl", rows))
    assert "".join(q.letter for q in found) == letters


def test_medmcqa_as_parquet_is_the_hubs_and_counts_from_0(tmp_path):
    import pyarrow
    import pyarrow.parquet

    rows = [{**MEDMCQA, "cop": n} for n in (2, 1, 3)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "q.parquet")
    assert "".join(q.letter for q in choice_files.load(str(tmp_path / "q.parquet"))[0]) == "CBD"


@pytest.mark.parametrize(
    ("name", "numbers", "words"),
    [("q.jsonl", [0, 4], "both from 0 and from 1"), ("q.csv", [2, 1, 3], "does not tell")],
)
def test_medmcqa_whose_numbers_do_not_tell_is_refused(tmp_path, name, numbers, words):
    rows = [{**MEDMCQA, "cop": n} for n in numbers]
    if name == "q.csv":
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        write(tmp_path / name, rows)
    with pytest.raises(BadInput, match=words):
        choice_files.load(str(tmp_path / name))


def test_a_number_is_renamed_by_where_it_counts_from(tmp_path):
    rows = [
        {**MEDMCQA, "answer_idx": 2},
        {**MEDMCQA, "answer_number": 2},
        {**PLAIN, "answer_idx": None, "answer_number": 2},
    ]
    assert [q.letter for q in choice_files.load(write(tmp_path / "q.jsonl", rows))[0]] == ["C", "B", "B"]


def test_a_number_counts_the_places_of_missing_options_too(tmp_path):
    medmcqa = {"question": "Q?", "opa": "1", "opb": None, "opc": "3", "opd": "4", "cop": 4}
    plain = {"question": "Q?", "options": ["1", None, "3"], "answer_idx": 2}
    found, *_ = choice_files.load(write(tmp_path / "q.jsonl", [medmcqa, plain]))
    assert [q.letter for q in found] == ["D", "C"]
    with pytest.raises(BadInput, match="has no `answer_idx`"):
        choice_files.load(write(tmp_path / "q.jsonl", [{**plain, "answer_idx": 1}]))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("text", "is no object"),
        ({**PLAIN, "question": " "}, "has no text `question`"),
        ({**PLAIN, "options": ["one"]}, "has no `options`"),
        ({**PLAIN, "options": {"one": "x", "two": "y"}}, "has no `options`"),
        ({**PLAIN, "answer_idx": "D"}, "has no `answer_idx` that is one of A, B, C"),
        ({**PLAIN, "answer_idx": 3}, "has no `answer_idx`"),
        ({**PLAIN, "answer_idx": None}, "has no `answer_idx`"),
    ],
)
def test_what_is_wrong_with_a_question_is_said_by_number(tmp_path, row, words):
    with pytest.raises(BadInput) as refused:
        choice_files.load(write(tmp_path / "q.jsonl", [PLAIN, row, row]))
    assert [p.where for p in refused.value.problems] == ["q.jsonl, record 2", "q.jsonl, record 3"]
    assert words in refused.value.problems[0].what


def test_a_file_without_questions_is_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no questions"):
        choice_files.load(write(tmp_path / "q.jsonl", []))


def test_the_starters_questions_are_forty_balanced_and_not_among_its_records():
    found, *_ = choice_files.load("starter")
    assert len(found) == 40
    assert Counter(q.letter for q in found) == {"A": 10, "B": 10, "C": 10, "D": 10}
    assert len({q.question for q in found}) == 40
    assert all(len(set(q.options.values())) == 4 for q in found)
    records = starter.RECORDS.read_text(encoding="utf-8")
    assert not [q for q in found if q.question in records]


def test_the_prompt_is_that_of_huatuogpt_o1(tmp_path):
    ((asked,), *_) = choice_files.load(write(tmp_path / "q.jsonl", [PLAIN]))
    assert prompt_for(asked).endswith("in the format: 'The answer is A.'.\nQ?\nA. one\nB. two\nC. three")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("The answer is B.", "B"),
        ("The answer is **C**.", "C"),
        ("The answer is A. No: the answer is B.", "B"),
        ("The correct answer is (C) because of iron.", "C"),
        ("Answer: B", "B"),
        ("Final answer: option C", "C"),
        ("B. two", "B"),
        ("It is well known.\n\n**B**", "B"),
        ("I choose (C).", "C"),
        ("The correct answer is B based on the ECG.", "B"),
        ("The answer is C in this case.", "C"),
        ("The answer is B with hypokalemia.", "B"),
        ("The correct option is B.", "B"),
        ("Option B is the correct answer.", "B"),
        ("ANSWER: B", "B"),
        ("The answer is \\boxed{B}", "B"),
        ("**Answer:** B", "B"),
        ("**Answer**: B", "B"),
        ("The answer is B. Answer A is incorrect because of X. Answer C is incorrect.", "B"),
        ("The answer is A because of iron.", "A"),
        ("答案是B。", "B"),
        ("答案：C", "C"),
        # LaTeX
        ("\\boxed{C}", "C"),
        ("So $\\boxed{\\text{C}}$.", "C"),
        ("The answer is $\\boxed{\\mathrm{B}}$", "B"),
        ("The final answer is: $\\boxed{\\textbf{(B) Aspirin}}$", "B"),
        ("\\boxed{ B. Aspirin }", "B"),
        ("\\[\n\\boxed{C}\n\\]", "C"),
        # the letter first
        ("C is the answer.", "C"),
        ("So, C is the correct answer.", "C"),
        ("I think that **B** is the best choice.", "B"),
        ("Therefore (B) is the most likely answer", "B"),
        # Chinese
        ("答案是Ｃ。", "C"),
        ("正确答案为：B", "B"),
        ("**答案**：B", "B"),
        ("因此，正确答案应为（B）", "B"),
        ("故选B。", "B"),
        ("我选择C项", "C"),
        ("所以应该选 **C**", "C"),
        ("正确选项是B", "B"),
        ("B是正确答案", "B"),
        ("B项正确，其余错误", "B"),
        ("【答案】C", "C"),
        ("不选A，而选B", "B"),
        ("所以C是正确答案", "C"),
        # German
        ("Die Antwort ist C.", "C"),
        ("Die richtige Antwort lautet: **B**", "B"),
        ("Antwort: B", "B"),
        ("Antwort C ist richtig.", "C"),
        ("Richtig ist die Antwort B", "B"),
        ("Somit ist Antwort B korrekt.", "B"),
        ("B ist die richtige Antwort", "B"),
        ("Lösung: C", "C"),
        # what states nothing
        ("选项A不正确", None),
        ("不应选A", None),
        ("维生素C是正确的治疗", None),
        ("Vitamin C is the correct choice for scurvy.", None),
        ("Vitamin C ist die beste Behandlung.", None),
        ("Antwort A ist falsch.", None),
        ("C is not the answer", None),
        ("The answer is \\boxed{B12}", None),
        ("\\boxed{A patient}", None),
        ("", None),
        ("It is hepatitis B.", None),
        ("A. one\nB. two\nC. three", None),
        ("I choose (C), not (B) but (A)", None),
        ("The right choice is A careful history.", None),
        ("Give vitamin C daily.", None),
        ("The answer is A patient's history.", None),
        ("The answer is D.", None),
        ("The answer is hepatitis B", None),
        ("A careful history helps.", None),
        ("I end in the format: 'The answer is A.'", None),
    ],
)
def test_the_letter_that_is_stated_last_counts(answer, letter):
    assert stated_letter(answer, "", "ABC") == letter


def test_reasoning_counts_only_where_there_is_no_answer_and_by_a_plain_statement():
    assert stated_letter("", "So the answer is C", "ABC") == "C"
    assert stated_letter("", "(B) is tempting", "ABC") is None
    assert stated_letter("I do not know.", "So the answer is C", "ABC") is None


def given(*correct: bool) -> list[Shown]:
    return [Shown(output="", letter=None, correct=right) for right in correct]


def test_wilsons_interval_and_unparsed_ones():
    found = accuracy(given(*[True] * 8, *[False] * 2))
    assert found["accuracy"] == 0.8
    # Wilson 1927, by hand: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    z, n, p = 1.959964, 10, 0.8
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert found["low"] == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-6)
    assert found["high"] == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-6)
    assert found["unparsed"] == 1.0


def test_mcnemars_exact_test():
    base = given(*[False] * 9, True, *[True] * 20)
    tuned = given(*[True] * 9, False, *[True] * 20)
    found = compare(base, tuned)
    assert (found.win, found.tie, found.loss) == (9, 20, 1)
    # two-sided: 2 * (C(10,0) + C(10,1)) / 2^10
    assert found.p_value == pytest.approx(2 * 11 / 1024)
    assert found.verdict == "better"
    assert compare(tuned, base).verdict == "worse"
    few, more = given(*[False] * 5, *[True] * 5), given(*[True] * 10)
    assert compare(few, more).verdict == "not distinguishable"  # p = 1/16
    same = compare(base, base)
    assert (same.difference, same.p_value, same.verdict) == (0.0, 1.0, "not distinguishable")
