"""The three parts of the data: where each is from, and that no record of one asks what a record of another asks."""

import hashlib
import json

import pytest

from medcot import data, hub
from medcot.data import rows as data_rows
from medcot.errors import BadInput
from medcot.settings import BadSettings, DataSettings, build
from medcot.workers import preflight, reading
from tests.conftest import make_records, write_records
from tests.data.test_examples import write

LONG = "A man of 60 years has had a painful, red and swollen big toe since last night after a large meal"


def parts(path, **settings) -> data.Split:
    return data.load(DataSettings(source=str(path), **settings))


def numbers(split: data.Split) -> tuple[list[int], list[int], list[int]]:
    return tuple([e.record for e in part] for part in (split.train, split.validated, split.held_out))


def others(count: int, named: str = "Other") -> list[dict[str, str]]:
    return [{**row, "Question": f"{named} {row['Question']}"} for row in make_records(count)]


def problems_of(path, **settings) -> dict[str, str]:
    with pytest.raises(BadInput) as refused:
        parts(path, **settings)
    return {p.where: f"{p.what} {p.fix}" for p in refused.value.problems}


def test_one_held_out_part_is_what_it_was_byte_for_byte(tmp_path):
    split = parts(write_records(tmp_path / "a.jsonl", 8), held_out=3)
    assert numbers(split) == ([4, 5, 6, 7, 8], [1, 2, 3], [1, 2, 3])
    assert (split.validation, split.repeated, split.notes) == (None, [], [])
    texts = [[r["Question"], r["Complex_CoT"], r["Response"]] for r in make_records(8)]
    written = b"3 held out\n" + b"".join(json.dumps(t).encode() for t in texts)
    assert split.fingerprint == hashlib.sha256(written).hexdigest()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"validation": "2", "test": "3"}, ([6, 7, 8], [4, 5], [1, 2, 3])),
        ({"validation": "2", "held_out": 3}, ([6, 7, 8], [4, 5], [1, 2, 3])),  # the same test, whichever is set
        ({"test": "2", "held_out": 1, "limit": 3}, ([4, 5, 6], [3], [1, 2])),
    ],
)
def test_numbers_are_held_out_of_the_source_the_test_first(tmp_path, settings, expected):
    assert numbers(parts(write_records(tmp_path / "a.jsonl", 8), **settings)) == expected


def test_a_file_or_a_list_of_the_same_file_is_a_part_and_another_order_is_another_fingerprint(tmp_path):
    lists = {"train": make_records(4), "dev": others(2, "Dev")}
    (tmp_path / "all.json").write_text(json.dumps(lists), encoding="utf-8")
    test = write(tmp_path, others(3), "test.jsonl")
    split = parts(tmp_path / "all.json", validation="dev", test=str(test))
    assert numbers(split) == ([1, 2, 3, 4], [1, 2], [1, 2, 3])
    assert [e.question.split()[0] for e in (*split.validated, *split.held_out)] == ["Dev"] * 2 + ["Other"] * 3
    swapped = parts(tmp_path / "all.json", validation=str(test), test="dev")
    assert split.fingerprint != swapped.fingerprint
    found = problems_of(tmp_path / "all.json", validation="devel", test=str(tmp_path / "all.json"))
    assert found["all.json"].endswith("Choose one: --set data.validation=train")
    (tmp_path / "two.json").write_text(json.dumps({"a": others(2), "b": others(2)}), encoding="utf-8")
    assert "a file of their own" in problems_of(test, validation=str(tmp_path / "two.json"))["two.json"]


def test_what_repeats_another_part_is_left_out_counted_and_said_and_the_test_data_stays_whole(tmp_path):
    train, validation, test = make_records(6), others(3, "Dev"), others(3)
    test[1]["Question"] = LONG + ". What is it?"
    train[2]["Question"] = LONG + ", what is it?!"  # nearly a test question
    train[4]["Question"] = validation[0]["Question"]  # a validation question
    validation[2]["Question"] = test[0]["Question"]
    paths = {
        name: str(write(tmp_path, rows, f"{name}.jsonl")) for name, rows in (("validation", validation), ("test", test))
    }
    split = parts(write(tmp_path, train, "train.jsonl"), **paths)
    assert numbers(split) == ([1, 2, 4, 6], [1, 2], [1, 2, 3])
    told = [(r.part, r.record, r.of, r.same_as) for r in split.repeated]
    assert told == [("validation", 3, "test", 1), ("train", 3, "test", 2), ("train", 5, "validation", 1)]
    assert [note.rpartition(": ")[2] for note in split.notes] == ["2 (records 3, 5).", "1 (record 3)."]


def test_a_later_turn_of_a_training_record_repeats_a_test_question_too(tmp_path):
    test = others(2)
    answers = [{"role": "assistant", "content": f"<think>Think of {i}.</think>It is {i}."} for i in range(3)]
    texts = ("What is it?", "And then?", "Who is it?", test[1]["Question"])
    asked = [{"role": "user", "content": text} for text in texts]
    turns = [((0, 0), (1, 1)), ((2, 0), (3, 1)), ((1, 2),)]
    rows = [{"messages": [said for q, a in row for said in (asked[q], answers[a])]} for row in turns]
    path = write(tmp_path, rows)
    settings = DataSettings(source=str(path), test=str(write(tmp_path, test, "test.jsonl")), held_out=1)
    _, split = data.load_fitted(settings)
    assert numbers(split) == ([3], [1], [1, 2])
    assert [(r.record, r.same_as) for r in split.repeated] == [(2, 2)]


