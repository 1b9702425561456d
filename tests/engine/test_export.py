"""The merged model: what plain transformers makes of it, and that it appears whole or not at all."""

import json
import shutil

import pytest

from medcot import prompts
from medcot.adapters.open import Adapter, of_run
from medcot.adapters.tensors import header
from medcot.errors import BadInput, WorkerFailed
from medcot.runs.events import Warned
from medcot.settings import ModelSettings, PromptSettings, build
from medcot.settings.schema import LINEAR_LAYERS
from medcot.workers.client import export
from medcot.workers.protocol import ExportRequest
from tests import families
from tests.conftest import tiny_raw, write_records
from tests.engine.gguf.test_modelfile import LLAMA_3
from tests.engine_tools import changed, train
from tests.faults.tools import fill, mounted

QUICK = ("gemma2", "gpt2", "mixtral", "gpt_oss")  # of the families that are exported here


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, tiny_model):
    """One that plainly changes what the tiny model says."""
    folder = tmp_path_factory.mktemp("export")
    settings = build(tiny_raw(tiny_model, write_records(folder / "records.jsonl")))
    return of_run(train(folder / "runs", changed(settings, "training", max_steps=25)))


def merged(adapter, target):
    from medcot.engine.export import export

    return export(ExportRequest(adapter=adapter, target=target), lambda event: None)


def test_plain_transformers_says_what_base_and_adapter_say(adapter, tmp_path, tiny_model):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = merged(adapter, tmp_path / "merged")
    assert (made.dtype, made.prompts) == ("float16", 3)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert stored.dtype == torch.float16
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    prompt = AutoTokenizer.from_pretrained(tmp_path / "merged")("What suggests gout?", return_tensors="pt")

    def said(model):
        return model.generate(**prompt, max_new_tokens=24, do_sample=False)[0].tolist()

    alone = said(base)
    assert said(plain) == said(PeftModel.from_pretrained(base, adapter.path).eval()) != alone
    names = {p.name for p in (tmp_path / "merged").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "prompt_contract.json", "README.md"} <= names
    assert [p.name for p in tmp_path.iterdir()] == ["merged"], "nothing is left beside it"


@pytest.mark.parametrize("lora", [{"rslora": True, "target_modules": ("all-linear",)}, {"dora": True}], ids=str)
def test_other_kinds_of_lora_leave_base_alone_decode_beside_it_and_are_merged_at_their_own_scale(
    tmp_path, tiny_settings, tiny_model, lora
):
    import torch
    from transformers import AutoModelForCausalLM

    from medcot.engine.answer.load import open_decoder
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.decode.runner import left_padded
    from medcot.engine.gguf.adapter import write_adapter

    run = train(tmp_path, changed(tiny_settings, "lora", **lora))
    config = json.loads((run.adapter_dir / "adapter_config.json").read_text())
    assert (config["use_rslora"], config["use_dora"]) == ("rslora" in lora, "dora" in lora)
    assert set(config["target_modules"]) == set(LINEAR_LAYERS)
    notes = []
    decoder = open_decoder(of_run(run), PeftBackend(), notes.append, max_length=512)
    assert [note for note in notes if isinstance(note, Warned)] == []
    reference, alone = decoder.reference, AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    merged(of_run(run), tmp_path / "merged")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    for model, arm in ((alone, "base"), (whole, "tuned")):
        found = reference._alone(model)
        differ = max(float((a - b).abs().max()) for a, b in zip(found, reference.logits[arm], strict=True))
        assert differ == 0 if arm == "base" else differ < 0.02, "float16 was written"
    assert reference.arms_differ()
    pad = left_padded([reference.texts[0]] * 2, reference.pad, "cpu")
    beside, without = (decoder.runner.start(*pad, [False, tuned], 1)[0] for tuned in (True, False))
    assert torch.equal(beside, without), "base is the same to the bit, whoever is beside it"
    if "dora" in lora:
        with pytest.raises(BadInput, match="no place for DoRA's magnitudes"):
            write_adapter(run.adapter_dir, alone.config, decoder.contract, None, tmp_path / "x.gguf")


