"""Chat templates of many families, and such that refuse, forget, date or write tags: asked, or refused in words."""

import copy
import datetime
import functools
import importlib.util
import re
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcot.errors import BadInput
from medcot.prompts.contract import (
    Exchange,
    PromptContract,
    encode_prompt,
    keeps_earlier_reasoning,
    make_contract,
    prompt_text,
)
from medcot.prompts.encoder import Encoder
from medcot.prompts.tags import TAGS, Turn, parse
from medcot.settings import PromptSettings
from tests import tiny

QUESTION, REASONING, ANSWER = "Why <rest> & 'ice'?\nFor how long?", "Swelling falls.\n\nSo rest.", "Two days."
FAMILIES = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
NAMES = sorted(path.stem for path in FAMILIES.glob("*.jinja"))
# Of models that see: their messages are lists of parts, and a text is left out.
UNFIT = {"idefics3", "idefics3_training", "llava_next", "llava_next_training"}
SPECIAL = re.compile(r"<[|｜][^<>\s'\"{}]+[|｜]>|<(?:start|end)_of_turn>|<\|(?:turn|channel)>|<(?:turn|channel)\|>")
ENDS = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "deepseek_r1_distill": "<｜end▁of▁sentence｜>",
    "gemma3": "<end_of_turn>",
    "gptoss": "<|return|>",
    "llama3_2": "<|eot_id|>",
    "phi3": "<|end|>",
    "qwen3": "<|im_end|>",
}
CHATML = tiny.CHAT_TEMPLATE
TURN = "<|im_start|>assistant\n"


tiny_tokenizer = functools.cache(tiny.build_tokenizer)


def tokenizer_with(template, *, tokens=(), special=False):
    """The tiny tokenizer under another chat template, with further tokens."""
    from tokenizers import AddedToken

    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = template
    tokenizer.add_tokens([AddedToken(token, special=special, normalized=False) for token in tokens])
    return tokenizer


def of_family(name):
    template = (FAMILIES / f"{name}.jinja").read_text(encoding="utf-8")
    return tokenizer_with(template, tokens=sorted(set(SPECIAL.findall(template))), special=True)


def opening(text, *, condition="add_generation_prompt"):
    """ChatML that writes a text of its own at the start of an answer."""
    return CHATML + "{% if " + condition + " %}{{ '" + text.replace("\n", "\\n") + "' }}{% endif %}"


