"""What in records could tell who a person is: counted, refused or masked, as data.identifiers says.

The patterns are those that a question in Chat is held against (`medcot.safety`): names behind a title or "patient",
dates, numbers, addresses of mail, telephones. What they find is told by kind and record number, never by its text.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, Self, TypeVar

from medcot import safety
from medcot.errors import BadInput
from medcot.settings import DataSettings


class Texts(Protocol):
    """A record's number and texts, whatever else it has."""

    @property
    def record(self) -> int: ...

    def texts(self) -> list[str]: ...

    def mapped(self, change: Callable[[str], str]) -> Self: ...


Example = TypeVar("Example", bound=Texts)
Places = dict[str, list[int]]  # the numbers of the records that hold each kind
SHOWN = 20  # record numbers of a kind
FIX = (
    "Take it out, or set data.identifiers=mask, which puts its kind in its place. Patterns mistake some texts: "
    "data.identifiers=warn goes on."
)


def places(examples: Iterable[Texts]) -> Places:
    """The numbers of the records that hold an identifier, by its kind."""
    found: Places = {}
    for example in examples:
        for kind in dict.fromkeys(one.kind for text in example.texts() for one in safety.identifiers(text)):
            found.setdefault(kind, []).append(example.record)
    return found


def handled(examples: list[Example], settings: DataSettings) -> tuple[list[Example], Places]:
    """The examples as data.identifiers wants them, and what was masked.

    Raises BadInput where they hold identifiers and none is wanted. Under "warn" nothing is looked for here: the audit
    of a plan does that, and reading records takes no longer.
    """
    if settings.identifiers == "warn":
        return examples, {}
    found = places(examples)
    if not found:
        return examples, {}
    if settings.identifiers == "refuse":
        raise BadInput.of(
            "data.identifiers", f"there is what could identify a person: {in_words(counted(found))}.", FIX
        )
    numbers = {number for listed in found.values() for number in listed}
    return [e.mapped(safety.masked) if e.record in numbers else e for e in examples], found


def counted(found: Places) -> dict[str, tuple[int, list[int]]]:
    """Of each kind how many records hold it, and the first of their numbers."""
    return {kind: (len(numbers), numbers[:SHOWN]) for kind, numbers in found.items()}


def in_words(found: Mapping[str, tuple[int, Sequence[int]]]) -> str:
    """Each kind with how many records hold it and which: "a name in 2 records (3, 9)"."""
    told = []
    for kind, (count, numbers) in found.items():
        listed = ", ".join(map(str, numbers)) + (" and more" if count > len(numbers) else "")
        told.append(f"{kind} in {count:,} record{'s' if count > 1 else ''} ({listed})")
    return "; ".join(told)
