"""Tables: CSV of any spreadsheet, Parquet with any column beside the needed ones."""

import datetime
import decimal

import pyarrow
import pyarrow.parquet
import pytest

from medcot.data import tables
from medcot.errors import BadInput
from tests.conftest import make_records
from tests.data.test_examples import load, problems_of

NAMES = ["Question", "Complex_CoT", "Response"]


def csv_file(tmp_path, text, name="a.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def examples(split):
    return [(e.question, e.reasoning, e.answer) for e in split.held_out + split.train]


ROWS = [(f"q{i}, or not?", f"because {i}", f"answer {i}") for i in range(4)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|", ", ", "; ", " | "])
def test_what_separates_the_columns_is_found(tmp_path, mark, end):
    lines = [mark.join(NAMES), *(mark.join(f'"{field}"' for field in row) for row in ROWS)]
    if mark == " | ":
        lines = [line.replace('"', "") for line in lines]
    assert examples(load(csv_file(tmp_path, end.join(lines)))) == ROWS


def test_the_first_line_may_say_what_separates(tmp_path):
    lines = ["sep=;", ";".join(NAMES), *(";".join(row) for row in ROWS)]
    assert examples(load(csv_file(tmp_path, "\r\n".join(lines)))) == ROWS


@pytest.mark.parametrize("first", ["ORCID", "FEA1", "BZh", "PK", "sep", "sep=", "version", "Obj"])
def test_a_column_may_be_called_as_other_formats_begin(tmp_path, first):
    lines = [",".join([first, *NAMES]), *(f'x,"{q}",{r},{a}' for q, r, a in ROWS)]
    assert examples(load(csv_file(tmp_path, "\n".join(lines)))) == ROWS


SLOPPY = {
    "a mark after each line": lambda lines: [line + "," for line in lines],
    "a mark after the names alone": lambda lines: [lines[0] + ",,", *lines[1:]],
    "a mark after the records alone": lambda lines: [lines[0], *(line + ",," for line in lines[1:])],
    "row numbers without a name": lambda lines: ["," + lines[0], *(f"{i},{line}" for i, line in enumerate(lines[1:]))],
    "the names again": lambda lines: [*lines[:3], lines[0], *lines[3:]],
    "the names again after a mark of byte order": lambda lines: [*lines[:3], "\ufeff" + lines[0], *lines[3:]],
    "blanks around names": lambda lines: [" Question , Complex_CoT , Response ", *lines[1:]],
    "empty lines at the end": lambda lines: [*lines, ",,", ",,", ""],
    "an empty column of the same name": lambda lines: [lines[0] + ",Response", *(line + "," for line in lines[1:])],
    "an empty column of the same name before": lambda lines: [
        "Response," + lines[0],
        *("," + line for line in lines[1:]),
    ],
}


@pytest.mark.parametrize("how", SLOPPY)
def test_what_holds_no_text_does_no_harm(tmp_path, how):
    lines = [",".join(NAMES), *(",".join(f'"{field}"' for field in row) for row in ROWS)]
    assert examples(load(csv_file(tmp_path, "\n".join(SLOPPY[how](lines))))) == ROWS


@pytest.mark.parametrize("last", ["todo", "a,todo", ",todo"])
def test_two_columns_of_one_name_that_both_hold_text_are_refused(tmp_path, last):
    text = f"{','.join(NAMES)},Response\nq,r,a,\nq,r,{last if ',' in last else 'a,' + last}\n"
    (told,) = problems_of(csv_file(tmp_path, text))
    assert "has more than one column named 'Response'" in told
    assert "Rename or remove all but one" in told


def test_a_field_of_any_length_is_a_text(tmp_path):
    long = "page by page " * 20_000
    split = load(csv_file(tmp_path, f"{','.join(NAMES)}\nq,r,a\nq,{long},a\nq,r,a\n"))
    assert max(len(e.reasoning) for e in split.train + split.held_out) == len(long.strip())


@pytest.mark.parametrize("names", ["", ",,", f"Why can a beta blocker mask it?,{'Because of this. ' * 12},a"])
def test_a_table_without_names_is_told_what_to_add(tmp_path, names):
    (told,) = problems_of(csv_file(tmp_path, f"{names}\nq,r,a\n" if names else '""\nq\n'))
    assert "has no line of column names" in told
    assert "Question,Complex_CoT,Response" in told


def test_what_stands_outside_of_the_columns_is_not_dropped(tmp_path):
    (told,) = problems_of(csv_file(tmp_path, ",".join(NAMES) + "\nq,r,a\nq,r,Give aspirin, then call\n"))
    assert told.startswith("a.csv, record 2: has more fields")


def parquet(tmp_path, name="a.parquet", **columns):
    table = pyarrow.Table.from_pylist(make_records(6))
    for column, values in columns.items():
        at = table.schema.get_field_index(column)
        table = table.set_column(at, column, values) if at >= 0 else table.append_column(column, values)
    pyarrow.parquet.write_table(table, tmp_path / name)
    return tmp_path / name


DAY = datetime.datetime(2026, 1, 1)
BESIDE = {
    "a year that Python has not": pyarrow.array([2**62] * 6, pyarrow.timestamp("us")),
    "nanoseconds": pyarrow.array([1] * 6, pyarrow.timestamp("ns")),
    "a time zone": pyarrow.array([DAY] * 6, pyarrow.timestamp("us", tz="Europe/Berlin")),
    "a time zone that nobody knows": pyarrow.array([DAY] * 6, pyarrow.timestamp("us", tz="Mars/Olympus")),
    "a date far away": pyarrow.array([2**30] * 6, pyarrow.date32()),
    "a duration": pyarrow.array([2**62] * 6, pyarrow.duration("ns")),
    "a decimal": pyarrow.array([decimal.Decimal("1.5")] * 6),
    "bytes that are no text": pyarrow.array([b"\xff\x00"] * 6),
    "bytes of one length": pyarrow.array([b"\xff\x00"] * 6, pyarrow.binary(2)),
    "nothing": pyarrow.nulls(6),
    "lists of times": pyarrow.array([[2**62]] * 6, pyarrow.list_(pyarrow.timestamp("us"))),
    "maps": pyarrow.array([[("a", 1)]] * 6, pyarrow.map_(pyarrow.string(), pyarrow.int64())),
    "structs": pyarrow.array([{"a": {"b": 1}}] * 6),
    "half numbers": pyarrow.array([1.5] * 6, pyarrow.float16()),
}


@pytest.mark.parametrize("what", BESIDE)
def test_a_column_that_nobody_needs_may_hold_anything(tmp_path, what):
    split = load(parquet(tmp_path, beside=BESIDE[what]))
    assert [e.answer for e in split.held_out + split.train] == [r["Response"] for r in make_records(6)]


TEXTS = [r["Response"] for r in make_records(6)]
AS_TEXT = {
    "large_string": pyarrow.array(TEXTS, pyarrow.large_string()),
    "string_view": pyarrow.array(TEXTS, pyarrow.string_view()),
    "dictionary": pyarrow.array(TEXTS).dictionary_encode(),
    "binary": pyarrow.array([text.encode() for text in TEXTS]),
    "large_binary": pyarrow.array([text.encode() for text in TEXTS], pyarrow.large_binary()),
    "list of one": pyarrow.array([[text] for text in TEXTS]),
}


@pytest.mark.parametrize("kind", AS_TEXT)
def test_text_is_text_in_each_of_its_types(tmp_path, kind):
    split = load(parquet(tmp_path, Response=AS_TEXT[kind]))
    assert [e.answer for e in split.held_out + split.train] == TEXTS


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pyarrow.array([b"good"] * 5 + [b"\xff\xfe"]), "record 6: Response is not UTF-8"),
        (pyarrow.array([None] * 5 + [2**62], pyarrow.timestamp("us")), "record 6: Response cannot be read: "),
        (pyarrow.array([1] * 6), "record 1: Response is not text"),
        (pyarrow.array([decimal.Decimal("1.5")] * 6), "record 1: Response is not text"),
        (pyarrow.array(["a"] * 5 + [None]), "record 6: has no Response"),
        (pyarrow.nulls(6), "record 1: has no Response"),
    ],
)
def test_a_needed_value_that_is_no_text_is_told_by_its_record(tmp_path, values, words):
    assert words in "\n".join(problems_of(parquet(tmp_path, Response=values)))


