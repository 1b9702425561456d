"""Lists of facts in data files: read from every format, refused in words; those of the starter are whole."""

import json

import pytest

from medcot import data
from medcot.data import starter
from medcot.data.facts import Facts, Statement, read_facts, starter_facts
from medcot.errors import BadInput
from medcot.evaluation.facts import find
from medcot.settings import DataSettings
from medcot.settings.build import build
from medcot.settings.recipes import compose
from tests.conftest import make_records

LISTED = ["aspirin|acetylsalicylic acid", {"fact": "an ECG", "accept": ["ECG", "EKG"]}, {"forbidden": "wait and see"}]
READ = Facts(
    (Statement("aspirin", ("aspirin", "acetylsalicylic acid")), Statement("an ECG", ("ECG", "EKG"))),
    (Statement("wait and see", ("wait and see",)),),
)


def source(tmp_path, *listed: object, name: str = "records.jsonl") -> DataSettings:
    rows = [row | {"Facts": facts} for row, facts in zip(make_records(len(listed)), listed, strict=True)]
    path = tmp_path / name
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        import csv

        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(row | {"Facts": json.dumps(row["Facts"])} for row in rows)
    else:
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return DataSettings(source=str(path), facts_column="Facts", held_out=1)


@pytest.mark.parametrize("name", ["records.jsonl", "records.csv"])
def test_a_list_is_read_from_every_kind_of_file(tmp_path, name):
    split = data.load(source(tmp_path, LISTED, LISTED, name=name))
    assert [e.facts for e in split.held_out + split.train] == [READ, READ]


def test_parquet_fills_the_keys_that_an_object_lacks(tmp_path):
    listed = [{"fact": "an ECG", "accept": ["ECG"]}, {"forbidden": "wait and see"}]
    (example, _) = data.load(source(tmp_path, listed, listed, name="records.parquet"), whole=True).held_out
    assert example.facts == Facts((Statement("an ECG", ("ECG",)),), (Statement("wait and see", ("wait and see",)),))


@pytest.mark.parametrize("nothing", [None, [], "", "  ", "[]", "null"])
def test_a_record_may_list_nothing(nothing):
    assert read_facts(nothing) is None


def test_what_is_listed_does_not_change_the_fingerprint(tmp_path):
    with_facts = source(tmp_path, LISTED, None)
    without = with_facts.model_copy(update={"facts_column": None})
    assert data.load(with_facts).fingerprint == data.load(without).fingerprint


WRONG = {
    "a number": (7, "is of type int, not a list"),
    "true": (True, "is of type bool, not a list"),
    "an object": ({"fact": "x"}, "is an object, not a list"),
    "words": ("aspirin", "is text, not a JSON list"),
    "JSON that is no list": ('{"fact": "x"}', "is of type dict, not a list"),
    "a number in it": (["aspirin", 7], "item 2"),
    "a list in it": ([["aspirin"]], "item 1"),
    "an unknown key": ([{"fact": "x", "acept": ["y"]}], "item 1"),
    "both kinds": ([{"fact": "x", "forbidden": "y"}], "item 1"),
    "neither kind": ([{"accept": ["y"]}], "item 1"),
    "an empty text": (["aspirin", ""], "item 2"),
    "an empty wording": (["aspirin|"], "item 1"),
    "signs without a word": (["?!"], "item 1"),
    "no wording accepted": ([{"fact": "x", "accept": []}], "item 1"),
    "wordings as a text": ([{"fact": "x", "accept": "y"}], "item 1"),
    "a wording that is a number": ([{"fact": "x", "accept": [250]}], "item 1"),
    "a name that is a number": ([{"fact": 250, "accept": ["x"]}], "item 1"),
    "half a character": (["aspirin \ud800"], "lone surrogate"),
    "a number of thousands of digits": ("[" + "9" * 5000 + "]", "is text, not a JSON list"),
    "depth": ("[" * 100_000, "is text, not a JSON list"),
}


@pytest.mark.parametrize("what", WRONG)
def test_another_thing_than_a_list_is_refused_with_the_records_number(tmp_path, what):
    listed, words = WRONG[what]
    with pytest.raises(BadInput) as refused:
        data.load(source(tmp_path, LISTED, listed, None))
    (problem,) = refused.value.problems
    assert (problem.where, words in problem.what, "Write a list" in problem.fix) == (
        "records.jsonl, record 2",
        True,
        True,
    )


def test_all_bad_lists_are_named_at_once(tmp_path):
    with pytest.raises(BadInput) as refused:
        data.load(source(tmp_path, 7, LISTED, "aspirin", [""]))
    assert [problem.where for problem in refused.value.problems] == [f"records.jsonl, record {n}" for n in (1, 3, 4)]


def test_a_column_of_facts_is_named_rightly_or_refused(tmp_path):
    given = source(tmp_path, LISTED, None)
    with pytest.raises(BadInput, match=r"data.facts_column: no record of .* has a column 'Fakts'"):
        data.load(given.model_copy(update={"facts_column": "Fakts"}))
    with pytest.raises(BadInput, match=r"data.facts_column: 'Response' is used already"):
        build({"data": {"facts_column": "Response"}})
    with pytest.raises(BadInput, match=r"data.facts_column: 'input' is used already"):
        build({"data": {"context_column": "input", "facts_column": "input"}})


# ---- the starter's


@pytest.fixture(scope="module")
def held_out():
    return data.load(compose("starter").data).held_out


def test_every_held_out_record_and_every_sample_question_has_facts(held_out):
    asked = [e.question for e in held_out] + [question for _, question in starter.SAMPLE_QUESTIONS]
    assert list(starter_facts()) == asked
    assert all(e.facts for e in held_out)
    for facts in starter_facts().values():
        assert 2 <= len(facts.named) <= 5
        assert 1 <= len(facts.forbidden) <= 4
        names = [s.name for s in (*facts.named, *facts.forbidden)]
        assert len(set(names)) == len(names)


def test_the_reference_answers_name_all_facts_and_nothing_that_is_forbidden(held_out):
    for e in held_out:
        found = find(e.answer, e.facts)
        assert (found.missed, found.forbidden) == ([], []), e.record


def test_a_question_and_another_records_answer_name_none(held_out):
    for e, other in zip(held_out, [*held_out[1:], held_out[0]], strict=True):
        assert find(e.question, e.facts).named == []
        assert find(other.answer, e.facts).named == []
