"""A run's data in parts: to train on, to choose by, to measure with; and their fingerprint.

By default the held-out records both choose and measure. Where validation or test data is set, no record of one part
asks what a record of another asks, word for word or nearly: the test data stays whole, and what repeats it is left out.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Literal

from medcot.data import columns, identifiers, mix
from medcot.data.examples import Example, check, read_records
from medcot.data.identifiers import Places
from medcot.data.mix import Further, Share
from medcot.data.repeats import repeats
from medcot.errors import BadInput, Problem, collected
from medcot.settings import PARTS, DataSettings, Part

FIX_COLUMNS = "Name its columns as those of data.source."
FIX_SPLIT = "Name a split that it has: OWNER/NAME:SPLIT."
FIX_LISTS = "Put its records into a file of their own."
LEFT_OUT = {
    "train": "Left out of training, since they repeat a validation or test question",
    "validation": "Left out of validation, since they repeat a test question",
}


@dataclass(frozen=True, slots=True)
class Repeated:
    """A record that was left out of its part, since it asks what a record of another part asks."""

    part: Literal["train", "validation"]
    record: int
    question: str
    of: Part
    same_as: int  # that record's number
    exact: bool


@dataclass(frozen=True, slots=True)
class Split:
    """Examples to train on and held-out ones, and the fingerprint of all; an evaluation asks the held-out ones.

    `validation` is None where the held-out ones validate too. Numbers of records are those of their own source.
    """

    train: list[Example]
    held_out: list[Example]
    fingerprint: str
    skipped: list[int] = field(default_factory=list)  # empty records that the settings skip
    guessed: dict[str, str] = field(default_factory=dict)  # {part: column}, where nobody named the column
    unused: list[str] = field(default_factory=list)  # columns that hold text, and that the settings do not use
    masked: Places = field(default_factory=dict)  # what could identify a person and was taken out
    validation: list[Example] | None = None
    repeated: list[Repeated] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what there is to know of validation, test and further data
    shares: list[Share] = field(default_factory=list)  # of further data; a record may be in `train` several times

    @property
    def validated(self) -> list[Example]:
        """What the loss is validated on."""
        return self.held_out if self.validation is None else self.validation

    @property
    def held_out_hashes(self) -> list[str]:
        """SHA-256 of each held-out question, so that a later evaluation can prove that it asks the same ones."""
        return [hashlib.sha256(e.question.encode()).hexdigest() for e in self.held_out]

    def left_out_of(self, part: str) -> int:
        """How many records were left out of a part since they repeat another part's."""
        return sum(one.part == part for one in self.repeated)


def load(settings: DataSettings, *, whole: bool = False) -> Split:
    """Read, check and split the data; `whole` holds out every record, in order, and needs no reasoning.

    Raises BadInput with all problems.
    """
    return _load(settings, whole, fit=False)[1]


def load_fitted(settings: DataSettings, *, whole: bool = False) -> tuple[DataSettings, Split]:
    """Like `load`, but guesses columns where the default names are absent; returns the settings with the guess."""
    fitted, split = _load(settings, whole, fit=True)
    return fitted, replace(split, guessed=columns.guessed(settings, fitted))


def _load(settings: DataSettings, whole: bool, fit: bool) -> tuple[DataSettings, Split]:
    problems, rows, examples = list[Problem](), [], list[Example]()
    masked: Places = {}
    with collected(problems):
        rows = read_records(settings)
        settings = columns.fitted(settings, rows) if fit else settings
        examples, masked = identifiers.handled(check(rows, settings, measured=whole), settings)
    own, notes, further = dict[Part, list[Example]](), list[str](), list[Further]()
    for part in PARTS if settings.is_in_parts and not whole else ():
        with collected(problems):
            if (source := settings.part(part)) is not None:
                own[part] = _read_part(part, source, source.split != settings.split, notes)
    for place in range(0 if whole else len(settings.more)):
        with collected(problems):
            before = further[-1].share.last if further else len(rows)
            further.append(mix.read(settings, place, before, fit=fit))
    if problems:
        raise BadInput(problems)
    kept = {e.record for e in examples}
    if whole:
        split = Split([], examples, _fingerprint([], examples))
    else:
        split = _mixed(_split(examples, settings, own, further, notes), further, settings.shuffle_seed)
    skipped = [number for number, _ in rows if number not in kept]
    settings = settings.model_copy(update={"more": tuple(one.settings for one in further)}) if further else settings
    return settings, replace(split, skipped=skipped, unused=columns.unused(rows, settings), masked=masked)


def _mixed(split: Split, further: Sequence[Further], seed: int) -> Split:
    """The split with each further data set's records as often as its weight says."""
    if not further:
        return split
    train, shares = mix.weighed(split.train, [one.share for one in further], seed)
    notes = [*split.notes, *(note for one in further for note in one.notes)]
    fingerprint = _fingerprint(train, split.held_out, split.validation)
    return replace(split, train=train, fingerprint=fingerprint, shares=shares, notes=notes)


def _read_part(part: Part, source: DataSettings, is_split: bool, notes: list[str]) -> list[Example]:
    """A part's own records, checked; what is measured needs no reasoning. Raises BadInput that names the part.

    `is_split`: it is written as a split of data.source.
    """
    name = f"data.{part}"
    try:
        rows = read_records(source)
        fitted = _fitted(source, rows)
        checked = check(rows, fitted, measured=part == "test")
        examples, masked = identifiers.handled(checked, fitted)
    except BadInput as bad:
        raise BadInput([_of_part(problem, name, is_split) for problem in bad.problems]) from None
    there = columns.known(rows)
    for column in [c for p, c in columns.named(source).items() if p not in columns.PARTS and c not in there]:
        notes.append(f"{name} has no column {column!r}, so none is read there.")
    guessed = columns.in_words(columns.guessed(source, fitted), name, "Rename them")
    notes += mix.told(name, guessed, [], len(rows) - len(examples), masked)
    return examples


