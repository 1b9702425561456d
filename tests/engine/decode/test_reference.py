"""Base and tuned in one model: whatever an adapter or a way of decoding does, each arm says what it says alone."""

import json
import shutil

import pytest

from medcot.adapters.open import Adapter
from medcot.errors import BadInput
from medcot.settings import ModelSettings, PromptSettings
from tests import families

TARGETS = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]


def saved(model, folder, targets, *, init_lora_weights=True, **more):
    """A random adapter for a model folder, saved, whose configuration then says that it was started so."""
    families.adapter(model, targets, folder, **more)
    written = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**written, "init_lora_weights": init_lora_weights}))
    return folder


def opened(model, folder, dtype="float32"):
    """(decoder, warnings) of the adapter folder on that model."""
    from medcot.engine.answer.load import open_decoder
    from medcot.engine.backends.peft import PeftBackend

    notes = []
    base = ModelSettings(id=str(model), dtype=dtype)
    adapter = Adapter(name="x", path=folder, base=base, prompt=PromptSettings())
    decoder = open_decoder(adapter, PeftBackend(), notes.append, max_length=64)
    return decoder, [n.message for n in notes if hasattr(n, "message")]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("started", ["pissa", "pissa_niter_4", "olora"])
def test_an_adapter_that_changes_the_base_when_it_is_loaded_is_refused(tiny_model, tmp_path, started, dtype):
    folder = saved(tiny_model, tmp_path / "adapter", TARGETS, init_lora_weights=started)
    with pytest.raises(BadInput, match=f"changes the weights of the base .*{started}.* Convert it to plain LoRA"):
        opened(tiny_model, folder, dtype)


@pytest.mark.parametrize("started", ["corda", "loftq", "nonsense"])
def test_an_adapter_whose_start_cannot_be_made_again_is_refused_in_words(tiny_model, tmp_path, started):
    folder = saved(tiny_model, tmp_path / "adapter", TARGETS, init_lora_weights=started)
    with pytest.raises(BadInput, match=r"PEFT cannot load it: .*\. Save it as plain LoRA|changes the weights"):
        opened(tiny_model, folder)


@pytest.mark.parametrize("started", ["eva", "gaussian", "lora_ga", "orthogonal", False])
def test_an_adapter_whose_start_left_the_base_alone_is_taken(tiny_model, tmp_path, started):
    decoder, notes = opened(tiny_model, saved(tiny_model, tmp_path / "adapter", TARGETS, init_lora_weights=started))
    assert notes == []
    assert decoder.reference.arms_differ()


@pytest.mark.parametrize(
    "more",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 32}},
        {"layers_to_transform": [1]},
        {"target_modules": "all-linear"},
        {"lora_dropout": 0.5},
    ],
    ids=lambda more: next(iter(more)),
)
def test_plain_lora_of_any_shape_answers_beside_an_untouched_base(tiny_model, tmp_path, more):
    folder = saved(tiny_model, tmp_path / "adapter", more.pop("target_modules", TARGETS), **more)
    _, notes = opened(tiny_model, folder)
    assert notes == []


@pytest.mark.parametrize(
    "more",
    [
        {"lora_bias": True},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"trainable_token_indices": [5, 6]},
        {"target_modules": [*TARGETS, "embed_tokens"]},
        {"target_modules": ["q_proj"], "target_parameters": ["embed_tokens.weight"]},
        {"layer_replication": [[0, 2], [1, 2]]},
    ],
    ids=lambda more: "-".join(more),
)
def test_what_changes_more_than_lora_layers_is_refused(tiny_model, tmp_path, more):
    folder = saved(tiny_model, tmp_path / "adapter", more.pop("target_modules", TARGETS), **more)
    with pytest.raises(BadInput, match="changes more than LoRA layers"):
        opened(tiny_model, folder)


