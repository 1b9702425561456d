"""Rows of a CSV, JSON or Parquet file, or of a Hub data set."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from medcot.data import files, json_rows, starter, tables
from medcot.data.files import BadRow
from medcot.errors import BadInput, Problem
from medcot.hub import load_hub_rows
from medcot.settings import DATA_SUFFIXES, STARTER, DataSettings, data_suffix, is_local_data
from medcot.settings.names import expanded, is_address

T = TypeVar("T")
MOST_PROBLEMS = 20  # of single records; the rest is counted


def read_rows(
    settings: DataSettings, *, header: tables.Header = lambda first: None, whole: bool = False
) -> Iterator[tuple[int, Any]]:
    """(record number, row) pairs of a source; a row that cannot be read is a BadRow.

    `header` names the columns of a CSV file that has no line of names; `whole` takes all lists of a JSON file that
    holds several, and not the one that data.split names. Raises BadInput where the source is missing or unreadable.
    """
    if not is_local_data(settings.source):
        yield from enumerate(load_hub_rows(settings), start=1)
        return
    path = starter.RECORDS if settings.source == STARTER else expanded(settings.source)
    if is_address(settings.source):
        fix = "Download the file and name its path; a Hub data set is named OWNER/NAME."
        raise BadInput.of("data.source", f"{settings.source} is an address.", fix)
    try:
        rows = _read(path, header, None if whole else settings.split)
    except FileNotFoundError:
        fix = "Check the path; a Hub data set is named OWNER/NAME."
        raise BadInput.of("data.source", f"there is no file {path}.", fix) from None
    except IsADirectoryError:
        raise BadInput.of("data.source", f"{path} cannot be read: it is a folder.", "Name a file in it.") from None
    except OSError as error:
        raise BadInput.of("data.source", f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:  # no path at all
        raise BadInput.of("data.source", f"{path} cannot be read: {error}.") from None
    yield from enumerate(rows, start=1)


def _read(path: Path, header: tables.Header, key: str | None) -> list[Any]:
    """The rows by what the file holds; its name tells CSV from JSON only where the content may be either."""
    suffix = data_suffix(path.name)
    if not suffix:
        with path.open("rb") as file:
            files.refuse_others(path, file.read(256))
        what, fix = f"{path} is none of {', '.join(DATA_SUFFIXES)}.", "Convert it to one of them."
        raise BadInput.of("data.source", what, fix)
    raw = files.content(path)
    if raw.startswith(files.PARQUET) or suffix == ".parquet":
        return tables.read_parquet(path, raw)
    text = files.text(path, raw)
    if suffix in (".csv", ".tsv") and not text.lstrip().startswith(("{", "[")):
        return tables.read_csv(path, text, header)
    return json_rows.read(path.name, text, by_line=suffix != ".json", key=key)


def read_objects(path: Path, read: Callable[[Mapping[str, Any]], T], fix: str) -> list[T]:
    """What `read` makes of each record of a file of objects.

    Raises BadInput with the records that are no object, and those for which `read` raises BadRow; `fix` says what to
    write.
    """
    found, problems = list[T](), list[Problem]()
    for number, row in read_rows(DataSettings(source=str(path)), whole=True):
        try:
            if isinstance(row, BadRow):
                raise row
            if not isinstance(row, dict):
                raise BadRow(f"is a JSON {type(row).__name__}, not an object.")
            found.append(read(row))
        except BadRow as bad:
            problems.append(Problem(f"{path.name}, record {number}", str(bad), fix))
    if problems:
        raise BadInput(cut(problems))
    return found


def cut(problems: list[Problem]) -> list[Problem]:
    """The first problems of single records, and how many more there are."""
    more = len(problems) - MOST_PROBLEMS
    rest = [Problem("data.source", f"and {more} more records like these.")] if more > 0 else []
    return problems[:MOST_PROBLEMS] + rest
