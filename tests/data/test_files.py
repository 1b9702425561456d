"""Files as programs write them: encodings, packed ones, other formats, and names that say something else."""

import gzip
import io
import json
import sqlite3
import zipfile

import pytest

from medcot import data
from medcot.data import files
from medcot.errors import BadInput
from medcot.settings import DataSettings
from tests.conftest import make_records
from tests.data.test_examples import WRITERS, load, problems_of

NAMES = ["a.jsonl", "a.json", "a.csv"]


def written(tmp_path, name):
    WRITERS[name](tmp_path / name)
    return tmp_path / name


def is_whole(split) -> bool:
    return [e.question for e in split.held_out + split.train] == [r["Question"] for r in make_records(6)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_unicode_is_read_in_each_of_its_encodings(tmp_path, name, encoding):
    path = written(tmp_path, name)
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert is_whole(load(path))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("encoding", "text", "likely"),
    [
        ("gbk", "发热三天，首先考虑什么", "GB18030"),
        ("gb18030", "糖尿病患者视物模糊", "GB18030"),
        ("cp1252", "café au lait spots", "WINDOWS-1252"),
        ("latin-1", "Ménière's disease", "WINDOWS-1252"),
        ("mac-roman", "naïve", "WINDOWS-1252"),
    ],
)
def test_another_encoding_is_refused_with_its_line_and_the_way_out(tmp_path, name, encoding, text, likely):
    path = written(tmp_path, name)
    whole = path.read_text(encoding="utf-8").replace("Sign 2 suggests", text)
    path.write_bytes(whole.encode(encoding))
    (told,) = problems_of(path)
    line = 1 if name == "a.json" else 3 if name == "a.csv" else 2
    assert told.startswith(f"{name}, line {line}: is not UTF-8")
    assert f"iconv -f {likely} -t UTF-8 {name}" in told


@pytest.mark.parametrize("name", [*NAMES, "a.parquet"])
def test_what_is_packed_with_gzip_is_read(tmp_path, name):
    path = written(tmp_path, name)
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert is_whole(load(packed))
    packed.write_bytes(gzip.compress(path.read_bytes())[:-20])
    assert "cannot be unpacked" in problems_of(packed)[0]


def test_an_archive_that_unpacks_to_more_than_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_UNPACKED", 1000)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * 2000))
    assert "unpacks to more than 1,000 bytes" in problems_of(path)[0]


def as_zip() -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return whole.getvalue()


def as_feather() -> bytes:
    import pyarrow
    import pyarrow.feather

    whole = io.BytesIO()
    pyarrow.feather.write_feather(pyarrow.Table.from_pylist(make_records(3)), whole)
    return whole.getvalue()


def as_sqlite() -> bytes:
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE records (Question TEXT)")
        return database.serialize()


OTHERS = {
    "Excel workbook": as_zip,
    "Arrow (Feather) file": as_feather,
    "SQLite database": as_sqlite,
    "pointer of Git LFS": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "web page": lambda: b"\n<!DOCTYPE html><html><body>Sign in</body></html>",
    "PDF": lambda: b"%PDF-1.7 ...",
    "zstd": lambda: b"\x28\xb5\x2f\xfd....",
    "pickle": lambda: b"\x80\x04\x95....",
}


@pytest.mark.parametrize("name", [*NAMES, "a.parquet", "a.xlsx", "a.arrow", "a"])
@pytest.mark.parametrize("what", OTHERS)
def test_another_format_is_named_whatever_the_file_is_called(tmp_path, name, what):
    path = tmp_path / name
    path.write_bytes(OTHERS[what]())
    (told,) = problems_of(path)
    assert what in told
    assert told.rstrip(".").count(". ") or told.count(": ") > 1, "it says what to do"


@pytest.mark.parametrize(
    ("holds", "called"),
    [
        ("a.parquet", "b.csv"),
        ("a.parquet", "b.jsonl"),
        ("a.jsonl", "b.json"),
        ("a.json", "b.jsonl"),
        ("a.jsonl", "b.ndjson"),
        ("a.jsonl", "B.NDJSON"),
        ("a.json", "b.csv"),
        ("a.jsonl", "b.tsv"),
        ("a.csv", "b.tsv"),
    ],
)
def test_the_content_counts_and_not_the_name(tmp_path, holds, called):
    path = tmp_path / called
    path.write_bytes(written(tmp_path, holds).read_bytes())
    assert is_whole(load(path))


@pytest.mark.parametrize(("holds", "called"), [("a.csv", "b.parquet"), ("a.csv", "b.jsonl"), ("a.csv", "b.json")])
def test_a_table_under_another_name_is_refused_with_the_right_one(tmp_path, holds, called):
    path = tmp_path / called
    path.write_bytes(written(tmp_path, holds).read_bytes())
    assert ".csv" in problems_of(path)[0]


