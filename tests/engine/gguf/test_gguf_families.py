"""Six families as GGUF files: llama.cpp says what transformers says, over the same tokens."""

import shutil

import numpy as np
import pytest

from medcot import prompts
from medcot.errors import BadInput
from medcot.evaluation.answers import Decoding
from medcot.settings import PromptSettings
from tests import families, tiny
from tests.prompts.test_chat_template import of_family

WRITTEN = ("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3")
PROMPTS = (
    *("What suggests gout?", "糖尿病有哪些早期症状？", "Is 38.5 °C a fever?\n\nYes?", "a", "Don't   stop 12345 now!"),
    *("<|im_start|>user\nWhat is croup?<|im_end|>\n<|im_start|>assistant\n", "<think>", "naïve façade — “x”", "\n\n\n"),
    "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n为什么？<|im_end|>\n",
)


def source(folder, **more):
    """A model folder as what is written of it."""
    from transformers import AutoConfig, AutoTokenizer

    from medcot.engine.gguf.writer import Naming, Source

    tokenizer = more.pop("tokenizer", None) or AutoTokenizer.from_pretrained(folder)
    contract = prompts.make_contract(PromptSettings(**more), tokenizer)
    naming = Naming(folder.name, "a tiny model", "Apache-2.0")
    return Source.of(folder, AutoConfig.from_pretrained(folder), tokenizer, contract, naming)


def built(name, folder):
    return families.build(name, folder, **({"sliding_window": 512} if name == "mistral" else {}))


@pytest.mark.parametrize("name", WRITTEN)
def test_llama_cpp_reads_the_same_tokens_and_says_the_same_next_one(tmp_path, name):
    import torch
    from transformers import AutoModelForCausalLM

    from medcot.engine.gguf.llama import LlamaServer

    made = source(built(name, tmp_path / "model"))
    made.write(tmp_path / "file.gguf", "f16")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with LlamaServer(tmp_path / "file.gguf", context=512, slots=1) as server:
        for text in PROMPTS:
            ids = made.tokenizer(text, add_special_tokens=False)["input_ids"]
            assert server.tokens(text) == ids, text
            with torch.inference_mode():
                logits = model(torch.tensor([ids])).logits[0, -1]
            (token,) = server.complete(ids, Decoding(1)).tokens
            assert logits[token] >= logits.max() - 0.01, (text, token, logits.argmax())
    assert [p.name for p in tmp_path.iterdir() if ".part" in p.name] == []


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_transformers_reads_the_file_back(tmp_path, name):
    """Of the others transformers' reader takes shapes for granted that the tiny ones do not have."""
    import torch
    from transformers import AutoModelForCausalLM

    made = source(built(name, tmp_path / "model"))
    made.write(tmp_path / "file.gguf", "f16")
    ids = torch.tensor([made.tokenizer("What suggests gout? 糖尿病", add_special_tokens=False)["input_ids"]])
    with torch.inference_mode():
        own = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)(ids).logits
        back = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="file.gguf", dtype=torch.float32)(ids).logits
    assert float((own - back).abs().max()) < 1e-2 * float(own.abs().max())


@pytest.mark.parametrize("name", ["gpt2", "mixtral", "gemma2", "olmo2"])
def test_another_family_is_refused_by_name(tmp_path, name):
    with pytest.raises(BadInput, match=rf"family {name} are not written as GGUF; Llama, Mistral, Qwen2, Qwen3, Gemma"):
        source(families.build(name, tmp_path / "model"))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("gemma3_text", {"query_pre_attn_scalar": 64}, "query_pre_attn_scalar"),
        ("gemma3_text", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ("llama", {"hidden_act": "gelu"}, "computes Llama with silu"),
        ("qwen2", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "by dynamic"),
    ],
)
def test_a_shape_that_llama_cpp_would_compute_otherwise_is_refused(tmp_path, name, values, words):
    folder = built(name, tmp_path / "model")
    families.change(folder, "config.json", **values)
    with pytest.raises(BadInput, match=words):
        source(folder)


