"""The fields that say what a run reads: its model, its data in up to three parts, its prompt."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from medcot.settings.names import (
    HUB_NAME,
    STARTER,
    data_suffix,
    hub_data_name,
    is_local_data,
    is_path,
)
from medcot.settings.sources import FurtherSource, Section, Source, from_line, setting

PromptStyle = Literal["chat", "plain"]  # prompts.STYLES says what each is
MOST_SYSTEM = 4000  # characters of a system text
STYLES_WITH_SYSTEM: tuple[PromptStyle, ...] = ("chat",)
Overlong = Literal["shorten", "leave_out", "cut"]
Part = Literal["validation", "test"]
PARTS: tuple[Part, ...] = ("validation", "test")
MOST_HELD_OUT = 10_000
HUB_PART = re.compile(rf"{HUB_NAME.pattern}(@[\w./-]+)?(:.+)?")  # OWNER/NAME, @REVISION, :SPLIT


Count = Annotated[int, Field(ge=1, le=1024)]
Tokens = Annotated[int, Field(ge=1, le=32_768)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class ModelSettings(Section):
    id: Annotated[str, Field(min_length=1, max_length=300)] = setting(
        STARTER, "Model", "A Hugging Face Hub id, a local folder, or 'starter' for the embedded default."
    )
    revision: str | None = setting(
        None, "Revision", "Branch, tag or commit on the Hub. The commit found is pinned into the run."
    )
    quantization: Literal["none", "4bit"] = setting(
        "none", "Quantization", "4bit loads the base as NF4 (QLoRA); needs a CUDA GPU."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = setting(
        "auto",
        "Number format",
        "auto: bfloat16 where the device computes in it, else float16 on a GPU and float32 on a CPU.",
    )


class DataSettings(Source):
    system_messages: Literal["keep", "leave_out"] = setting(
        "keep",
        "System messages",
        "keep: a conversation's own stands before it, where the prompt contract has one; leave_out: it is not used.",
    )
    facts_column: str | None = setting(
        None,
        "Facts column",
        "Lists the facts that a right answer names, and statements that it must not make; none by default.",
        min_length=1,
    )
    empty_records: Literal["refuse", "skip"] = setting(
        "refuse",
        "Empty records",
        "refuse: name them, do not start; skip: leave out records that lack question, reasoning or answer.",
    )
    identifiers: Literal["warn", "refuse", "mask"] = setting(
        "warn",
        "Names, dates, numbers",
        "What could identify a person, by fixed patterns. warn: the audit counts it; refuse: do not start; mask: learn "
        "its kind in its place, such as [name].",
    )
    overlong: Overlong = setting(
        "shorten",
        "Over-long records",
        "Those beyond training.max_length. shorten: the reasoning ends at an earlier sentence, so that answer and end "
        "token stay; leave_out: not learned; cut: the end is lost, and with it the answer.",
    )
    more: tuple[FurtherSource, ...] = setting(
        (),
        "Further data",
        "Learned beside the data, such as: general.jsonl weight=0.5 question_column=ask; OWNER/NAME. The weight says "
        "how often its records are learned an epoch: 1 by default, 0.5 is a random half of them, 2 each of them twice.",
        max_length=20,
    )
    validation: str | None = setting(
        None,
        "Validation data",
        "What chooses: the loss during training, best checkpoint, early stop. A number of records held out of the "
        "data, a file, a split of the data, or OWNER/NAME:SPLIT; none: the held-out records.",
        max_length=1000,
    )
    test: str | None = setting(
        None,
        "Test data",
        "What measures: an evaluation asks these. Written as validation data; none: the held-out records.",
        max_length=1000,
    )
    held_out: Annotated[int, Field(ge=1, le=MOST_HELD_OUT)] = setting(
        24, "Held-out records", "Never trained on; they validate and are evaluated where no data of its own does."
    )
    held_out_from: Literal["first", "shuffled"] = setting(
        "first", "Held out from", "first: the first records of the file; shuffled: the first after a seeded shuffle."
    )
    shuffle_seed: Seed = setting(42, "Shuffle seed", "Used by 'shuffled', and by weights of further data.")
    limit: int | None = setting(None, "Training records", "Train on the first N only, of each data set.", ge=1)

    @field_validator("more", mode="before")
    @classmethod
    def _lines_are_read(cls, more: Any) -> Any:
        if isinstance(more, str):
            return from_line(more)
        lines = [from_line(one) if isinstance(one, str) else [one] for one in more] if isinstance(more, list) else None
        return more if lines is None else [one for line in lines for one in line]

    @field_validator(*PARTS, mode="before")
    @classmethod
    def _number_is_written(cls, part: Any) -> Any:
        return str(part) if type(part) is int else part

    @field_validator(*PARTS)
    @classmethod
    def _part_is_named(cls, part: str | None) -> str | None:
        if part is None:
            return None
        named = hub_data_name(part.strip())
        is_number = re.fullmatch(r"-?\d+", named)
        if is_number and not 1 <= int(named) <= MOST_HELD_OUT:
            raise ValueError(f"must be 1 to {MOST_HELD_OUT} records")
        if not is_number and not is_split(named) and not is_local_data(named) and not HUB_PART.fullmatch(named):
            raise ValueError("must be a number of records, a file, a split of the data, or OWNER/NAME:SPLIT")
        return named

    def beside(self, further: FurtherSource) -> "DataSettings":
        """A further data set, under what holds for all."""
        alone: dict[str, Any] = {**dict.fromkeys(PARTS), "more": (), "facts_column": None}
        return self.model_copy(update={**alone, **further.model_dump(exclude={"weight"})})

    @property
    def is_in_parts(self) -> bool:
        """Whether what chooses and what measures are different records."""
        return self.validation is not None or self.test is not None

    def taken(self, part: Part) -> int:
        """How many records a part takes out of the source; 0 where it has records of its own."""
        written = getattr(self, part)
        return self.held_out if written is None else int(written) if written.isdecimal() else 0

    def part(self, part: Part) -> "DataSettings | None":
        """Where a part's own records lie; None where they are held out of the source."""
        written: str | None = getattr(self, part)
        if written is None or written.isdecimal():
            return None
        alone: dict[str, Any] = dict.fromkeys(PARTS)
        if is_split(written):
            return self.model_copy(update={**alone, "split": written})
        if is_local_data(written):
            return self.model_copy(update={**alone, "source": written, "config": None, "revision": None})
        name, _, split = written.partition(":")
        source, _, revision = name.partition("@")
        # Another data set has other configurations and commits.
        config, pinned = (self.config, self.revision) if source == self.source else (None, None)
        own = {"source": source, "split": split or self.split, "config": config, "revision": revision or pinned}
        return self.model_copy(update={**alone, **own})


def is_split(part: str) -> bool:
    """Whether a part is written as a split of the source, or as a key of a JSON file that holds several lists."""
    return not (part == STARTER or part.isdecimal() or "/" in part or is_path(part) or data_suffix(part))


class PromptSettings(Section):
    style: PromptStyle = setting(
        "chat",
        "Prompt contract",
        "How a question is written for the model. chat: the tokenizer's own chat template; plain: a text "
        "without turns, as the adapter "
        "AzzamShahid/llama-3b-medical-cot has it.",
    )
    system: str | None = setting(None, "System text", "Chat only; none by default.", max_length=MOST_SYSTEM)
    loss_on: Literal["completion", "all"] = setting(
        "completion", "Learn from", "completion: the assistant's part only; all: the question too."
    )
