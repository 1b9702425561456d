"""Judges on this machine: tiny models that are loaded and asked for real."""

import shutil

import pytest
import torch

from medcot.errors import BadInput
from medcot.evaluation.judge import asking
from medcot.evaluation.judge.asking import UNREADABLE, read
from medcot.settings.judging import judge_order

ASKS = [asking.single("reference", "What is it?", "Gout.", text) for text in ("Gout.", "Flu, " * 40, "No.")]


def nothing(event) -> None: ...


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, tiny_model):
    """A classifier of the tiny model's shape, whose second label grows with the text's length."""
    from transformers import AutoConfig, LlamaForSequenceClassification

    folder = tmp_path_factory.mktemp("classifier")
    shutil.copytree(tiny_model, folder, dirs_exist_ok=True)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(tiny_model, num_labels=2)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    return folder


def opened(**order):
    from medcot.engine.answer.local_judges import open_local

    return open_local(judge_order(None, None, **order), nothing)


def answers(judge, asks=ASKS):
    found = {}
    judge.ask(asks, str, lambda ask, said: found.__setitem__(ask, said))
    return [found[ask] for ask in asks]


def test_a_classifier_says_what_its_second_label_says_alone_and_in_a_batch(classifier):
    from medcot.engine.answer.local_judges import VERIFIER

    judge = opened(local=str(classifier), batch_size=3)
    together = answers(judge)
    alone = [said for ask in ASKS for said in answers(judge, [ask])]
    assert together == alone
    model, tokenizer = judge._model, judge._tokenizer
    for ask, said in zip(ASKS, together, strict=True):
        text = VERIFIER.format(answer=ask.answer, reference="Gout.", end=tokenizer.eos_token)
        with torch.inference_mode():
            share = model(**tokenizer(text, return_tensors="pt")).logits.float().softmax(-1)[0, 1].item()
        assert read(ask, said.text).said == ("right" if share > 0.5 else "wrong")
        assert f"a probability of {share:.2f}" in read(ask, said.text).why
    assert judge.writes is False


@pytest.mark.parametrize("asked", [{"how": "pair"}, {"how": "rubric"}, {"reasoning": True}])
def test_a_classifier_can_only_compare_with_a_reference(classifier, asked):
    with pytest.raises(BadInput, match="is a classifier, which compares an answer with its reference and nothing else"):
        opened(local=str(classifier), **asked)


def test_a_causal_model_is_asked_as_on_a_server_alone_and_in_a_batch(tiny_model):
    judge = opened(local=str(tiny_model), max_new_tokens=8, batch_size=3)
    together = answers(judge)
    assert [said.text for said in together] == [said.text for ask in ASKS for said in answers(judge, [ask])]
    assert all(0 <= said.tokens_out <= 8 for said in together)
    assert together[1].tokens_in > together[0].tokens_in
    assert [read(ask, said.text).said for ask, said in zip(ASKS, together, strict=True)] == [UNREADABLE] * 3
    assert judge.writes is True


def test_what_is_longer_than_the_judge_reads_is_told_before_anything_is_asked(tiny_model):
    judge = opened(local=str(tiny_model), max_new_tokens=8)
    long = asking.single("reference", "What is it?", "Gout.", "Gout. " * 4000)
    with pytest.raises(BadInput, match=r"record 9: \d+ tokens, and 8 may follow; the judge reads \d+"):
        judge.ask([*ASKS, long], lambda ask: "record 9" if ask is long else "another", nothing)


def test_a_judge_that_is_no_model_is_told(tmp_path):
    with pytest.raises(BadInput, match=r"holds no config\.json"):
        opened(local=str(tmp_path))
