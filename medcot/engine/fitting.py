"""What a training needs of a device's memory, and the arrangement of its steps that is fastest among those that fit.

A recipe says how many sequences an optimizer step learns from. How they are cut into passes, what is kept for the
backward pass, and which of them stand together changes the speed manyfold and the result by rounding alone.
"""

import random
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from medcot import processes
from medcot.device import device
from medcot.engine import world
from medcot.engine.backends.peft import compute_dtype, no_layers
from medcot.events import Arrangement
from medcot.settings import LoraSettings, RunSettings

# Bytes a parameter: AdamW in float32 (weight, gradient, two moments); NF4 with its scales, themselves quantized.
BYTES_TRAINED, BYTES_4BIT = 16, 0.516
BYTES_SHARED = 4  # more a trained parameter where processes add up their gradients
PROCESS_GIB = 0.75  # a CPU worker before any weights: the interpreter and the libraries (measured)
# A batch's loss is computed in chunks. TRL: 256 tokens, with float32 copies of their logits. Unsloth: as many as keep
# 16 bytes a logit within 4 GiB (its own rule), of which its compiled kernel takes 4.
TRL_CHUNK, TRL_BYTES_LOGIT = 256, 12
UNSLOTH_CHUNK_GIB, UNSLOTH_RULE_BYTES, UNSLOTH_BYTES_LOGIT = 4, 16, 4
MARGIN = 1.2  # between an estimate and what must be free for it
RESERVE_GIB = 1.0  # the device's own context, and what its allocator cannot use
# What a pass costs beside its tokens, in tokens: a GPU waits for its host to launch kernels. 5,700 were derived from
# 3,300 tokens/s at 2 x 8 and 14,600 at 16 x 1 on a host that launches slowly; a faster host has less.
PASS_COST_TOKENS = 4000
RECOMPUTE = 4 / 3  # checkpointing repeats the forward pass


@dataclass(frozen=True, slots=True)
class Kept:
    """What a decoder layer keeps for the backward pass, in numbers a token: how many of each of the layer's widths.

    `backward` is what the gated MLP's gradients of one layer take beside it, in its inner widths.
    """

    hidden: float
    keys: float
    inner: float
    backward: float


# Unsloth: both residual inputs, both norm outputs, queries, attention's output, keys and values, gate and up. Without
# padding it joins the outputs of single sequences, one hidden width more. Its MLP's gradients overwrite what was kept.
# PEFT adds each adapter's input and the steps of norms, rotation and activation.
KEPT = {
    "unsloth": Kept(hidden=6, keys=2, inner=2, backward=1),
    "unsloth, padding-free": Kept(hidden=7, keys=2, inner=2, backward=1),
    "peft": Kept(hidden=16, keys=0, inner=5, backward=4),
}


INNER = ("intermediate_size", "ffn_dim", "n_inner")  # an MLP's width, as families of models call it; else 4 times


@dataclass(frozen=True, slots=True)
class Shape:
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
    def of(cls, model: Any, lora: LoraSettings) -> "Shape":
        """Of a base model, with or without its weights. Raises BadInput where it has none of the adapter's layers."""
        config = model.config.get_text_config()  # of a model that also sees, the part that writes
        linear = {
            name: module
            for name, module in model.named_modules()
            if hasattr(module, "in_features") and name != "lm_head"
        }
        targets = [m for name, m in linear.items() if name.rpartition(".")[2] in lora.target_modules]
        if not targets:
            raise no_layers(lora.target_modules)
        inside = {id(p) for m in linear.values() for p in m.parameters()}
        inner = next((n for name in INNER if (n := getattr(config, name, None))), 4 * config.hidden_size)
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            config.hidden_size,
            inner,
            size * getattr(config, "num_key_value_heads", config.num_attention_heads),
            config.num_hidden_layers,
            config.vocab_size,
            linear=sum(m.in_features * m.out_features for m in linear.values()),
            other=sum(p.numel() for p in model.parameters() if id(p) not in inside),
            trained=sum(lora.rank * (m.in_features + m.out_features) for m in targets),
        )


def shape_in(folder: str, lora: LoraSettings) -> Shape:
    """Of the model in a folder, from its configuration alone."""
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        return Shape.of(AutoModelForCausalLM.from_config(config, trust_remote_code=False), lora)


@dataclass(frozen=True, slots=True)
class Host:
    """Where the training runs: its backend's name, whether on a GPU, and the memory that is free for a process."""

    backend: str
    cuda: bool
    free_gib: float


def peak_gib(shape: Shape, settings: RunSettings, host: Host, arrangement: Arrangement, lengths: list[int]) -> float:
    """Estimated peak of allocated memory in GiB, at the largest pass that these lengths (in tokens) can make."""
    width = compute_dtype(settings.model.dtype).itemsize
    packed = settings.model.quantization == "4bit"
    trained = BYTES_TRAINED + (BYTES_SHARED if arrangement.processes > 1 else 0)
    fixed = shape.linear * (BYTES_4BIT if packed else width) + shape.other * width + shape.trained * trained
    padding_free = host.backend == "unsloth" and arrangement.sampling == "shuffled"
    tokens = largest_pass(lengths, arrangement.micro_batch, padding_free)
    kept = KEPT[f"{host.backend}, padding-free" if padding_free else host.backend]
    numbers = kept.hidden * shape.hidden + kept.keys * shape.keys + kept.inner * shape.inner
    layer = tokens * numbers * width
    backward = tokens * shape.inner * width * kept.backward
    loss = loss_bytes(shape, host.backend, tokens, width)
    if arrangement.gradient_checkpointing:
        # Unsloth moves each layer's input to the host's memory and has two of them on the device.
        inputs = 2 if host.backend == "unsloth" else shape.layers
        active = inputs * tokens * shape.hidden * width + max(loss, layer + backward)
    else:
        active = shape.layers * layer + max(loss, backward)
    return (fixed + active) / 2**30 + (0 if host.cuda else PROCESS_GIB)


