"""Losses that are no number, memory that does not suffice, records that teach nothing."""

import math
import shutil

import pytest

from medcot.engine.outcome import NotFinite, explain
from medcot.engine.train import checkpoints
from medcot.errors import BadInput
from medcot.runs.events import Validation, Warned
from medcot.runs.run import Run
from tests.engine_tools import adapter_tensors, assert_same_weights, changed, steps, train


def only_run(root) -> Run:
    (path,) = (root / "runs").iterdir()
    return Run(path)


# ---- NaN and infinity


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("log_steps", "said"), [(1, "training loss is nan at step 3"), (50, "hold NaN or infinity at step 4")]
)
def test_a_loss_that_becomes_no_number_keeps_the_last_good_checkpoint(tmp_path, tiny_settings, value, log_steps, said):
    import torch

    def poison(model, forward, _rows):
        if forward == 3:
            with torch.no_grad():
                next(p for n, p in model.named_parameters() if "lora_B" in n).fill_(value)

    settings = changed(tiny_settings, "training", max_steps=8, validate_steps=50, log_steps=log_steps)
    with pytest.raises(NotFinite, match=said) as failed:
        train(tmp_path / "runs", settings, fault=poison)
    fix = "Start a new run with a lower training.learning_rate or more training.warmup_steps. "
    assert explain(failed.value).hint == fix + "checkpoint-2 is whole and kept."
    run = only_run(tmp_path)
    assert [p.name for p in run.checkpoints_dir.iterdir()] == ["checkpoint-2"], "nothing broken was kept"
    assert checkpoints.Checkpoint(run.checkpoints()[0]).damage() is None
    assert not run.has_adapter


@pytest.mark.parametrize("resumed", [False, True])
def test_only_a_checkpoint_that_is_there_is_spoken_of(tmp_path, tiny_settings, resumed):
    import torch

    def poison(model, forward, _rows):
        if forward == 2:
            with torch.no_grad():
                next(p for n, p in model.named_parameters() if "lora_B" in n).fill_(math.nan)

    settings = changed(tiny_settings, "training", max_steps=8, validate_steps=50, save_steps=50)
    run = train(tmp_path / "runs", settings, stop_at=1) if resumed else None
    with pytest.raises(NotFinite) as failed:
        train(tmp_path / "runs", settings, run=run, fault=poison)
    hint = explain(failed.value).hint
    assert "training.learning_rate" in hint
    names = [p.name for p in run.checkpoints()] if run else []
    assert (f"{names[0]} is whole and kept" if names else "No checkpoint was written before") in hint


@pytest.mark.parametrize(
    ("dtype", "fix"),
    [
        ("float32", "in float32. Its weights are broken"),
        ("bfloat16", "in bfloat16. Set model.dtype=float32."),
        ("float16", "in float16. Set model.dtype=bfloat16 or float32."),
    ],
)
def test_a_base_model_whose_loss_is_no_number_fails_before_the_first_step(
    tmp_path, tiny_settings, tiny_model, dtype, fix
):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotFinite, match="is nan at step 0") as failed:
        train(tmp_path / "runs", changed(tiny_settings, "model", id=str(broken), dtype=dtype))
    hint = explain(failed.value).hint
    assert fix in hint
    assert "learning_rate" not in hint
    assert "checkpoint" not in hint
    assert not only_run(tmp_path).has_adapter


# ---- out of memory


def too_many(rows_that_fit, *, since=0):
    """Memory for so many rows at once, from one training forward pass on."""
    import torch

    def fault(model, forward, rows):
        if rows > rows_that_fit and (forward >= since or (not model.training and not since)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return fault


def warnings(run):
    return [e.message for e in run.events()[0] if isinstance(e, Warned)]


@pytest.fixture
def batches_of_four(tiny_settings):
    return changed(tiny_settings, "training", max_steps=None, epochs=2.0, micro_batch=4, accumulation=1)


def test_too_little_memory_halves_the_micro_batch_and_the_steps_see_the_same_records(tmp_path, batches_of_four):
    import torch

    whole = train(tmp_path / "a", batches_of_four)
    halved = train(tmp_path / "b", batches_of_four, fault=too_many(1))
    assert warnings(halved) == [
        "Out of memory at step 1 with micro-batch 4: going on with micro-batch 2 and accumulation 2. "
        "An optimizer step sees the same records as before.",
        "Out of memory at step 1 with micro-batch 2: going on with micro-batch 1 and accumulation 4. "
        "An optimizer step sees the same records as before.",
    ]
    assert [(s.step, s.epoch, s.tokens_seen, s.learning_rate) for s in steps(halved)] == [
        (s.step, s.epoch, s.tokens_seen, s.learning_rate) for s in steps(whole)
    ]
    for kind in (
        lambda r: [s.loss for s in steps(r)],
        lambda r: [e.loss for e in r.events()[0] if type(e) is Validation],
    ):
        assert kind(halved) == pytest.approx(kind(whole), rel=1e-4)
    one, other = adapter_tensors(whole), adapter_tensors(halved)
    assert all(torch.allclose(one[k], other[k], rtol=0.02, atol=2e-3) for k in one)


def test_a_step_that_ran_out_of_memory_begins_anew(tmp_path, batches_of_four):
    """Whether the first or the last of its micro-batches failed, and forward or backward, leaves no trace."""
    import torch

    settings = changed(changed(batches_of_four, "training", accumulation=2), "lora", dropout=0.1)
    early = train(tmp_path / "a", settings, fault=too_many(2, since=1))

    def in_the_backward_pass(model, forward, rows):
        if forward == 2 and rows == 4:  # the second micro-batch of the first step

            def fail(_gradient):
                handle.remove()
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

            parameters = [p for p in model.parameters() if p.requires_grad]
            handle = parameters[len(parameters) // 2].register_hook(fail)

    late = train(tmp_path / "b", settings, fault=in_the_backward_pass)
    assert warnings(early) == warnings(late)
    assert "at step 1" in warnings(early)[0]
    assert_same_weights(adapter_tensors(early), adapter_tensors(late))


def test_a_resume_goes_on_with_the_halved_micro_batch(tmp_path, batches_of_four):
    settings = changed(batches_of_four, "lora", dropout=0.1)
    whole = train(tmp_path / "a", settings, fault=too_many(2, since=2))
    parts = train(tmp_path / "b", settings, fault=too_many(2, since=2), stop_at=4)
    train(tmp_path / "b", settings, run=parts)  # with memory enough for more
    assert_same_weights(adapter_tensors(whole), adapter_tensors(parts))


def test_when_not_even_one_sequence_fits_the_run_fails_and_says_what_to_do(tmp_path, batches_of_four):
    from medcot.engine.outcome import OutOfMemory

    with pytest.raises(OutOfMemory, match="at step 4 with one sequence at a time") as failed:
        train(tmp_path / "runs", batches_of_four, fault=too_many(0, since=4))
    assert len(warnings(only_run(tmp_path))) == 2
    assert [p.name for p in only_run(tmp_path).checkpoints()] == ["checkpoint-2"]
    assert "training.max_length" in explain(failed.value).hint


# ---- nothing to learn


def test_records_whose_every_label_is_masked_are_named_before_anything_is_trained(tmp_path, tiny_settings):
    short = changed(changed(tiny_settings, "training", max_length=16), "data", overlong="cut")
    with pytest.raises(BadInput, match="nothing of record 5, 6, 7"):
        train(tmp_path / "runs", short)
    assert steps(only_run(tmp_path)) == []
    assert not only_run(tmp_path).checkpoints_dir.exists()
