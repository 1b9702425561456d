"""What base and tuned say by the libraries alone, which every way of decoding must say too before it is used.

Loading an adapter can change the base's weights (PiSSA and its like do), another attention can lose a part of the
family's own, and a batch with padding can mix rows up. None of that raises an error; all of it shows in the logits.
"""

import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from medcot import prompts
from medcot.adapters.verify import changes_base
from medcot.engine.decode.runner import StepRunner, left_padded
from medcot.errors import BadInput, first_line
from medcot.evaluation.answers import ARMS, BASE, TUNED, Arm
from medcot.prompts.contract import PromptContract

QUESTIONS = ("Why is potassium checked before digoxin is given to a patient with kidney disease?", "What is a fever?")
STEPS = 2  # of one token each, after the prompt: one with all rows, one after rows have left
ABSOLUTE = 1e-3  # what logits may differ by in float32
OF_SPREAD = 0.05  # the same in 16 bits, of what lies between the largest and the smallest logit of a token
# What a model's forward pass raises where it is run in a way that it was not written for.
UNFIT = (AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass
class Reference:
    """Logits of fixed texts, a text at a time: whole, without padding or cache, in the attention it was loaded with."""

    texts: list[list[int]]
    pad: int
    logits: dict[Arm, list[Tensor]] = field(default_factory=dict)  # of each text (STEPS + 1, vocabulary)

    @classmethod
    def of(cls, tokenizer: Any, contract: PromptContract) -> "Reference":
        """The texts, of which nothing is known yet."""
        return cls([prompts.encode_prompt(tokenizer, contract, q) for q in QUESTIONS], tokenizer.pad_token_id)

    def take_base(self, model: Any) -> None:
        """Note what the base says before an adapter touches it. Raises BadInput if its logits are not finite."""
        self._take(BASE, model)

    def take_tuned(self, model: Any) -> None:
        """Note what the base says with its adapter on.

        Raises BadInput if its logits are not finite, or if with the adapter off it is not the base any more.
        """
        self._take(TUNED, model)
        with model.disable_adapter():
            found = self._alone(model)
        if not all(map(self._equal, found, self.logits[BASE])):
            raise changes_base("adapter")

    def arms_differ(self) -> bool:
        """Whether the adapter changes anything; one that does not was not trained."""
        return not all(map(torch.equal, self.logits[BASE], self.logits[TUNED]))

    @torch.inference_mode()
    def difference(self, runner: StepRunner) -> str | None:
        """How base and tuned in one batch differ from what they say alone, in a few words; None if they do not."""
        try:
            for number, (rows, logits) in enumerate(self._decoded(runner)):
                for (arm, text), found in zip(rows, logits, strict=True):
                    if not self._equal(found, self.logits[arm][text][number]):
                        return f"{arm}'s logits differ from those of one text alone"
        except torch.OutOfMemoryError:  # a fault of the machine, not of the way
            raise
        except UNFIT as error:
            traceback.print_exc()  # for the worker's log
            return f"{type(error).__name__}: {first_line(error)[:200].rstrip('.')}"
        return None

    def _decoded(self, runner: StepRunner) -> Iterator[tuple[list[tuple[Arm, int]], Tensor]]:
        """Rows (arm, text) and their logits, after the prompts and after each further token."""
        rows = [(arm, text) for text in range(len(self.texts)) for arm in ARMS]
        device = self.logits[BASE][0].device
        padded = left_padded([self.texts[text][:-STEPS] for _, text in rows], self.pad, device)
        yield rows, runner.start(*padded, [arm == TUNED for arm, _ in rows], STEPS)
        for step in range(STEPS, 0, -1):
            tokens = torch.tensor([self.texts[text][-step] for _, text in rows], device=device)
            yield rows, runner.step(tokens)
            going = [i for i, (_, text) in enumerate(rows) if text]  # the first text ends early, as an answer does
            rows = [rows[i] for i in runner.keep(going, len(rows)) or range(len(rows))]

    def _take(self, arm: Arm, model: Any) -> None:
        self._narrow = model.dtype.itemsize < 4  # some families give float32 logits of 16-bit arithmetic
        self.logits[arm] = self._alone(model)
        if not all(bool(each.isfinite().all()) for each in self.logits[arm]):
            raise no_numbers([arm], model.dtype)

    @torch.inference_mode()
    def _alone(self, model: Any) -> list[Tensor]:
        model.eval()
        texts = [torch.tensor([text], device=model.device) for text in self.texts]
        return [model(text, attention_mask=torch.ones_like(text)).logits[0, -STEPS - 1 :] for text in texts]

    def _equal(self, found: Tensor, wanted: Tensor) -> bool:
        """Whether logits (..., vocabulary) are the same but for rounding; never if one is NaN or infinite."""
        spread = wanted.float().amax(-1) - wanted.float().amin(-1)
        most = OF_SPREAD * spread if self._narrow else ABSOLUTE
        return bool(((found.float() - wanted.float()).abs().amax(-1) <= most).all())


def no_numbers(arms: list[Arm], dtype: torch.dtype) -> BadInput:
    """The error for logits that are not finite."""
    what = f"the model's logits are NaN or infinite in {str(dtype).removeprefix('torch.')}."
    return BadInput.of(" and ".join(arms), what, "Set model.dtype=float32, or use another adapter.")
