"""Any content under any name: examples or BadInput, never another exception; and no text of a valid file is lost."""

import contextlib
import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcot import data
from medcot.data import columns
from medcot.errors import BadInput
from medcot.evaluation import choice_files
from medcot.prompts.tags import TAG
from medcot.settings import DataSettings
from medcot.settings.recipes import compose
from tests.conftest import make_records

NAMES = ("Question", "Complex_CoT", "Response")
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".parquet", ".jsonl.gz")
FEW, MANY = 100, 10_000


def amounts(test):
    """The test over a few inputs, and over many as a thorough one."""
    return pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.thorough)])(test)


def check(count, strategy, holds):
    settings(max_examples=count, derandomize=True, deadline=None, database=None)(given(strategy)(holds))()


def load(path):
    return data.load_fitted(DataSettings(source=str(path), held_out=1))[1]


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
SHOWN = TEXT.filter(lambda text: columns.is_text(text.strip()) and not TAG.search(text))  # tags are taken off
RECORDS = st.lists(st.tuples(SHOWN, SHOWN, SHOWN), min_size=2, max_size=3)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*NAMES, "messages", "role", "content", "options", "answer_idx", "cop"]), inner
        )
    ),
    max_leaves=8,
)
# What files are made of, so that random bytes come near to a file.
PIECES = st.sampled_from(
    [
        *(b"Question,Complex_CoT,Response\n", b'"', b",", b";", b"|", b"\n", b"\r", b"\t", b"\0", b"{", b"}", b"["),
        *(b"]", b'{"Question":', b'"a"', b":", b"PAR1", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b", b"\xe9", b"1"),
        b"sep=;\n",
    ]
)
BYTES = st.lists(PIECES | st.binary(max_size=6), max_size=24).map(b"".join)


READERS = {"records": load, "questions": lambda path: choice_files.load(str(path))}


@amounts
@pytest.mark.parametrize("reader", READERS)
def test_random_bytes_are_read_or_refused_in_words(tmp_path, count, reader):
    def holds(drawn):
        suffix, content = drawn
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        with contextlib.suppress(BadInput):
            READERS[reader](path)

    check(count, st.tuples(st.sampled_from(SUFFIXES), BYTES), holds)


@amounts
@pytest.mark.parametrize("reader", READERS)
def test_random_json_is_read_or_refused_in_words(tmp_path, count, reader):
    def holds(drawn):
        values, by_line = drawn
        path = tmp_path / ("a.jsonl" if by_line else "a.json")
        path.write_text("\n".join(map(json.dumps, values)) if by_line else json.dumps(values))
        with contextlib.suppress(BadInput):
            READERS[reader](path)

    check(count, st.tuples(st.lists(JSON, max_size=3), st.booleans()), holds)


def said(split):
    return [(e.question, e.reasoning, e.answer) for e in split.held_out + split.train]


def stripped(records):
    return [tuple(text.strip() for text in record) for record in records]


@amounts
def test_no_text_of_csv_is_lost(tmp_path, count):
    def holds(drawn):
        records, mark, quoting, end = drawn
        if quoting == csv.QUOTE_MINIMAL:  # a writer may leave a carriage return without quotes, and it ends a record
            records = [tuple(text.replace("\r", "") or "x" for text in record) for record in records]
        records = [record for record in records if all(columns.is_text(text.strip()) for text in record)]
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=mark, quoting=quoting, lineterminator=end)
        writer.writerows([NAMES, *records])
        path = tmp_path / "a.csv"
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
        kept = [record for record in records if record != NAMES]
        if len(kept) > 1:
            assert said(load(path)) == stripped(kept)

    marks, ends = st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"])
    check(count, st.tuples(RECORDS, marks, st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]), ends), holds)


@amounts
def test_no_text_of_json_lines_is_lost(tmp_path, count):
    def holds(drawn):
        records, indent, name, as_ascii = drawn
        lines = (json.dumps(dict(zip(NAMES, r, strict=True)), indent=indent, ensure_ascii=as_ascii) for r in records)
        path = tmp_path / name
        path.write_text("\n".join(lines), encoding="utf-8", newline="")
        assert said(load(path)) == stripped(records)

    layouts = st.tuples(RECORDS, st.sampled_from([None, 1]), st.sampled_from(["a.json", "a.jsonl"]), st.booleans())
    check(count, layouts, holds)


@amounts
def test_no_text_of_parquet_is_lost(tmp_path, count):
    import pyarrow
    import pyarrow.parquet

    def holds(drawn):
        records, kind = drawn
        arrays = [pyarrow.array([r[i] for r in records]).cast(kind) for i in range(3)]
        pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, NAMES), tmp_path / "a.parquet")
        assert said(load(tmp_path / "a.parquet")) == stripped(records)

    kinds = st.sampled_from([pyarrow.string(), pyarrow.large_string(), pyarrow.binary(), pyarrow.string_view()])
    check(count, st.tuples(RECORDS, kinds), holds)


@amounts
def test_parquet_with_damage_is_read_or_refused_in_words(tmp_path, count):
    import pyarrow
    import pyarrow.parquet

    whole = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(make_records(4)), whole, compression="none")
    raw, path = whole.getvalue(), tmp_path / "a.parquet"

    def holds(drawn):
        place, patch = drawn
        path.write_bytes(raw[:place] + patch + raw[place + len(patch) :])
        with contextlib.suppress(BadInput):
            load(path)

    check(count, st.tuples(st.integers(0, len(raw)), st.binary(min_size=1, max_size=4)), holds)


TOML = st.lists(
    st.sampled_from(["[data]", "[training]", "epochs = ", "source = ", '"a"', "1", "1e400", "nan", "[", "]", "{", "}"])
    | st.sampled_from(["\n", "=", ".", "'''", "# x", "2026-01-01", "true", "9" * 400, "held_out = ", "recipe = ", "\0"])
    | TEXT,
    max_size=16,
).map("".join)


@amounts
def test_random_toml_is_read_or_refused_in_words(tmp_path, count):
    def holds(text):
        path = tmp_path / "run.toml"
        path.write_text(text, encoding="utf-8", newline="")
        with contextlib.suppress(BadInput):
            compose(config=path)

    check(count, TOML, holds)
