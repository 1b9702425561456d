"""Over-long records: where sentences end, and what is kept of a reasoning so that its answer stays."""

import pytest
from transformers import AutoTokenizer

from medcot.prompts.contract import make_contract
from medcot.prompts.encoder import Encoder, sentence_ends
from medcot.settings import PromptSettings

QUESTION, ANSWER = "What is it?", "It is gout. Rest the joint."


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "One. Two!"]),
        ("At 3.5 mmol/l it is low. So treat.", ["At 3.5 mmol/l it is low."]),
        ("Dr. Poe, e.g. here, says so. Yes.", ["Dr. Poe, e.g. here, says so."]),
        ('He said "no." Then he left.', ['He said "no."']),
        ("- first\n- second\n\n- third", ["- first", "- first\n- second"]),
        ("先想。再答。", ["先想。"]),
        ("no end at all", []),
        ("", []),
    ],
)
def test_where_sentences_end(text, sentences):
    assert [text[:end] for end in sentence_ends(text)] == sentences


@pytest.mark.parametrize("style", ["chat", "plain"])
@pytest.mark.parametrize("reasoning", ["First a sign. " * 40, "Erst ein Zeichen,\n" * 40, "先看体征。" * 60])
def test_the_most_sentences_that_fit_are_kept_and_answer_and_end_token_stay(tokenizer, style, reasoning):
    contract = make_contract(PromptSettings(style=style), tokenizer)
    wide = Encoder(tokenizer, contract, "completion", 10**6, "shorten")
    whole = wide.encode(QUESTION, reasoning, ANSWER)
    assert (whole.truncated, whole.left_off) == (False, 0)
    ends = sentence_ends(reasoning)
    by_sentences = [wide.encode(QUESTION, reasoning[:end], ANSWER) for end in ends]
    for length in (len(by_sentences[0].input_ids), 110, len(whole.input_ids) - 1):
        found = Encoder(tokenizer, contract, "completion", length, "shorten").encode(QUESTION, reasoning, ANSWER)
        expected = [one for one in by_sentences if len(one.input_ids) <= length][-1]
        assert found.input_ids == expected.input_ids
        assert found.trained == expected.trained
        assert found.left_off == len(whole.input_ids) - len(expected.input_ids)
        assert not found.truncated
        assert found.input_ids[-1] == contract.eos_id
        assert ANSWER in tokenizer.decode(found.input_ids)
    short = len(by_sentences[0].input_ids) - 1
    unfit = Encoder(tokenizer, contract, "completion", short, "shorten").encode(QUESTION, reasoning, ANSWER)
    assert (unfit.truncated, unfit.left_off, len(unfit.input_ids)) == (True, 0, short)


def test_cutting_is_what_it_was(tokenizer):
    contract = make_contract(PromptSettings(style="chat"), tokenizer)
    whole = Encoder(tokenizer, contract, "completion", 10**6).encode(QUESTION, "A sign. " * 40, ANSWER)
    cut = Encoder(tokenizer, contract, "completion", 90, "cut").encode(QUESTION, "A sign. " * 40, ANSWER)
    assert cut.input_ids == whole.input_ids[:90]
    assert (cut.truncated, cut.left_off) == (True, 0)
