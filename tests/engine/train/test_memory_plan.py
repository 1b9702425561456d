"""The memory model against measured peaks, and what the planner chooses by it."""

import pytest

from medcot.settings.recipes import compose
from tests.engine_tools import changed, train

# Tokens of the 90 training records of the readings in docs/performance.md, under Llama 3's tokenizer.
LENGTHS = [
    551,
    474,
    850,
    712,
    641,
    688,
    690,
    679,
    633,
    908,
    722,
    701,
    569,
    563,
    884,
    907,
    542,
    716,
    694,
    539,
    1011,
    635,
    788,
    703,
    617,
    503,
    572,
    627,
    723,
    715,
    729,
    592,
    787,
    684,
    653,
    661,
    751,
    614,
    782,
    446,
    919,
    556,
    679,
    706,
    857,
    521,
    924,
    720,
    1035,
    590,
    836,
    731,
    680,
    737,
    797,
    651,
    635,
    575,
    797,
    510,
    808,
    706,
    689,
    523,
    754,
    894,
    686,
    495,
    732,
    758,
    746,
    795,
    772,
    675,
    741,
    767,
    740,
    541,
    530,
    822,
    620,
    725,
    652,
    863,
    956,
    631,
    673,
    646,
    847,
    871,
]


def test_models_of_other_families_have_a_shape_too():
    import torch
    from transformers import AutoModelForCausalLM, Gemma3Config, OPTConfig

    from medcot.engine.train.memory_plan import ModelDims
    from medcot.settings import LoraSettings

    text = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "vocab_size": 500, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    seeing = Gemma3Config(text_config={**text, **heads}, vision_config={"num_hidden_layers": 1})
    plain = OPTConfig(hidden_size=64, ffn_dim=80, num_hidden_layers=2, num_attention_heads=4, vocab_size=500)
    with torch.device("meta"):
        both = LoraSettings(target_modules=["q_proj", "v_proj"])
        shapes = [ModelDims.of(AutoModelForCausalLM.from_config(c), both) for c in (seeing, plain)]
    assert [(s.hidden, s.inner, s.layers, s.vocabulary) for s in shapes] == [(64, 96, 2, 500), (64, 80, 2, 500)]
    assert [s.keys for s in shapes] == [32, 64]


