"""A data file's bytes and text: unpacked, decoded, or refused with what the file is instead."""

import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

from medcot.errors import BadInput
from medcot.safety.foreign import LFS_POINTER, require_plain

Row = dict[str, Any]  # a record as its file holds it
MOST_UNPACKED = 2_000_000_000  # bytes; a small archive can hold more than a machine's memory
PARQUET = b"PAR1"
GZIP = b"\x1f\x8b"
SURROGATE, FIX_SURROGATE = "contains an invalid UTF-8 character (lone surrogate)", "Fix its encoding."
_LONE = re.compile("[\ud800-\udfff]")
SAVE = "Save it as CSV in UTF-8, or as JSON lines."
# How files begin that are not read: what they are, and what to do.
OTHERS = {
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", f"Unpack it. {SAVE}"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", SAVE),
    b"ARROW1\0": ("an Arrow (Feather) file", "Save it as Parquet: pandas.read_feather(FILE).to_parquet(NEW)."),
    b"\xff\xff\xff\xff": ("an Arrow stream", "Save it as Parquet: datasets.Dataset.from_file(FILE).to_parquet(NEW)."),
    b"Obj\x01": ("an Avro file", "Save it as Parquet."),
    b"SQLite format 3": ("an SQLite database", SAVE),
    b"\x89HDF": ("an HDF5 file", "Save it as Parquet."),
    b"\x28\xb5\x2f\xfd": ("packed with zstd", "Unpack it: unzstd FILE."),
    b"BZh91AY&SY": ("packed with bzip2", "Unpack it: bunzip2 FILE."),
    b"\xfd7zXZ": ("packed with xz", "Unpack it: unxz FILE."),
    b"7z\xbc\xaf": ("a 7z archive", "Unpack it."),
    b"\x80\x04\x95": ("a pickle, which can run code", SAVE),
    b"%PDF-": ("a PDF document", SAVE),
    LFS_POINTER: ("a pointer of Git LFS and not the file", "Fetch the file: git lfs pull."),
    b"<!doctype html": ("a web page", "Download the file itself."),
    b"<html": ("a web page", "Download the file itself."),
}


class BadRow(ValueError):
    """Stands in place of a row that cannot be read, and says why, so that all bad records are told at once."""


def content(path: Path) -> bytes:
    """A file's bytes, unpacked if it is gzip. Raises BadInput for other kinds, OSError for no plain file."""
    require_plain(path)
    raw = path.read_bytes()
    if raw.startswith(GZIP):
        raw = _unpacked(path)
    refuse_others(path, raw)
    return raw


def refuse_others(path: Path, raw: bytes) -> None:
    """Raise BadInput where the bytes are of a format that is not read, and say which."""
    words = raw[:256].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for mark, (what, fix) in OTHERS.items():
        if raw.startswith(mark) or (mark[:1] == b"<" and words.startswith(mark)):
            raise BadInput.of(path.name, f"cannot be read: it is {what}.", fix)


def _unpacked(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            raw = file.read(MOST_UNPACKED + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInput.of(path.name, f"cannot be unpacked: {error}.", "Make or fetch it again.") from None
    if len(raw) > MOST_UNPACKED:
        raise BadInput.of(path.name, f"unpacks to more than {MOST_UNPACKED:,} bytes.", "Unpack it, or take a part.")
    return raw


def text(path: Path, raw: bytes) -> str:
    """The text in UTF-8, or in UTF-16 or UTF-32 as its mark or its zeros tell. Raises BadInput for another encoding."""
    encoding = json.detect_encoding(raw)  # as `json.loads` does with bytes
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + len(re.findall(rb"\r\n|\n|\r", raw[: error.start]))
        what = f"is not {encoding.removesuffix('-sig').upper()}: byte {raw[error.start]:#04x}."
        fix = "Fetch it again, or save it as UTF-8."
        if encoding.startswith("utf-8"):
            likely = _likely_encoding(raw)
            what += f" It may be {likely}."
            fix = f"Save it as UTF-8, for example: iconv -f {likely} -t UTF-8 {path.name} > utf8-{path.name}"
        raise BadInput.of(f"{path.name}, line {line}", what, fix) from None


def _likely_encoding(raw: bytes) -> str:
    """Guess among the usual ones: in Chinese text bytes above 127 stand together, in western text alone."""
    try:
        raw.decode("gb18030")
    except UnicodeDecodeError:
        return "WINDOWS-1252"
    return "WINDOWS-1252" if re.search(rb"(?<![\x80-\xff])[\x80-\xff](?![\x80-\xff])", raw) else "GB18030"


def has_surrogate(text: str) -> bool:
    """Whether the text holds a lone surrogate, which no file in UTF-8 can."""
    return not text.isascii() and _LONE.search(text) is not None
