"""What `plan` accepts trains: what would stop a training, or spoil it unseen, is told before weights are loaded."""

import json
import shutil

import pytest

from medcot.errors import BadInput
from medcot.runs.events import PlanMade, Validation, Warned
from medcot.runs.plan import Planned
from medcot.settings import RunSettings, build
from tests import families, tiny
from tests.conftest import make_records, tiny_raw, write_records
from tests.engine_tools import steps, train


def planned(settings: RunSettings) -> Planned:
    from medcot.engine.train.audit import plan

    return plan(settings, lambda event: None)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_records(tmp_path_factory.mktemp("records") / "records.jsonl")


@pytest.fixture
def settings_for(records):
    """Settings over a model's folder; keywords are training settings."""

    def settings(folder, targets=None, **training) -> RunSettings:
        raw = tiny_raw(folder, records)
        raw["training"] |= training
        if targets:
            raw["lora"] |= {"target_modules": targets}
        return build(raw)

    return settings


@pytest.fixture
def model(tiny_model, tmp_path):
    """A copy of the tiny model, to be changed."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def refused(settings: RunSettings) -> dict[str, str]:
    """Where and what; the training refuses in the same words, and before a step."""
    with pytest.raises(BadInput) as raised:
        planned(settings)
    assert all(p.fix for p in raised.value.problems)
    return {p.where: f"{p.what} {p.fix}" for p in raised.value.problems}


# ---- the window


OPT = ["q_proj", "v_proj"]


def test_records_longer_than_the_models_window_are_refused_with_the_length_that_fits(tmp_path, settings_for):
    folder = families.build("opt", tmp_path / "opt", max_position_embeddings=64)
    said = refused(settings_for(folder, OPT))["training.max_length"]
    assert "the model's window is 64 tokens, and 16 of 16 records are longer, up to " in said
    assert "Set training.max_length=64" in said
    run = train(tmp_path / "runs", settings_for(folder, OPT, max_length=64).replacing("data", overlong="cut"))
    assert run.has_adapter


def test_the_training_refuses_what_the_plan_refuses_and_before_a_weight_is_loaded(tmp_path, settings_for, monkeypatch):
    from medcot.engine.backends.peft import PeftBackend

    settings = settings_for(families.build("opt", tmp_path / "opt", max_position_embeddings=64), OPT)
    monkeypatch.setattr(PeftBackend, "load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(BadInput, match="the model's window is 64 tokens"):
        train(tmp_path / "runs", settings)


def test_a_longest_sequence_above_the_window_is_no_matter_where_the_records_fit(model, settings_for):
    families.change(model, "config.json", max_position_embeddings=250)
    assert planned(settings_for(model, max_length=4096)).plan.steps == 4


@pytest.mark.parametrize("answer", [200, 4])
def test_sample_answers_fit_into_the_window_too(tmp_path, settings_for, answer):
    folder = families.build("opt", tmp_path / "opt", max_position_embeddings=200)
    settings = settings_for(folder, OPT, sample_tokens=answer)
    if answer == 4:
        assert planned(settings).plan.steps == 4
    else:
        assert "the model's window of 200 has no room for 200 more" in refused(settings)["training.sample_tokens"]


@pytest.mark.parametrize(
    ("family", "values", "expected"),
    [
        ("llama", {}, 2048),
        ("gpt2", {}, 512),
        ("bloom", {}, None),
        ("mamba", {}, None),
        ("gemma3", {}, 2048),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}, 8192),
        ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, 4096),
        ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, 2048),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}},
            8192,
        ),
        # Here the window is already the stretched one.
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}},
            2048,
        ),
        (
            "llama",
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "factor": 32.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 512,
                }
            },
            2048,
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_window_is_what_the_configuration_says_stretched_or_not(family, values, expected):
    from medcot.engine.models import window

    assert window(families.config(family, **values)) == expected


# ---- the vocabulary


def with_tokens(folder, change) -> None:
    tokenizer = tiny.build_tokenizer()
    change(tokenizer)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.add_special_tokens({"pad_token": "[PAD]"}),
            "'[PAD]' is 512. Use the tokenizer that the model was ",
        ),
        (lambda t: t.add_special_tokens({"eos_token": "<|done|>"}), "'<|done|>' is 512"),
        (lambda t: t.add_tokens(["<think>", "</think>"]), "'<think>' is 512, '</think>' is 513."),
        (lambda t: t.add_tokens([f"word{i}" for i in range(5)]), "'word2' is 514 and so on"),
        (
            lambda t: (
                t.add_special_tokens({"additional_special_tokens": ["<|turn|>"]}),
                setattr(t, "chat_template", tiny.CHAT_TEMPLATE.replace("<|im_start|>", "<|turn|>")),
            ),
            "'<|turn|>' is 512",
        ),
    ],
    ids=["pad", "end", "tags", "words", "template"],
)
def test_tokens_for_which_the_embedding_has_no_row_are_refused_by_name(model, settings_for, change, said):
    with_tokens(model, change)
    found = refused(settings_for(model))["model.id"]
    assert "the model's embedding has rows for tokens 0 to 511" in found
    assert said in found


def test_a_padding_token_beyond_is_told_its_own_cure(model, settings_for):
    with_tokens(model, lambda t: t.add_special_tokens({"pad_token": "[PAD]"}))
    assert "make its pad_token one that it had before" in refused(settings_for(model))["model.id"]


def test_a_special_token_beyond_that_nothing_writes_is_harmless(model, settings_for):
    with_tokens(model, lambda t: t.add_special_tokens({"additional_special_tokens": ["<image_soft_token>"]}))
    assert planned(settings_for(model)).plan.steps == 4


def test_an_embedding_with_rows_to_spare_and_a_tokenizer_without_a_bound_are_fine(tmp_path, settings_for):
    folder = families.build("llama", tmp_path / "model", vocab_size=576)
    families.change(folder, "tokenizer_config.json", model_max_length=10**30)
    assert planned(settings_for(folder)).plan.steps == 4


# ---- what is no base


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{", "config.json cannot be read"),
        ("{}", "cannot be loaded as a language model"),
        ('{"model_type": "of-tomorrow"}', "cannot be loaded as a language model"),
        ('{"model_type": "t5"}', "cannot be loaded as a language model"),
        ('{"model_type": "clip"}', "cannot be loaded as a language model"),
        ('{"model_type": "llama", "hidden_size": "wide"}', "cannot be loaded as a language model"),
        (
            '{"model_type": "llama", "hidden_size": 65, "num_attention_heads": 4}',
            "cannot be loaded as a language model",
        ),
        ('{"model_type": "bert"}', "reads a text in both directions (bert)"),
        ('{"model_type": "roberta"}', "reads a text in both directions (roberta)"),
    ],
)
def test_a_configuration_of_no_causal_model_is_refused_in_words(model, settings_for, config, said):
    (model / "config.json").write_text(config)
    assert said in refused(settings_for(model))["model.id"]


def test_a_configuration_without_architectures_is_one(model, settings_for):
    families.change(model, "config.json", architectures=None)
    assert planned(settings_for(model)).plan.trainable_parameters


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"version": "1.0", "model": {"type": "of-tomorrow"}}'])
def test_a_tokenizer_that_cannot_be_read_is_refused_in_words(model, settings_for, text):
    (model / "tokenizer.json").write_text(text)
    assert "the tokenizer in" in refused(settings_for(model))["model.id"]


def test_weights_are_looked_at_before_anything_is_planned(model, settings_for):
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert "is cut off" in refused(settings_for(model))["model.id"]


def changed_weights(folder, change) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3_moe", "phi3"])
def test_weights_that_a_model_lacks_are_not_drawn_at_random(tmp_path, settings_for, family):
    folder = families.build(family, tmp_path / family)
    lost = []
    changed_weights(folder, lambda w: lost.extend((name, w.pop(name)) for name in sorted(w)[1:3]))
    said = refused(settings_for(folder))["model.id"]
    assert "2 weights of" in said
    assert "are missing" in said
    assert lost[0][0].rpartition(".")[2] in said


@pytest.mark.parametrize(
    "changed",
    [{"intermediate_size": 64}, {"hidden_size": 32}, {"vocab_size": 600}, {"num_key_value_heads": 4}],
    ids=str,
)
def test_a_configuration_of_another_size_is_told(tmp_path, settings_for, changed):
    folder = families.build("llama", tmp_path / "model")
    families.change(folder, "config.json", **changed)
    assert "have other shapes than config.json says" in refused(settings_for(folder))["model.id"]


def test_a_configuration_with_a_layer_more_is_told(tmp_path, settings_for):
    folder = families.build("llama", tmp_path / "model")
    families.change(folder, "config.json", num_hidden_layers=3)
    assert "are missing, model.layers.2." in refused(settings_for(folder))["model.id"]


def test_tied_weights_that_no_file_holds_and_those_of_a_vision_tower_are_not_missed(tmp_path, settings_for):
    tied = families.build("llama", tmp_path / "tied", tie_word_embeddings=True)
    assert planned(settings_for(tied)).plan.steps == 4
    seeing = families.build("gemma3", tmp_path / "seeing")
    changed_weights(seeing, lambda w: w.pop("vision_tower.embeddings.patch_embedding.weight"))
    assert planned(settings_for(seeing)).plan.steps == 4


def test_all_that_is_wrong_is_told_at_once(tmp_path, settings_for):
    folder = families.build("opt", tmp_path / "opt", max_position_embeddings=64)
    with_tokens(folder, lambda t: t.add_special_tokens({"pad_token": "[PAD]"}))
    families.change(folder, "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(BadInput) as raised:
        planned(settings_for(folder))
    said = " ".join(map(str, raised.value.problems))
    for part in ("quantized (gptq)", "no linear layers named o_proj", "window is 64 tokens", "'[PAD]' is 512"):
        assert part in said


# ---- the plan says what the training does


@pytest.mark.parametrize(("warmup", "share"), [(4, "0.75"), (5, "0.6"), (1000, "0.003")])
def test_a_warm_up_that_outlasts_the_run_is_told_by_plan_and_training(model, settings_for, tmp_path, warmup, share):
    settings = settings_for(model, warmup_steps=warmup, learning_rate=1e-3, save_steps=100, validate_steps=100)
    (said,) = planned(settings).problems
    assert said.startswith(f"training.warmup_steps={warmup} does not end within the run's 4 steps: at most {share} of ")
    assert said.endswith("Set training.warmup_steps=0, or train for more steps.")
    if warmup == 5:
        run = train(tmp_path / "runs", settings)
        assert said in [e.message for e in run.events()[0] if isinstance(e, Warned)]
        rates = [s.learning_rate for s in steps(run)]
        assert max(rates) == pytest.approx(float(share) * 1e-3)


def test_steps_that_follow_from_epochs_count_too(model, settings_for):
    settings = settings_for(model, max_steps=None, epochs=1.0, warmup_steps=6)
    assert "within the run's 6 steps" in planned(settings).problems[0]
    assert "warmup" not in str(planned(settings_for(model, max_steps=None, epochs=1.0, warmup_steps=5)).problems)


def test_readings_saves_and_validations_rarer_than_the_run_is_long_change_nothing(model, settings_for, tmp_path):
    settings = settings_for(model, log_steps=9, validate_steps=900, save_steps=900, max_steps=2)
    assert planned(settings).plan.steps == 2
    run = train(tmp_path / "runs", settings)
    assert run.has_adapter
    assert [e.step for e in run.events()[0] if isinstance(e, Validation)] == [0, 2]


@pytest.mark.parametrize(("kept", "said"), [(250, "the model's window is 250"), (2048, "keeps all.")])
def test_no_length_is_advised_that_the_window_forbids(model, settings_for, kept, said):
    families.change(model, "config.json", max_position_embeddings=kept)
    settings = settings_for(model, max_length=64).replacing("data", overlong="cut")
    rows = make_records(16)
    rows[3]["Response"] = "A longer answer than the others. " * 40
    path = model.parent / "long.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    (note,) = planned(settings.replacing("data", source=str(path)).replacing("training", learning_rate=1e-4)).problems
    assert said in note


@pytest.mark.parametrize(
    ("family", "targets"),
    [
        ("gpt2", ["c_attn", "mlp.c_proj"]),
        ("phi3", ["qkv_proj", "gate_up_proj"]),
        ("qwen3_moe", ["q_proj", "k_proj", "v_proj", "o_proj"]),
        ("mixtral", ["self_attn.q_proj", "self_attn.v_proj"]),
        ("gemma3", None),
    ],
)
def test_a_run_trains_as_many_parameters_as_were_planned_and_its_adapter_opens(tmp_path, settings_for, family, targets):
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.models import LocalModel

    folder = families.build(family, tmp_path / family)
    settings = settings_for(folder, targets, save_steps=100, validate_steps=100)
    expected = planned(settings).plan
    run = train(tmp_path / "runs", settings)
    made = next(e for e in run.events()[0] if isinstance(e, PlanMade))
    assert (made.trainable_parameters, made.total_steps) == (expected.trainable_parameters, expected.steps)
    base = PeftBackend().load(LocalModel(folder, ""), settings.model, max_length=256)
    tuned = PeftBackend().with_adapter(base, run.adapter_dir)
    learned = {n: p for n, p in tuned.named_parameters() if "lora_B" in n}
    assert learned
    assert [n for n, p in learned.items() if not p.any()] == [], "each of them has learned"
    config = json.loads((run.adapter_dir / "adapter_config.json").read_text())
    assert not config.get("target_parameters")
