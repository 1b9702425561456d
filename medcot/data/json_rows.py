"""Rows of JSON, however a program has laid them out: a list, one object a line, or objects one after another."""

import json
import re
from collections.abc import Iterator
from typing import Any

from medcot.data.files import BadRow, Row
from medcot.errors import BadInput
from medcot.safety.foreign import RepeatedName, named_once

Rows = list[Any]
_SPACE = re.compile(r"[\s\ufeff]*")  # files with byte order marks may have been joined
WRAP = "Give a list of records, or one record a line."


_DECODER = json.JSONDecoder(object_pairs_hook=named_once)


def read(name: str, text: str, *, by_line: bool, key: str | None) -> Rows:
    """The rows of a text; BadRow in place of each that is no JSON. `by_line`: the file's name says one object a line.

    Where lists of records lie under several keys of one object, `key` says which to take; None takes all.
    Raises BadInput if the text as a whole cannot be read.
    """
    stripped = (line.strip("\ufeff \t\v\f") for line in re.split(r"\r\n|\n|\r", text))
    lines = [line for line in stripped if line]
    if len(lines) > 1 and isinstance(_row(lines[0]), dict):
        return [_row(line) for line in lines]
    try:
        values = list(_values(text))
    except (ValueError, RecursionError) as error:
        rows = [_row(line) for line in lines]
        objects = sum(isinstance(row, dict) for row in rows)
        if 2 * objects >= len(rows) if objects else by_line and len(rows) == 1:
            return rows
        raise _whole_problem(name, error) from None
    if len(values) != 1 or (by_line and isinstance(values[0], dict)):
        return values
    return _records(name, values[0], key)


def _row(line: str) -> Any:
    try:
        return _DECODER.decode(line)
    except json.JSONDecodeError as error:
        return BadRow(f"is not JSON: {error.msg} at character {error.pos + 1}. Fix or remove the line.")
    except RepeatedName as error:
        return BadRow(str(error))
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets in brackets
        return BadRow(f"is not JSON that can be read: {error}. Fix or remove the line.")


def _whole_problem(name: str, error: Exception) -> BadInput:
    if isinstance(error, json.JSONDecodeError):
        what = f"is not JSON: {error.msg} at character {error.colno}."
        fix = "Fix it there, or name the file by what it holds: .csv, .parquet."
        return BadInput.of(f"{name}, line {error.lineno}", what, fix)
    if isinstance(error, RepeatedName):
        return BadInput.of(name, str(error))
    return BadInput.of(name, f"is not JSON that can be read: {error}.", WRAP)


def _values(text: str) -> Iterator[Any]:
    """Every JSON value of a text, one after another."""
    place = _SPACE.match(text).end()  # type: ignore[union-attr]  # matches anything
    while place < len(text):
        value, place = _DECODER.raw_decode(text, place)
        yield value
        place = _SPACE.match(text, place).end()  # type: ignore[union-attr]


def _records(file: str, value: Any, key: str | None) -> Rows:
    """The records within one JSON value: a list; columns; records by id; or a list under a key."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise BadInput.of(file, f"holds one JSON {type(value).__name__}, not a list of records.", WRAP)
    if (rows := _columns(value)) is not None:
        return rows
    if value and all(isinstance(part, dict) for part in value.values()):
        return list(value.values())
    lists = {name: part for name, part in value.items() if _is_records(part)}
    chosen = [name for name in lists if len(lists) == 1 or key in (name, None)]
    if lists and not chosen:
        what = f"holds lists of records under {', '.join(map(repr, lists))}."
        raise BadInput.of(file, what, f"Choose one: --set data.split={next(iter(lists))}")
    if not lists:
        raise BadInput.of(file, "holds one JSON object, not a list of records.", WRAP)
    return [row for name in chosen for row in lists[name]]


def _is_records(part: Any) -> bool:
    """Whether a value is a list of records, and not of the turns of a conversation or of lettered options."""
    inner = ({"role", "content"}, {"from", "value"}, {"key", "value"})
    if not isinstance(part, list) or not part or not all(isinstance(row, dict) for row in part):
        return False
    return not any(names <= part[0].keys() for names in inner)


def _columns(value: Row) -> Rows | None:
    """Records of an object of columns, as pandas and datasets write it; None if it is none."""
    names, parts = list(value), list(value.values())
    if {"columns", "data"} <= value.keys() and all(isinstance(value[key], list) for key in ("columns", "data")):
        rows = value["data"]
        fit = all(isinstance(row, list) and len(row) == len(value["columns"]) for row in rows)
        return [dict(zip(value["columns"], row, strict=True)) for row in rows] if fit else None
    if len(parts) < 2:
        return None
    if all(isinstance(part, dict) for part in parts):  # by row number, from 0
        numbers = [str(n) for n in range(len(parts[0]))]
        same = numbers and all(list(part) == numbers for part in parts)
        return [{name: part[n] for name, part in value.items()} for n in numbers] if same else None
    equal = all(isinstance(p, list) and len(p) == len(parts[0]) and not _is_records(p) for p in parts)
    return [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)] if equal else None
