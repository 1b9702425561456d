"""Multiple choice: files of several layouts, the letter that an output states, and tests that claim no more."""

import json
from collections import Counter

import pytest

from medcot import starter
from medcot.errors import BadInput
from medcot.evaluating import questions
from medcot.evaluating.choice import accuracy, compare, prompt_for, stated_letter

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
    ((found,), _) = questions.load(write(tmp_path / "q.jsonl", [row]))
    assert (found.question, found.options, found.letter) == ("Q?", PLAIN["options"], "B")


def test_half_a_character_is_named(tmp_path):
    rows = [PLAIN, {**PLAIN, "question": "What \ud83d?"}, {**PLAIN, "options": ["a", "\ud83d"], "answer_idx": 0}]
    with pytest.raises(BadInput) as refused:
        questions.load(write(tmp_path / "q.jsonl", rows))
    assert [p.where for p in refused.value.problems] == ["q.jsonl, record 2", "q.jsonl, record 3"]
    assert "half a character" in refused.value.problems[0].what


def test_medmcqa_and_pubmedqa_as_they_are_published(tmp_path):
    medmcqa = {"id": "1", "question": "Q?", "opa": "1", "opb": "2", "opc": "3", "opd": "4", "cop": 2, "exp": "e"}
    pubmedqa = {
        "pubid": 1,
        "question": "Does it?",
        "context": {"contexts": ["BACKGROUND.", "RESULTS."], "labels": ["a", "b"]},
        "long_answer": "It does.",
        "final_decision": "yes",
    }
    first, second = questions.load(write(tmp_path / "q.jsonl", [medmcqa, pubmedqa]))[0]
    assert (first.options, first.letter) == ({"A": "1", "B": "2", "C": "3", "D": "4"}, "C")
    assert (second.options, second.letter) == ({"A": "yes", "B": "no", "C": "maybe"}, "A")
    assert second.question == "BACKGROUND.\nRESULTS.\nDoes it?"
    assert "It does." not in prompt_for(second)


def test_a_number_counts_the_places_of_missing_options_too(tmp_path):
    medmcqa = {"question": "Q?", "opa": "1", "opb": None, "opc": "3", "opd": "4", "cop": 2}
    plain = {"question": "Q?", "options": ["1", None, "3"], "answer_idx": 2}
    found, _ = questions.load(write(tmp_path / "q.jsonl", [medmcqa, plain]))
    assert [q.letter for q in found] == ["C", "C"]
    with pytest.raises(BadInput, match="has no `answer_idx`"):
        questions.load(write(tmp_path / "q.jsonl", [{**plain, "answer_idx": 1}]))


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
        questions.load(write(tmp_path / "q.jsonl", [PLAIN, row, row]))
    assert [p.where for p in refused.value.problems] == ["q.jsonl, record 2", "q.jsonl, record 3"]
    assert words in refused.value.problems[0].what


def test_a_file_without_questions_is_refused(tmp_path):
    with pytest.raises(BadInput, match="holds no questions"):
        questions.load(write(tmp_path / "q.jsonl", []))


def test_the_starters_questions_are_forty_balanced_and_not_among_its_records():
    found, _ = questions.load("starter")
    assert len(found) == 40
    assert Counter(q.letter for q in found) == {"A": 10, "B": 10, "C": 10, "D": 10}
    assert len({q.question for q in found}) == 40
    assert all(len(set(q.options.values())) == 4 for q in found)
    records = starter.RECORDS.read_text(encoding="utf-8")
    assert not [q for q in found if q.question in records]


def test_the_prompt_is_that_of_huatuogpt_o1(tmp_path):
    ((asked,), _) = questions.load(write(tmp_path / "q.jsonl", [PLAIN]))
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
        # what states nothing
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


def test_wilsons_interval_and_unparsed_ones():
    found = accuracy([True] * 8 + [False] * 2, [{"letter": None, "truncated": False}] * 10)
    assert found["accuracy"] == 0.8
    # Wilson 1927, by hand: (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    z, n, p = 1.959964, 10, 0.8
    middle, half = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert found["low"] == pytest.approx((middle - half) / (1 + z * z / n), abs=1e-6)
    assert found["high"] == pytest.approx((middle + half) / (1 + z * z / n), abs=1e-6)
    assert found["unparsed"] == 1.0


def test_mcnemars_exact_test():
    base, tuned = [False] * 9 + [True] * 1 + [True] * 20, [True] * 9 + [False] * 1 + [True] * 20
    found = compare(base, tuned)
    assert (found["win"], found["tie"], found["loss"]) == (9, 20, 1)
    # two-sided: 2 * (C(10,0) + C(10,1)) / 2^10
    assert found["p_value"] == pytest.approx(2 * 11 / 1024)
    assert found["verdict"] == "better"
    assert compare(tuned, base)["verdict"] == "worse"
    assert compare([False] * 5 + [True] * 5, [True] * 5 + [True] * 5)["verdict"] == "not distinguishable"  # p = 1/16
    same = compare(base, base)
    assert (same["difference"], same["p_value"], same["verdict"]) == (0.0, 1.0, "not distinguishable")
