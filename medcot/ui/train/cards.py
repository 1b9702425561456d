"""What a recipe's card says: the model, the data, and how long and how much memory on this machine, or why not here."""

from collections.abc import Sequence

from medcot.machine import Device
from medcot.runs import pace
from medcot.runs.pace import Size
from medcot.runs.snapshot import Listed
from medcot.settings import RunSettings
from medcot.settings.recipes import LARGE_GIB, RECIPES, compose
from medcot.ui.components import TEXTS, labelled
from medcot.ui.page import Page
from medcot.workers import preflight

CARDS: dict[str, dict[str, str]] = TEXTS["form"]["recipes"]


WHICH_RECORDS = {
    *("source", "config", "split", "held_out", "held_out_from", "limit", "empty_records"),
    *("validation", "test", "more"),
}
MOST_SIZES = 100


class Clock:
    """How long a form's run takes here: by the runs that were, and by what its data was found to be."""

    def __init__(self, page: Page):
        self.page = page
        self._sizes: dict[str, Size] = {}  # of the data that somebody had checked
        self._carded: tuple[int, list[tuple[str, str]]] | None = None  # the cards, and the look they are of

    def know(self, settings: RunSettings, size: Size) -> None:
        while len(self._sizes) >= MOST_SIZES:
            del self._sizes[next(iter(self._sizes))]
        self._sizes[_data(settings)] = size

    def words(self, settings: RunSettings | None = None) -> str:
        """What Start says: with the time, where it is known."""
        runs, size = self.page.reader.look().runs, self._sizes.get(_data(settings)) if settings else None
        found = pace.training(settings, runs, self.page.device, size) if settings else None
        button: str = TEXTS["start"]["button"]
        return button + (f" · {pace.about(found.seconds)}" if found else "")

    def cards(self) -> list[tuple[str, str]]:
        """(label, recipe) of each card; a label has three lines."""
        folder = self.page.reader.look()
        if self._carded is None or self._carded[0] != folder.version:  # each open page asks, whatever has moved
            labels = [(label(name, self.page.device, folder.runs), name) for name in CARDS]
            self._carded = folder.version, labels
        return self._carded[1]


def _data(settings: RunSettings) -> str:
    """What a size is known for: the records that are trained on, and the tokenizer."""
    return f"{settings.model.id} {settings.data.model_dump_json(include=WHICH_RECORDS)}"


def label(name: str, device: Device, runs: Sequence[Listed]) -> str:
    card, settings = CARDS[name], compose(name)
    found, reason = pace.training(settings, runs, device), hindrance(settings, device)
    time = pace.about(found.seconds) if found else card["elsewhere"]
    time += ", judged by another machine" if found and not found.here else ""
    memory = f"{found.gib:.1f} GiB" if found and found.gib else card["gib"]
    return "\n".join([card["title"], card["words"], " · ".join(filter(None, [reason, time, memory]))])


def hindrance(settings: RunSettings, device: Device) -> str:
    """Why these settings cannot be trained on this machine, in a few words; empty if they can."""
    if found := preflight.device_problems(settings):
        what = labelled(found[0].what).removeprefix("4bit ").rstrip(".").partition(", and ")[0]
        return what[:1].upper() + what[1:]
    large = settings.model.quantization == "4bit" and settings.model == compose(settings.recipe).model
    if large and device.gpus and max(gpu.memory_gib for gpu in device.gpus) < LARGE_GIB:
        return f"Needs a GPU with {LARGE_GIB:.0f} GiB"
    return ""


def off(device: Device) -> list[str]:
    """Classes that grey the cards that do not run here."""
    names = list(RECIPES)
    return [f"mc-off-{list(CARDS).index(name) + 1}" for name in names if hindrance(compose(name), device)]