@pytest.mark.slow
def test_llama_3_positions_are_stretched_as_transformers_does(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    from medcot.engine.gguf.llama import LlamaServer

    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"original_max_position_embeddings": 64, "rope_theta": 500.0}
    folder = families.build("llama", tmp_path / "model", rope_parameters=rope)
    made = source(folder)
    made.write(tmp_path / "file.gguf", "f16")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = made.tokenizer("What suggests gout? " * 40, add_special_tokens=False)["input_ids"]
    with LlamaServer(tmp_path / "file.gguf", context=1024, slots=1) as server:
        said = server.complete(ids, Decoding(16)).tokens
    with torch.inference_mode():
        logits = model(torch.tensor([ids + said])).logits[0, len(ids) - 1 : -1]
    chosen = logits[torch.arange(len(said)), torch.tensor(said)]
    assert bool((chosen >= logits.amax(-1) - 0.02).all())


def test_a_longrope_file_computes_short_texts_as_transformers_does(tmp_path):
    """llama.cpp chooses the factors for long texts by the room that it keeps, transformers by the text."""
    import torch
    from transformers import AutoModelForCausalLM

    from medcot.engine.gguf.arm import answer
    from medcot.workers.protocol import AskFileRequest

    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 256}
    rope |= {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    folder = families.build("phi3", tmp_path / "model", rope_parameters=rope, original_max_position_embeddings=256)
    made, question = source(folder), "What suggests gout?"
    made.write(tmp_path / "file.gguf", "f16")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = torch.tensor([prompts.encode_prompt(made.tokenizer, made.contract, question)])
    own = model.generate(input_ids=ids, max_new_tokens=24, do_sample=False, eos_token_id=made.contract.eos_id)
    ask = AskFileRequest(file=tmp_path / "file.gguf", question=question, max_new_tokens=24)
    said = answer(ask, lambda event: None)
    assert said.tokens > 8
    text = made.tokenizer.decode(own[0, ids.shape[1] :], skip_special_tokens=False)
    assert text.removesuffix("<|im_end|>").startswith(said.text[:30])
    with pytest.raises(BadInput, match=r"24\d may follow, and file.gguf reads 256"):
        answer(ask.model_copy(update={"max_new_tokens": 245}), lambda event: None)


def test_a_file_without_a_contract_is_told_the_runs(tmp_path, monkeypatch):
    from medcot.engine.gguf import llama, writer

    folder = built("llama", tmp_path / "model")
    tokenizer = tiny.build_tokenizer()
    tokenizer.chat_template = f"{{{{ date_string }}}}{{% if calm_thinking %}}Calm.{{% endif %}}{tiny.CHAT_TEMPLATE}"
    made = source(folder, tokenizer=tokenizer)
    monkeypatch.setattr(writer, "pinned_template", lambda tokenizer, contract: tokenizer.chat_template)
    monkeypatch.setattr(writer, "CONTRACT_KEY", "another.key")
    made.write(tmp_path / "file.gguf", "q8_0")
    monkeypatch.undo()
    told = made.contract.model_copy(update={"system": "Be brief.", "switches": {"calm_thinking": True}})
    assert llama.facts_of(tmp_path / "file.gguf").contract is None
    with llama.LlamaServer(tmp_path / "file.gguf", context=256, slots=1) as server:
        ids = server.asked_as("What suggests gout?", told, inside=False)
    assert ids == prompts.encode_prompt(tokenizer, told, "What suggests gout?")


def test_where_llama_cpp_has_no_window_the_file_reads_no_further_than_it(tmp_path):
    import gguf

    source(families.build("mistral", tmp_path / "model")).write(tmp_path / "file.gguf", "q8_0")
    assert gguf.GGUFReader(tmp_path / "file.gguf").get_field("llama.context_length").contents() == 16


def test_fewer_bits_are_the_librarys_own(tmp_path):
    """Rows read in pieces, and q and k put in order, give what the library makes of the whole."""
    import gguf
    import torch
    from safetensors.torch import load_file

    from medcot.engine.gguf import tensors

    folder = built("llama", tmp_path / "model")
    made = source(folder)
    own = load_file(folder / "model.safetensors")
    before = tensors.PIECE
    tensors.PIECE = 1000
    try:
        for name in ("q8_0", "q4_0", "bf16"):
            made.write(tmp_path / f"{name}.gguf", name)
    finally:
        tensors.PIECE = before
    for name in ("q8_0", "q4_0", "bf16"):
        read = {t.name: t for t in gguf.GGUFReader(tmp_path / f"{name}.gguf").tensors}
        kind = gguf.GGMLQuantizationType[name.upper()]
        whole = gguf.quants.quantize(own["model.layers.0.mlp.down_proj.weight"].numpy(), kind)
        assert np.array_equal(read["blk.0.ffn_down.weight"].data.view(np.uint8).ravel(), whole.view(np.uint8).ravel())
        rows = own["model.layers.1.self_attn.q_proj.weight"]
        back = gguf.quants.dequantize(read["blk.1.attn_q.weight"].data, kind).reshape(rows.shape)
        pairs = torch.from_numpy(back.copy()).reshape(4, 8, 2, 64).swapaxes(1, 2).reshape(rows.shape)
        assert float((pairs - rows).abs().max()) < 0.1
        assert read["blk.0.attn_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
        assert read["token_embd.weight"].tensor_type.name == ("BF16" if name == "bf16" else "Q8_0")


def test_numbers_beyond_16_bits_are_refused_and_nothing_is_left(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    folder = built("qwen2", tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    made = source(folder)
    with pytest.raises(BadInput, match=r"blk.0.ffn_up.weight .* Use bf16 for f16"):
        made.write(tmp_path / "file.gguf", "f16")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    made.write(tmp_path / "file.gguf", "bf16")
    assert torch.isfinite(weights["model.norm.weight"]).all()


def test_a_damaged_file_is_refused_by_llama_cpp_in_words(tmp_path):
    from medcot.engine.gguf.llama import LlamaServer, facts_of

    made = source(built("llama", tmp_path / "model"))
    made.write(tmp_path / "file.gguf", "f16")
    assert facts_of(tmp_path / "file.gguf").contract == made.contract
    whole = (tmp_path / "file.gguf").read_bytes()
    for number, content in enumerate((b"", b"GGUF", whole[:5000], b"\x00" * 4096, whole[:-70_000])):
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(content)
        with pytest.raises(BadInput, match=r"is not loaded by llama\.cpp"):
            LlamaServer(path, context=256, slots=1)
    with pytest.raises(BadInput, match="is no GGUF file"):
        facts_of(tmp_path / "3.gguf")
    shutil.rmtree(tmp_path / "model")


# ---- tokenizers


TOUGH = (
    *PROMPTS,
    *("HELLO World's they'LL I'm", "1234567 3.14 50mg/5mL", "a\r\n\r\nb\t c", "  two  spaces  ", "ЖУРНАЛ журнал Ü ß"),
    *(
        "日本語のテスト。",
        "x=y+z;//c\n}",
        "🙂👍🏽 e\u0301",
        "camelCaseWord HTTPServer",
        "/usr/bin/\n",
        "éÉ\u00a0x\u3000y",
    ),
)


def trained(split, **more):
    """A byte-level tokenizer that splits text in that way."""
    from tokenizers import Tokenizer, decoders, models, trainers

    from medcot.data.starter import RECORDS

    tokenizer = Tokenizer(models.BPE(**more))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    from tokenizers import pre_tokenizers

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=list(tiny.SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    texts = [*RECORDS.read_text(encoding="utf-8").splitlines(), *TOUGH * 5]
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def wrapped(tokenizer):
    from transformers import PreTrainedTokenizerFast

    special = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=tiny.CHAT_TEMPLATE, **special)


def splits():
    from tokenizers import Regex, pre_tokenizers

    from medcot.engine.gguf import vocabulary as v

    def by(pattern):
        words = pre_tokenizers.Split(Regex(pattern), "isolated")
        return pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])

    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
    smollm = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    return {
        "gpt-2": (gpt2, {}),
        "smollm": (smollm, {}),
        "llama-bpe": (by(v.LLAMA_3), {"ignore_merges": True}),
        "dbrx": (by(v.LLAMA_3), {}),
        "qwen2": (by(v.QWEN_2), {}),
        "tekken": (by(v.TEKKEN), {"ignore_merges": True}),
        "gpt-4o": (by(v.GPT_4O), {}),
    }


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "tekken", "gpt-4o"])
def test_each_way_to_split_text_is_named_as_llama_cpp_has_it(tmp_path, name):
    from medcot.engine.gguf.llama import LlamaServer

    split, more = splits()[name]
    tokenizer = wrapped(trained(split, **more))
    folder = families.build("llama", tmp_path / "model", vocab_size=len(tokenizer))
    made = source(folder, tokenizer=tokenizer)
    assert made.words.pre == name
    made.write(tmp_path / "file.gguf", "q8_0")
    with LlamaServer(tmp_path / "file.gguf", context=256, slots=1) as server:
        differing = [t for t in TOUGH if server.tokens(t) != tokenizer(t, add_special_tokens=False)["input_ids"]]
    assert differing == []