def on(monkeypatch, day):
    from transformers.utils import chat_template_utils

    class Day(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return day

    monkeypatch.setattr(chat_template_utils, "datetime", Day)


def taught(tokenizer, contract):
    """What a record's tokens say after the question, as text."""
    encoded = Encoder(tokenizer, contract, "completion", 4096).encode(QUESTION, REASONING, ANSWER)
    return tokenizer.decode(encoded.input_ids).rpartition(QUESTION)[2]


# ---- families


@pytest.mark.parametrize("name", sorted({*NAMES} - UNFIT))
def test_a_familys_template_gives_back_question_tags_and_end_on_every_day(name, monkeypatch):
    tokenizer = of_family(name)
    contract = make_contract(PromptSettings(), tokenizer)
    prompt = prompt_text(tokenizer, contract, QUESTION)
    assert prompt.count(QUESTION) == 1
    text = taught(tokenizer, contract)
    assert [text.count(tag) for tag in TAGS] == [1, 1, 1, 1], text
    assert text.endswith(f"</response>{contract.eos_token}")
    said = parse(text[text.index(TAGS[0]) :].removesuffix(contract.eos_token))
    assert (said.reasoning, said.answer, said.problems) == (REASONING, ANSWER, ())
    assert contract.eos_token == ENDS.get(name, contract.eos_token)
    for day in (datetime.datetime(2031, 1, 2), datetime.datetime(2032, 3, 4)):
        on(monkeypatch, day)
        assert (make_contract(PromptSettings(), tokenizer), prompt_text(tokenizer, contract, QUESTION)) == (
            contract,
            prompt,
        )


@pytest.mark.parametrize("name", sorted(UNFIT))
def test_a_template_that_leaves_the_question_out_is_refused(name):
    with pytest.raises(BadInput, match=r"^prompt\.style: this model's chat template (changes or leaves out|cannot)"):
        make_contract(PromptSettings(), of_family(name))


@pytest.mark.parametrize("name", sorted({*NAMES} - UNFIT))
def test_a_familys_template_takes_a_system_text_or_refuses_it_in_words(name):
    tokenizer, prompt = of_family(name), PromptSettings(system="Be brief, & kind.")
    if name in ("gemma", "gemma_training"):
        with pytest.raises(BadInput, match=r"^prompt\.system: .*refuses a system text: System role not supported\. L"):
            make_contract(prompt, tokenizer)
    else:
        contract = make_contract(prompt, tokenizer)
        assert prompt_text(tokenizer, contract, QUESTION).count("Be brief, & kind.") == 1


@pytest.mark.parametrize("name", sorted({*NAMES} - UNFIT))
def test_a_familys_template_goes_on_after_an_answer(name):
    tokenizer = of_family(name)
    contract = make_contract(PromptSettings(), tokenizer)
    said = Exchange("First?", f"<think>\n{REASONING}\n</think>\n<response>\n{ANSWER}\n</response>")
    text = tokenizer.decode(encode_prompt(tokenizer, contract, QUESTION, [said]))
    earlier = text[text.index("First?") : text.index(QUESTION)]
    assert f"<response>\n{ANSWER}\n</response>" in earlier
    assert earlier.count(TAGS[0]) <= 1, "a template may leave earlier reasoning out, or write an empty one in its place"
    assert text.endswith(prompt_text(tokenizer, contract, QUESTION)[-10:])

    encoder = Encoder(tokenizer, contract, "completion", 4096)
    sequences = encoder.sequences([Turn("First?", REASONING, ANSWER), Turn(QUESTION, REASONING, ANSWER)])
    alone, asked = learned_runs([encoder.encode(QUESTION, REASONING, ANSWER)]), len(sequences)
    assert learned_runs(sequences) == alone * 2, "each answer is learned once, and as it is without a conversation"
    assert sequences[-1].input_ids == encode_prompt(tokenizer, contract, QUESTION, [said]) + alone[0]
    assert asked == 2 or keeps_earlier_reasoning(tokenizer, contract), "in one sequence only if nothing is forgotten"


def learned_runs(sequences):
    """The token ids that the loss sees, run by run."""
    runs = []
    for one in sequences:
        for is_learned, pairs in groupby(zip(one.trained, one.input_ids, strict=True), key=lambda pair: pair[0]):
            runs += [[token for _, token in pairs]] if is_learned else []
    return runs


# ---- tags that a template writes itself


@pytest.mark.parametrize("written", ["<think>", "<think>\n", "<think>\n\n", "<think> "])
def test_the_completion_begins_after_a_tag_that_the_template_opens(written):
    tokenizer = tokenizer_with(opening(written))
    contract = make_contract(PromptSettings(), tokenizer)
    assert contract.opened == written
    assert prompt_text(tokenizer, contract, QUESTION).endswith(TURN + written)
    text = taught(tokenizer, contract)
    assert [text.count(tag) for tag in TAGS] == [1, 1, 1, 1]
    assert parse(text[text.index(TAGS[0]) :].removesuffix("<|im_end|>")).strict
    encoded = Encoder(tokenizer, contract, "completion", 4096).encode(QUESTION, REASONING, ANSWER)
    assert TAGS[0] not in tokenizer.decode([i for i, t in zip(encoded.input_ids, encoded.trained, strict=True) if t])


SWITCHES = [
    ("enable_thinking", "<think>\\n\\n</think>\\n\\n", "enable_thinking is not defined or not enable_thinking", True),
    ("enable_thinking", "<think>\\n", "enable_thinking is not defined or enable_thinking", False),
    ("thinking", "<think>", "thinking | default(true)", False),
    ("reasoning", "<think>\\n", "reasoning is not defined or reasoning", False),
    ("do_think", "<think></think>", "not do_think", True),
    ("enable_reasoning", "<response>", "enable_reasoning != false", False),
]


@pytest.mark.parametrize(("name", "written", "condition", "value"), SWITCHES)
def test_a_switch_that_leaves_the_templates_own_tags_out_is_used_and_kept(name, written, condition, value):
    tokenizer = tokenizer_with(opening(written, condition=f"add_generation_prompt and ({condition})"))
    contract = make_contract(PromptSettings(), tokenizer)
    assert (contract.switches, contract.opened) == ({name: value}, "")
    assert prompt_text(tokenizer, contract, QUESTION).endswith(TURN)
    assert contract.title == f"chat, {name}={str(value).lower()}"
    assert PromptContract.model_validate_json(contract.model_dump_json()) == contract


def test_a_switch_between_an_empty_and_an_opened_tag_is_set_to_open_it():
    template = CHATML + (
        "{% if add_generation_prompt %}{% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n"
        "{% endif %}{% endif %}"
    )
    contract = make_contract(PromptSettings(), tokenizer_with(template))
    assert (contract.switches, contract.opened) == ({"enable_thinking": True}, "<think>\n")


def test_a_template_without_tags_is_given_no_switch_and_its_contract_is_the_file_that_it_was():
    template = opening("<think>\\n\\n</think>", condition="add_generation_prompt and enable_thinking is false")
    contract = make_contract(PromptSettings(), tokenizer_with(template))
    assert (contract.switches, contract.opened) == ({}, "")
    assert not {"switches", "opened"} & contract.model_dump(mode="json").keys()


@pytest.mark.parametrize(
    "written", ["<think>\n\n</think>\n\n", "< Think >", "<response>", "<think>\nWell, ", "</think>", "<think><think>"]
)
def test_a_template_that_always_writes_other_tags_is_refused(written):
    tokenizer = tokenizer_with(opening(written))
    with pytest.raises(BadInput, match=r"so the tag would be learned twice\. Choose a model whose template does not"):
        make_contract(PromptSettings(), tokenizer)
    assert make_contract(PromptSettings(style="plain"), tokenizer).style == "plain"


@pytest.mark.parametrize("own", ["[THINK]", "<|channel|>analysis", "<reasoning>", "<thought>\n", "<|START_THINKING|>"])
def test_other_tags_of_a_model_stay_as_the_template_writes_them(own):
    tokenizer = tokenizer_with(opening(own), tokens=[own.strip()], special=True)
    contract = make_contract(PromptSettings(), tokenizer)
    assert taught(tokenizer, contract).endswith(
        f"{TURN}{own}<think>\n{REASONING}\n</think>\n<response>\n{ANSWER}\n</response><|im_end|>"
    )


def test_what_stands_before_the_question_is_no_part_of_the_answer():
    assert make_contract(PromptSettings(), tokenizer_with("{{ 'Think in <think> tags.' }}" + CHATML)).opened == ""


# ---- tags that are tokens


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("tokens", [TAGS, TAGS[:2], TAGS[2:]])
def test_tags_that_are_tokens_are_taught_as_the_tokens_and_typed_ones_stay_text(tokens, special):
    tokenizer = tokenizer_with(CHATML, tokens=tokens, special=special)
    contract = make_contract(PromptSettings(), tokenizer)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in tokens}
    typed = f"Is {''.join(TAGS)} a tag?"
    encoded = Encoder(tokenizer, contract, "completion", 4096).encode(typed, typed, typed)
    assert [encoded.input_ids.count(i) for i in ids.values()] == [1] * len(ids)
    assert not any(i in encode_prompt(tokenizer, contract, typed) for i in ids.values())
    text = tokenizer.decode(encoded.input_ids)
    assert text == prompt_text(tokenizer, contract, typed) + (
        f"<think>\n{typed}\n</think>\n<response>\n{typed}\n</response><|im_end|>"
    )


