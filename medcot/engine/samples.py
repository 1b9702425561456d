"""What the model under training says to the sample questions, so that one sees the form being learned.

Greedy and short, with the model as it is: no hooks, no other attention, no random numbers. So a run that shows samples
ends with the very same weights as one that does not.
"""

from typing import Any

import torch
from transformers import DynamicCache

from medcot import prompts
from medcot.prompts import PromptContract


@torch.no_grad()
def answers(
    model: Any, tokenizer: Any, contract: PromptContract, questions: list[str], budget: int, *, cached: bool
) -> list[str]:
    """One raw output a question, of `budget` tokens at most, without the end token.

    Without `cached`, every token goes through the whole sequence again: slower, and the same forward pass as a
    validation's.
    """
    encoded = [prompts.encode_prompt(tokenizer, contract, q) for q in questions]
    width = max(map(len, encoded))
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(e)) + e for e in encoded], device=model.device)
    mask = torch.tensor([[0] * (width - len(e)) + [1] * len(e) for e in encoded], device=model.device)
    cache = DynamicCache(config=model.config) if cached else None
    was_training = model.training
    model.eval()
    for _ in range(budget):
        seen = ids if cache is None or not cache.get_seq_length() else ids[:, -1:]
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -seen.shape[1] :]
        logits = model(
            input_ids=seen,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cached,
            logits_to_keep=1,
        ).logits
        chosen = logits[:, -1].argmax(-1, keepdim=True)
        ids, mask = torch.cat([ids, chosen], -1), torch.cat([mask, torch.ones_like(chosen)], -1)
        if (ids[:, width:] == contract.eos_id).any(-1).all():
            break
    model.train(was_training)
    return [_text(tokenizer, contract, row) for row in ids[:, width:].tolist()]


def _text(tokenizer: Any, contract: PromptContract, tokens: list[int]) -> str:
    end = tokens.index(contract.eos_id) if contract.eos_id in tokens else len(tokens)
    text = tokenizer.decode(tokens[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
    for stop in prompts.stop_strings(contract):
        head, found, _ = text.partition(stop)
        text = head + found
    return str(text)
