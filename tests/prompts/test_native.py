"""What families of models write in a form of their own: read in its parts, told, and never what is trained."""

import pytest

from medcot.evaluation import metrics
from medcot.prompts import contract_differences
from medcot.prompts.contract import Exchange, PromptContract, encode_prompt, make_contract
from medcot.prompts.tags import TAGS, parse, without_half_a_tag
from medcot.settings import PromptSettings
from tests.prompts.test_chat_template import CHATML, NAMES, UNFIT, of_family, tokenizer_with

REASONING, ANSWER = "Swelling falls.\n\nSo rest.", "Two days."
# Of TRL's templates, those that write no reasoning of a last answer, or none at all.
SILENT = {"cohere", "cohere2", "deepseek_r1_distill", "deepseekv3", "gemma", "gemma3", "gemma4", "lfm2", "llama3"}
SILENT |= {"llama3_1", "llama3_2", "phi3", "phi3_5", "qwen2_5", "qwen2_5_vl", "qwen3_instruct_2507", "qwen3_vl"}
NAMED_THINKING = {"gptoss", "lfm2_2_5", "lfm2_2_5_vl"}
GEMMA, HARMONY = ("<|channel>thought", "<channel|>"), ("<|channel|>analysis<|message|>", "<|end|>")
NATIVE = {
    "gptoss": HARMONY,
    "gemma4": GEMMA,
    "diffusion_gemma": GEMMA,
    "muse_glimmer": ("to=self<|message|>", "<|eom|>"),
}
# As public parsers read it, for families of which TRL has no template that writes it.
SHOWN = {
    "mistral": f"[THINK]{REASONING}[/THINK]{ANSWER}",
    "cohere": f"<|START_THINKING|>{REASONING}<|END_THINKING|><|START_RESPONSE|>{ANSWER}<|END_RESPONSE|>",
    "gemma": f"<|channel>thought\n{REASONING}\n<channel|>{ANSWER}",
    "seed": f"<seed:think>{REASONING}</seed:think>{ANSWER}",
    "apertus": f"<|inner_prefix|>{REASONING}<|inner_suffix|>{ANSWER}",
    "gpt-oss": f"<|channel|>analysis<|message|>{REASONING}<|end|><|start|>assistant<|channel|>final<|message|>{ANSWER}",
}


def native_names(name):
    return name.removesuffix("_training")


def said_by(name):
    """A family's own output: what its template writes of an answer and its reasoning, behind the prompt."""
    tokenizer = of_family(name)
    contract = make_contract(PromptSettings(), tokenizer)
    named = "thinking" if native_names(name) in NAMED_THINKING else "reasoning_content"
    said = {"role": "assistant", "content": ANSWER, named: REASONING}
    asked = [{"role": "user", "content": "Why?"}]
    whole = tokenizer.apply_chat_template([*asked, said], tokenize=False, enable_thinking=True)
    head = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True, enable_thinking=True)
    text = whole[len(head.removesuffix(contract.opened)) :]
    return contract, text.partition(contract.eos_token)[0]


@pytest.mark.parametrize("name", sorted({*NAMES} - UNFIT))
def test_a_familys_own_output_is_read_in_its_parts(name):
    contract, text = said_by(name)
    found = parse(text)
    if REASONING in text:
        assert (found.reasoning, found.answer) == (REASONING, ANSWER)
    else:
        assert native_names(name) in SILENT
        assert found.answer == ANSWER
    assert not found.strict, "the form that is trained is another"
    assert contract.native == NATIVE.get(native_names(name), ())


@pytest.mark.parametrize("family", SHOWN)
def test_the_form_is_told_and_counts_as_found_and_not_as_kept(family):
    found = parse(text := SHOWN[family])
    assert (found.reasoning, found.answer) == (REASONING, ANSWER)
    own = text.partition(REASONING)[0].strip()
    assert found.problems == (f"{own} is not written <think>", "text outside the tags", "no <response> tag")
    scored = metrics.score(text, REASONING, ANSWER)
    assert (scored.answer_rouge_l, scored.lenient, scored.strict) == (1.0, True, False)
    asked_for = parse(text.replace(ANSWER, f"<response>{ANSWER}</response>"))
    assert (asked_for.answer, asked_for.strict) == (ANSWER, False)