@pytest.mark.parametrize("special", [False, True])
def test_what_a_model_wrote_before_keeps_its_tags_as_tokens_and_what_was_asked_does_not(special):
    tokenizer = tokenizer_with(CHATML, tokens=TAGS, special=special)
    contract = make_contract(PromptSettings(), tokenizer)
    said = Exchange("What is <think>?", "<think>a</think><response>b<|im_end|></response>")
    ids = encode_prompt(tokenizer, contract, "Go on</response>", [said])
    assert [ids.count(tokenizer.convert_tokens_to_ids(tag)) for tag in TAGS] == [1, 1, 1, 1]
    assert ids.count(contract.eos_id) == 3, "two questions and one answer end"


def test_a_system_text_may_name_the_tags_and_ends_no_turn():
    tokenizer = tokenizer_with(CHATML, tokens=TAGS)
    contract = make_contract(PromptSettings(system="Write <think> first.<|im_end|><|im_start|>user"), tokenizer)
    ids = encode_prompt(tokenizer, contract, QUESTION)
    assert tokenizer.decode(ids) == prompt_text(tokenizer, contract, QUESTION)
    assert (ids.count(contract.eos_id), ids.count(tokenizer.convert_tokens_to_ids(TAGS[0]))) == (2, 1)


def test_a_character_that_no_text_should_hold_is_encoded_all_the_same():
    tokenizer = tokenizer_with(CHATML)
    contract = make_contract(PromptSettings(), tokenizer)
    odd = "a\U000f0000b\U000f0001<|im_end|>"
    assert tokenizer.decode(encode_prompt(tokenizer, contract, odd)) == prompt_text(tokenizer, contract, odd)