def test_text_whose_bytes_are_broken_is_told_by_its_record(tmp_path):
    broken = pyarrow.array([b"a"] * 5 + [b"\xe9"]).view(pyarrow.string())
    (told,) = problems_of(parquet(tmp_path, Response=broken))
    assert "record 6: Response is not UTF-8" in told


def test_of_two_parquet_columns_of_one_name_the_empty_one_is_left(tmp_path):
    columns = [pyarrow.array(["q", "q", "q"]), pyarrow.array(["r", "r", "r"]), pyarrow.array(["a", "b", "c"])]
    table = pyarrow.Table.from_arrays([*columns, pyarrow.nulls(3, pyarrow.string())], [*NAMES, "Response"])
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert [answer for *_, answer in examples(load(tmp_path / "a.parquet"))] == ["a", "b", "c"]


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path):
    (tmp_path / "Response=x").mkdir()
    split = load(parquet(tmp_path / "Response=x"))
    assert [e.answer for e in split.held_out + split.train] == TEXTS


@pytest.mark.parametrize("keep", [0, 4, 100, -10])
def test_a_parquet_file_that_is_cut_is_told(tmp_path, keep):
    path = parquet(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    assert "Parquet file" in problems_of(path)[0]


@pytest.mark.parametrize("kind", ["dictionary", "string", "binary", "lists", "struct"])
def test_a_small_file_that_unpacks_to_more_than_memory_is_refused_in_words(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(tables.Room.__init__, "__defaults__", (20_000_000,))
    column = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 5000, pyarrow.int32()), pyarrow.array(["A" * 100_000])
    )
    if kind in ("string", "binary"):
        some = column.slice(0, 500)
        column = some.cast(pyarrow.string()) if kind == "string" else some.cast(pyarrow.string()).cast(pyarrow.binary())
    elif kind == "lists":
        column = pyarrow.ListArray.from_arrays(pyarrow.array(range(5001), pyarrow.int32()), column)
    elif kind == "struct":
        column = pyarrow.StructArray.from_arrays([column], names=["text"])
    file = tmp_path / "bomb.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"Question": column}), file, compression="zstd")
    assert file.stat().st_size < 100_000
    with pytest.raises(BadInput, match=r"bomb\.parquet: unpacks to more than"):
        tables.read_parquet(file, file.read_bytes())


def test_rows_over_several_batches_keep_their_order(tmp_path):
    file = tmp_path / "many.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"n": list(range(1000)), "t": [None, "x"] * 500}), file, row_group_size=300
    )
    rows = tables.read_parquet(file, file.read_bytes())
    assert [row["n"] for row in rows] == list(range(1000))
    assert rows[999] == {"n": 999, "t": "x"}


def test_categories_that_many_batches_share_are_counted_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tables.Room.__init__, "__defaults__", (2_000_000,))
    shared = pyarrow.array([f"{i} " + "A" * 1000 for i in range(1000)])
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([i % 5 for i in range(1500)], pyarrow.int32()), shared)
    file = tmp_path / "categories.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"Question": column}), file)
    assert len(tables.read_parquet(file, file.read_bytes())) == 1500
