"""Which step's adapter is kept, and when a training ends early: also one that is stopped, damaged or without room."""

import errno
import random
import shutil
from itertools import pairwise

import pytest

from medcot.engine.train import checkpoints
from medcot.engine.train.choice import Choice
from medcot.errors import BadInput
from medcot.runs.events import Kept, Step, Validation, Warned
from medcot.runs.run import Run
from medcot.settings import RunSettings, TrainingSettings, build, idle_choice
from tests.conftest import make_records, tiny_raw, write_records
from tests.data.test_examples import write
from tests.engine_tools import adapter_tensors, assert_same_weights, changed, steps, train

EVERY, STEPS = 2, 12


def logged(losses: dict[int, float]) -> list[dict[str, float]]:
    return [{"step": step, "eval_loss": loss} for step, loss in losses.items()]


def choice(**settings) -> Choice:
    return Choice(TrainingSettings(**{"validate_steps": EVERY, "keep": "best", **settings}), STEPS)


# ---- the rule


def test_the_lowest_loss_of_a_planned_validation_is_the_best_and_the_earliest_of_equal_ones():
    history = logged({0: 0.5, 2: 3.0, 4: 2.0, 5: 1.0, 6: 2.0, 8: 2.5})
    history.append({"step": 8, "loss": 0.1})
    assert choice().best(history) == 4, "neither the base, nor what a resume validates in between"
    assert choice(keep="newest").best(history) is None
    assert choice().best([]) is None
    assert choice(validate_steps=5).best(logged({5: 2.0, 10: 3.0, 12: 1.0})) == 12, "the last step is planned too"


@pytest.mark.parametrize(
    ("patience", "over_at"), [(None, None), (0, None), (1, 6), (2, 8), (3, 10), (4, 12), (5, None)]
)
def test_patience_counts_the_validations_since_the_lowest(patience, over_at):
    losses, rule = {2: 3.0, 4: 2.0, 6: 2.0, 8: 2.5, 10: 2.1, 12: 2.0}, choice(patience=patience)
    over = [step for step in losses if rule.is_over(logged({s: loss for s, loss in losses.items() if s <= step}))]
    assert over[:1] == [over_at] * (over_at is not None)
    twice = logged({2: 3.0}) * 5
    assert not rule.is_over(twice), "a resume that validates again counts nothing"


def test_choices_that_no_validation_can_make_are_refused_all_at_once():
    with pytest.raises(BadInput) as refused:
        build({"training": {"keep": "best", "patience": 3, "max_steps": 20, "validate_steps": 20, "epochs": 0}})
    assert [p.where for p in refused.value.problems] == ["training.epochs", "training.keep", "training.patience"]
    assert "below 20" in refused.value.problems[1].fix
    training = build({"training": {"patience": 3}}).training
    assert "training.patience" in idle_choice(training, 50)
    assert idle_choice(training, 51) is None


# ---- checkpoints


def saved(tmp_path, step: int, **kept) -> set[str]:
    (written := tmp_path / "written" / f"checkpoint-{step}").mkdir(parents=True)
    (written / "weights").write_text("w")
    checkpoints.save(written, tmp_path / "kept", checkpoints.Manifest(depends_on={}, micro_batch=1), **kept)
    return {path.name for path in (tmp_path / "kept").iterdir()}


def test_the_best_checkpoint_stays_beside_the_newest_until_a_better_one_is_whole(tmp_path, monkeypatch):
    (tmp_path / "kept").mkdir()
    assert saved(tmp_path, 2, most=1, best=2) == {"checkpoint-2"}
    assert saved(tmp_path, 4, most=1, best=2) == {"checkpoint-2", "checkpoint-4"}
    assert saved(tmp_path, 6, most=1, best=2) == {"checkpoint-2", "checkpoint-6"}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "write_atomically", full)
        with pytest.raises(OSError, match="No space left"):
            saved(tmp_path, 8, most=1, best=8)
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"checkpoint-2", "checkpoint-6"}
    shutil.rmtree(tmp_path / "written")
    assert saved(tmp_path, 8, most=1, best=8) == {"checkpoint-8"}


# ---- real runs whose validation loss turns up