def test_a_way_to_split_text_that_has_no_name_is_refused(tmp_path):
    from tokenizers import pre_tokenizers

    folder = families.build("llama", tmp_path / "model", vocab_size=1500)
    ways = [
        pre_tokenizers.Sequence([pre_tokenizers.Punctuation(), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.Whitespace(),
    ]
    for way in ways:
        with pytest.raises(BadInput, match="splits text in a way that has no name there"):
            source(folder, tokenizer=wrapped(trained(way)))


def sentences(prepend, strip=()):
    """A tokenizer of the older Llama's kind: spaces are letters, and unknown letters are bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers

    from medcot.data.starter import RECORDS

    steps = [normalizers.Prepend("▁")] if prepend else []
    plain = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    plain.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    specials = ["<unk>", "<s>", "</s>", "<|endoftext|>", *(f"<0x{n:02X}>" for n in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=specials, show_progress=False, max_token_length=12, limit_alphabet=80
    )
    plain.train_from_iterator(RECORDS.read_text(encoding="utf-8").splitlines()[:40], trainer)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    plain.decoder = decoders.Sequence(steps)
    import json

    made = json.loads(plain.to_str())
    made["added_tokens"] = [t for t in made["added_tokens"] if not t["content"].startswith("<0x")]
    plain = Tokenizer.from_str(json.dumps(made))
    plain.add_special_tokens([AddedToken(t, rstrip=t in strip, normalized=False) for t in ("<|user|>", "<|end|>")])
    if strip:
        plain.add_special_tokens([AddedToken("</s>", rstrip=True, normalized=False)])
    from transformers import PreTrainedTokenizerFast

    turn = "{{ '<|user|>\n' if m.role == 'user' else '' }}{{ m.content + '<|end|>\n' }}"
    template = f"<s>{{% for m in messages %}}{turn}{{% endfor %}}"
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=plain, chat_template=template, **special)


@pytest.mark.parametrize(
    ("family", "prepend", "strip"),
    [("mistral", True, ()), ("gemma3_text", False, ()), ("phi3", True, ("<|user|>", "<|end|>"))],
)
def test_tokenizers_whose_spaces_are_letters(tmp_path, family, prepend, strip):
    from medcot.engine.gguf.llama import LlamaServer

    tokenizer = sentences(prepend, strip)
    values = {"sliding_window": None} if family == "mistral" else {}
    folder = families.build(family, tmp_path / "model", vocab_size=len(tokenizer), **values)
    made = source(folder, tokenizer=tokenizer)
    made.write(tmp_path / "file.gguf", "f16")
    texts = [t.replace("<|im_start|>", "<|user|>").replace("<|im_end|>", "<|end|>") for t in PROMPTS]
    texts = [f"<s>{t}" for t in texts] + ["<s><|user|>\nWhat suggests gout?<|end|>\n"]
    with LlamaServer(tmp_path / "file.gguf", context=256, slots=1) as server:
        found = {t: (server.tokens(t), tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts}
    assert {t: ids for t, ids in found.items() if ids[0] != ids[1]} == {}


def test_words_that_are_taken_whole_do_not_matter_where_merging_makes_them_too(tmp_path):
    """GPT-2's way with `ignore_merges` has no name of its own, and needs none unless a token is out of reach."""
    import json

    from tokenizers import Tokenizer

    split, _ = splits()["gpt-2"]
    plain = trained(split, ignore_merges=True)
    folder = families.build("llama", tmp_path / "model", vocab_size=1501)
    assert source(folder, tokenizer=wrapped(plain)).words.pre == "gpt-2"
    made = json.loads(plain.to_str())
    made["model"]["vocab"]["zqzqzq"] = 1500
    with pytest.raises(BadInput, match="splits text in a way that has no name there"):
        source(folder, tokenizer=wrapped(Tokenizer.from_str(json.dumps(made))))


@pytest.mark.slow
@pytest.mark.parametrize("system", [None, "Be brief."], ids=["", "with a system text"])
@pytest.mark.parametrize("name", ["gemma3", "gptoss", "llama3_1", "llama3_2", "phi3", "qwen2_5", "qwen3", "qwen3_8"])
def test_llama_cpp_renders_real_templates_as_the_contract_does(tmp_path, name, system):
    from medcot.engine.gguf.llama import LlamaServer

    tokenizer, question = of_family(name), "What suggests gout?"
    folder = families.build("llama", tmp_path / "model", vocab_size=len(tokenizer))
    made = source(folder, tokenizer=tokenizer, system=system)
    made.write(tmp_path / "file.gguf", "q8_0")
    with LlamaServer(tmp_path / "file.gguf", context=512, slots=1) as server:
        assert server.asked_as(question, made.contract) == prompts.encode_prompt(tokenizer, made.contract, question)


def test_a_text_begins_with_the_beginnings_token_where_the_contracts_prompt_does(tmp_path):
    """Some tokenizers put one before every text, and their chat template writes none (TinyLlama's kind)."""
    from tokenizers.processors import TemplateProcessing

    from medcot.engine.gguf.llama import LlamaServer
    from medcot.prompts.contract import encode_prompt

    beginning, question, found = "<|endoftext|>", "What suggests gout?", {}
    folder = built("llama", tmp_path / "model")
    for written in ("", "{{ bos_token }}", "{{- strftime_now('%d.%m.%Y') }}"):
        tokenizer = tiny.build_tokenizer()
        tokenizer.bos_token, tokenizer.chat_template = beginning, written + tiny.CHAT_TEMPLATE
        before = TemplateProcessing(single=f"{beginning} $A", special_tokens=[(beginning, 0)])
        tokenizer.backend_tokenizer.post_processor = before
        made = source(folder, tokenizer=tokenizer)
        made.write(tmp_path / "file.gguf", "q8_0")
        with LlamaServer(tmp_path / "file.gguf", context=256, slots=1) as server:
            ids = server.asked_as(question, made.contract)
        assert ids == encode_prompt(tokenizer, made.contract, question), written
        found[written] = ids.count(0)
    assert list(found.values()) == [0, 1, 0]
