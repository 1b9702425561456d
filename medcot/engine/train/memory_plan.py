"""What a training needs of a device's memory, and the fastest batching plan that fits.

A recipe says how many sequences an optimizer step learns from. How they are cut into passes, what is kept for the
backward pass, and which of them share a pass changes the speed manyfold, and the result by rounding alone.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from medcot import machine
from medcot.engine import distributed
from medcot.engine.backends import ActivationProfile
from medcot.engine.lora import linear_layers, trained_parameters
from medcot.engine.models import compute_dtype, head_size, key_heads
from medcot.machine import device
from medcot.runs.events import Arrangement
from medcot.settings import LoraSettings, RunSettings

# Bytes a parameter: AdamW in float32 (weight, gradient, two moments); NF4 with its scales, themselves quantized.
BYTES_TRAINED, BYTES_4BIT = 16, 0.516
BYTES_SHARED = 4  # more a trained parameter where processes add up their gradients
PROCESS_GIB = 0.75  # a CPU worker before any weights: the interpreter and the libraries (measured)
MARGIN = 1.2  # between an estimate and what must be free for it
RESERVE_GIB = 1.0  # the device's own context, and what its allocator cannot use
# What a pass costs beside its tokens, in tokens: a GPU waits for its host to launch kernels. 5,700 were derived from
# 3,300 tokens/s at 2 x 8 and 14,600 at 16 x 1 on a host that launches slowly; a faster host has less.
PASS_COST_TOKENS = 4000
# cuDNN's attention builds a plan for each new (batch, length), a third of a step's time where lengths differ at each
# step. Padding to a multiple of 64 tokens leaves few lengths: 0.34 s a step for 0.42 (two H200, 16 sequences).
LENGTH_STEP = 64
LEAST_LENGTH = 128  # to which sequences are cut to make a training fit
RECOMPUTE = 4 / 3  # checkpointing repeats the forward pass
INNER = ("intermediate_size", "ffn_dim", "n_inner")  # an MLP's width, as families of models call it; else 4 times


@dataclass(frozen=True, slots=True)
class ModelDims:
    """A model's widths and its numbers of parameters; `linear` are those that 4-bit packs."""

    hidden: int
    inner: int
    keys: int
    layers: int
    vocabulary: int
    linear: int
    other: int
    trained: int

    @classmethod
    def of(cls, model: Any, lora: LoraSettings) -> "ModelDims":
        """Dimensions of a model without weights. Raises BadInput if it has not the adapter's layers."""
        config = model.config.get_text_config()  # of a multimodal model, its language model
        linear = sum(p.numel() for m in linear_layers(model).values() for p in m.parameters() if p.dim() == 2)
        return cls(
            hidden=config.hidden_size,
            inner=next((n for name in INNER if (n := getattr(config, name, None))), 4 * config.hidden_size),
            keys=head_size(config) * key_heads(config) if getattr(config, "num_attention_heads", 0) else 0,
            layers=config.num_hidden_layers,
            vocabulary=config.vocab_size,
            linear=linear,
            other=sum(p.numel() for p in model.parameters()) - linear,
            trained=trained_parameters(model, lora),
        )


