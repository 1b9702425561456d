"""The training path on a tiny real model: what is saved, what is refused, and that a resume is exact."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest

from medcot.adapters.open import of_run
from medcot.data.starter import SAMPLE_QUESTIONS
from medcot.errors import BadInput
from medcot.runs.events import Checkpoint, PlanMade, Progress, Sample, Validation
from medcot.settings import TrainingSettings
from tests.engine_tools import adapter_tensors, assert_same_weights, changed, steps, train

SHARED_RECORDS = Path(__file__).parents[4] / "shared" / "data" / "medical_o1_sample.jsonl"


def test_the_adapter_loads_with_transformers_and_peft_alone_and_changes_the_logits(tmp_path, tiny_settings, tiny_model):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = train(tmp_path, tiny_settings)
    assert {k.rsplit(".", 2)[-2] for k in adapter_tensors(run)} == {"lora_A", "lora_B"}

    config = json.loads((run.adapter_dir / "adapter_config.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"])
    ids = AutoTokenizer.from_pretrained(run.adapter_dir)("What suggests gout?", return_tensors="pt")
    with torch.no_grad():
        before = base(**ids).logits.clone()
        after = PeftModel.from_pretrained(base, run.adapter_dir)(**ids).logits
    assert not torch.allclose(before, after)


def test_the_events_tell_the_plan_the_losses_and_the_checkpoints(tmp_path, tiny_settings):
    run = train(tmp_path, changed(tiny_settings, "training", max_steps=None, epochs=1.0))
    events, _ = run.events()
    plan = next(e for e in events if isinstance(e, PlanMade))
    assert (plan.records, plan.held_out, plan.total_steps) == (12, 4, 6)
    assert [s.step for s in steps(run)] == list(range(1, 7))
    assert [e.step for e in events if isinstance(e, Validation)] == [0, 2, 4, 6]
    assert [e.step for e in events if isinstance(e, Checkpoint)] == [2, 4, 6]
    assert [p.name for p in run.checkpoints()] == ["checkpoint-6"], "keep_checkpoints=1 keeps the newest"
    assert steps(run)[-1].tokens_seen > steps(run)[0].tokens_seen > 0


def test_each_stage_is_told_by_its_name_while_it_lasts(tmp_path, tiny_settings):
    settings = changed(tiny_settings, "training", sample_tokens=2, max_steps=3, validate_steps=2, save_steps=100)
    events, _ = train(tmp_path, settings).events()
    told = [(e.stage, e.done, e.total) if isinstance(e, Progress) else type(e).__name__ for e in events]
    stages = [t[0] for t in told if isinstance(t, tuple)]
    assert [stage for stage, before in zip(stages, [None, *stages], strict=False) if stage != before] == [
        "Reading the data",
        "Encoding the records",
        "Loading the model",
        "Validation before the first step",
        "Training",
        "Validation",
        "Answering the sample questions",
        "Training",
        "Validation",
        "Answering the sample questions",
        "Saving a checkpoint",
        "Saving the adapter",
    ]
    assert ("Validation before the first step", 0, 2) in told
    assert told.index(("Training", 0, 3)) < told.index("Step"), "the first step is under way before it is done"


def test_training_learns(tmp_path, tiny_settings):
    run = train(tmp_path, changed(tiny_settings, "training", max_steps=30, validate_steps=30, save_steps=100))
    losses = [e.loss for e in run.events()[0] if isinstance(e, Validation)]
    assert losses[-1] < losses[0] * 0.8


@pytest.mark.parametrize("sampling", get_args(TrainingSettings.model_fields["sampling"].annotation))
def test_a_stopped_and_resumed_run_ends_with_the_very_same_weights(tmp_path, tiny_settings, sampling):
    settings = changed(tiny_settings, "training", sampling=sampling, max_steps=None, epochs=2.0, save_steps=100)
    settings = changed(settings, "lora", dropout=0.1)  # so that the random state matters too
    if sampling == "grouped":  # once each way
        kinds = {"rslora": True, "dora": True, "loraplus_ratio": 4.0, "target_modules": ("all-linear",)}
        settings = changed(settings, "lora", **kinds)
    whole = train(tmp_path / "a", settings)
    parts = train(tmp_path / "b", settings, stop_at=3)
    assert not parts.has_adapter
    train(tmp_path / "b", settings, run=parts, stop_at=9)  # in the second epoch
    assert not parts.has_adapter
    train(tmp_path / "b", settings, run=parts)
    assert [(s.step, s.loss) for s in steps(parts)] == [(s.step, s.loss) for s in steps(whole)]
    assert len(steps(whole)) == 12
    assert_same_weights(adapter_tensors(whole), adapter_tensors(parts))


def test_loraplus_trains_the_second_matrix_at_its_own_rate_and_one_is_the_trainers_own(tmp_path, tiny_settings):
    import torch

    settings = changed(tiny_settings, "training", max_steps=1, weight_decay=0.0, save_steps=100, validate_steps=100)
    plain, same, fast = (
        adapter_tensors(train(tmp_path / str(ratio), changed(settings, "lora", loraplus_ratio=ratio)))
        for ratio in (None, 1.0, 4.0)
    )
    assert_same_weights(plain, same)
    for name, before in plain.items():  # lora_B begins at 0, and Adam's first step is in proportion to the rate
        times = 4 if "lora_B" in name else 1
        assert torch.allclose(fast[name], before * times, rtol=1e-4), name


@pytest.mark.parametrize(("base_too", "at"), [(True, (0, 2, 4)), (False, (2, 4))])
def test_samples_at_each_validation_show_the_form_and_change_no_weight(tmp_path, tiny_settings, base_too, at):
    settings = changed(tiny_settings, "lora", dropout=0.1)
    silent = train(tmp_path / "a", settings)
    shown = train(tmp_path / "b", changed(settings, "training", sample_tokens=8, sample_base=base_too))
    samples = [e for e in shown.events()[0] if isinstance(e, Sample)]
    questions = [question for _, question in SAMPLE_QUESTIONS]
    assert [(s.step, s.question) for s in samples] == [(step, q) for step in at for q in questions]
    assert samples[0].output != samples[-len(questions)].output, "the answers follow the training"
    assert_same_weights(adapter_tensors(silent), adapter_tensors(shown))


def test_a_sample_is_what_the_evaluations_decoder_says_with_a_cache_or_without(tmp_path, tiny_settings, tiny_model):
    from medcot.engine.answer.load import open_decoder
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.models import LocalModel, load_tokenizer
    from medcot.engine.train import samples
    from medcot.evaluation.answers import Decoding
    from medcot.prompts.contract import PromptContract
    from medcot.prompts.encoder import Encoder

    run = train(tmp_path, tiny_settings)
    contract = PromptContract.model_validate_json((run.adapter_dir / "prompt_contract.json").read_text())

    def tuned():
        base = PeftBackend().load(LocalModel(tiny_model, ""), tiny_settings.model, max_length=512)
        return PeftBackend().with_adapter(base, run.adapter_dir), load_tokenizer(tiny_model)

    decoder = open_decoder(of_run(run), PeftBackend(), lambda event: None, max_length=512)
    questions = [question for _, question in SAMPLE_QUESTIONS]
    pairs = [decoder.rows_for(q) for q in questions]
    decoder.decode([row for pair in pairs for row in pair], Decoding(24))
    expected = [decoder.text(row) for _, row in pairs]
    for cached in (True, False):
        model, tokenizer = tuned()
        encoder = Encoder(tokenizer, contract, "completion", 512)
        assert samples.answers(model, encoder, questions, 24, cached=cached) == expected


def test_a_run_that_lost_only_its_adapter_gets_it_back_without_a_step_more(tmp_path, tiny_settings):
    run = train(tmp_path, tiny_settings)
    before = adapter_tensors(run)
    shutil.rmtree(run.adapter_dir)
    train(tmp_path, tiny_settings, run=run)
    assert [s.step for s in steps(run)] == [1, 2, 3, 4]
    assert_same_weights(before, adapter_tensors(run))


def test_a_resume_under_changed_settings_refuses_and_says_which(tmp_path, tiny_settings):
    run = train(tmp_path, changed(tiny_settings, "training", max_steps=6), stop_at=2)
    with pytest.raises(BadInput) as refused:
        train(tmp_path, changed(tiny_settings, "training", max_steps=6, learning_rate=0.5), run=run)
    assert [p.where for p in refused.value.problems] == ["training.learning_rate"]


def test_real_records_train_through_the_same_path(tmp_path, tiny_settings):
    if not SHARED_RECORDS.exists():
        pytest.skip("the folder with real sample records is not here")
    settings = changed(tiny_settings, "data", source=str(SHARED_RECORDS), held_out=8)
    run = train(tmp_path, changed(settings, "training", max_length=2048, max_steps=2))
    plan = next(e for e in run.events()[0] if isinstance(e, PlanMade))
    assert (plan.records, plan.held_out) == (90, 8)
    assert run.has_adapter


def test_the_card_beside_the_adapter_claims_nothing(tmp_path, tiny_settings):
    run = train(tmp_path, tiny_settings)
    card = (run.adapter_dir / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: peft")
    assert run.id in card
    assert "For research only" in card
    assert "improve" not in card


def test_the_plain_contract_trains_on_all_text_and_is_saved_with_the_adapter(tmp_path, tiny_settings):
    run = train(tmp_path, changed(tiny_settings, "prompt", style="plain", loss_on="all"))
    contract = json.loads((run.adapter_dir / "prompt_contract.json").read_text())
    assert (contract["style"], contract["template_hash"], contract["eos_token"]) == ("plain", None, "<|im_end|>")