def test_an_adapter_that_was_converted_to_plain_lora_is_taken(tiny_model, tmp_path):
    """PEFT's own conversion, which the refusal recommends."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules=TARGETS, task_type="CAUSAL_LM", init_lora_weights="pissa")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32), config)
    model.save_pretrained(tmp_path / "start")
    with torch.no_grad():
        for weights in model.parameters():
            weights += 0.05 * weights.requires_grad * torch.randn_like(weights)
    model.peft_config["default"].init_lora_weights = "pissa"
    model.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "start"))
    ids = torch.tensor([[1, 80, 90, 100]])
    wanted = model.eval()(ids).logits
    decoder, notes = opened(tiny_model, tmp_path / "plain")
    assert notes == []
    decoder.runner.start(ids, torch.ones_like(ids), [True], 1)
    assert torch.allclose(decoder.model(ids).logits, wanted, atol=1e-3)


def test_an_adapter_that_changes_nothing_is_told(tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = saved(tiny_model, tmp_path / "adapter", TARGETS)
    file = folder / "adapter_model.safetensors"
    save_file({name: t * ("lora_A" in name) for name, t in load_file(file).items()}, file)
    decoder, notes = opened(tiny_model, folder)
    assert notes == ["This adapter changes nothing: base and tuned give equal logits."]
    assert not decoder.reference.arms_differ()


def test_an_adapter_that_overflows_is_refused(tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = saved(tiny_model, tmp_path / "adapter", TARGETS)
    file = folder / "adapter_model.safetensors"
    save_file({name: t.fill_(1e25) for name, t in load_file(file).items()}, file)
    with pytest.raises(BadInput, match=r"tuned: the model's logits are NaN or infinite in float32\. Set model\.dtype"):
        opened(tiny_model, folder)


def test_a_way_of_decoding_that_mixes_rows_up_is_not_used(tiny_model, tmp_path, monkeypatch):
    from medcot.engine.decode.eager import EagerRunner, StockRunner

    folder = saved(tiny_model, tmp_path / "adapter", TARGETS)
    dropped = EagerRunner.keep
    monkeypatch.setattr(EagerRunner, "keep", lambda self, going, rows: dropped(self, going[::-1], rows) and going)
    decoder, notes = opened(tiny_model, folder)
    assert type(decoder.runner) is StockRunner
    assert notes == [
        "This model is decoded in a slower way; the faster does not fit: base's logits differ from those of one text "
        "alone."
    ]


@pytest.mark.parametrize("fault", ["logits", "error"])
def test_where_no_way_of_decoding_fits_the_family_is_refused_in_words(tiny_model, tmp_path, monkeypatch, fault):
    from medcot.engine.decode import eager

    folder = saved(tiny_model, tmp_path / "adapter", TARGETS)
    right = eager.last_logits

    def wrong(*inputs):
        if fault == "error":
            raise NotImplementedError("No cache here.\nSee elsewhere.")
        return right(*inputs) * 1.01

    monkeypatch.setattr(eager, "last_logits", wrong)
    why = "NotImplementedError: No cache here." if fault == "error" else "logits differ from those of one text alone."
    with pytest.raises(
        BadInput, match=f"model.id: models of the family llama cannot be decoded .*{why} Choose a model"
    ):
        opened(tiny_model, folder)


def test_want_of_memory_is_no_reason_for_a_slower_way(tiny_model, tmp_path, monkeypatch):
    import torch

    from medcot.engine.decode import eager

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    folder = saved(tiny_model, tmp_path / "adapter", TARGETS)
    monkeypatch.setattr(eager, "last_logits", full)
    with pytest.raises(torch.OutOfMemoryError):
        opened(tiny_model, folder)


def test_a_base_without_numbers_is_named_before_the_adapter_is_blamed(tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    base = shutil.copytree(tiny_model, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    weights["lm_head.weight"][3] = float("nan")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    folder = saved(tiny_model, tmp_path / "adapter", TARGETS)
    with pytest.raises(BadInput, match="base: the model's logits are NaN or infinite in float32"):
        opened(base, folder)


PLAIN = {"target_modules": TARGETS}


@pytest.mark.parametrize(
    "more",
    [
        PLAIN,
        {**PLAIN, "use_rslora": True},
        {**PLAIN, "use_dora": True},
        {**PLAIN, "rank_pattern": {"q_proj": 2, "layers.1.self_attn.v_proj": 3}, "alpha_pattern": {"mlp.up_proj": 32}},
        {**PLAIN, "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 64, "q_proj": 2}},
        {**PLAIN, "layers_to_transform": [1]},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.(q|v)_proj"},
        {**PLAIN, "exclude_modules": r".*layers\.0\..*"},
    ],
    ids=str,
)
def test_an_adapter_of_checked_values_says_what_it_says_to_peft(tiny_model, tmp_path, more):
    more = dict(more)
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from medcot.engine.backends.peft import PeftBackend

    folder = saved(tiny_model, tmp_path / "adapter", more.pop("target_modules"), **more)
    ids = torch.tensor([[1, 80, 90, 100]])
    wanted, found = (
        load(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32), folder).eval()(ids).logits
        for load in (PeftModel.from_pretrained, PeftBackend().with_adapter)
    )
    assert torch.equal(wanted, found)


def test_a_base_that_is_another_with_its_adapter_off_is_refused(tiny_model, tmp_path, monkeypatch):
    import torch

    from medcot.engine.backends.peft import PeftBackend

    loaded = PeftBackend.with_adapter

    def changing(self, model, folder):
        with torch.no_grad():
            model.lm_head.weight *= 1.1
        return loaded(self, model, folder)

    monkeypatch.setattr(PeftBackend, "with_adapter", changing)
    with pytest.raises(BadInput, match="changes the weights of the base when it is loaded"):
        opened(tiny_model, saved(tiny_model, tmp_path / "adapter", TARGETS))