@dataclass(frozen=True, slots=True)
class Hardware:
    """The training's backend profile, whether it runs on a GPU, and the memory that is free for a process."""

    memory: ActivationProfile
    cuda: bool
    free_gib: float

    def joins(self, sampling: str) -> bool:
        """Whether a pass's sequences are joined into one row: some backends do, unless they are of like length."""
        return self.memory.joined_hidden is not None and sampling == "shuffled"

    def length_step(self, sampling: str) -> int:
        """The multiple of tokens to which a pass is padded; 1 if it is only as long as its longest sequence."""
        return LENGTH_STEP if self.cuda and not self.joins(sampling) else 1

    def gains_by_capture(self, arrangement: Arrangement, lengths: list[int]) -> bool:
        """Whether to capture passes as CUDA graphs: a GPU waits for its host to launch them, and there is room.

        What is captured keeps activations of its own, beside those of passes that are not.
        """
        if not self.cuda or arrangement.gradient_checkpointing or 2 * arrangement.peak_memory_gib > self.free_gib:
            return False
        return arrangement.micro_batch * sum(lengths) / len(lengths) < 2 * PASS_COST_TOKENS

    def largest_pass(self, lengths: list[int], micro_batch: int, sampling: str) -> int:
        """Tokens of the largest pass of an epoch: padded, the longest record's length times the micro-batch.

        Where sequences are joined it depends on which records meet; one shuffle of them tells it closely.
        """
        micro_batch = min(micro_batch, len(lengths))
        if not self.joins(sampling):
            step = self.length_step(sampling)
            return micro_batch * math.ceil(max(lengths) / step) * step
        drawn = random.Random(0).sample(lengths, len(lengths))
        return max(sum(drawn[i : i + micro_batch]) for i in range(0, len(drawn), micro_batch))


def peak_gib(
    dims: ModelDims, settings: RunSettings, hardware: Hardware, arrangement: Arrangement, lengths: list[int]
) -> float:
    """Estimated peak of allocated memory in GiB, at the largest pass that these lengths (in tokens) can make."""
    kept, width = hardware.memory, compute_dtype(settings.model.dtype).itemsize
    linear = BYTES_4BIT if settings.model.quantization == "4bit" else width
    trained = BYTES_TRAINED + (BYTES_SHARED if arrangement.processes > 1 else 0)
    fixed = dims.linear * linear + dims.other * width + dims.trained * trained
    tokens = hardware.largest_pass(lengths, arrangement.micro_batch, arrangement.sampling)
    hidden = kept.joined_hidden if kept.joined_hidden and hardware.joins(arrangement.sampling) else kept.hidden
    layer = tokens * width * (hidden * dims.hidden + kept.keys * dims.keys + kept.inner * dims.inner)
    if settings.lora.dora:  # of all layers' outputs the base's and the adapter's are kept (counted, not measured)
        layer += tokens * width * 2 * (3 * dims.hidden + 2 * dims.keys + 2 * dims.inner)
        fixed += 4 * width * dims.hidden * dims.inner  # whole weights of one layer at a time, for their norms
    backward = tokens * width * kept.backward * dims.inner
    inputs = tokens * width * dims.hidden
    loss = kept.logit_bytes(tokens, dims.vocabulary, inputs) + inputs
    if arrangement.gradient_checkpointing:
        active = (kept.checkpoint_inputs or dims.layers) * inputs + max(loss, layer + backward)
    else:
        active = dims.layers * layer + max(loss, backward)
    return (fixed + active) / 2**30 + (0 if hardware.cuda else PROCESS_GIB)


def plan_batching(dims: ModelDims, settings: RunSettings, hardware: Hardware, lengths: list[int]) -> Arrangement:
    """The settings' own plan, or under "auto" the fastest that fits with the same number of sequences a step.

    A CPU gains nothing from larger passes, so there the settings' own stays unless it does not fit.
    """

    def priced(option: Arrangement, why: str = "") -> Arrangement:
        peak = peak_gib(dims, settings, hardware, option, lengths)
        fits = peak * MARGIN + RESERVE_GIB * hardware.cuda <= hardware.free_gib
        return option.model_copy(update={"peak_memory_gib": round(peak, 2), "fits": fits, "why": why})

    given = priced(as_given(settings), "as the settings give it")
    if settings.training.arrangement == "as-given" or (given.fits and not hardware.cuda):
        return given
    options = [priced(option) for option in candidates(given, group=hardware.cuda)]
    if fitting := [option for option in options if option.fits]:
        best = min(fitting, key=lambda option: step_cost(option, lengths))
        why = f"the fastest that surely fits into the {hardware.free_gib:.1f} GiB that are free"
    else:
        best = min([given, *options], key=lambda option: option.peak_memory_gib)
        why = f"the one that needs least; {hardware.free_gib:.1f} GiB are free and may not be enough"
    return best.model_copy(update={"why": why})


