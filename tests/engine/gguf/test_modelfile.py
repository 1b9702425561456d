"""The Modelfile's template says what the model's own template says: rendered here by a small reader of Go's language.

Ollama itself is not to be had here. The reader below knows what these templates use: if, else, else if, range over the
messages, eq, and, and the fields. Ollama joins system messages into .System and keeps them among .Messages.
"""

import re
import shlex
from dataclasses import replace

import pytest

from medcot import prompts
from medcot.engine.gguf.readme import About, commands, modelfile, readme
from medcot.engine.gguf.template import conversations, go_template, stops
from medcot.errors import BadInput
from medcot.prompts.chat_template import ChatTemplate
from medcot.prompts.pinned import pinned_template
from medcot.settings import PromptSettings
from tests import tiny
from tests.prompts.test_chat_template import NAMES, UNFIT, of_family

LLAMA_3 = (
    "{{- bos_token }}{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content']|trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\nToday: ' + date_string + '\n\n' + system + '<|eot_id|>' }}"
    "{%- for m in messages %}{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content']|trim"
    " + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
GEMMA = (
    "{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}{%- set first = messages[0]['content'] + '\n\n' -%}"
    "{%- set rest = messages[1:] -%}{%- else -%}{%- set first = '' -%}{%- set rest = messages -%}{%- endif -%}"
    "{%- for m in rest -%}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\n'"
    " + (first if loop.first else '') + m['content'] | trim + '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{'<start_of_turn>model\n'}}{%- endif -%}"
)
MISTRAL = (
    "{{- bos_token }}{%- for m in messages %}{%- if m['role'] == 'user' %}{{- '[INST] ' + m['content'] + '[/INST]' }}"
    "{%- elif m['role'] == 'assistant' %}{{- ' ' + m['content'] + eos_token }}{%- else %}"
    "{{- raise_exception('no system') }}{%- endif %}{%- endfor %}"
)
QWEN_3 = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{%- endif %}{%- for m in messages %}{%- if m['role'] != 'system' %}{%- set text = m['content'] %}"
    "{%- if '</think>' in text %}{%- set text = text.split('</think>')[-1] %}{%- endif %}"
    "{{- '<|im_start|>' + m['role'] + '\n' + text + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- if enable_thinking is defined and"
    " enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- else %}{{- '<think>\n' }}{%- endif %}{%- endif %}"
)
QWEN_2 = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}{{ '<|im_start|>system\nYou are helpful."
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PHI_3 = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{'<|system|>\n' + m['content'] + '<|end|>\n'}}"
    "{% elif m['role'] == 'user' %}{{'<|user|>\n' + m['content'] + '<|end|>\n'}}{% elif m['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + m['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
TEMPLATES = {
    **{"starter": tiny.CHAT_TEMPLATE, "llama 3": LLAMA_3, "gemma 3": GEMMA, "mistral": MISTRAL},
    **{"qwen 2": QWEN_2, "qwen 3": QWEN_3, "phi 3": PHI_3},
}


def go(template, messages):
    """What Ollama makes of a template and a conversation."""
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    pieces = re.split(r"\{\{-?\s*(.*?)\s*-?\}\}", template)
    tokens = [("text" if i % 2 == 0 else "do", piece) for i, piece in enumerate(pieces)]
    said, rest = run(tokens, {"System": system, "Messages": messages})
    assert not rest
    return said


def run(tokens, scope):
    """(text, tokens left), up to the `end` or `else` of the block that it is in."""
    said = ""
    while tokens:
        (kind, what), tokens = tokens[0], tokens[1:]
        if kind == "text":
            said += what
        elif what.startswith("if "):
            text, tokens = choose(what[3:], tokens, scope)
            said += text
        elif what.startswith("range "):
            assert what == "range $i, $_ := .Messages"
            for number, message in enumerate(scope["Messages"]):
                inside = {**scope, "$i": number, "Role": message["role"], "Content": message["content"]}
                text, after = run(tokens, inside)
                said += text
            tokens = after[1:]
        elif what == "end" or what.startswith("else"):
            return said, [(kind, what), *tokens]
        else:
            said += str(value(what, scope))
    return said, tokens


def choose(condition, tokens, scope):
    taken = bool(value(condition, scope))
    text, tokens = run(tokens, scope)
    said = text if taken else ""
    while tokens[0][1] != "end":
        branch, tokens = tokens[0][1], tokens[1:]
        here = not taken and (branch == "else" or bool(value(branch.removeprefix("else if "), scope)))
        text, tokens = run(tokens, scope)
        said, taken = (said + text, True) if here else (said, taken)
    return said, tokens[1:]


def value(expression, scope):
    if found := re.fullmatch(r'eq \.(\w+) "(\w+)"', expression):
        return scope[found[1]] == found[2]
    if found := re.fullmatch(r"and \(eq \$i 1\) \$\.(\w+)", expression):
        return scope["$i"] == 1 and scope[found[1]]
    return scope[re.fullmatch(r"\$?\.(\w+)", expression)[1]]


def of(template, **settings):
    tokenizer = tiny.build_tokenizer()
    tokenizer.chat_template = template
    return tokenizer, prompts.make_contract(PromptSettings(**settings), tokenizer)


@pytest.mark.parametrize("name", TEMPLATES)
def test_ten_conversations_come_out_as_from_the_models_own_template(name):
    tokenizer, contract = of(TEMPLATES[name])
    own = ChatTemplate(tokenizer, contract.date_string, contract.switches)
    talks = conversations(system=name not in ("mistral",))
    assert len(talks) == 10
    template = go_template(tokenizer, contract)
    assert [go(template, talk) for talk in talks] == [own.render(talk, ask=True) for talk in talks]


@pytest.mark.parametrize("system", [None, "Be brief."], ids=["", "with a system text"])
@pytest.mark.parametrize("name", sorted(set(NAMES) - UNFIT - {n for n in NAMES if n.endswith("_training")}))
def test_real_templates_travel_in_both_languages(name, system):
    """Those that TRL has stored: pinned in Jinja, and in Go as the contract's prompt and as ten conversations."""
    if system and name == "gemma":
        pytest.skip("refuses a system text")
    tokenizer, user = of_family(name), {"role": "user", "content": "What suggests gout?"}
    contract = prompts.make_contract(PromptSettings(system=system), tokenizer)
    wanted = prompts.prompt_text(tokenizer, contract, user["content"])
    own, told = (
        ChatTemplate(tokenizer, contract.date_string, contract.switches),
        [{"role": "system", "content": system}],
    )
    template = go_template(tokenizer, contract)
    assert go(template, [*(told if system else []), user]) == wanted
    talks = conversations(system=name != "gemma")
    assert [go(template, talk) for talk in talks] == [own.render(talk, ask=True) for talk in talks]
    tokenizer.chat_template = pinned_template(tokenizer, contract)
    assert tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True) == wanted


