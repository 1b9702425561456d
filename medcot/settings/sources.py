"""Where records come from: the fields of one data set, and the data sets that are learned beside the first.

A further data set is a line, SOURCE NAME=VALUE ..., in the form and on the command line; several are parted by
semicolons. In a TOML file each may be a table as well: [[data.more]].
"""

import shlex
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from medcot.settings.names import STARTER, hub_data_name

# Of a line: room for as many data sets as there may be. To read one takes time by the square of its length.
MOST_LINE = 40_000
EXAMPLE = 'Write "general.jsonl weight=0.5 question_column=ask; OWNER/NAME".'


def setting(default: Any, title: str, description: str, **bounds: Any) -> Any:
    """A field with its label, help text and bounds, which the form, the command line and the TOML file show."""
    return Field(default, title=title, description=description, **bounds)


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(Section):
    """One data set, and which of its columns holds what."""

    source: Annotated[str, Field(min_length=1, max_length=1000)] = setting(
        STARTER, "Data", "A Hub data set id, a file (.jsonl, .json, .csv, .tsv, .parquet, also with .gz), or 'starter'."
    )
    config: str | None = setting(None, "Configuration", "A Hub data set's configuration, such as 'en'.")
    split: str = setting(
        "train", "Split", "A Hub data set's split, or a key of a JSON file that holds several lists.", min_length=1
    )
    revision: str | None = setting(
        None, "Revision", "Branch, tag or commit on the Hub. The commit found is pinned into the run."
    )
    question_column: str = setting("Question", "Question column", "Holds the question.", min_length=1)
    context_column: str | None = setting(
        None,
        "Context column",
        "Text that belongs to the question and follows it, such as the input column of Alpaca; none by default.",
        min_length=1,
    )
    reasoning_column: str = setting(
        "Complex_CoT",
        "Reasoning column",
        "Holds the chain of thought; the answer column's name where that holds both, told apart by <think> tags.",
        min_length=1,
    )
    answer_column: str = setting("Response", "Answer column", "Holds the final answer.", min_length=1)

    @field_validator("source")
    @classmethod
    def _source_is_named(cls, source: str) -> str:
        return hub_data_name(source)


class FurtherSource(Source):
    """A data set that is learned beside the first one, and how often each of its records is learned an epoch."""

    weight: float = Field(1.0, gt=0, le=100)

    def __str__(self) -> str:
        """The line that means it."""
        named = self.model_dump(exclude={"source"}, exclude_defaults=True)
        words = [f"{name}={value:g}" if name == "weight" else f"{name}={value}" for name, value in named.items()]
        return " ".join(map(shlex.quote, [self.source, *words]))


def as_line(sources: Sequence[FurtherSource]) -> str:
    """The line that means all of them; empty for none."""
    return "; ".join(map(str, sources))


def from_line(line: str) -> list[dict[str, str]]:
    """The data sets that a line names, each as its fields. Raises ValueError where it names none."""
    if len(line) > MOST_LINE:
        raise ValueError(f"must have at most {MOST_LINE} characters")
    words = shlex.shlex("" if line.strip() == "none" else line, posix=True, punctuation_chars=";")
    words.whitespace_split, words.commenters, words.escape = True, "", ""  # a path of Windows has backslashes
    found: list[dict[str, str]] = []
    begins = True
    try:
        for word in words:
            name, is_named, value = word.partition("=")
            if set(word) == {";"}:
                begins = True
            elif begins:
                found.append({"source": word})
                begins = False
            elif not is_named or name not in FurtherSource.model_fields or name in found[-1]:
                known = ", ".join(name for name in FurtherSource.model_fields if name != "source")
                raise ValueError(f"{word!r} is not NAME=VALUE with a name of its own out of {known}. {EXAMPLE}")
            else:
                found[-1][name] = value
    except ValueError as error:
        told = "a quotation mark is not closed" if str(error) == "No closing quotation" else str(error)
        raise ValueError(told.removesuffix(".")) from None
    return found