@pytest.fixture(scope="module")
def settings(tmp_path_factory, tiny_model) -> RunSettings:
    """A high rate, and validation data that has the records' form and none of their sense: its loss soon turns up."""
    folder, draw = tmp_path_factory.mktemp("choice"), random.Random(1)
    words = [word for row in make_records(40) for word in row["Complex_CoT"].split()]
    texts = [(" ".join(draw.sample(words, 12)), " ".join(draw.sample(words, 6))) for _ in range(4)]
    rows = [{"Question": f"Case {i}: what now?", "Complex_CoT": a, "Response": b} for i, (a, b) in enumerate(texts)]
    raw = tiny_raw(tiny_model, write_records(folder / "records.jsonl", 10))
    raw["data"]["validation"] = str(write(folder, rows, "validation.jsonl"))
    raw["lora"]["dropout"] = 0.1
    raw["training"] |= {"max_steps": STEPS, "learning_rate": 5e-2, "scheduler": "constant_with_warmup"}
    return build({**raw, "training": {**raw["training"], "keep": "best", "save_steps": 3}})


@pytest.fixture(scope="module")
def whole(tmp_path_factory, settings) -> Run:
    return train(tmp_path_factory.mktemp("whole"), settings)


def losses(run: Run) -> dict[int, float]:
    return {e.step: e.loss for e in run.events_of(Validation) if e.step}


def lowest(run: Run) -> int:
    found = losses(run)
    return min(found, key=found.__getitem__)


def test_the_adapter_is_the_checkpoint_of_the_lowest_loss_bitwise(whole):
    best = lowest(whole)
    assert EVERY < best < STEPS - EVERY, "its loss falls and turns up again"
    kept = whole.newest_event(Kept)
    assert (kept.step, kept.loss, kept.ended_at) == (best, losses(whole)[best], None)
    assert [path.name for path in whole.checkpoints()] == [f"checkpoint-{STEPS}", f"checkpoint-{best}"]
    newest, of_best = ((path / "adapter_model.safetensors").read_bytes() for path in whole.checkpoints())
    assert (whole.adapter_dir / "adapter_model.safetensors").read_bytes() == of_best != newest
    assert whole.metrics()["kept_step"] == best
    card = (whole.adapter_dir / "README.md").read_text(encoding="utf-8")
    assert f"Adapter: that of step {best}, validation loss {kept.loss:.3f}, the lowest" in card


@pytest.mark.parametrize("before", [(2, 1), (1,)], ids=["before and after the lowest", "at the lowest"])
def test_a_run_ended_by_its_patience_and_stopped_around_the_lowest_loss_keeps_the_same_adapter(
    tmp_path, settings, whole, before
):
    best, run = lowest(whole), None
    settings = changed(settings, "training", patience=1)
    for steps_before in before:  # it stops a step later than it is asked to
        run = train(tmp_path, settings, stop_at=best - steps_before, run=run)
        assert not run.has_adapter
    train(tmp_path, settings, run=run)
    assert_same_weights(adapter_tensors(whole), adapter_tensors(run))
    kept = run.newest_event(Kept)
    assert (kept.step, kept.ended_at) == (best, best + EVERY)
    assert kept.loss == losses(whole)[best]
    of_whole = [(s.step, s.loss) for s in steps(whole)]
    assert [(s.step, s.loss) for s in steps(run)] == of_whole[: best + EVERY]

    shutil.rmtree(run.adapter_dir)
    train(tmp_path, settings, run=run)
    assert run.newest_event(Step).step == best + EVERY, "what has ended early goes not a step further"
    assert_same_weights(adapter_tensors(whole), adapter_tensors(run))


def test_where_the_best_checkpoint_is_damaged_the_next_best_is_kept_and_told(tmp_path, settings, whole):
    best = lowest(whole)
    run = Run(shutil.copytree(whole.path, tmp_path / whole.id))
    (run.checkpoints_dir / f"checkpoint-{best}" / "optimizer.pt").unlink()
    shutil.rmtree(run.adapter_dir)
    train(tmp_path, settings, run=run)
    (told,) = [e.message for e in run.events_of(Warned)]
    assert told.startswith(
        f"checkpoint-{best}, of the lowest validation loss, cannot be kept: optimizer.pt is missing."
    )
    assert told.endswith(f"The adapter is that of step {STEPS}.")
    assert run.newest_event(Kept).step == STEPS
    assert (run.adapter_dir / "adapter_model.safetensors").read_bytes() == (
        run.checkpoints()[0] / "adapter_model.safetensors"
    ).read_bytes()


def test_the_newest_is_kept_as_before(whole, settings, tmp_path):
    run = train(tmp_path, changed(settings, "training", keep="newest"))
    assert run.newest_event(Kept) is None
    assert [path.name for path in run.checkpoints()] == [f"checkpoint-{STEPS}"]
    assert all(a < b for a, b in pairwise(s.step for s in steps(run)))
    assert [(s.step, s.loss) for s in steps(run)] == [(s.step, s.loss) for s in steps(whole)]
