"""The loss and the LoRA layers of a training step, fused for a CPU.

Of a small model's step, TRL spends a fifth on computing each logit a second time and on an entropy that nothing reads,
and PEFT a sixth on scaling and adding what a matrix product adds by itself (trl 1.14.2, trl/trainer/sft_trainer.py,
`_chunk`; peft 0.21.2, peft/tuners/lora/layer.py, `Linear.forward`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from trl.trainer import sft_trainer

theirs = sft_trainer._chunked_cross_entropy_loss


class CrossEntropy(torch.autograd.Function):
    """The summed cross-entropy of `hidden` (tokens, width) under a frozen head (vocabulary, width), for `labels`, and
    how many labels were the likeliest token.

    Forward computes the gradient too, (softmax - one-hot) @ head, while the logits of a chunk of tokens are there.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, labels: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
        right = hidden.new_zeros((), dtype=torch.float32)
        total, gradient = hidden.new_zeros((), dtype=torch.float32), torch.zeros_like(hidden)
        chunks = zip(hidden.split(chunk), labels[:, None].split(chunk), gradient.split(chunk), strict=True)
        for states, wanted, slope in chunks:
            logits = (states @ head.t()).float()
            top, where = logits.max(1, keepdim=True)
            shares = logits.softmax(1)
            # log(sum(exp(logits))), by the largest share: a label's own may underflow to 0.
            normalizer = top - shares.gather(1, where).log()
            total += (normalizer - logits.gather(1, wanted)).sum()
            right += (where == wanted).sum()
            if ctx.needs_input_grad[0]:
                slope.copy_(shares.to(head.dtype) @ head - head[wanted[:, 0]])
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(right)
        return total, right

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream.to(gradient.dtype), None, None, None


class LoraLinear(torch.autograd.Function):
    """x @ W' + bias + scale * (x @ A') @ B', for x (tokens, inputs), W and bias frozen, A (rank, inputs), B (outputs,
    rank)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        low = x @ a.t()
        ctx.save_for_backward(x, weight, a, b, low)
        ctx.scale = scale
        result = x @ weight.t() if bias is None else torch.addmm(bias, x, weight.t())
        return result.addmm_(low, b.t(), alpha=scale)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b, low = ctx.saved_tensors
        to_low = (upstream @ b).mul_(ctx.scale)
        to_b = (upstream.t() @ low).mul_(ctx.scale)
        to_x = (upstream @ weight).addmm_(to_low, a) if ctx.needs_input_grad[0] else None
        return to_x, None, None, to_low.t() @ x, to_b, None


class Fused:
    """A model's plain LoRA layers and its loss, fused while `in_place`. Whatever is not plain stays as it is."""

    def __init__(self, model: nn.Module):
        self._layers = [module for module in model.modules() if _is_plain(module)]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        for layer in self._layers:
            layer.forward = partial(_lora, layer)
        try:
            with mock.patch.object(sft_trainer, theirs.__name__, cross_entropy):
                yield
        finally:
            for layer in self._layers:
                del layer.forward


def _is_plain(module: Any) -> bool:
    """Whether a LoRA layer is one adapter on a linear layer, without DoRA, dropout or a bias that is trained."""
    if type(module) is not Linear or type(module.base_layer) is not nn.Linear or module.lora_variant:
        return False
    if len(module.active_adapters) != 1 or any(p.requires_grad for p in module.base_layer.parameters()):
        return False
    name = module.active_adapters[0]
    dropout = module.lora_dropout[name]
    return isinstance(dropout, nn.Identity) and module.lora_B[name].bias is None


def _lora(layer: Any, x: Tensor, *more: Any, **named: Any) -> Tensor:
    if more or named or layer.merged or layer.disable_adapters:
        return type(layer).forward(layer, x, *more, **named)  # type: ignore[no-any-return]
    name, base = layer.active_adapters[0], layer.base_layer
    numbers = computed_in(base.weight)
    a, b = layer.lora_A[name].weight.to(numbers), layer.lora_B[name].weight.to(numbers)
    bias = None if base.bias is None else base.bias.to(numbers)
    with torch.autocast("cpu", enabled=False):
        flat = x.to(numbers).reshape(-1, x.shape[-1])
        result: Tensor = LoraLinear.apply(  # type: ignore[no-untyped-call]
            flat, base.weight.to(numbers), bias, a, b, layer.scaling[name]
        )
    return result.view(*x.shape[:-1], -1)


def computed_in(weight: Tensor) -> torch.dtype:
    """The number format of a product with this weight."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype


def cross_entropy(
    hidden_states: Tensor,
    lm_head_weight: Tensor,
    chunk_size: int,
    labels: Tensor | None = None,
    num_items_in_batch: Tensor | int | None = None,
    **more: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """TRL's loss of a batch, by its own arguments: (loss, right tokens, entropy, learned tokens), of which the entropy
    is NaN."""
    usual = {"logit_scale": 1.0, "final_logit_softcapping": None, "lm_head_bias": None, "shift_labels": None}
    if labels is None or lm_head_weight.requires_grad or any(more.get(name) != value for name, value in usual.items()):
        given = {"labels": labels, "num_items_in_batch": num_items_in_batch, **more}
        return theirs(hidden_states, lm_head_weight, chunk_size, **given)  # type: ignore[no-any-return]
    learned = labels[:, 1:] != -100
    numbers = computed_in(hidden_states)
    with torch.autocast("cpu", enabled=False):
        hidden, head = hidden_states[:, :-1][learned].to(numbers), lm_head_weight.to(numbers)
        total, right = CrossEntropy.apply(hidden, head, labels[:, 1:][learned], chunk_size)  # type: ignore[no-untyped-call]
    count, unknown = learned.sum(), right.new_full((), float("nan"))
    return total / (count.clamp(min=1) if num_items_in_batch is None else num_items_in_batch), right, unknown, count
