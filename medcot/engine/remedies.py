"""What does not fit a device's memory: the smallest change of settings that would make it fit."""

from collections.abc import Iterator

from medcot.engine import fitting
from medcot.engine.fitting import Host, Shape
from medcot.settings import RunSettings

LEAST_LENGTH = 128


def remedy(shape: Shape, settings: RunSettings, host: Host, lengths: list[int]) -> str:
    """In words, the first change after which the estimate fits. `lengths` are the training records', in tokens."""
    for change, changed, kept in _changes(settings, host, lengths):
        found = fitting.arrange(shape, changed, host, kept)
        if found.fits:
            return f"{change} would make it fit, with about {found.peak_memory_gib:.1f} GiB."
    return "No change of length or number format makes it fit: choose a smaller model or a larger device."


def _changes(settings: RunSettings, host: Host, lengths: list[int]) -> Iterator[tuple[str, RunSettings, list[int]]]:
    """(words, settings, lengths under them), each change on top of those before it, the gentlest first."""
    words: list[str] = []
    if settings.training.arrangement != "auto":
        words.append("training.arrangement=auto")
        settings = settings.replacing("training", arrangement="auto")
        yield " and ".join(words), settings, lengths
    if host.cuda and settings.model.quantization == "none":
        words.append("model.quantization=4bit")
        settings = settings.replacing("model", quantization="4bit")
        yield " and ".join(words), settings, lengths
    length = 2 ** ((min(settings.training.max_length, max(lengths)) - 1).bit_length() - 1)
    while length >= LEAST_LENGTH:
        cut = sum(n > length for n in lengths) / len(lengths)
        shorter = [*words, f"training.max_length={length} (which cuts {cut:.0%} of the records)"]
        yield (
            " and ".join(shorter),
            settings.replacing("training", max_length=length),
            [min(n, length) for n in lengths],
        )
        length //= 2
