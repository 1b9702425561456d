"""Data sets that are learned beside the first: read and checked like it, and each as often as its weight says.

All is held out of the first data set, or is data of its own: a further one is trained on alone. Its records are counted
on behind those before it, so that each record of a run has one number.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medcot.data import columns, identifiers
from medcot.data.examples import Example, check, read_records
from medcot.data.identifiers import Places
from medcot.errors import BadInput, Problem
from medcot.settings import DataSettings, FurtherSource, is_local_data

SETTING = "data.more"
OPTION = re.compile(r"-+set data\.")  # how a setting of the first data set is named on the command line


@dataclass(frozen=True, slots=True)
class Share:
    """What a data set gives to an epoch. Its records have the numbers from `first` to `last`."""

    source: str
    weight: float
    first: int
    last: int
    learned: int  # an epoch, those that come again counted each time

    @property
    def named(self) -> str:
        return Path(self.source).name if is_local_data(self.source) else self.source

    def __contains__(self, example: Example) -> bool:
        return self.first <= example.record <= self.last

    def __str__(self) -> str:
        again = f", {self.weight:g} times each" if self.weight != 1 else ""
        return f"{self.named}: {self.learned:,} an epoch{again} (records {self.first} to {self.last})"


@dataclass(frozen=True, slots=True)
class Further:
    """A further data set as it was read: its settings with the columns that were found, and its examples."""

    settings: FurtherSource
    examples: list[Example]
    share: Share
    notes: list[str]


def read(settings: DataSettings, place: int, before: int, *, fit: bool) -> Further:
    """Read and check one of data.more, behind `before` records; `fit` guesses its columns. Raises BadInput."""
    further = settings.more[place]
    own = settings.beside(further)
    try:
        rows = read_records(own)
        fitted = columns.fitted(own, rows) if fit else own
        checked = check(rows, fitted)
        examples, masked = identifiers.handled(checked[: settings.limit], fitted)
    except BadInput as bad:
        raise BadInput([_of_further(problem) for problem in bad.problems]) from None
    name = Path(further.source).name
    guessed = columns.in_words(columns.guessed(own, fitted), name, f"Name them in {SETTING}")
    notes = told(name, guessed, columns.unused(rows, fitted), len(rows) - len(checked), masked)
    found = {name: getattr(fitted, name) for name in FurtherSource.model_fields if name != "weight"}
    share = Share(further.source, further.weight, before + 1, before + len(rows), len(examples))
    counted_on = [replace(e, record=e.record + before) for e in examples]
    return Further(further.model_copy(update=found), counted_on, share, notes)


def told(name: str, guessed: str, unused: Sequence[str], skipped: int, masked: Places) -> list[str]:
    """What to know of data beside the first: columns guessed and not used, how many empty records, what is masked."""
    kinds = identifiers.in_words(identifiers.counted(masked))
    found = (
        guessed,
        unused and f"Not used of {name}, though they hold text: {', '.join(map(repr, unused))}.",
        skipped and f"Empty records of {name} passed over, as data.empty_records=skip says: {skipped}.",
        masked and f"Masked in {name}, since it could identify a person: {kinds}.",
    )
    return [str(note) for note in found if note]


def _of_further(problem: Problem) -> Problem:
    """A problem of a further data set, put under its setting; those of single records name their file."""
    where = SETTING if problem.where.startswith("data.") else problem.where
    return replace(problem, where=where, fix=OPTION.sub(f"in {SETTING} ", problem.fix), page=None)


def weighed(train: Sequence[Example], shares: Sequence[Share], seed: int) -> tuple[list[Example], list[Share]]:
    """The records of an epoch, those of the first data set before the others', and each further one's share of them.

    Each record comes as often as the whole part of its data set's weight says; of what is over, some come once more,
    chosen by the seed.
    """
    epoch = [e for e in train if not any(e in share for share in shares)]
    found = []
    for share in shares:
        own = [e for e in train if e in share]
        times, over = divmod(round(share.weight * len(own)), max(1, len(own)))
        chosen = random.Random(f"{seed}/{share.first}").sample(range(len(own)), over)
        learned = [*own * times, *(own[i] for i in sorted(chosen))]
        epoch += learned
        found.append(replace(share, learned=len(learned)))
    return epoch, found
