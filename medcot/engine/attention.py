"""Attention of one new token a row, with grouped queries that read the cache of keys and values as it lies.

transformers repeats each head of the cache for every query head of its group, at every token. With a batch and a few
hundred tokens those copies cost more than the model's own arithmetic.
"""

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "medcot_grouped"


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention of one new token a row; anything longer goes to transformers' own.

    query (rows, heads, 1, size); key and value (rows, groups, length, size); the mask is True, or 0, where a key is
    seen. Returns (rows, 1, heads, size).
    """
    rows, heads, length, size = query.shape
    if length != 1:
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return found
    groups = key.shape[1]
    grouped = query.view(rows, groups, heads // groups, size) * (size**-0.5 if scaling is None else scaling)
    scores = grouped @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores = (
            scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
            if attention_mask.dtype == torch.bool
            else scores + attention_mask
        )
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    return (weights @ value).view(rows, 1, heads, size), None


def use_grouped_attention(model: Any) -> None:
    """Switch a model to it."""
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)
