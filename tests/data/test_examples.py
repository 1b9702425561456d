"""Data: every kind of file, every kind of bad record with its number, and the split."""

import csv
import json

import pytest

from medcot import data
from medcot.errors import BadInput
from medcot.settings import DataSettings
from tests.conftest import make_records, write_records


def load(path, **settings):
    return data.load(DataSettings(source=str(path), **{"held_out": 2, **settings}))


def problems_of(path, **settings) -> list[str]:
    with pytest.raises(BadInput) as refused:
        load(path, **settings)
    return [str(p) for p in refused.value.problems]


def write(folder, rows, name="rows.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def as_parquet(path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(make_records(6)), path)


def as_csv(path):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, make_records(1)[0])
        writer.writeheader()
        writer.writerows(make_records(6))


WRITERS = {
    "a.jsonl": lambda path: write_records(path, 6),
    "a.json": lambda path: path.write_text(json.dumps(make_records(6))),
    "a.csv": as_csv,
    "a.parquet": as_parquet,
    "A.JSONL": lambda path: write_records(path, 6),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_examples(tmp_path, name):
    WRITERS[name](tmp_path / name)
    split = load(tmp_path / name)
    assert [e.record for e in split.held_out] == [1, 2]
    assert [e.record for e in split.train] == [3, 4, 5, 6]
    assert [e.question for e in split.held_out + split.train] == [r["Question"] for r in make_records(6)]
    assert split.train[0].reasoning == make_records(3)[2]["Complex_CoT"]
    assert split.train[0].answer == make_records(3)[2]["Response"]
    assert split.fingerprint == load(write_records(tmp_path / "same.jsonl", 6)).fingerprint


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text)
    assert len(load(path).train) == 4


def test_quotes_commas_and_line_breaks_in_csv_are_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('Question,Complex_CoT,Response\n"a, ""b""\nc?",r,s\nd,e,f\n', encoding="utf-8")
    assert load(path, held_out=1).held_out[0].question == 'a, "b"\nc?'


