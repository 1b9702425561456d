"""What people say about a run: a name to show and a note, in about.json. The run's id, its folder, never changes."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from medcot.errors import BadInput, Problem, disk_in_words
from medcot.jobdirs import write_atomically
from medcot.settings import NAME_LENGTH, plain_name

FILE = "about.json"


class About(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str | None = Field(None, max_length=NAME_LENGTH)
    note: str = Field("", max_length=2000)

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, name: str | None) -> str | None:
        return None if name is None else plain_name(name)

    @field_validator("note")
    @classmethod
    def _note_is_text(cls, note: str) -> str:
        if any(ord(c) < 32 and c not in "\n\t" for c in note):
            raise ValueError("may hold no control characters")
        return note


def read(run_dir: Path) -> About:
    """Nothing, where nothing was said or the file is damaged."""
    try:
        return About.model_validate_json((run_dir / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return About()


def write(run_dir: Path, *, name: str | None = None, note: str | None = None) -> About:
    """Say one or both anew; an empty name takes it away. Raises BadInput with all that is wrong."""
    old = read(run_dir)
    told = {"name": old.name if name is None else name.strip() or None, "note": old.note if note is None else note}
    try:
        about = About.model_validate(told)
    except ValidationError as error:
        raise BadInput(
            [
                Problem(str(e["loc"][0]), f"{e['msg'].removeprefix('Value error, ')}; got {e['input']!r:.80}.")
                for e in error.errors()
            ]
        ) from None
    with disk_in_words(str(run_dir / FILE), "cannot be written"):
        write_atomically(run_dir / FILE, about.model_dump_json(indent=1))
    return about