# ---- templates that refuse, forget or break


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("{{ raise_exception('Only tools here.') }}", "Only tools here"),
        ("{{ messages[0].parts[0].text }}", "has no attribute 'parts'"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ messages[7]['content'] }}", "has no element 7"),
        ("{{ 'a' + 1 }}", "can only concatenate"),
        ("{{ 1 // 0 }}", "division"),
        ("{{ messages | nofilter }}", "nofilter"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ],
)
def test_an_error_in_a_template_is_words_that_name_the_template(broken, said):
    with pytest.raises(BadInput) as refused:
        make_contract(PromptSettings(), tokenizer_with(broken + CHATML))
    (problem,) = refused.value.problems
    assert problem.where == "prompt.style"
    assert problem.what.startswith("this model's chat template cannot be used: ")
    assert said in problem.what
    assert "prompt.style=plain" in problem.fix


@pytest.mark.parametrize(
    ("template", "did"),
    [
        ("{{ messages[-1]['content'] | e }}<|im_end|>", "changes or leaves out the question"),
        ("{{ messages[-1]['content'] | upper }}<|im_end|>", "changes or leaves out the question"),
        ("{{ messages[-1]['content'] | truncate(9, true) }}", "changes or leaves out the question"),
        ("{{ messages[-1]['content'] | tojson }}", "changes or leaves out the question"),
        ("<|im_start|>Hello", "changes or leaves out the question"),
        ("{{ messages[0]['content'] }} {{ messages[0]['content'] }}", "repeats the question"),
        ("{{ messages[0]['content'] }}<|im_end|>", "leaves out the assistant's text"),
        (CHATML + "{{ range(10 ** 5) | random }}", "writes another prompt each time"),
    ],
)
def test_a_template_that_does_not_give_back_what_it_is_given_is_refused(template, did):
    with pytest.raises(BadInput, match=re.escape(f"this model's chat template {did}.")):
        make_contract(PromptSettings(), tokenizer_with(template))


