"""Judges on this machine: a causal model, asked as on a server, or a classifier of right and wrong answers.

A classifier has two labels, the second of which means right, as in the data set authors' verifier
(FreedomIntelligence/medical_o1_verifier_3B); it is asked with the text that that model's card gives, and it can only
compare an answer with a reference.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from medcot import hub, prompts
from medcot.engine import models
from medcot.engine.answer.judges import Judge, Said, Take
from medcot.engine.backends.peft import PeftBackend
from medcot.engine.models import UNREADABLE, LocalModel
from medcot.errors import BadInput, first_line
from medcot.evaluation.judge.asking import Ask
from medcot.prompts.contract import PromptContract
from medcot.runs.events import Progress, Report
from medcot.safety.foreign import read_json
from medcot.settings import STARTER, ModelSettings, PromptSettings
from medcot.settings.judging import JudgeOrder
from medcot.settings.names import is_local_model, located

VERIFIER = """\
<Model Response>
{answer}
</Model Response>

<Reference Answer>
{reference}
</Reference Answer>

Your task is to evaluate the model response by comparing it to the reference answer. If the model response is correct \
and aligns with the reference answer, output "True" . If it is incorrect or fails to select the correct option (if \
options are provided), output "False" . {end}"""
HALF = 0.5


def open_local(order: JudgeOrder, report: Report) -> Judge:
    """The model that the order names, as what it is. Raises BadInput if it cannot be had or asked in this way."""
    settings = ModelSettings(id=located(order.model), revision=order.revision)
    if settings.id != STARTER and not is_local_model(settings.id):
        settings = hub.pin_model(settings)
    local = models.resolve(settings, report)
    report(Progress(stage="Loading the judge"))
    if _classifies(local):
        if order.how != "reference" or order.reasoning:
            what = f"{order.model} is a classifier, which compares an answer with its reference and nothing else."
            raise BadInput.of("--how", what, "Ask it so: --how reference, without --reasoning.")
        return Classifier(local, order.batch_size)
    tokenizer = models.load_tokenizer(local.path)
    model = PeftBackend().load(local, settings, max_length=order.max_new_tokens)
    return Causal(model.eval(), tokenizer, order.max_new_tokens, order.batch_size)


def _classifies(local: LocalModel) -> bool:
    kinds = read_json(local.path / "config.json").get("architectures") or []
    return any("ForSequenceClassification" in str(kind) for kind in kinds)


class _Batched:
    """A model that takes requests in batches of similar length."""

    writes = False

    def __init__(self, model: Any, tokenizer: Any, batch_size: int):
        self._model, self._tokenizer, self._size = model, tokenizer, batch_size
        self._window = models.window(model.config)

    def close(self) -> None:
        del self._model

    def ask(self, asks: Sequence[Ask], named: Callable[[Ask], str], take: Take) -> None:
        """Raises BadInput, with what was asked about, for what is longer than the model's window."""
        coded = sorted(((ask, self._ids(ask)) for ask in asks), key=lambda one: len(one[1]))
        for ask, ids in coded[-1:]:
            if self._window and len(ids) + self._room > self._window:
                what = f"{named(ask)}: {len(ids)} tokens, and {self._room} may follow; the judge reads {self._window}."
                raise BadInput.of("--judge-model", what, "Name a judge that reads more, or lower --max-new-tokens.")
        for start in range(0, len(coded), self._size):
            batch = coded[start : start + self._size]
            for (ask, _), said in zip(batch, self._said([ids for _, ids in batch]), strict=True):
                take(ask, said)

    _room = 0

    def _ids(self, ask: Ask) -> list[int]:
        raise NotImplementedError

    def _said(self, batch: list[list[int]]) -> Iterator[Said]:
        raise NotImplementedError

    def _padded(self, batch: list[list[int]], *, left: bool) -> dict[str, torch.Tensor]:
        longest, pad = max(map(len, batch)), self._tokenizer.pad_token_id
        fills = [[pad] * (longest - len(ids)) for ids in batch]
        rows = [fill + ids if left else ids + fill for ids, fill in zip(batch, fills, strict=True)]
        masks = [
            [0] * len(f) + [1] * len(i) if left else [1] * len(i) + [0] * len(f)
            for i, f in zip(batch, fills, strict=True)
        ]
        device = self._model.device
        return {"input_ids": torch.tensor(rows, device=device), "attention_mask": torch.tensor(masks, device=device)}


class Classifier(_Batched):
    """Two labels: wrong and right."""

    def __init__(self, local: LocalModel, batch_size: int):
        from transformers import AutoModelForSequenceClassification

        tokenizer = models.load_tokenizer(local.path)
        options: dict[str, Any] = {"dtype": models.compute_dtype("auto"), "use_safetensors": True}
        try:
            model = AutoModelForSequenceClassification.from_pretrained(local.path, trust_remote_code=False, **options)
        except torch.OutOfMemoryError:
            raise
        except UNREADABLE as error:
            what = f"{local.path} cannot be loaded: {first_line(error).rstrip('.')}."
            raise BadInput.of("--judge-model", what, "Download it again, or name another model.") from error
        if model.config.num_labels != 2:
            what = f"has {model.config.num_labels} labels; a judge has two, wrong and right."
            raise BadInput.of("--judge-model", f"{local.path.name} {what}", "Name another judge.")
        model.config.pad_token_id = tokenizer.pad_token_id  # it reads the last token that is none
        super().__init__(model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer, batch_size)

    def _ids(self, ask: Ask) -> list[int]:
        end = self._tokenizer.eos_token or ""
        text = VERIFIER.format(answer=ask.answer, reference=ask.reference, end=end)
        return list(self._tokenizer(text)["input_ids"])

    def _said(self, batch: list[list[int]]) -> Iterator[Said]:
        with torch.inference_mode():
            logits = self._model(**self._padded(batch, left=False)).logits
        for ids, share in zip(batch, logits.float().softmax(-1)[:, 1].tolist(), strict=True):
            verdict = "right" if share > HALF else "wrong"
            yield Said(f'{{"verdict": "{verdict}", "why": "right with a probability of {share:.2f}"}}', len(ids))


class Causal(_Batched):
    """A model that writes, greedily."""

    writes = True

    def __init__(self, model: Any, tokenizer: Any, max_new_tokens: int, batch_size: int):
        super().__init__(model, tokenizer, batch_size)
        self._room = max_new_tokens
        self._contracts: dict[str, PromptContract] = {}

    def _ids(self, ask: Ask) -> list[int]:
        if ask.system not in self._contracts:
            self._contracts[ask.system] = prompts.make_contract(PromptSettings(system=ask.system), self._tokenizer)
        return prompts.encode_prompt(self._tokenizer, self._contracts[ask.system], ask.user)

    def _said(self, batch: list[list[int]]) -> Iterator[Said]:
        padded = self._padded(batch, left=True)
        ends = [contract.eos_id for contract in self._contracts.values()]
        fixed: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        with torch.inference_mode():
            made = self._model.generate(
                **padded,
                max_new_tokens=self._room,
                eos_token_id=ends,
                pad_token_id=self._tokenizer.pad_token_id,
                **fixed,
            )
        for ids, row in zip(batch, made[:, padded["input_ids"].shape[1] :].tolist(), strict=True):
            written = next((n for n, token in enumerate(row) if token in ends), len(row))
            # Where a family's own marks around reasoning are special tokens, they tell it from the verdict.
            bare = not any(contract.native for contract in self._contracts.values())
            yield Said(str(self._tokenizer.decode(row[:written], skip_special_tokens=bare)), len(ids), written)