@pytest.mark.parametrize(
    "address",
    [
        "https://huggingface.co/datasets/OWNER/NAME",
        "https://huggingface.co/datasets/OWNER/NAME/",
        "https://huggingface.co/datasets/OWNER/NAME/viewer/en/train?row=3",
        "https://huggingface.co/datasets/OWNER/NAME/tree/main",
        "http://www.huggingface.co/datasets/OWNER/NAME#readme",
        "https://hf.co/datasets/OWNER/NAME",
        "https:/huggingface.co/datasets/OWNER/NAME",
        "hf://datasets/OWNER/NAME",
    ],
)
def test_the_address_of_a_data_set_is_its_name(address):
    assert DataSettings(source=address).source == "OWNER/NAME"


@pytest.mark.parametrize(
    "address",
    [
        "https://huggingface.co/datasets/OWNER/NAME/resolve/main/a.jsonl",
        "https://example.org/records.csv",
        "https://example.org/records",
        "https:/example.org/records.csv",
        "s3://bucket/records.parquet",
        "https://huggingface.co/OWNER/MODEL",
    ],
)
def test_another_address_is_refused_before_anything_is_asked(address):
    with pytest.raises(BadInput, match="is an address") as refused:
        data.load(DataSettings(source=address))
    assert "Download the file" in refused.value.problems[0].fix


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        ("data", {"version": "1", "data": make_records(6)}),
        ("rows", {"rows": make_records(6)}),
        ("split", {"test": make_records(2), "train": make_records(6)}),
        ("with other lists", {"tags": ["a", "b"], "records": make_records(6)}),
        ("by id", {f"id{i}": record for i, record in enumerate(make_records(6))}),
        ("columns", {name: [r[name] for r in make_records(6)] for name in make_records(1)[0]}),
        (
            "pandas, columns",
            {name: {str(i): r[name] for i, r in enumerate(make_records(6))} for name in make_records(1)[0]},
        ),
        ("pandas, index", {str(i): record for i, record in enumerate(make_records(6))}),
        ("pandas, table", {"schema": {"fields": [{"name": "Question"}]}, "data": make_records(6)}),
        (
            "pandas, split",
            {
                "columns": list(make_records(1)[0]),
                "index": [*range(6)],
                "data": [list(r.values()) for r in make_records(6)],
            },
        ),
    ],
)
def test_the_list_of_records_is_found_in_an_object(tmp_path, key, rows):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=1))
    assert is_whole(load(path))


def test_of_several_lists_one_is_chosen(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"dev": make_records(6), "test": make_records(2)}))
    (told,) = problems_of(path)
    assert "under 'dev', 'test'" in told
    assert "--set data.split=dev" in told
    assert is_whole(load(path, split="dev"))


@pytest.mark.parametrize("value", ['"text"', "3", "null", '{"version": 1}', '{"data": []}', '{"data": [1, 2]}'])
def test_json_that_holds_no_records_is_told_with_what_helps(tmp_path, value):
    path = tmp_path / "a.json"
    path.write_text(value)
    (told,) = problems_of(path)
    assert "not a list of records" in told
    assert "Give a list of records, or one record a line" in told


LAYOUTS = {
    "one after another, over several lines": lambda rows: "\n".join(json.dumps(r, indent=2) for r in rows),
    "one after another, on one line": lambda rows: " ".join(map(json.dumps, rows)),
    "joined files with byte order marks": lambda rows: "".join("\ufeff" + json.dumps(r) + "\n" for r in rows),
    "lines ended by carriage returns": lambda rows: "\r".join(map(json.dumps, rows)),
    "blank lines between": lambda rows: "\r\n\r\n".join(map(json.dumps, rows)),
    "a list with one record a line": lambda rows: "[\n" + ",\n".join(map(json.dumps, rows)) + "\n]",
    "separators of Unicode within texts": lambda rows: "\n".join(
        json.dumps({**r, "more": "a\u2028b\u0085c"}, ensure_ascii=False) for r in rows
    ),
}


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_json_is_read_however_it_is_laid_out(tmp_path, name, layout):
    path = tmp_path / name
    path.write_text(LAYOUTS[layout](make_records(6)), encoding="utf-8", newline="")
    assert is_whole(load(path))


def test_a_fault_in_json_of_several_lines_is_told_once_and_with_its_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(r, indent=2) for r in make_records(6)).replace('"Response"', "Response", 1))
    (told,) = problems_of(path)
    assert told.startswith("a.jsonl, line 4: is not JSON")


@pytest.mark.parametrize("line", ["[" * 100_000, '{"n": ' + "9" * 5000 + "}", '{"a": 1, "a": 2}', "{", "\0"])
def test_a_line_that_cannot_be_read_is_one_bad_record_among_good_ones(tmp_path, line):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps(r) for r in make_records(6)]
    path.write_text("\n".join([*lines[:3], line, *lines[3:]]), encoding="utf-8")
    (told,) = problems_of(path)
    assert told.startswith("a.jsonl, record 4: ")
