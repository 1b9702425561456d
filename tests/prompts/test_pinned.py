"""The template that travels with a model: rendered plainly, on any day, it is the contract's prompt."""

import pytest

from medcot import prompts
from medcot.prompts.pinned import pinned_template
from medcot.settings import PromptSettings
from tests import tiny
from tests.engine.gguf.test_modelfile import LLAMA_3, QWEN_3

QUESTION = "What suggests gout?"
ASKS_THE_CLOCK = (
    "{%- set today = strftime_now('%Y-%m-%d') %}{%- set year = today.split('-')[0] %}"
    "{{- 'It is ' + strftime_now('%A, %B %-d') + ' of ' + year + '. ' }}{%- if strftime_now is defined %}!{%- endif %}"
    "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
NAMED = {"default": tiny.CHAT_TEMPLATE, "tool_use": "{{ messages[0]['content'] }}<think>{{ 'tools' }}"}


def of(template, **settings):
    tokenizer = tiny.build_tokenizer()
    tokenizer.chat_template = template
    return tokenizer, prompts.make_contract(PromptSettings(**settings), tokenizer)


@pytest.mark.parametrize(
    ("template", "settings", "words"),
    [
        (QWEN_3, {"system": 'Say "please".\nBe brief.'}, 'Say "please".\nBe brief.'),
        (LLAMA_3, {}, "26 Jul 2024"),
        (ASKS_THE_CLOCK, {"system": "Be brief."}, "It is Friday, July 26 of 2024. !"),
        (NAMED, {}, "<|im_start|>user"),
        (tiny.CHAT_TEMPLATE, {"style": "plain"}, "Think step by step"),
    ],
    ids=["switches and a system text", "a date", "the clock", "several by name", "plain"],
)
def test_it_needs_nothing_to_be_told(template, settings, words):
    tokenizer, contract = of(template, **settings)
    wanted = prompts.prompt_text(tokenizer, contract, QUESTION)
    assert words in wanted
    tokenizer.chat_template = pinned_template(tokenizer, contract)
    user = [{"role": "user", "content": QUESTION}]
    assert tokenizer.apply_chat_template(user, tokenize=False, add_generation_prompt=True) == wanted
    assert prompts.prompt_text(tokenizer, contract, QUESTION) == wanted, "whoever gives it the contract's values, too"