def test_a_template_with_another_rule_is_refused():
    counting = "{% for m in messages %}{{ loop.index ~ m['role'] ~ ': ' ~ m['content'] ~ '\n' }}{% endfor %}a: "
    tokenizer, contract = of(counting)
    with pytest.raises(BadInput, match="follows a rule that the Modelfile's language does not have"):
        go_template(tokenizer, contract)


def test_the_plain_contract_too():
    tokenizer, contract = of(tiny.CHAT_TEMPLATE, style="plain")
    wanted = prompts.prompt_text(tokenizer, contract, "What suggests gout?")
    text = modelfile(tokenizer, contract, "a.gguf", 2048)
    assert 'PARAMETER stop "</response>"' in text
    assert f"{tokenizer.bos_token}" not in text.split('"""')[1]  # llama.cpp puts it there itself
    said = text.split('"""')[1].replace("{{ .Prompt }}", "What suggests gout?")
    assert tokenizer.bos_token + said == wanted


def test_the_modelfile_works_as_it_is():
    tokenizer, contract = of(tiny.CHAT_TEMPLATE, system="Be brief.")
    text = modelfile(tokenizer, contract, "a-Q8_0.gguf", 2048)
    assert text.startswith(
        'FROM ./a-Q8_0.gguf\nTEMPLATE """{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>'
    )
    lines = text.splitlines()
    for wanted in ("temperature 0", "repeat_penalty 1", "num_ctx 2048", 'stop "<|im_end|>"'):
        assert f"PARAMETER {wanted}" in lines
    assert 'SYSTEM """Be brief."""' in lines
    assert stops(tokenizer, contract) == ["<|im_end|>"]


def test_the_commands_end_answers_where_the_contract_does_and_can_be_pasted():
    _, contract = of(tiny.CHAT_TEMPLATE, style="plain")
    about = About("Azzam/llama 3B$(id)@0123", "starter", "Apache-2.0", contract, 8192)
    ollama, *llama = commands(about, "a.gguf")
    assert ollama.startswith("ollama create azzam-llama-3b--id--0123 -f Modelfile && ollama run azzam-llama")
    for line in llama:
        words = shlex.split(line)
        assert words[words.index("-r") + 1] == "</response>", "llama.cpp is told, not only asked"
    _, contract = of(tiny.CHAT_TEMPLATE)
    assert not [line for line in commands(replace(about, contract=contract), "a.gguf") if " -r " in line]


def test_an_adapters_commands_give_its_base_the_contracts_template():
    _, contract = of(tiny.CHAT_TEMPLATE)
    about = About("run", "starter", "Apache-2.0", contract, 8192)
    for line in commands(about, "base.gguf", adapter="run-LoRA.gguf")[1:]:
        assert "-m base.gguf --lora run-LoRA.gguf" in line
        assert "--jinja --chat-template-file chat_template.jinja" in line
        assert "add_bos_token" not in line
    other = commands(replace(about, other_bos=True), "base.gguf", adapter="run-LoRA.gguf", ollama=False)
    assert all("--override-kv tokenizer.ggml.add_bos_token=bool:false" in line for line in other)


def test_the_readme_says_the_three_commands_and_that_nothing_was_asked():
    _, contract = of(tiny.CHAT_TEMPLATE)
    about = About("run 1", "starter", "Apache-2.0", contract, 8192)
    text = readme(about, commands(about, "a b.gguf"), [], ["llama.cpp was not asked."])
    assert "ollama create run-1 -f Modelfile && ollama run run-1" in text
    assert "llama-server -m 'a b.gguf' -c 4096 --temp 0 --jinja --reasoning-format none" in text
    assert "llama-cli -m 'a b.gguf'" in text
    assert "was not asked" in text
    assert "For research only" in text