@pytest.mark.parametrize(
    ("template", "did"),
    [
        (
            "{% if messages[0].role == 'system' %}{{ raise_exception('No system turn.') }}{% endif %}" + CHATML,
            "refuses a system text: No system turn.",
        ),
        (
            "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}",
            "changes a system text, or leaves it out.",
        ),
        (
            "{% if (messages[0].role == 'user') != true %}{{ raise_exception('Turns must alternate') }}{% endif %}"
            + CHATML,
            "refuses a system text: Turns must alternate.",
        ),
    ],
)
def test_a_template_without_system_text_says_so_of_the_setting(template, did):
    tokenizer = tokenizer_with(template)
    with pytest.raises(BadInput, match=r"Leave prompt\.system out") as refused:
        make_contract(PromptSettings(system="Be brief."), tokenizer)
    assert str(refused.value).startswith(f"prompt.system: this model's chat template {did}")
    assert make_contract(PromptSettings(), tokenizer)


@pytest.mark.parametrize("before", ["<think>\n\n</think>\n\n", "<think></think>"])
def test_reasoning_that_a_template_writes_before_earlier_answers_stands_in_place_of_theirs(before):
    written = "{% if m.role == 'assistant' %}" + before + "{% endif %}"
    tokenizer = tokenizer_with(
        "Write <think> first.{% for m in messages %}" + written + "{{ m.content }}<|im_end|>{% endfor %}"
    )
    contract = make_contract(PromptSettings(), tokenizer)
    said = [
        Exchange("What is <think>?", "<think>a</think>\n<response>b</response>"),
        Exchange("And?", "<think>only this</think>"),
        Exchange("So?", "no tags"),
    ]
    assert prompt_text(tokenizer, contract, "Why?", said) == (
        f"Write <think> first.What is <think>?<|im_end|>{before}<response>b</response><|im_end|>And?<|im_end|>{before}"
        f"<think>only this</think><|im_end|>So?<|im_end|>{before}no tags<|im_end|>Why?<|im_end|>"
    )


@pytest.mark.parametrize("output", ["", " \n"])
def test_a_follow_up_that_the_template_refuses_is_a_problem_of_the_question(output):
    template = (
        "{% for m in messages %}{% if not m.content %}{{ raise_exception('A turn must hold text') }}{% endif %}"
        "{{ m.content }}<|im_end|>{% endfor %}"
    )
    tokenizer = tokenizer_with(template)
    contract = make_contract(PromptSettings(), tokenizer)
    words = "question: this model's chat template refuses what was said before: A turn must hold text. Start a"
    with pytest.raises(BadInput, match=re.escape(words)):
        encode_prompt(tokenizer, contract, "And then?", [Exchange("First?", output)])


def test_a_template_without_an_end_of_its_own_ends_with_the_tokenizers():
    template = "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}### assistant:\n"
    tokenizer = tokenizer_with(template)
    contract = make_contract(PromptSettings(), tokenizer)
    assert contract.eos_token == tokenizer.eos_token
    assert taught(tokenizer, contract).endswith("</response><|im_end|>")


@pytest.mark.parametrize("clock", ["strftime_now('%d %B %Y')", "date_string", "strftime_now('%A')"])
def test_a_date_in_a_template_is_the_contracts(clock, monkeypatch):
    tokenizer = tokenizer_with("Today is {{ " + clock + " }}.\n" + CHATML)
    on(monkeypatch, datetime.datetime(2031, 1, 2))
    contract = make_contract(PromptSettings(), tokenizer)
    first = prompt_text(tokenizer, contract, QUESTION)
    assert first.splitlines()[0] in ("Today is 26 July 2024.", "Today is 26 Jul 2024.", "Today is Friday.")
    on(monkeypatch, datetime.datetime(2032, 3, 4))
    assert prompt_text(tokenizer, contract, QUESTION) == first
    other = contract.model_copy(update={"date_string": "tomorrow"})
    if clock == "date_string":
        assert prompt_text(tokenizer, other, QUESTION).startswith("Today is tomorrow.")
    else:
        with pytest.raises(BadInput, match="chat template cannot be used: time data 'tomorrow' does not match"):
            prompt_text(tokenizer, other, QUESTION)


