"""Records as tokens: conversations, and what is kept of a reasoning that is too long, so that its answer stays."""

import copy
from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from medcot.errors import BadInput
from medcot.prompts.contract import Exchange, encode_prompt, keeps_earlier_reasoning, make_contract
from medcot.prompts.encoder import Encoder, sentence_ends
from medcot.prompts.tags import Turn, completion_text
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


TURNS = [
    Turn("What is it?", "A swollen toe. So gout.", "Gout."),
    Turn("And which pill?", "", "None yet."),
    Turn("For how long?", "Attacks pass in days.", "Ten days, then look again."),
]
# As many models have it that reason: of earlier answers only what follows the reasoning.
FORGETS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}"
    "{{ m.content.split('</think>')[-1].lstrip() }}{% else %}{{ m.content }}{% endif %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def said_before(turns):
    return [Exchange(turn.question, turn.output) for turn in turns]


def expected(tokenizer, contract, turns, place):
    """(prompt, completion) of one turn by hand: what Chat would ask, and what it is to answer."""
    turn = turns[place]
    prompt = encode_prompt(tokenizer, contract, turn.question, said_before(turns[:place]))
    text = completion_text(turn.reasoning, turn.answer, opened=contract.opened)
    return prompt, [*tokenizer(text, add_special_tokens=False)["input_ids"], contract.eos_id]


def test_a_conversation_is_one_sequence_that_learns_each_answer_and_nothing_else(tokenizer):
    contract = make_contract(PromptSettings(), tokenizer)
    (one,) = Encoder(tokenizer, contract, "completion", 10**6).sequences(TURNS)
    first, third = (expected(tokenizer, contract, TURNS, place) for place in (0, 2))
    assert one.input_ids == third[0] + third[1]
    between = third[0][len(first[0]) + len(first[1]) :]
    masks = (len(first[0]), False), (len(first[1]), True), (len(between), False), (len(third[1]), True)
    assert one.trained == [learned for count, learned in masks for _ in range(count)]
    assert [i for i in one.labels if i != -100] == [*first[1], *third[1]]
    read = tokenizer.decode(between)
    assert "And which pill?<|im_end|>" in read
    assert "<response>\nNone yet.\n</response><|im_end|>" in read, "read, and not learned"


def test_where_the_template_forgets_reasoning_each_turn_is_learned_as_chat_asks_it(tokenizer):
    forgetful = copy.deepcopy(tokenizer)
    forgetful.chat_template = FORGETS
    contract = make_contract(PromptSettings(), forgetful)
    assert keeps_earlier_reasoning(tokenizer, make_contract(PromptSettings(), tokenizer))
    assert not keeps_earlier_reasoning(forgetful, contract)
    found = Encoder(forgetful, contract, "completion", 10**6).sequences(TURNS)
    for one, place in zip(found, (0, 2), strict=True):
        prompt, completion = expected(forgetful, contract, TURNS, place)
        assert one.input_ids == prompt + completion
        assert one.trained == [False] * len(prompt) + [True] * len(completion)
    assert "So gout" not in forgetful.decode(found[1].input_ids)


def test_a_record_of_one_turn_is_what_it_was_and_a_system_message_stands_before_it(tokenizer):
    contract = make_contract(PromptSettings(), tokenizer)
    encoder, turn = Encoder(tokenizer, contract, "completion", 10**6), TURNS[0]
    assert encoder.sequences([turn]) == [encoder.encode(turn.question, turn.reasoning, turn.answer)]
    spoken = replace(encoder, contract=make_contract(PromptSettings(system="Be brief."), tokenizer))
    assert encoder.sequences(TURNS, "Be brief.") == spoken.sequences(TURNS)
    with pytest.raises(BadInput, match="has no follow-ups"):
        replace(encoder, contract=make_contract(PromptSettings(style="plain"), tokenizer)).sequences(TURNS)


@pytest.mark.parametrize("overlong", ["shorten", "leave_out", "cut"])
def test_of_a_conversation_that_is_too_long_the_first_turns_stay(tokenizer, overlong):
    contract = make_contract(PromptSettings(), tokenizer)
    (whole,) = Encoder(tokenizer, contract, "completion", 10**6).sequences(TURNS)
    (first,) = Encoder(tokenizer, contract, "completion", 10**6).sequences(TURNS[:1])
    short = Encoder(tokenizer, contract, "completion", len(whole.input_ids) - 30, overlong)
    found = short.sequences(TURNS)
    if overlong == "cut":
        assert [(one.input_ids, one.truncated) for one in found] == [(whole.input_ids[:-30], True)]
        assert found[0].trained == whole.trained[:-30]
    else:
        assert found[0] == first
        assert [one.truncated for one in found] == [False, True]