def _fitted(source: DataSettings, rows: list[tuple[int, object]]) -> DataSettings:
    """The source's columns where the part has them, else a guess; further ones that it lacks are not read."""
    there, fields = columns.known(rows), DataSettings.model_fields
    usual = {f"{p}_column": fields[f"{p}_column"].default for p, c in columns.named(source).items() if c not in there}
    return columns.fitted(source.model_copy(update=usual), rows)


def _of_part(problem: Problem, name: str, is_split: bool) -> Problem:
    """A problem of a part's records, put under the part's own setting; those of single records name their file."""
    fix = problem.fix
    if problem.where.endswith("_column"):
        fix = FIX_COLUMNS
    elif "data.split" in fix and problem.where == "data.source":
        fix = FIX_SPLIT
    elif "data.split" in fix:
        fix = fix.replace("data.split", name) if is_split else FIX_LISTS
    where = name if problem.where.startswith("data.") else problem.where
    return replace(problem, where=where, fix=fix, page=None)


def _split(
    examples: list[Example],
    settings: DataSettings,
    own: Mapping[Part, list[Example]],
    further: Sequence[Further],
    notes: list[str],
) -> Split:
    """Hold out the first records, or the first after a seeded shuffle; train on the rest, in order.

    The shuffle is the one of `datasets.Dataset.shuffle(seed=...)`: NumPy's default generator's permutation. Of several
    parts the test data comes first, so that it stays the same where validation data is added.
    """
    order = list(range(len(examples)))
    if settings.held_out_from == "shuffled":
        import numpy

        order = numpy.random.default_rng(settings.shuffle_seed).permutation(len(examples)).tolist()
    takes = [settings.taken(part) for part in ("test", "validation")] if settings.is_in_parts else [settings.held_out]
    if len(examples) <= sum(takes):
        named = [f"data.{part}" for part in PARTS if getattr(settings, part) and settings.taken(part)]
        what = f"{sum(takes)} of {len(examples)} records would be held out, which leaves none to train on."
        raise BadInput.of((named or ["data.held_out"])[0], what, "Hold out fewer, or bring more records.")
    shuffled = iter(examples[i] for i in order)
    held_out, *chosen_by = ([next(shuffled) for _ in range(take)] for take in takes)
    train = [*list(shuffled)[: settings.limit], *(e for one in further for e in one.examples)]
    if not settings.is_in_parts:
        return Split(train, held_out, _fingerprint(train, held_out))
    parts: dict[Part, list[Example]] = {"test": held_out, "validation": chosen_by[0], **own}
    return _apart(train, parts["validation"], parts["test"], notes)


def _apart(train: list[Example], validation: list[Example], test: list[Example], notes: list[str]) -> Split:
    """Leave out of validation what repeats the test data, and of training what repeats either."""
    repeated = list(_repeated("validation", validation, {"test": test}))
    repeated += _repeated("train", train, {"test": test, "validation": validation})
    gone = {(one.part, one.record) for one in repeated}
    train = [e for e in train if ("train", e.record) not in gone]
    validation = [e for e in validation if ("validation", e.record) not in gone]
    for part, left, where in (("train", train, "data.source"), ("validation", validation, "data.validation")):
        if not left:
            what = f"each record that would {'be trained on' if part == 'train' else 'validate'} repeats one of another"
            raise BadInput.of(where, f"{what} part, so that none is left.", "Name other records for one of them.")
    for part, why in LEFT_OUT.items():
        if numbers := [one.record for one in repeated if one.part == part]:
            listed = ", ".join(map(str, numbers[:10])) + (" and more" if len(numbers) > 10 else "")
            notes.append(f"{why}: {len(numbers)} (record{'s' if numbers[1:] else ''} {listed}).")
    fingerprint = _fingerprint(train, test, validation)
    return Split(train, test, fingerprint, validation=validation, repeated=repeated, notes=notes)


def _repeated(
    part: Literal["train", "validation"], examples: list[Example], others: Mapping[Part, list[Example]]
) -> Iterable[Repeated]:
    """The examples that ask, in any turn, what one of the others asks first, each with the one that is nearest."""
    asked = [(name, e) for name, found in others.items() for e in found]
    said = [(place, turn.question) for place, e in enumerate(examples) for turn in e.turns]
    nearest = dict[int, tuple[int, bool]]()
    pairs = repeats([text for _, text in said], [[e.question] for _, e in asked])
    for pair in sorted(pairs, key=lambda pair: (pair.exact, pair.similarity)):
        nearest[said[pair.other][0]] = pair.asked, pair.exact
    same = {e.question: number for number, (_, e) in enumerate(asked)}  # also where a question has no words
    nearest |= {place: (same[text], True) for place, text in said if text in same}
    for place, (number, exact) in sorted(nearest.items()):
        (name, other), example = asked[number], examples[place]
        yield Repeated(part, example.record, example.question, name, other.record, exact)


def _fingerprint(train: list[Example], held_out: list[Example], validation: list[Example] | None = None) -> str:
    parts = b"%d held out\n" % len(held_out)
    if validation is not None:
        parts = b"%d validation, %d test\n" % (len(validation), len(held_out))
    digest = hashlib.sha256(parts)
    for example in [*(validation or []), *held_out, *train]:
        # A record of one turn and no system message counts as it did before there were others.
        further = [example.system, *map(astuple, example.more)] if example.system or example.more else []
        digest.update(json.dumps([example.question, example.reasoning, example.answer, *further]).encode())
    return digest.hexdigest()