# ---- whatever is typed

TYPED = st.lists(
    st.sampled_from([*TAGS, *tiny.SPECIAL, "<", "|im_end|>", " ", "\n", "x", "\U000f0000"]) | st.text()
).map("".join)


@settings(derandomize=True, deadline=None, database=None, max_examples=300)
@given(question=TYPED, reasoning=TYPED, answer=TYPED)
@pytest.mark.parametrize("special", [False, True])
def test_whatever_is_typed_comes_out_as_it_went_in_and_adds_no_token_of_the_template(
    special, question, reasoning, answer
):
    tokenizer, contract = tagged(special)
    encoded = Encoder(tokenizer, contract, "completion", 10**9).encode(question, reasoning, answer)
    expected = f"<think>\n{reasoning.strip()}\n</think>\n<response>\n{answer.strip()}\n</response><|im_end|>"
    assert tokenizer.decode(encoded.input_ids) == prompt_text(tokenizer, contract, question) + expected
    added = [i for i in encoded.input_ids if i in tokenizer.added_tokens_decoder]
    assert [tokenizer.decode([i]) for i in added] == [
        *("<|im_start|>", "<|im_end|>", "<|im_start|>"),
        *TAGS,
        "<|im_end|>",
    ]


@functools.cache
def tagged(special):
    tokenizer = tokenizer_with(CHATML, tokens=TAGS, special=special)
    return tokenizer, make_contract(PromptSettings(), tokenizer)


@pytest.mark.parametrize(
    "costs",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'a' * 4000000000 }}",
        "{{ 9 ** (9 ** 9) }}",
        "{% set x = namespace(l=['a']) %}{% for i in range(60) %}{% set x.l = x.l + x.l %}{% endfor %}",
        "{{ [messages] | join('a' * 9999999999) }}{{ 'a' | center(99999999999) }}",
    ],
    ids=["loops", "memory", "digits", "doubling", "filters"],
)
@pytest.mark.parametrize("where", ["always", "in a switch"])
def test_a_template_that_costs_without_end_is_refused_in_words(monkeypatch, costs, where):
    monkeypatch.setattr("medcot.prompts.chat_template.MOST_SECONDS", 2.0)
    template = costs + CHATML
    if where == "in a switch":
        template = "{% if my_reasoning is defined %}" + costs + "{% endif %}" + opening("<think>x</think>")
    with pytest.raises(BadInput, match=r"prompt\.style: this model's chat template"):
        make_contract(PromptSettings(style="chat"), tokenizer_with(template))


@pytest.mark.parametrize(
    ("costs", "words"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "more than 1 seconds"),
        ("{{ 9 ** (9 ** 9) }}", "more than 1 seconds"),
        ("{{ 'a' * 3000000 }}", "adds more than 1,000,000 characters"),
    ],
    ids=["loops", "digits", "length"],
)
def test_a_template_that_costs_without_end_for_one_question_is_refused_in_words_and_answers_others(
    monkeypatch, costs, words
):
    monkeypatch.setattr("medcot.prompts.chat_template.RENDER_SECONDS", 1.0)
    tokenizer = tokenizer_with("{% if 'gout' in messages[-1].content %}" + costs + "{% endif %}" + CHATML)
    contract = make_contract(PromptSettings(style="chat"), tokenizer)
    with pytest.raises(BadInput, match=rf"prompt\.style: this model's chat template cannot be used: .*{words}"):
        prompt_text(tokenizer, contract, "What suggests gout?")
    assert "asthma" in prompt_text(tokenizer, contract, "What suggests asthma?")