def loss_bytes(shape: Shape, backend: str, tokens: int, width: int) -> float:
    gradient = tokens * shape.hidden * width
    if backend != "unsloth":
        return min(tokens, TRL_CHUNK) * shape.vocabulary * TRL_BYTES_LOGIT + gradient
    budget = UNSLOTH_CHUNK_GIB * 2**30 - gradient
    wanted = tokens * shape.vocabulary * UNSLOTH_RULE_BYTES / budget
    chunks = 1 if wanted <= 1 else -(-wanted // 4) * 4  # in fours
    return tokens / chunks * shape.vocabulary * UNSLOTH_BYTES_LOGIT + gradient


def largest_pass(lengths: list[int], micro_batch: int, padding_free: bool) -> int:
    """Tokens of the largest pass of an epoch: padded, the longest record's length times the micro-batch.

    Without padding it depends on which records meet; one shuffle of them tells it closely.
    """
    micro_batch = min(micro_batch, len(lengths))
    if not padding_free:
        return micro_batch * max(lengths)
    drawn = random.Random(0).sample(lengths, len(lengths))
    return max(sum(drawn[i : i + micro_batch]) for i in range(0, len(drawn), micro_batch))


def arrange(shape: Shape, settings: RunSettings, host: Host, lengths: list[int]) -> Arrangement:
    """The settings' own arrangement, or under "auto" the fastest that fits; its steps learn from as many sequences.

    A CPU gains nothing from larger passes, so there the settings' own stays unless it does not fit.
    """

    def priced(option: Arrangement, why: str = "") -> Arrangement:
        peak = peak_gib(shape, settings, host, option, lengths)
        fits = peak * MARGIN + RESERVE_GIB * host.cuda <= host.free_gib
        return option.model_copy(update={"peak_memory_gib": round(peak, 2), "fits": fits, "why": why})

    given = priced(as_given(settings), "as the settings give it")
    if settings.training.arrangement == "as-given" or (given.fits and not host.cuda):
        return given
    options = [priced(option) for option in ways(given, group=host.cuda)]
    fitting = [option for option in options if option.fits]
    free = f"{host.free_gib:.1f} GiB"
    if not fitting:
        least = min([given, *options], key=lambda option: option.peak_memory_gib)
        return least.model_copy(update={"why": f"the one that needs least; {free} are free and may not be enough"})
    best = min(fitting, key=lambda option: cost(option, lengths))
    return best.model_copy(update={"why": f"the fastest that surely fits into the {free} that are free"})


def as_given(settings: RunSettings) -> Arrangement:
    """Several processes share the sequences of a step, in micro-batches no larger than the settings'."""
    t = settings.training
    share = t.micro_batch * t.accumulation // t.processes
    micro = max(size for size in range(1, t.micro_batch + 1) if share % size == 0)
    return Arrangement(
        processes=t.processes,
        micro_batch=micro,
        accumulation=share // micro,
        gradient_checkpointing=t.gradient_checkpointing,
        sampling=t.sampling,
    )


def ways(given: Arrangement, *, group: bool) -> list[Arrangement]:
    """All ways to cut a process's sequences of a step into passes, with and without checkpointing."""
    step = given.micro_batch * given.accumulation
    return [
        given.model_copy(
            update={
                "micro_batch": micro,
                "accumulation": step // micro,
                "gradient_checkpointing": checkpointing,
                "sampling": "grouped" if group else given.sampling,
            }
        )
        for micro in range(1, step + 1)
        if step % micro == 0
        for checkpointing in (False, True)
    ]


def cost(arrangement: Arrangement, lengths: list[int]) -> float:
    """Time of a step, in tokens of a forward and backward pass."""
    tokens = sum(lengths) / len(lengths) * arrangement.micro_batch
    a_pass = (tokens + PASS_COST_TOKENS) * (RECOMPUTE if arrangement.gradient_checkpointing else 1)
    return a_pass * arrangement.accumulation


def arranged(settings: RunSettings, arrangement: Arrangement) -> RunSettings:
    """The settings with the arrangement in the place of their own: micro-batch and accumulation are each process's."""
    used = arrangement.model_dump(include={"micro_batch", "accumulation", "gradient_checkpointing", "sampling"})
    return settings.replacing("training", **used)


def free_gib() -> float:
    """Memory that a worker on this machine may take, before it has taken any."""
    if torch.cuda.is_available():
        free: int = torch.cuda.mem_get_info()[0]
        return free / 2**30
    return device().free_memory_gib / world.on_this_host()


def free_gib_unseen(count: int) -> float:
    """The same for each of a job's processes as the system tells it, for one that takes no device."""
    found, share = device(), processes.here(count)
    return min(g.free_gib for g in found.gpus[:share]) if found.gpus else found.free_memory_gib / share
