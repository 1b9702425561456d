"""Rows of a table, CSV or Parquet. A column that somebody needs and that cannot be read is told; another is left."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medcot.data.files import MOST_UNPACKED, PARQUET, BadRow, Row
from medcot.errors import BadInput, first_line

csv.field_size_limit(2**31 - 1)  # an unclosed quote is told by `strict`, so a long text is a text
MARKS = ",;\t|"  # spreadsheets write semicolons where the comma is the decimal mark
Header = Callable[[Sequence[str]], Sequence[str] | None]  # the columns of a file whose first line is a record, or None
BATCH = 256  # values of a Parquet file that are made at once
TEXT_IN_HEADER = 60  # characters on average, that no names of columns have


def read_csv(path: Path, text: str, header: Header) -> list[Any]:
    """Rows by the names of the first line, whatever separates them. Raises BadInput where quotes do not close.

    A file without such a line is read if `header` knows its columns.
    """
    text, mark = _marked(text)
    lines = _fields(path, text, mark)
    while lines and not any(field.strip() for field in lines[-1]):
        lines.pop()  # a spreadsheet's empty lines at its end
    if not lines:
        return []
    names = header(lines[0])
    if names is None:
        names = _names(lines[0])
        lines = [line for line in lines[1:] if _names(line) != names]  # files with such a line may have been joined
        if not any(names) or sum(map(len, names)) > TEXT_IN_HEADER * len(names):
            what = "has no line of column names at its top; its first line is a record."
            raise BadInput.of(path.name, what, "Put one above it: Question,Complex_CoT,Response")
    return _rows(path, names, lines)


def _names(line: Sequence[str]) -> list[str]:
    return [name.strip(" \ufeff") for name in line]


def _marked(text: str) -> tuple[str, str]:
    """The text, and what separates its columns: what its first line says (`sep=;`), or what makes most columns."""
    first, _, rest = text.partition("\n")
    if first.lower().rstrip("\r") in {f"sep={mark}" for mark in MARKS}:
        return rest, first[4]

    def columns(mark: str) -> int:
        try:
            return len(next(csv.reader(io.StringIO(text, newline=""), delimiter=mark), []))
        except csv.Error:
            return 0

    return text, max(MARKS, key=columns)


def _fields(path: Path, text: str, mark: str) -> list[list[str]]:
    lines: list[list[str]] = []
    skip = mark != "\t"  # blanks after commas are no text
    try:
        for line in csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True, skipinitialspace=skip):
            if line:
                lines.append(line)
    except csv.Error as error:
        fix = "Close the quotes that open there, and double those inside a text."
        raise BadInput.of(f"{path.name}, record {max(1, len(lines))}", f"is not CSV: {error}.", fix) from None
    return lines


def _rows(path: Path, names: Sequence[str], lines: list[list[str]]) -> list[Any]:
    filled = [any(place < len(line) and line[place].strip() for line in lines) for place in range(len(names))]
    kept = _single(path, names, filled)
    rows: list[Any] = []
    for line in lines:
        if any(field.strip() for field in line[len(names) :]):
            rows.append(BadRow("has more fields than the file has columns. Put text that holds commas in quotes."))
        else:
            rows.append({name: line[place] if place < len(line) else None for place, name in kept.items()})
    return rows


def _single(path: Path, names: Sequence[str], filled: Sequence[bool]) -> dict[int, str]:
    """Each column's name by its place; of several of one name the one that holds text. Raises BadInput if two do."""
    places: dict[str, int] = {}
    repeated = set()
    for place, name in enumerate(names):
        own = name or f"Unnamed: {place}"  # as pandas calls it
        if not name and not filled[place]:
            continue
        if own in places and filled[place] and filled[places[own]]:
            repeated.add(own)
        if own not in places or filled[place]:
            places[own] = place
    if repeated:
        what = f"has more than one column named {', '.join(map(repr, sorted(repeated)))}."
        raise BadInput.of(path.name, what, "Rename or remove all but one.")
    return {place: name for name, place in places.items()}


def read_parquet(path: Path, raw: bytes) -> list[Row]:
    """Rows of a Parquet file; BadRow in place of a single value that cannot be read. Raises BadInput for another."""
    import pyarrow
    import pyarrow.parquet

    if not raw.startswith(PARQUET):
        what = f"is not a Parquet file: it {'does not begin as one' if raw else 'is empty'}."
        raise BadInput.of(path.name, what, "Name CSV .csv and JSON lines .jsonl, or fetch the file again.")
    try:
        table = _table(path, raw)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        what = f"is a Parquet file that cannot be read: {first_line(error).rstrip('.')}."
        raise BadInput.of(path.name, what, "Fetch it again, or save it as CSV or JSON lines.") from None
    filled = [column.null_count < len(column) for column in table.columns]
    kept = _single(path, table.column_names, filled)
    room = Room(path)
    columns = {name: _values(table.column(place), room) for place, name in kept.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _table(path: Path, raw: bytes) -> Any:
    """The whole table. Raises BadInput before it takes more memory than a file may."""
    import pyarrow
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(pyarrow.BufferReader(raw))
    groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
    Room(path).take(sum(g.column(i).total_uncompressed_size for g in groups for i in range(g.num_columns)))
    # A text that is said many times is kept once, so that the table is no larger than the file says.
    texts = [c.path for c in map(file.schema.column, range(len(file.schema))) if c.physical_type == "BYTE_ARRAY"]
    return pyarrow.parquet.ParquetFile(pyarrow.BufferReader(raw), read_dictionary=texts).read()


@dataclass
class Room:
    """What a packed file may still grow to: some bytes can say a text of millions of characters a million times."""

    path: Path
    left: int = MOST_UNPACKED

    def take(self, count: int) -> None:
        """Raise BadInput if there is no room for so many bytes more."""
        self.left -= count
        if self.left < 0:
            raise BadInput.of(self.path.name, f"unpacks to more than {MOST_UNPACKED:,} bytes.", "Take a part of it.")


def _values(column: Any, room: Room) -> list[Any]:
    """A column's values in Python's types, each of which may repeat a text that the table holds once."""
    values: list[Any] = []
    for start in range(0, len(column), BATCH):
        found = _part_values(column.slice(start, BATCH))
        room.take(sum(map(_length, found)))
        values += found
    return values


def _length(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return 8 + sum(map(_length, parts))


def _part_values(column: Any) -> list[Any]:
    """Values one by one only where one of them has no Python type."""
    import pyarrow

    unread = (pyarrow.ArrowException, ArithmeticError, ValueError, LookupError, ImportError)
    try:
        kind = column.type
        plain = column.cast(kind.value_type) if pyarrow.types.is_dictionary(kind) else column  # several times as fast
        return [_decoded(value) for value in plain.to_pylist()]
    except unread:
        pass
    values: list[Any] = []
    for cell in column:
        try:
            values.append(_decoded(cell.as_py()))
        except UnicodeDecodeError:
            values.append(BadRow("is not UTF-8. Write the file again with its text as UTF-8."))
        except unread as error:
            values.append(BadRow(f"cannot be read: {first_line(error).rstrip('.')}. Fix or remove the record."))
    return values


def _decoded(value: Any) -> Any:
    """Bytes as the UTF-8 text that they are where a program wrote text without saying so."""
    return value.decode() if isinstance(value, bytes) else value
