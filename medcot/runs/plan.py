"""The answer to `medcot plan`: an audit of the data, the run's plan on this device, one record's tokens."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from medcot.runs.events import Arrangement
from medcot.settings import Part

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


class LeftOut(BaseModel):
    """A record that is in no part, since it asks what a record of another part asks; numbers are their sources'."""

    part: Literal["train", "validation"]
    record: int
    question: str
    of: Part
    same_as: int
    exact: bool


class Identifiers(BaseModel):
    """Records that hold one kind of what could identify a person: how many, and the first of their numbers."""

    count: int
    records: list[int]


class SourceShare(BaseModel):
    """What one of several data sets gives to an epoch: records, repeated ones counted, and its part of the tokens."""

    name: str
    weight: float
    learned: int
    share: float

    def __str__(self) -> str:
        again = f" ({self.weight:g} times each)" if self.weight != 1 else ""
        return f"{self.name}: {self.learned:,} records{again}, {self.share:.0%} of the tokens"


class Audit(BaseModel):
    """What the data is under the model's tokenizer. Lists of single records are cut; the counts are not."""

    model_config = ConfigDict(extra="allow")
    records: dict[str, int]
    sources: list[SourceShare] = []  # where there are several
    columns: dict[str, str]
    unused: list[str] = []  # columns that hold text, and that no part is read from
    skipped: int
    lengths: dict[str, Lengths]
    histograms: dict[str, Histogram]
    truncated_share: float
    overlong: str = "cut"  # what becomes of records beyond max_length
    shortened: int = 0  # records whose reasoning ends at an earlier sentence, so that they fit
    left_out: int = 0  # records that are not learned, since they do not
    begun: int = 0  # conversations whose later turns are left out, since they do not fit
    several: int = 0  # conversations of several turns
    read_only: int = 0  # their turns without reasoning, which later ones read
    earlier_reasoning: bool = False  # whether the chat template shows later turns the reasoning of earlier ones
    own_systems: int = 0  # records with a system message of their own
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
    shortened_records: list[int] = []
    left_out_records: list[int] = []
    begun_records: list[int] = []
    duplicate_records: list[Duplicate]
    near_duplicate_pairs: list[NearDuplicate]
    repeated: dict[str, int] = {}  # records left out of train and validation, where these are parts of their own
    repeated_records: list[LeftOut] = []

    @property
    def parts(self) -> str:
        """How many records there are for what."""
        if "held_out" in self.records:
            return f"{self.records['train']} to train on, {self.records['held_out']} held out"
        train, validation, test = (self.records[part] for part in ("train", "validation", "test"))
        return f"{train} to train on, {validation} to validate with, {test} to test with"

    @property
    def repeats(self) -> str:
        """How many questions occur twice, within a part or in two."""
        within = f"{self.duplicates} questions"
        if not self.repeated:
            return f"{within}; {self.near_duplicates} held-out ones nearly repeat a training question"
        train, validation = (self.repeated[part] for part in ("train", "validation"))
        return f"{within}; left out, since they repeat another part's: {train} of training, {validation} of validation"

    @property
    def conversations(self) -> str:
        """How the turns of conversations are learned."""
        seen = "with" if self.earlier_reasoning else "without"
        told = f"Conversations of several turns: {self.several}. Each turn is learned after the earlier ones, which "
        told += f"this model's chat template shows {seen} their reasoning, as in Chat."
        bare = f" Turns without reasoning, which are read and not learned: {self.read_only}."
        return told + (bare if self.read_only else "")

    @property
    def beyond(self) -> str:
        """What becomes of the records that are longer than a sequence may be."""
        if self.truncated_share:
            return f"{self.truncated_share:.1%} lose the end of their answer at {self.max_length} tokens"
        told = [f"{self.shortened} records end their reasoning at an earlier sentence"] if self.shortened else []
        told += [f"{self.left_out} records are left out"] if self.left_out else []
        return f"{' and '.join(told) or 'no record is too long'}, at {self.max_length} tokens"


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
