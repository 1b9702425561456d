"""How long a job takes here, and how much memory: as its like took on this machine, else as measured elsewhere.

No estimate is made up: where neither this machine nor docs/performance.md has measured anything alike, there is none.
"""

import functools
import math
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from medcot import data, machine
from medcot.errors import BadInput
from medcot.evaluation.records import Records
from medcot.machine import Device
from medcot.runs import liveness
from medcot.runs.events import Finished, PlanMade, Started, Step, Validation
from medcot.runs.run import Evaluation, Run
from medcot.runs.snapshot import Listed
from medcot.settings import PARTS, STARTER, DataSettings, RunSettings

STARTER_TOKENS = 228  # of a record, mean under the starter model's tokenizer
REFERENCE_CORES = 2
MOST_CORES = 4  # beyond, no gain is assumed for a model of this size
STARTER_GIB = 2.4
MOST_RUNS = 50  # that are looked at for one that is alike


@dataclass(frozen=True, slots=True)
class Measured:
    """What the starter recipe took on another machine, in seconds (docs/performance.md): by part of the work."""

    loading: float
    rate: float  # tokens a second
    validating: float  # of 24 records, with the sample answers
    evaluating: float


BY_FORMAT = {"bfloat16": Measured(14, 200, 19, 97), "float32": Measured(18, 141, 22, 154)}
ON_A_GPU = Measured(30, 3000, 3, 40)


@dataclass(frozen=True, slots=True)
class Size:
    """How much data there is: records to train on, tokens in one of them, and records to validate with if known."""

    records: int
    tokens: float
    validated: int | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds and GiB that a job will take; `here` says that they were measured on this machine."""

    seconds: float
    gib: float | None
    here: bool


@dataclass(frozen=True, slots=True)
class Pace:
    """What a finished run took, by part of the work."""

    loading: float
    rate: float
    validating: float  # of one validation record, with its share of the sample answers
    size: Size
    gib: float


def about(seconds: float) -> str:
    """A time to plan by: minutes, or hours in quarters."""
    if seconds < 45:
        return "under a minute"
    minutes = math.ceil(seconds / 60) if seconds < 600 else 5 * math.ceil(seconds / 300)
    hours, rest = divmod(minutes, 60)
    return f"about {hours} h{f' {rest} min' if rest else ''}" if hours else f"about {minutes} min"


@functools.lru_cache(maxsize=256)
def pace_of(run: Run) -> Pace | None:
    """The pace of a finished run that was trained in one piece; None if its events do not tell."""
    started, plan, end = list(run.events_of(Started)), run.newest_event(PlanMade), run.newest_event(Finished)
    last, validated = run.newest_event(Step), sum(1 for _ in run.events_of(Validation))
    if len(started) != 1 or not (plan and end and last and validated and last.tokens_per_second and last.epoch):
        return None
    training = last.tokens_seen / last.tokens_per_second
    rest = max(0.0, end.time - plan.time - training)
    return Pace(
        loading=max(0.0, plan.time - started[0].time),
        rate=last.tokens_per_second,
        validating=rest / validated / plan.validated,
        size=Size(plan.records, last.tokens_seen / (plan.records * last.epoch), plan.validation),
        gib=end.peak_memory_gib,
    )


def was_here(run: Run) -> bool:
    """Whether this machine did the work."""
    return liveness.host(run.path) == platform.node()


def alike(one: RunSettings, other: RunSettings) -> bool:
    """Whether two runs compute at the same pace."""
    same: Any = {
        "model": {"id", "quantization", "dtype"},
        "lora": {"rank", "target_modules"},
        "training": {"arrangement", "gradient_checkpointing", "sample_tokens", "processes"},
        "backend": True,
    }
    return one.model_dump(include=same) == other.model_dump(include=same)


def finished_like(settings: RunSettings, runs: Iterable[Listed]) -> Iterator[tuple[Run, RunSettings, Pace]]:
    """The runs of the same pace that this machine has finished, in their order."""
    finished = (listed.run for listed in runs if listed.status.state == "finished" and not listed.adapter)
    for run in islice(finished, MOST_RUNS):
        known = _settings_of(run)
        if known and alike(settings, known) and was_here(run) and (pace := pace_of(run)):
            yield run, known, pace


@functools.lru_cache(maxsize=256)
def _settings_of(run: Run) -> RunSettings | None:
    try:
        return run.settings()
    except BadInput:
        return None


def training(
    settings: RunSettings, runs: Iterable[Listed], device: Device, checked: Size | None = None
) -> Estimate | None:
    """A training with these settings, by the newest of `runs` that is like it; `checked` is what the data was found
    to be. None where nothing is known of the data or of the machine."""
    past = next(iter(finished_like(settings, runs)), None)
    size = checked or (past[2].size if past and past[1].data == settings.data else None) or starter_size(settings)
    if size is None or not (size.validated or settings.data.taken("validation")):
        return None
    if past:
        pace = past[2]
        return Estimate(seconds(settings, size, pace), pace.gib or None, here=True)
    if settings.model.id != STARTER:
        return None
    known = reference(device)
    pace = Pace(known.loading, known.rate, known.validating / 24, size, STARTER_GIB)
    return Estimate(seconds(settings, size, pace), STARTER_GIB, here=False)


def seconds(settings: RunSettings, size: Size, pace: Pace) -> float:
    """Loading, the steps over so much data, and the validations between them."""
    t = settings.training
    a_step = t.micro_batch * t.accumulation
    steps = t.max_steps or math.ceil(t.epochs * math.ceil(size.records / a_step))
    sequences = steps * a_step if t.max_steps else t.epochs * size.records
    tokens = sequences * min(size.tokens, t.max_length)
    validations = 1 + math.ceil(steps / t.validate_steps)
    validated = size.validated or settings.data.taken("validation")
    return pace.loading + tokens / pace.rate + validations * pace.validating * validated


def evaluation(settings: RunSettings, runs: Iterable[Listed], device: Device) -> Estimate | None:
    """An evaluation of the held-out records of such a run."""
    for run, known, _ in finished_like(settings, runs):
        done = (e for e in run.evaluations() if _measures_records(e))
        if (
            known.evaluation == settings.evaluation
            and (one := next(done, None))
            and (end := one.newest_event(Finished))
        ):
            return Estimate(end.seconds, end.peak_memory_gib or None, here=True)
    if settings.model.id != STARTER or settings.data.source != STARTER:
        return None
    return Estimate(reference(device).evaluating, STARTER_GIB, here=False)


def _measures_records(evaluation: Evaluation) -> bool:
    summary = evaluation.summary()
    return summary is not None and summary.measure is Records


def starter_size(settings: RunSettings) -> Size | None:
    """The size of the embedded records; None for other data, whose files are read in a process of their own alone."""
    own = settings.data.source == STARTER and settings.model.id == STARTER
    if not own or settings.data.more or any(map(settings.data.part, PARTS)):
        return None
    return Size(_starter_records(settings.data), STARTER_TOKENS)


@functools.lru_cache(maxsize=32)
def _starter_records(settings: DataSettings) -> int:
    try:
        return len(data.load(settings).train)
    except BadInput:  # more held out than there are
        return 0


def reference(device: Device) -> Measured:
    """What was measured on a machine like this one; a CPU's figures are scaled to its cores."""
    if device.gpus:
        return ON_A_GPU
    known = BY_FORMAT["bfloat16" if machine.computes_bfloat16() else "float32"]
    faster = min(device.cores, MOST_CORES) / REFERENCE_CORES
    return Measured(known.loading, known.rate * faster, known.validating / faster, known.evaluating / faster)