def as_given(settings: RunSettings) -> Arrangement:
    """The settings' own plan: processes share a step's sequences, in micro-batches no larger than the settings'."""
    t = settings.training
    share = t.micro_batch * t.accumulation // t.processes
    micro = max(size for size in range(1, t.micro_batch + 1) if share % size == 0)
    kept = t.model_dump(include={"processes", "gradient_checkpointing", "sampling"})
    return Arrangement(micro_batch=micro, accumulation=share // micro, **kept)


def candidates(given: Arrangement, *, group: bool) -> list[Arrangement]:
    """All ways to cut a process's sequences of a step into passes, with and without checkpointing."""
    step = given.micro_batch * given.accumulation
    sampling = "grouped" if group else given.sampling
    found = []
    for micro in [micro for micro in range(1, step + 1) if step % micro == 0]:
        cut = {"micro_batch": micro, "accumulation": step // micro, "sampling": sampling}
        found += [given.model_copy(update={**cut, "gradient_checkpointing": kept}) for kept in (False, True)]
    return found


def step_cost(arrangement: Arrangement, lengths: list[int]) -> float:
    """Time of a step, in tokens of a forward and backward pass."""
    tokens = sum(lengths) / len(lengths) * arrangement.micro_batch
    a_pass = (tokens + PASS_COST_TOKENS) * (RECOMPUTE if arrangement.gradient_checkpointing else 1)
    return a_pass * arrangement.accumulation


def arranged(settings: RunSettings, arrangement: Arrangement) -> RunSettings:
    """The settings with this plan in place of their own: micro-batch and accumulation are each process's."""
    used = arrangement.model_dump(include={"micro_batch", "accumulation", "gradient_checkpointing", "sampling"})
    return settings.replacing("training", **used)


def free_gib() -> float:
    """Memory that a worker on this machine may take, before it has taken any."""
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0] / 2**30)
    return device().free_memory_gib / distributed.local_world_size()


def free_gib_unseen(count: int) -> float:
    """The same for each of a job's machine, from the system and without taking a device."""
    found, share = device(), machine.here(count)
    return min(g.free_gib for g in found.gpus[:share]) if found.gpus else found.free_memory_gib / share


def remedy(dims: ModelDims, settings: RunSettings, hardware: Hardware, lengths: list[int]) -> str:
    """The first change after which the estimate fits. `lengths` are the training records', in tokens."""
    for change, changed, kept in _changes(settings, hardware, lengths):
        if (found := plan_batching(dims, changed, hardware, kept)).fits:
            return f"{change} would make it fit, with about {found.peak_memory_gib:.1f} GiB."
    return "No change of length or number format makes it fit: choose a smaller model or a larger device."


def _changes(
    settings: RunSettings, hardware: Hardware, lengths: list[int]
) -> Iterator[tuple[str, RunSettings, list[int]]]:
    """Cumulative changes as (words, settings, lengths under them), the gentlest first."""
    words = ""
    if settings.training.arrangement != "auto":
        words, settings = "training.arrangement=auto", settings.replacing("training", arrangement="auto")
        yield words, settings, lengths
    if hardware.cuda and settings.model.quantization == "none":
        words += (" and " if words else "") + "model.quantization=4bit"
        settings = settings.replacing("model", quantization="4bit")
        yield words, settings, lengths
    length = 2 ** ((min(settings.training.max_length, max(lengths)) - 1).bit_length() - 1)
    while length >= LEAST_LENGTH:
        cut = sum(n > length for n in lengths) / len(lengths)
        shorter = f"training.max_length={length} (which cuts {cut:.0%} of the records)"
        changed = settings.replacing("training", max_length=length)
        yield f"{words} and {shorter}" if words else shorter, changed, [min(n, length) for n in lengths]
        length //= 2