def test_parts_that_leave_nothing_are_refused(tmp_path):
    path, same = write_records(tmp_path / "a.jsonl", 6), write_records(tmp_path / "b.jsonl", 6)
    assert "none is left" in problems_of(path, validation=str(same), held_out=1)["data.source"]
    both = {"validation": str(same), "test": str(write_records(tmp_path / "c.jsonl", 6))}
    assert "none is left" in problems_of(write(tmp_path, others(3)), **both)["data.validation"]
    assert "12 of 6 records" in problems_of(path, validation="2", test="10")["data.validation"]


def test_a_part_has_the_columns_of_the_source_or_its_own_which_are_told(tmp_path):
    asked = [{"Question": r["Question"], "Response": r["Response"]} for r in others(2)]
    rows = [{"q": r["Question"], "why": r["Complex_CoT"], "a": r["Response"]} for r in make_records(4)]
    dev = [{"prompt": r["Question"], "cot": r["Complex_CoT"], "output": r["Response"]} for r in others(2, "Dev")]
    named = {"question_column": "q", "reasoning_column": "why", "answer_column": "a"}
    files = {"test": str(write(tmp_path, asked, "test.jsonl")), "validation": str(write(tmp_path, dev, "dev.jsonl"))}
    split = parts(write(tmp_path, rows), **named, **files)
    assert [e.reasoning for e in split.held_out] == ["", ""], "what only measures needs no reasoning"
    assert split.validated[0].question.startswith("Dev Case 1")
    assert any("question from 'prompt'" in note and "data.validation" in note for note in split.notes)


def test_all_that_is_wrong_with_all_parts_comes_at_once_under_each_ones_name(tmp_path):
    rows = make_records(4)
    rows[2]["Response"] = ""
    wrong = write(tmp_path, [{"text": "x"}], "wrong.jsonl")
    found = problems_of(write(tmp_path, rows, "train.jsonl"), validation=str(wrong), test=str(tmp_path / "gone.csv"))
    assert set(found) == {"train.jsonl, record 3", "data.validation", "data.test"}
    assert "there is no file" in found["data.test"]
    assert "as those of data.source" in found["data.validation"]


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ({"validation": 0}, ["data.validation"]),
        ({"validation": "a b/c", "test": True}, ["data.validation", "data.test"]),
        ({"validation": "dev", "test": "dev"}, ["data.validation", "data.test", "data.test"]),
        ({"source": "o/n", "validation": "train", "test": "o/n:train"}, ["data.validation", "data.test"]),
        ({"source": "a.json", "validation": "dev", "test": "dev"}, ["data.test"]),
    ],
)
def test_parts_that_cannot_be_what_they_are_called_are_refused_together(written, wrong):
    with pytest.raises(BadSettings) as refused:
        build({"data": {"held_out": 0, **written}})
    assert [p.where for p in refused.value.problems if p.where != "data.held_out"] == wrong


def test_a_part_on_the_hub_is_a_split_of_the_data_or_of_another_data_set(tmp_path):
    settings = DataSettings(source="o/n", config="en", revision="abc", validation="dev[:50]", test="p/q@fed:test")
    own = [settings.part(name) for name in ("validation", "test")]
    assert [(p.source, p.split, p.config, p.revision) for p in own] == [
        ("o/n", "dev[:50]", "en", "abc"),
        ("p/q", "test", None, "fed"),
    ]


def test_files_are_found_again_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_records(tmp_path / "a.jsonl", 6)
    write(tmp_path, others(2), "dev.jsonl")
    settings, told = preflight.check_data(DataSettings(source="a.jsonl", validation="dev.jsonl", held_out=1))
    assert (settings.source, settings.validation) == (str(tmp_path / "a.jsonl"), str(tmp_path / "dev.jsonl"))
    assert (told.train, told.validation, told.held_out) == (5, 2, 1)


def test_a_split_on_the_hub_is_read_at_the_commit_that_was_pinned_before(monkeypatch):
    asked = []

    def rows(settings):
        asked.append((settings.source, settings.split, settings.revision))
        return others(2, settings.split) if settings.split != "train" else make_records(6)

    def pinned(settings):
        return settings.model_copy(update={"revision": f"{settings.source[0] * 4}"})

    monkeypatch.setattr(data_rows, "load_hub_rows", rows)
    monkeypatch.setattr(hub, "pin_data", pinned)
    # In this process, which has the replacements.
    here = reading.RecordsRequest
    monkeypatch.setattr(reading, "records", lambda settings, whole: here(data=settings, whole=whole).answer())
    settings, told = preflight.check_data(DataSettings(source="o/n", validation="dev", test="p/q:test", held_out=1))
    assert settings.test == "p/q@pppp:test"
    assert asked == [("o/n", "train", "oooo"), ("o/n", "dev", "oooo"), ("p/q", "test", "pppp")]
    assert (told.train, told.validation, told.held_out) == (6, 2, 2)