def gemma_like(folder, dtype):
    """A tiny Gemma 3 whose hidden values float16 cannot hold, as those of the real ones."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    from tests import tiny

    special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "head_dim": 16, "vocab_size": 512}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "query_pre_attn_scalar": 16}
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("gemma3_text", **sizes, **heads, initializer_range=0.15, **special)
    )
    model.model.layers[0].post_feedforward_layernorm.weight.data.fill_(3e4)
    model.generation_config = GenerationConfig(**special)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tiny.build_tokenizer().save_pretrained(folder)
    return folder


def fresh_adapter(base, folder):
    """An adapter for a base that changes nothing."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return Adapter(name="fresh", path=folder, base=ModelSettings(id=str(base)), prompt=PromptSettings())


@pytest.mark.parametrize("stored", ["bfloat16", "float32", "float16"])
def test_it_computes_in_the_format_that_it_is_written_in(tmp_path, stored):
    """The weights fit float16 and what the model computes with them does not."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = gemma_like(tmp_path / "base", stored)
    made = merged(fresh_adapter(base, tmp_path / "adapter"), tmp_path / "merged")
    assert made.dtype == "bfloat16"
    assert made.same_tokens >= 0.9 * made.tokens
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    prompt = AutoTokenizer.from_pretrained(tmp_path / "merged")("What is croup?", return_tensors="pt")
    assert torch.isfinite(loaded(**prompt).logits).all()
    assert 0 not in loaded.generate(**prompt, max_new_tokens=12, do_sample=False)[0].tolist(), "no padding"


@pytest.mark.parametrize("name", ["gemma2", *(pytest.param(n, marks=pytest.mark.slow) for n in ("olmo2", "exaone4"))])
def test_a_family_whose_hidden_values_float16_cannot_hold_is_written_in_bfloat16(tmp_path, name):
    import torch
    from transformers import AutoModelForCausalLM

    base = families.build(name, tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.model.layers[0].post_feedforward_layernorm.weight.data.fill_(6e4)
    model.save_pretrained(base)
    assert merged(fresh_adapter(base, tmp_path / "adapter"), tmp_path / "merged").dtype == "bfloat16"


def test_a_model_that_overflows_in_both_formats_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("medcot.engine.export.FORMATS", ("float16",))
    base = gemma_like(tmp_path / "base", "bfloat16")
    with pytest.raises(WorkerFailed, match="cannot be had in 16 bits: in float16 its logits are not finite"):
        merged(fresh_adapter(base, tmp_path / "adapter"), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.fixture(scope="module")
def plain(adapter, tmp_path_factory):
    """What exporting the adapter on its own base finds."""
    return merged(adapter, tmp_path_factory.mktemp("plain") / "merged")


def with_defaults(adapter, tiny_model, folder, values):
    """The adapter on a copy of its base whose generation_config.json holds those values."""
    base = shutil.copytree(tiny_model, folder / "base")
    (base / "generation_config.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return adapter.model_copy(update={"base": ModelSettings(id=str(base)), "trained_on": None})


TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


@pytest.mark.parametrize(
    "values",
    [
        {**TOKENS, "temperature": 0.6, "top_p": 0.9, "do_sample": False},
        {**TOKENS, "top_p": 0.9},
        {**TOKENS, "early_stopping": True, "length_penalty": 2.0},
        {**TOKENS, "output_scores": True},
        {**TOKENS, "pad_token_id": -1},
        {**TOKENS, "temperature": "hot"},
        {"bos_token_id": 1, "eos_token_id": [0, 2]},
        {},
        "{no json",
    ],
    ids=["sampling off", "top_p alone", "beams off", "scores", "padding", "type", "list", "empty", "no json"],
)
def test_defaults_of_generate_that_contradict_themselves_do_not_hold_up_an_export(
    adapter, tiny_model, tmp_path, values
):
    from transformers import AutoModelForCausalLM

    made = merged(with_defaults(adapter, tiny_model, tmp_path, values), tmp_path / "merged")
    assert made.dtype == "float16"
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert 2 in read.generation_config.eos_token_id, "it ends where the adapter was trained to end"
    read.save_pretrained(tmp_path / "again")


@pytest.mark.parametrize(
    "values",
    [
        {"do_sample": True, "temperature": 0.6, "top_p": 0.9},
        {"repetition_penalty": 1.3},
        {"num_beams": 4, "length_penalty": 1.5},
        {"cache_implementation": "static"},
        {"max_new_tokens": 3},
        {"return_dict_in_generate": True},
        {"stop_strings": ["the"]},
        {"watermarking_config": {"greenlist_ratio": 0.5}},
    ],
    ids=lambda values: next(iter(values)),
)
def test_defaults_of_generate_are_kept_and_do_not_change_what_is_checked(adapter, plain, tiny_model, tmp_path, values):
    made = merged(with_defaults(adapter, tiny_model, tmp_path, {**TOKENS, **values}), tmp_path / "merged")
    assert (made.tokens, made.same_tokens) == (plain.tokens, plain.same_tokens)
    written = json.loads((tmp_path / "merged" / "generation_config.json").read_text())
    assert {name: written[name] for name in values}.items() >= {k: v for k, v in values.items() if k[0] != "w"}.items()


def test_defaults_of_generate_that_transformers_does_not_read_are_refused_in_words(adapter, tiny_model, tmp_path):
    for number, values in enumerate(("[]", {**TOKENS, "max_new_tokens": -3}, {**TOKENS, "pad_token_id": [0]})):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(BadInput, match=r"cannot be loaded: .*Download it again"):
            merged(with_defaults(adapter, tiny_model, folder, values), folder / "merged")
        assert [p.name for p in folder.iterdir()] == ["base"]


def test_a_base_that_ends_elsewhere_gets_the_end_that_was_trained(adapter, tiny_model, tmp_path):
    merged(with_defaults(adapter, tiny_model, tmp_path, {**TOKENS, "eos_token_id": 0}), tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "generation_config.json").read_text())["eos_token_id"] == [0, 2]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.thorough)
        for name in families.USUAL | families.FURTHER
    ],
)
def test_every_family_that_is_decoded_is_exported(tmp_path, name):
    """The format that is written is one that plain transformers computes the same tokens in."""
    base = families.build(name, tmp_path / "base")
    path = families.adapter(base, families.FAMILIES[name][1], tmp_path / "adapter")
    given = Adapter(name=name, path=path, base=ModelSettings(id=str(base)), prompt=PromptSettings())
    made = merged(given, tmp_path / "merged")
    assert made.same_tokens >= 0.9 * made.tokens


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_base_in_several_files_is_exported(tmp_path, tied):
    import torch
    from transformers import AutoModelForCausalLM

    base = families.build("llama", tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model.config.tie_word_embeddings = tied
    model.tie_weights()
    (base / "model.safetensors").unlink()
    model.save_pretrained(base, max_shard_size="100KB")
    assert len(list(base.glob("*.safetensors"))) > 1
    made = merged(fresh_adapter(base, tmp_path / "adapter"), tmp_path / "merged")
    assert made.dtype == "bfloat16"
    names = header(tmp_path / "merged" / "model.safetensors")
    assert ("lm_head.weight" in names) != tied


def test_tied_weights_are_written_once(tiny_model, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from medcot.engine.export import write
    from tests.fakes import CONTRACT

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    adapter = Adapter(name="x", path=tmp_path, base=ModelSettings(), prompt=PromptSettings())
    write(model, tokenizer, adapter, CONTRACT, tmp_path / "draft", "float16")
    names = header(tmp_path / "draft" / "model.safetensors")
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names


@pytest.mark.parametrize("prompt", [{"system": "Be brief."}, {"style": "plain"}], ids=["chat", "plain"])
def test_whoever_serves_the_folder_asks_under_the_contract_without_being_told(tiny_model, tmp_path, prompt):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from medcot.engine.export import write

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = {"default": LLAMA_3, "rag": "{{ messages[0]['content'] }}"}
    settings = PromptSettings(**prompt)
    contract = prompts.make_contract(settings, tokenizer)
    wanted = prompts.prompt_text(tokenizer, contract, "What suggests gout?")
    adapter = Adapter(name="x", path=tmp_path, base=ModelSettings(), prompt=settings)
    write(model, tokenizer, adapter, contract, tmp_path / "draft", "float16")
    served = AutoTokenizer.from_pretrained(tmp_path / "draft")
    user = [{"role": "user", "content": "What suggests gout?"}]
    assert served.apply_chat_template(user, tokenize=False, add_generation_prompt=True) == wanted
    again = prompts.make_contract(settings, served)
    assert prompts.prompt_text(served, again, "What suggests gout?") == wanted, "and a run that starts from it"
    said = 'after "</response>": tell the server to stop there' in (tmp_path / "draft" / "README.md").read_text()
    assert said == (contract.style == "plain")


def test_a_model_that_says_something_else_is_not_kept(adapter, tmp_path, monkeypatch):
    from peft import PeftModel

    monkeypatch.setattr(PeftModel, "merge_and_unload", lambda self, **_: self.unload(), raising=False)
    with pytest.raises(WorkerFailed, match=r"does not say what base and adapter say: question 1 differs"):
        merged(adapter, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_too_small_a_disk_is_said_before_anything_is_loaded(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(BadInput, match="GiB free"):
        merged(adapter, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("leaving", [0, 16_384, 300_000], ids=["at once", "amid the weights", "after the weights"])
def test_a_disk_that_fills_while_it_is_written_is_said_and_nothing_is_left(adapter, tmp_path, leaving):
    """There was room when it was looked at; somebody else took it."""
    from medcot.engine.export import export

    def report(event):
        if event.stage.startswith("Writing"):
            fill(disk, leaving)

    for disk in mounted(tmp_path / "disk", "size=2m"):
        with pytest.raises(BadInput, match="the disk is full; nothing was left there"):
            export(ExportRequest(adapter=adapter, target=disk / "merged"), report)
        assert [p.name for p in disk.iterdir()] == ["filler"]


def test_a_disk_that_is_too_small_is_said_before_anything_is_loaded(adapter, tmp_path):
    for disk in mounted(tmp_path / "disk", "size=128k"):
        with pytest.raises(BadInput, match="GiB free"):
            merged(adapter, disk / "merged")
        assert list(disk.iterdir()) == []


def test_a_folder_that_is_there_is_never_written_over(adapter, tmp_path):
    from medcot.workers.client import export

    with pytest.raises(BadInput, match="is there already"):
        export(tmp_path, adapter, tmp_path, print)


def where_nothing_can_be_written(tmp_path):
    for disk in mounted(tmp_path / "disk", "size=3m,ro"):
        yield disk / "merged"
    yield tmp_path / ("x" * 300)
    (tmp_path / "file").write_text("no folder")
    yield tmp_path / "file" / "merged"


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_loaded(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("medcot.engine.models.resolve", lambda *given: pytest.fail("the base was looked for"))
    for target in where_nothing_can_be_written(tmp_path):
        with pytest.raises(BadInput, match=r"^--to: .* cannot be written: .*\. Name another folder"):
            merged(adapter, target)
    with pytest.raises(BadInput, match=r"^--to: .* cannot be written: File name too long\. Name another folder"):
        export(adapter.path.parents[1], adapter, tmp_path / ("x" * 300), lambda stage: None)


def test_a_folder_that_came_meanwhile_is_not_written_over(adapter, tmp_path):
    def report(event):
        (tmp_path / "merged").mkdir(exist_ok=True)
        (tmp_path / "merged" / "mine").touch()

    from medcot.engine import export as engine

    with pytest.raises(BadInput, match=r"--to: .*merged cannot be written: Directory not empty"):
        engine.export(ExportRequest(adapter=adapter, target=tmp_path / "merged"), report)
    assert [p.name for p in tmp_path.rglob("*")] == ["merged", "mine"]
