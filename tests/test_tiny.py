"""The tiny model is a model like any other: the training libraries load it, and it can stop talking."""

from tests.conftest import make_records


def test_loads_as_a_chat_model_that_sometimes_ends_its_turn(tiny_model):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from medcot import engine  # noqa: F401  # before transformers

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    assert len(tokenizer) == model.config.vocab_size == 512
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)

    ended = []
    for record in make_records(10):
        turn = [{"role": "user", "content": record["Question"]}]
        prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        new = model.generate(**prompt, max_new_tokens=32, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        ended.append(2 in new.tolist())
    assert 0 < sum(ended) < 10
