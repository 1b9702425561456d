"""The answer to `medcot plan`: an audit of the data, the run's plan on this device, one record's tokens."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from medcot.runs.events import Arrangement

Kind = Literal["prompt", "trained", "end", "cut"]  # "end": the end-of-turn token; "cut": past max_length


class Lengths(BaseModel):
    """Mean, median, 95th percentile and maximum, in tokens."""

    mean: float
    p50: int
    p95: int
    max: int


class Histogram(BaseModel):
    """A histogram: counts[i] values lie in [i * width, (i + 1) * width)."""

    width: int
    counts: list[int]


class Duplicate(BaseModel):
    """A record whose question repeats an earlier one, apart from upper and lower case."""

    record: int
    same_as: int
    question: str


class NearDuplicate(BaseModel):
    """A held-out question that nearly repeats a training question."""

    held_out_record: int
    train_record: int
    similarity: float
    held_out_question: str
    train_question: str


class Identifiers(BaseModel):
    """Records that hold one kind of what could identify a person: how many, and the first of their numbers."""

    count: int
    records: list[int]


class Audit(BaseModel):
    """What the data is under the model's tokenizer. Lists of single records are cut; the counts are not."""

    model_config = ConfigDict(extra="allow")
    records: dict[str, int]
    columns: dict[str, str]
    unused: list[str] = []  # columns that hold text, and that no part is read from
    skipped: int
    lengths: dict[str, Lengths]
    histograms: dict[str, Histogram]
    truncated_share: float
    max_length: int
    keeps_all: int
    duplicates: int
    near_duplicates: int
    untagged: int = 0  # records with <think> or <response> around their parts, taken off
    tagged: int = 0  # records with such a tag inside a text, left there
    tagged_records: list[int] = []
    identifiers: dict[str, Identifiers] = {}  # by kind; never the text itself
    masked: bool = False  # the identifiers are no longer in what is learned
    skipped_records: list[int]
    truncated_records: list[int]
    duplicate_records: list[Duplicate]
    near_duplicate_pairs: list[NearDuplicate]


class Plan(Arrangement):
    """What the run would be on this device."""

    model_config = ConfigDict(extra="allow")
    trainable_parameters: int
    steps: int


class TokenView(BaseModel):
    """One record as the model sees it, and how many of its tokens are read, learned or cut off."""

    record: int
    pieces: list[tuple[str, Kind]]  # a character that takes several tokens is one piece
    prompt: int
    trained: int
    cut: int
    held_out: bool = False


class Planned(BaseModel):
    """The answer to `medcot plan`; `problems` are warnings, none of which prevents a start."""

    problems: list[str]
    audit: Audit
    plan: Plan
    tokens: TokenView
