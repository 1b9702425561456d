"""Rubrics and labels as people write them."""

import json

import pytest

from medcot.errors import BadInput
from medcot.evaluation.judge import labels, rubric

KNOWN = {3: ["base", "tuned"], 4: ["base", "tuned"]}
GOOD = {"question": "Why?", "rubrics": [{"criterion": "Names it.", "points": 5}]}


def written(path, *rows):
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_a_rubric_in_healthbenchs_layout_is_read(tmp_path):
    prompt = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": " WHY? "},
    ]
    items = [
        {"criterion": "Names it.", "points": 5, "tags": ["axis:accuracy"]},
        {"criterion": "Invents.", "points": -8.5},
    ]
    read = rubric.load(written(tmp_path / "r.jsonl", {"prompt": prompt, "rubrics": items, "prompt_id": "x"}))
    assert [(one.criterion, one.points) for one in read.of("why?")] == [("Names it.", 5.0), ("Invents.", -8.5)]
    assert read.possible("Why?") == 5.0
    (tmp_path / "again.jsonl").write_text(read.lines(), encoding="utf-8")
    assert rubric.load(tmp_path / "again.jsonl") == read


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "Why?", "rubrics": [{"criterion": "Names it."}]}, "has no points, as a number, for criterion 1"),
        ({"question": "Why?", "rubrics": [{"criterion": "Names it.", "points": "5"}]}, "has no points"),
        ({"question": "Why?", "rubrics": [{"criterion": "Names it.", "points": True}]}, "has no points"),
        ('{"question": "Why?", "rubrics": [{"criterion": "Names it.", "points": NaN}]}', "has no points"),
        ({"question": "Why?", "rubrics": [{"criterion": "Names it.", "points": -5}]}, "no criterion with points above"),
        ({"question": "Why?", "rubrics": [{"criterion": " ", "points": 5}]}, "has no text as criterion 1"),
        ({"question": "Why?", "rubrics": "Names it."}, "as text, not as a list"),
        ({"question": "Why?", "rubrics": []}, "has no list of rubrics"),
        ({"question": "Why?"}, "has no list of rubrics"),
        ({"question": "Why?", "rubrics": [7]}, "has no text as criterion 1"),
        (
            {"prompt": [{"role": "system", "content": "x"}], "rubrics": GOOD["rubrics"]},
            "neither a question nor a prompt",
        ),
        ({"prompt": 7, "rubrics": GOOD["rubrics"]}, "neither a question nor a prompt"),
        ("[1]", "is a JSON"),
        ("{", "is not JSON"),
        ({**GOOD, "rubrics": GOOD["rubrics"] * 101}, "101 criteria"),
    ],
)
def test_a_rubric_that_cannot_be_used_is_refused_by_record(tmp_path, row, words):
    with pytest.raises(BadInput) as refused:
        rubric.load(written(tmp_path / "r.jsonl", GOOD, row))
    assert words in str(refused.value)
    assert "record 2" in str(refused.value)


def test_a_rubric_of_other_questions_is_refused_and_one_of_some_is_told():
    read = rubric.Rubric(criteria={"why?": [rubric.Criterion(criterion="Names it.", points=5)]})
    assert rubric.require_some(read, ["Why?", "How?"]) == [
        "1 of 2 questions have no criteria in the rubric and are left out."
    ]
    with pytest.raises(BadInput, match="none of the questions"):
        rubric.require_some(read, ["How?"])


def test_labels_of_several_readers_are_read(tmp_path):
    rows = [
        {"record": r, "arm": "tuned", "verdict": v, "reader": who} for r, v, who in ((3, "Right", 1), (3, "wrong", 2))
    ]
    read = labels.load(written(tmp_path / "l.jsonl", *rows), KNOWN)
    assert labels.by_reader(read) == {"1": {(3, "tuned"): "right"}, "2": {(3, "tuned"): "wrong"}}
    assert labels.shares(read, "wrong") == {(3, "tuned"): 0.5}
    (tmp_path / "again.jsonl").write_text(labels.lines(read), encoding="utf-8")
    assert labels.load(tmp_path / "again.jsonl", KNOWN) == read


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"record": 5, "arm": "tuned", "verdict": "right"}, "about record 5, which this evaluation did not ask"),
        ({"record": "x", "arm": "tuned", "verdict": "right"}, "has 'x' as record"),
        ({"arm": "tuned", "verdict": "right"}, "has None as record"),
        ({"record": 3, "arm": "other", "verdict": "right"}, "names the arm 'other'; there is base, tuned"),
        ({"record": 3, "arm": "tuned", "verdict": "fine"}, "has 'fine' as verdict"),
        ({"record": 3, "arm": "tuned"}, "has None as verdict"),
        ({"record": 3, "arm": "base", "verdict": "right"}, "a second time by the same reader"),
        ("[1]", "is a JSON"),
    ],
)
def test_a_label_that_cannot_be_used_is_refused_by_record(tmp_path, row, words):
    first = {"record": 3, "arm": "base", "verdict": "right"}
    with pytest.raises(BadInput) as refused:
        labels.load(written(tmp_path / "l.jsonl", first, row), KNOWN)
    assert words in str(refused.value)
    assert "record 2" in str(refused.value)
