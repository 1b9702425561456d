"""Base and tuned in one batch against transformers' own generate on each alone, family by family; or a refusal."""

import pytest

from medcot.adapters.open import Adapter
from medcot.errors import BadInput
from medcot.settings import ModelSettings, PromptSettings
from tests import families

QUESTIONS = (
    "Hi?",
    "What is the difference between a beta blocker and a calcium channel blocker in a patient who has asthma?",
    "Why is potassium checked before giving digoxin?",
)
TOKENS = 24


def loaded(folder):
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.models import LocalModel

    settings = ModelSettings(id=str(folder), dtype="float32")
    return PeftBackend().load(LocalModel(folder, folder.name), settings, max_length=0)


def generated(model, prompt):
    """What transformers' generate says after a prompt by itself, greedily."""
    import torch

    ids = torch.tensor([prompt])
    fixed = {"max_new_tokens": TOKENS, "do_sample": False, "pad_token_id": 0, "eos_token_id": 2}
    said = model.eval().generate(input_ids=ids, attention_mask=torch.ones_like(ids), **fixed)
    return said[0, len(prompt) :].tolist()


@pytest.fixture
def made(request, tmp_path):
    """(model folder, adapter folder) of the family that the test names."""
    base = families.build(request.param, tmp_path / "base")
    return base, families.adapter(base, families.FAMILIES[request.param][1], tmp_path / "adapter")


def opened(base, adapter):
    from medcot.engine.answer.load import open_decoder
    from medcot.engine.backends.peft import PeftBackend

    given = ModelSettings(id=str(base), dtype="float32")
    tried = Adapter(name="x", path=adapter, base=given, prompt=PromptSettings())
    return open_decoder(tried, PeftBackend(), lambda event: None, max_length=64)


def said(decoder, end):
    """{(arm, number): tokens} by the decoder, all rows in one batch; a row ends at the token `end` too."""
    from medcot.evaluation.answers import Decoding

    decoder.ends = {2, end}
    rows = {(row.arm, n): row for n, q in enumerate(QUESTIONS) for row in decoder.rows_for(q)}
    decoder.decode(list(rows.values()), Decoding(TOKENS))
    return {key: row.tokens for key, row in rows.items()}


# Of what the usual ones lack: biased scores, compressed keys, joined matrices, state spaces, mixed windows.
KINDS = ("bloom", "deepseek_v3", "gpt_neox", "jamba", "cohere2", "mamba2")


def further(names):
    marks = {True: pytest.mark.slow, False: pytest.mark.thorough}
    return [pytest.param(name, id=name, marks=marks[name in KINDS]) for name in names]


@pytest.mark.parametrize("made", [*families.USUAL, *further(families.FURTHER)], indirect=True)
def test_both_arms_say_what_generate_says(made, request):
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.decode.cuda_graph import CudaGraphRunner
    from medcot.engine.decode.eager import StockRunner, use_grouped_attention

    base, adapter = made
    decoder = opened(base, adapter)
    alone = {"base": loaded(base), "tuned": PeftBackend().with_adapter(loaded(base), adapter)}
    rows = {(row.arm, n): row.prompt for n, q in enumerate(QUESTIONS) for row in decoder.rows_for(q)}
    whole = {(arm, n): generated(alone[arm], prompt) for (arm, n), prompt in rows.items()}
    longest = max(whole.values(), key=len)
    end = longest[len(longest) // 2]  # so that some rows leave the batch before others
    wanted = {key: t[: t.index(end) + 1] if end in t else t for key, t in whole.items()}
    assert said(decoder, end) == wanted
    assert len({len(tokens) for tokens in wanted.values()}) > 1, "rows must end at different times"
    assert (type(decoder.runner) is StockRunner) == (request.node.callspec.id in families.SLOWER)
    assert any(whole["base", n] != whole["tuned", n] for n in range(len(QUESTIONS))), "the adapter must matter"
    # As on a GPU, whose steps are only used where they pass the same check.
    use_grouped_attention(decoder.model)
    in_place = CudaGraphRunner(decoder.model, decoder.runner._arms, print, capture=False)
    if decoder.reference.difference(in_place) is None:
        decoder.runner = in_place
        assert said(decoder, end) == wanted


@pytest.mark.parametrize(
    "made", ["openai-gpt", *further(sorted(families.REFUSED.keys() - {"openai-gpt"}))], indirect=True
)
def test_a_family_that_cannot_be_decoded_in_a_batch_is_refused_in_words(made):
    with pytest.raises(BadInput, match=r"models of the family .* cannot be decoded .* Choose a model of another"):
        opened(*made)