def test_blank_lines_in_jsonl_are_no_records(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n\n".join(json.dumps(r) for r in make_records(4)) + "\n\n")
    assert [e.record for e in load(path).train] == [3, 4]


def test_other_column_names_can_be_given_and_more_columns_are_ignored(tmp_path):
    path = write(tmp_path, [{"q": f"Q{i}", "r": "R", "a": "A", "more": [1]} for i in range(4)])
    columns = {"question_column": "q", "reasoning_column": "r", "answer_column": "a"}
    assert [e.question for e in load(path, **columns).train] == ["Q2", "Q3"]


BAD = {
    "has no Response": {"Question": "q", "Complex_CoT": "r"},
    "has no Complex_CoT": {"Question": "q", "Complex_CoT": None, "Response": "a"},
    "Question is not text": {"Question": 7, "Complex_CoT": "r", "Response": "a"},
    "Complex_CoT, Response is not text": {"Question": "q", "Complex_CoT": [1], "Response": {}},
    "has an empty Response": {"Question": "q", "Complex_CoT": "r", "Response": " \n"},
    "is a JSON list": ["q", "r", "a"],
    "is a JSON str": "q",
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_record_is_named_by_its_number(tmp_path, what):
    rows = make_records(6)
    rows[3] = BAD[what]
    (problem,) = problems_of(write(tmp_path, rows))
    assert "4" in problem.partition(": ")[0]
    assert what in problem


def test_all_bad_records_come_at_once_and_the_many_are_counted(tmp_path):
    rows = make_records(6) + list(BAD.values())
    found = problems_of(write(tmp_path, rows))
    assert len(found) == len(BAD)
    found = problems_of(write(tmp_path, [{**make_records(1)[0], "Question": ""}] * 100))
    assert len(found) == data.MOST_PROBLEMS + 1
    assert "and 80 more" in found[-1]


def test_a_column_that_no_record_has_is_named_with_the_setting_and_the_columns_there_are(tmp_path):
    path = write(tmp_path, [{"question": "q", "Complex_CoT": "r", "Response": "a"}] * 4)
    (problem,) = problems_of(path)
    assert problem.startswith("data.question_column: ")
    assert "'question'" in problem


def test_lines_that_are_no_json_are_all_named(tmp_path):
    path = write_records(tmp_path / "a.jsonl", 4)
    path.write_text(path.read_text() + '{"Question": \n[1\n', encoding="utf-8")
    found = problems_of(path)
    assert [p.partition(": ")[0] for p in found] == ["a.jsonl, record 5", "a.jsonl, record 6"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", b"[{,}]", "is not JSON: "),
        ("a.json", b'{"Question": "q"}', "not a list"),
        ("a.json", b"[" * 100_000, "a.json"),
        ("a.jsonl", b"\xff\xfe{}", "is not JSON"),
        ("a.csv", b"Question~Complex_CoT~Response\nq~r~a\n", "there is 'Question~Complex_CoT~Response'"),
        ("a.csv", b"Question,Complex_CoT,Response\nq,r,a\nq,r\n", "Response"),
        ("a.parquet", b"PAR1 not really", "is a Parquet file that cannot be read"),
        ("a.jsonl", b"", "holds no records"),
        ("a.json", b"[]", "holds no records"),
        ("a.txt", b"Question", "none of .json, .jsonl, .ndjson, .csv, .tsv, .parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_said_so(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    assert words in "\n".join(problems_of(path))


def test_a_path_that_leads_nowhere_is_said_so(tmp_path):
    assert "there is no file" in problems_of(tmp_path / "none.jsonl")[0]
    assert "there is no file" in problems_of("~nobody-of-that-name/a.jsonl")[0]
    assert problems_of("./a\0b.jsonl")
    assert problems_of("./" + "a" * 500 + ".jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    assert "cannot be read" in problems_of(tmp_path / "folder.jsonl")[0]


def test_holding_out_everything_is_refused(tmp_path):
    path = write_records(tmp_path / "a.jsonl", 4)
    assert len(load(path, held_out=3).train) == 1
    (problem,) = problems_of(path, held_out=4)
    assert "4 of 4" in problem


def test_limit_takes_the_first_training_records_and_leaves_the_held_out(tmp_path):
    path = write_records(tmp_path / "a.jsonl", 10)
    split = load(path, held_out=3, limit=2)
    assert [e.record for e in split.held_out] == [1, 2, 3]
    assert [e.record for e in split.train] == [4, 5]


@pytest.mark.parametrize(("n", "seed"), [(16, 42), (137, 42), (137, 0), (2000, 7)])
def test_the_shuffle_is_that_of_the_datasets_library(tmp_path, n, seed):
    import datasets

    path = write_records(tmp_path / "a.jsonl", n)
    split = load(path, held_out=5, held_out_from="shuffled", shuffle_seed=seed)
    expected = datasets.Dataset.from_list(make_records(n)).shuffle(seed=seed)["Question"]
    assert [e.question for e in split.held_out + split.train] == list(expected)


def test_the_fingerprint_tells_any_change_and_nothing_else(tmp_path):
    rows = make_records(6)
    first = load(write(tmp_path, rows))
    assert load(write(tmp_path, rows, "other-name.jsonl")).fingerprint == first.fingerprint
    assert load(write(tmp_path, rows), held_out=3).fingerprint != first.fingerprint
    assert load(write(tmp_path, rows), limit=3).fingerprint != first.fingerprint
    assert load(write(tmp_path, rows[::-1])).fingerprint != first.fingerprint
    for column in rows[5]:
        changed = [*rows[:5], {**rows[5], column: rows[5][column] + "!"}]
        assert load(write(tmp_path, changed)).fingerprint != first.fingerprint
    assert len(first.held_out_hashes) == 2
    changed = [{**rows[0], "Question": "Another?"}, *rows[1:]]
    hashes = load(write(tmp_path, changed)).held_out_hashes
    assert [a == b for a, b in zip(hashes, first.held_out_hashes, strict=True)] == [False, True]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "a.csv",
            "Question,Complex_CoT,Response,Response\nq,r,a,todo\n",
            "a.csv: has more than one column named 'Response'.",
        ),
        (
            "a.json",
            '[{"Question": "q", "Complex_CoT": "r", "Response": "a", "Response": "b"}]',
            "names 'Response' twice",
        ),
        (
            "a.jsonl",
            '{"Question": "q", "Question": "q", "Complex_CoT": "r", "Response": "a"}\n',
            "record 1: names 'Question' twice",
        ),
    ],
)
def test_two_columns_of_one_name_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    [told] = problems_of(tmp_path / name)
    assert words in told


def test_two_columns_of_one_name_in_parquet_are_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_arrays([pyarrow.array(["x"])] * 4, ["Question", "Complex_CoT", "Response", "Response"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert "has more than one column named 'Response'" in problems_of(tmp_path / "a.parquet")[0]


def test_an_object_that_holds_each_record_under_its_id_is_a_list_of_them(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({f"id{i}": record for i, record in enumerate(make_records(6))}))
    assert [e.record for e in load(path).train] == [3, 4, 5, 6]


def test_a_csv_row_with_an_unquoted_comma_is_named_and_not_cut(tmp_path):
    path = tmp_path / "loose.csv"
    path.write_text("Question,Complex_CoT,Response\nq?,because,Give aspirin, then call for help\n")
    with pytest.raises(BadInput, match="record 1: has more fields"):
        load(path)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_a_csv_file_of_a_spreadsheet_that_separates_otherwise_is_read(tmp_path, mark):
    path = tmp_path / "sheet.csv"
    rows = [f"q{n}, or not?{mark}because{mark}answer {n}" for n in range(4)]
    path.write_text("\n".join([mark.join(("Question", "Complex_CoT", "Response")), *rows]))
    split = load(path)
    assert [e.answer for e in [*split.held_out, *split.train]] == [f"answer {n}" for n in range(4)]


def test_a_quote_that_is_never_closed_swallows_no_records(tmp_path):
    path = tmp_path / "open.csv"
    rows = ["q{},because,{}".format(n, '"open' if n == 3 else "shut") for n in range(1, 60)]
    path.write_text("\n".join(["Question,Complex_CoT,Response", *rows]))
    with pytest.raises(BadInput, match=r"open.csv, record 3: is not CSV: unexpected end of data. Close the quotes"):
        load(path)


def test_lines_that_are_not_json_and_empty_fields_are_told_together(tmp_path):
    path = write_records(tmp_path / "bad.jsonl", 6)
    lines = path.read_text().splitlines()
    lines[1] = "{not json"
    lines[3] = json.dumps({**json.loads(lines[3]), "Response": " "})
    path.write_text("\n".join(lines))
    with pytest.raises(BadInput) as bad:
        load(path)
    assert [p.where for p in bad.value.problems] == ["bad.jsonl, record 2", "bad.jsonl, record 4"]


# ---- tags that the data holds already


def test_tags_around_reasoning_and_answer_are_taken_off_and_each_record_says_so(tmp_path):
    plain = [{**row, "Response": f"{row['Response']} <b>"} for row in make_records(6)]
    tagged = [dict(row) for row in plain]
    for row in tagged[2:4]:
        row["Complex_CoT"] = f"<think>\n{row['Complex_CoT']}\n</think>"
        row["Response"] = f"{row['Complex_CoT']}\n<response>{row['Response']}</response>"
    one, other = load(write(tmp_path, plain)), load(write(tmp_path, tagged, "tagged.jsonl"))
    assert one.fingerprint == other.fingerprint
    assert [(e.record, e.reasoning, e.answer) for e in one.train] == [
        (e.record, e.reasoning, e.answer) for e in other.train
    ]
    assert [e.record for e in [*other.held_out, *other.train] if e.untagged] == [3, 4]
    assert not any(e.untagged for e in [*one.held_out, *one.train])


@pytest.mark.parametrize("empty", ["<think>\n</think>", "<think>", " </think> "])
def test_nothing_between_tags_is_nothing(tmp_path, empty):
    rows = make_records(5)
    rows[3]["Complex_CoT"] = empty
    (problem,) = problems_of(write(tmp_path, rows))
    assert "record 4: has an empty Complex_CoT" in problem
    assert load(tmp_path / "rows.jsonl", empty_records="skip").skipped == [4]