@pytest.mark.parametrize("family", SHOWN)
def test_while_it_comes_no_half_of_a_mark_is_shown(family):
    text = SHOWN[family]
    for end in range(len(text) + 1):
        found = parse(without_half_a_tag(text[:end]))
        assert REASONING.startswith(found.reasoning), text[:end]
        assert ANSWER.startswith(found.answer), text[:end]


@pytest.mark.parametrize("family", SHOWN)
def test_reasoning_that_the_prompt_opened_or_that_the_limit_ended_is_reasoning(family):
    head, _, rest = SHOWN[family].partition(REASONING)
    assert (parse(head + "Swelling").reasoning, parse(head + "Swelling").answer) == ("Swelling", "")
    found = parse(REASONING + rest)
    assert (found.reasoning, found.answer) == (REASONING, ANSWER)
    assert "<think> is not opened" in found.problems


@pytest.mark.parametrize("text", [f"<|START_RESPONSE|>{ANSWER}", f"<|channel|>final<|message|>{ANSWER}"])
def test_an_answer_without_reasoning_is_shown_without_its_marks(text):
    assert parse(text).answer == ANSWER
    assert not parse(text).reasoning


@pytest.mark.parametrize("mark", ["[THINK]", "[/THINK]", "<|end|>", "<|START_THINKING|>"])
def test_a_mark_in_the_trained_form_or_in_a_sentence_is_text(mark):
    whole = f"<think>\nWhat is {mark}?\n</think>\n<response>\nA mark, {mark}.\n</response>"
    assert parse(whole).strict
    assert parse(f"<think>It is {mark}.</think>So").reasoning == f"It is {mark}."
    assert without_half_a_tag("Is 3 < 4") == "Is 3 < 4"


@pytest.mark.parametrize("family", SHOWN)
def test_a_follow_up_repeats_the_answer_alone(family):
    """Some templates write such marks themselves, and refuse a text that holds them."""
    tokenizer = of_family("gptoss")
    contract = make_contract(PromptSettings(), tokenizer)
    plain = encode_prompt(tokenizer, contract, "And then?", [Exchange("Why?", ANSWER)])
    assert encode_prompt(tokenizer, contract, "And then?", [Exchange("Why?", SHOWN[family])]) == plain


def test_the_tags_are_learned_from_the_tokenizer_and_change_nothing_else():
    known = make_contract(PromptSettings(), tokenizer_with(CHATML, tokens=["[THINK]", "[/THINK]"], special=True))
    without = make_contract(PromptSettings(), tokenizer_with(CHATML))
    assert (known.native, without.native) == (("[THINK]", "[/THINK]"), ())
    assert known.tags == without.tags == TAGS
    assert known.model_copy(update={"native": ()}) == without
    assert PromptContract.model_validate_json(known.model_dump_json()) == known
    assert "native" not in without.model_dump(mode="json"), "its file is the one that it was"
    assert contract_differences(without, known) == [], "an adapter of an earlier version is asked in the same way"


def test_a_judge_that_reasons_in_such_a_form_is_read_by_its_verdict():
    import torch

    from medcot.engine.answer.local_judges import Causal
    from medcot.evaluation.judge.asking import Ask, read

    tokenizer = tokenizer_with(CHATML, tokens=["[THINK]", "[/THINK]"], special=True)
    written = tokenizer('[THINK]It may be {"verdict": "wrong"}.[/THINK]right<|im_end|>')["input_ids"]

    class Model:
        config, device = type("Config", (), {"get_text_config": lambda self: self})(), "cpu"

        def generate(self, input_ids, **options):
            return torch.cat([input_ids, torch.tensor([written])], dim=1)

    ask, found = Ask("reference", "Is it right?"), []
    Causal(Model(), tokenizer, 64, 1).ask([ask], str, lambda _, said: found.append(said.text))
    assert read(ask, found[0]).said == "right"
