"""What a text names: the starter, a path or a file of this machine, or a repository on the Hugging Face Hub."""

import os
import re
from pathlib import Path

STARTER = "starter"
DATA_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
PACKED = ".gz"  # may follow each of them
NAME_LENGTH = 60
ADDRESS = re.compile(r"[A-Za-z][\w+.-]+:/")  # as a path, an address has one slash
# A data set's page on the Hub, or its address there; the page of a single file is none.
HUB_DATA_ADDRESS = re.compile(
    r"(?:https?:/+(?:www\.)?(?:huggingface\.co|hf\.co)/|hf:/+)datasets/([^/?#\s]+/[^/?#\s]+)"
    r"(?:/(?:viewer|tree/main)(?:/\S*)?)?/?(?:[?#]\S*)?"
)
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # OWNER/NAME


def is_path(text: str) -> bool:
    """True if the text is written as a path, whether or not the path exists."""
    return text.startswith((".", "/", "~"))


def expanded(text: str) -> Path:
    """The path with ~ and ~USER replaced, the latter only if this machine knows the user."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  # Path.expanduser raises for others


def is_folder(text: str) -> bool:
    """True if the text names a folder that exists; False if it cannot be a path, such as one that is too long."""
    return os.path.isdir(expanded(text))  # noqa: PTH112  # Path raises for what cannot be a path


def located(model_id: str) -> str:
    """The path of a folder that exists, which comes before a Hub model of that name; else the id as it is."""
    return str(expanded(model_id).resolve()) if is_folder(model_id) else model_id


def is_local_model(model_id: str) -> bool:
    """True if the id is, or looks like, a local path rather than a Hub repository."""
    return is_path(model_id) or is_folder(model_id)


def data_suffix(name: str) -> str:
    """The kind of data file that a name says, whether packed or not; empty if it says none."""
    path = Path(name.lower().removesuffix(PACKED))
    return path.suffix if path.suffix in DATA_SUFFIXES else ""


def is_address(source: str) -> bool:
    """True if the source is written as an address of the web or of a store, and no path."""
    return ADDRESS.match(source) is not None


def is_local_data(source: str) -> bool:
    """True if the source is the starter set, a file or an address of one, and no Hub data set."""
    written = source == STARTER or bool(data_suffix(source)) or is_path(source) or is_address(source)
    return written or os.path.exists(source)  # noqa: PTH110  # Path raises for what cannot be a path


def hub_data_name(source: str) -> str:
    """OWNER/NAME of a data set that is given by its address on the Hub; any other source unchanged."""
    address = HUB_DATA_ADDRESS.fullmatch(source.strip())
    return address[1] if address else source


def is_hub_name(text: str) -> bool:
    """True if a Hub model could be called that: OWNER/NAME, or NAME as some old ones are."""
    return not is_path(text) and text.count("/") <= 1


def plain_name(name: str) -> str:
    """Return a run's name unchanged. Raises ValueError if it could be taken for a path or a shell command."""
    if not name.strip() or any(ord(c) < 32 or c in "/\\;\x7f" for c in name) or name.startswith("."):
        raise ValueError("may not be empty, start with a dot, or hold control characters, slashes or semicolons")
    return name