@pytest.fixture(scope="module")
def llama():
    """The shape of Llama 3.2 3B, without weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from medcot.engine.train.memory_plan import ModelDims

    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=3072,
        intermediate_size=8192,
        num_hidden_layers=28,
        num_attention_heads=24,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
    )
    with torch.device("meta"):
        return ModelDims.of(LlamaForCausalLM(config), compose("llama-3.2-3b-medical-cot").lora)


def recipe(quantization="4bit", **training):
    settings = compose("llama-3.2-3b-medical-cot")
    return changed(changed(settings, "model", quantization=quantization, dtype="bfloat16"), "training", **training)


def hardware(backend, cuda, free_gib):
    from medcot.engine import backends
    from medcot.engine.train.memory_plan import Hardware

    settings = compose("starter", None, [f"backend={backend}"])
    return Hardware(backends.class_for(settings).memory, cuda, free_gib)


def chosen(llama, free_gib, *, backend="unsloth", cuda=True, lengths=LENGTHS, quantization="4bit", **training):
    from medcot.engine.train.memory_plan import plan_batching

    return plan_batching(llama, recipe(quantization, **training), hardware(backend, cuda, free_gib), lengths)


def test_parameters_are_counted_as_they_are(llama):
    assert (llama.linear + llama.other, llama.trained) == (3_212_749_824, 24_313_856)


@pytest.mark.parametrize(
    ("backend", "sampling", "quantization", "micro_batch", "checkpointing", "measured"),
    [
        ("peft", "shuffled", "4bit", 2, True, 3.2),
        ("unsloth", "shuffled", "4bit", 2, True, 3.5),
        ("unsloth", "shuffled", "4bit", 16, False, 29.1),
        ("unsloth", "shuffled", "none", 16, False, 32.9),
        ("unsloth", "grouped", "4bit", 16, False, 34.9),
        ("unsloth", "grouped", "4bit", 8, False, 19.3),
        ("unsloth", "grouped", "4bit", 4, False, 10.9),
        ("unsloth", "grouped", "4bit", 2, False, 7.3),
        ("unsloth", "grouped", "4bit", 16, True, 4.1),
        ("unsloth", "grouped", "4bit", 4, True, 3.1),
        ("unsloth", "grouped", "none", 16, False, 38.7),
        ("unsloth", "grouped", "none", 8, False, 23.1),
        ("unsloth", "grouped", "none", 4, False, 14.8),
        ("unsloth", "grouped", "none", 2, False, 11.1),
        ("unsloth", "grouped", "none", 16, True, 7.9),
        ("unsloth", "grouped", "none", 4, True, 6.9),
    ],
)
def test_the_estimate_is_within_15_percent_of_measured_peaks(
    llama, backend, sampling, quantization, micro_batch, checkpointing, measured
):
    given = {"micro_batch": micro_batch, "accumulation": 16 // micro_batch, "gradient_checkpointing": checkpointing}
    given["sampling"] = sampling
    plan = chosen(llama, 139, backend=backend, quantization=quantization, arrangement="as-given", **given)
    assert plan.peak_memory_gib == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("backend", ["unsloth", "peft"])
@pytest.mark.parametrize("quantization", ["4bit", "none"])
@pytest.mark.parametrize("longest", [600, 2048, 8192])
def test_what_is_chosen_fits_and_keeps_the_steps_number_of_sequences(llama, backend, quantization, longest):
    lengths = [*LENGTHS, longest]
    last = 0.0
    for free in (8, 12, 16, 24, 40, 80, 139):
        plan = chosen(llama, free, backend=backend, quantization=quantization, lengths=lengths)
        assert plan.micro_batch * plan.accumulation == 16
        assert plan.fits == (plan.peak_memory_gib * 1.2 + 1 <= free)
        if plan.fits:
            assert plan.peak_memory_gib >= last or plan.gradient_checkpointing, (
                "more memory is used where there is more"
            )
            last = plan.peak_memory_gib if not plan.gradient_checkpointing else last
        else:
            assert "may not be enough" in plan.why


def test_on_a_gpu_a_pass_is_padded_to_a_multiple_of_64_tokens_and_the_estimate_knows_of_it(llama, tmp_path):
    import torch

    from medcot.engine.train.training import trainer_arguments

    unsloth, peft, cpu = hardware("unsloth", True, 80), hardware("peft", True, 80), hardware("peft", False, 80)
    assert unsloth.length_step("grouped") == peft.length_step("shuffled") == 64
    assert unsloth.length_step("shuffled") == 1, "joined sequences are no rows to pad"
    assert cpu.length_step("grouped") == 1
    assert peft.largest_pass([100, 130], 4, "grouped") == 2 * 192
    one, other = (chosen(llama, 139, lengths=[n] * 32, sampling="grouped") for n in (1025, 1088))
    assert one.peak_memory_gib == other.peak_memory_gib
    assert trainer_arguments(recipe(), tmp_path, torch.float32, peft).pad_to_multiple_of == 64
    assert trainer_arguments(recipe(), tmp_path, torch.float32, cpu).pad_to_multiple_of is None


def test_a_large_card_takes_the_whole_step_at_once_and_a_small_one_checkpoints(llama):
    large, small = chosen(llama, 80), chosen(llama, 15)
    assert (large.micro_batch, large.gradient_checkpointing, large.sampling) == (16, False, "grouped")
    assert (small.gradient_checkpointing, small.fits) == (True, True)


def test_as_given_and_a_cpu_leave_the_settings_own_where_it_fits(llama):
    given = chosen(llama, 80, arrangement="as-given")
    assert (given.micro_batch, given.accumulation, given.sampling) == (2, 8, "shuffled")
    roomy = chosen(llama, 64, backend="peft", cuda=False, quantization="none")
    assert (roomy.micro_batch, roomy.accumulation, roomy.sampling) == (2, 8, "shuffled")
    tight = chosen(llama, roomy.peak_memory_gib, backend="peft", cuda=False, quantization="none")
    assert tight.peak_memory_gib < roomy.peak_memory_gib
    assert (tight.micro_batch * tight.accumulation, tight.sampling) == (16, "shuffled")


def test_what_does_not_fit_is_told_with_the_change_that_makes_it_fit(llama):
    from medcot.engine.train.memory_plan import remedy

    def told(free_gib, quantization, **training):
        return remedy(llama, recipe(quantization, **training), hardware("unsloth", True, free_gib), LENGTHS)

    whole = {"arrangement": "as-given", "micro_batch": 16, "accumulation": 1, "gradient_checkpointing": False}
    assert told(24, "4bit", **whole).startswith("training.arrangement=auto would make it fit")
    assert told(8, "none").startswith("model.quantization=4bit would make it fit")
    assert told(8, "none", **whole).startswith("training.arrangement=auto and model.quantization=4bit would")
    assert told(4.5, "4bit").startswith("training.max_length=512 (which cuts 94% of the records) would make it fit")
    assert "choose a smaller model" in told(1, "4bit")


def test_only_the_reference_keeps_its_own_arrangement():
    assert compose("reference-exact").training.arrangement == "as-given"
    assert compose("llama-3.2-3b-medical-cot").training.arrangement == "auto"


def test_a_resume_keeps_the_arrangement_that_the_run_began_with(tmp_path, tiny_settings, monkeypatch):
    from medcot.engine.train import memory_plan
    from medcot.runs.events import PlanMade, Warned
    from tests.engine.train.test_training import adapter_tensors, assert_same_weights

    def plans(run):
        return [e.arrangement for e in run.events()[0] if isinstance(e, PlanMade)]

    settings = changed(tiny_settings, "training", micro_batch=2, accumulation=2, max_steps=6, save_steps=100)
    whole = train(tmp_path / "a", settings)
    run = train(tmp_path / "b", settings, stop_at=3)
    monkeypatch.setattr(memory_plan, "free_gib", lambda: 0.0)  # this device has less room
    train(tmp_path / "b", settings, run=run)
    assert plans(run) == plans(whole) * 2
    assert_same_weights(adapter_tensors(whole), adapter_tensors(run))
    cramped = train(tmp_path / "c", settings)
    (plan,) = plans(cramped)
    assert (plan.micro_batch * plan.accumulation, plan.fits) == (4, False)
    assert any("Memory may not be enough" in e.message for e in cramped.events()[0] if isinstance(e, Warned))


def test_several_processes_share_a_steps_sequences_and_each_is_fitted_by_itself(llama):
    two, one = chosen(llama, 80, processes=2), chosen(llama, 80)
    assert two.processes * two.micro_batch * two.accumulation == one.micro_batch * one.accumulation == 16
    assert two.micro_batch == 8
    assert two.peak_memory_gib < one.peak_memory_gib
    assert "in each of 2 processes" in str(two)
    kept = chosen(llama, 80, processes=16, arrangement="as-given")
    assert (kept.processes, kept.micro_batch, kept.accumulation) == (16, 1, 1)
    with_room = chosen(llama, 80, processes=2, arrangement="as-given")
    alone = chosen(llama, 80, arrangement="as-given", accumulation=4)
    assert (with_room.micro_batch, with_room.accumulation) == (alone.micro_batch, alone.accumulation) == (2, 4)
    more = (with_room.peak_memory_gib - alone.peak_memory_gib) * 2**30
    assert more == pytest.approx(4 * llama.trained, abs=0.011 * 2**30), "room for the gradients that are added up"
