"""What is on disk after a kill, damage, a full disk or a read-only one: whole, or named and passed over."""

import json
import os
import shutil
import subprocess

import pytest

from medcot.engine.train import checkpoints
from medcot.errors import BadInput
from medcot.runs.events import Checkpoint, Warned
from medcot.runs.job_dir import ALIVE
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import RunSettings, build
from medcot.settings.evaluation import EvaluationOrder
from medcot.workers import jobs
from tests import forkserver
from tests.engine_tools import adapter_tensors, assert_same_weights, changed, steps, train
from tests.fakes import write_run
from tests.faults import killed
from tests.faults.tools import events, fill, mounted, until


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("saving")


@pytest.fixture
def settings(tiny_settings):
    return changed(changed(tiny_settings, "training", max_steps=6), "lora", dropout=0.1)


# The whole checkpoints after a kill at a late moment, the newest first.
LEFT = {killed.MOMENTS[3]: ["checkpoint-4", "checkpoint-2"], killed.MOMENTS[4]: ["checkpoint-4"]}


@pytest.mark.slow
def test_kill_9_in_the_middle_of_saving_leaves_a_whole_checkpoint_to_go_on_from(tmp_path, settings):
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    arguments = (tmp_path / "settings.json", tmp_path / "killed", *killed.MOMENTS)
    done = forkserver.run("tests.faults.killed", *arguments)
    assert done.returncode == 0, done.stderr
    whole = adapter_tensors(only(tmp_path / "killed" / "whole"))
    for moment in killed.MOMENTS:
        run = only(tmp_path / "killed" / moment)
        found = {p.name: checkpoints.Checkpoint(p).damage() for p in run.checkpoints()}
        assert found == dict.fromkeys(LEFT.get(moment, ["checkpoint-2"])), moment
        train(run.path.parent, settings, run=run)
        assert_same_weights(whole, adapter_tensors(run))
        assert [p.name for p in run.checkpoints_dir.iterdir()] == ["checkpoint-6"], "what the kill left is gone"


@pytest.mark.slow
def test_kill_9_at_any_moment_and_again_and_again_leads_to_the_same_weights(tmp_path, settings):
    settings = changed(settings, "training", save_steps=1)
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    seeds = ("1", "2", "3", "4")
    done = forkserver.run("tests.faults.killed", tmp_path / "settings.json", tmp_path / "killed", *seeds)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 0, "at least one was killed before its end"
    whole = adapter_tensors(only(tmp_path / "killed" / "whole"))
    for seed in seeds:
        run = only(tmp_path / "killed" / seed)
        assert_same_weights(whole, adapter_tensors(run))
        assert [p.name for p in run.checkpoints_dir.iterdir()] == ["checkpoint-6"], "what the kills left is gone"
        assert {event.step for event in steps(run)} == {1, 2, 3, 4, 5, 6}


def only(root) -> Run:
    (path,) = root.iterdir()
    return Run(path)


@pytest.fixture(scope="module")
def a_checkpoint(shared, tiny_model, records_of_module):
    from tests.conftest import tiny_raw

    run = train(shared, build(tiny_raw(tiny_model, records_of_module)))
    return run.checkpoints()[0]


@pytest.fixture(scope="module")
def records_of_module(shared):
    from tests.conftest import write_records

    return write_records(shared / "records.jsonl")


@pytest.mark.parametrize("name", [*checkpoints.REQUIRED, checkpoints.MANIFEST])
def test_a_truncated_or_missing_checkpoint_file_is_named(tmp_path, a_checkpoint, name):
    copy = tmp_path / a_checkpoint.name
    shutil.copytree(a_checkpoint, copy)
    assert checkpoints.Checkpoint(copy).damage() is None
    os.truncate(copy / name, (copy / name).stat().st_size // 2)
    assert name in checkpoints.Checkpoint(copy).damage()
    (copy / name).unlink()
    assert f"{name} is missing" in checkpoints.Checkpoint(copy).damage()


def test_damaged_checkpoints_are_named_and_passed_over(tmp_path, settings):
    settings = changed(settings, "training", keep_checkpoints=3)
    whole = train(tmp_path / "a", settings)
    run = train(tmp_path / "b", settings, stop_at=5)
    newest, older, oldest = run.checkpoints()
    assert [p.name for p in (older, oldest)] == ["checkpoint-4", "checkpoint-2"]
    (newest / "optimizer.pt").unlink()
    (older / "rng_state.pth").write_bytes(b"cut")
    train(tmp_path / "b", settings, run=run)
    warnings = [e.message for e in run.events()[0] if isinstance(e, Warned)]
    assert warnings == [
        f"{newest.name} is passed over: optimizer.pt is missing.",
        "checkpoint-4 is passed over: rng_state.pth is damaged.",
    ]
    assert_same_weights(adapter_tensors(whole), adapter_tensors(run))


def test_a_resume_on_another_kind_of_device_goes_on_and_is_told(tmp_path, settings):
    run = train(tmp_path, settings, stop_at=2)
    (checkpoint,) = run.checkpoints()
    manifest = json.loads((checkpoint / checkpoints.MANIFEST).read_text())
    manifest["computed"] = "unsloth, bfloat16, cuda"
    (checkpoint / checkpoints.MANIFEST).write_text(json.dumps(manifest))
    train(tmp_path, settings, run=run)
    (told,) = [e.message for e in run.events()[0] if isinstance(e, Warned)]
    assert told.startswith(
        f"{checkpoint.name} was computed otherwise (unsloth, bfloat16, cuda) than from here on (peft, float32"
    )
    assert run.has_adapter


def test_what_was_just_written_stays_and_what_was_passed_over_goes(tmp_path):
    for step in (10, 20, 40, 60):
        (tmp_path / "kept" / f"checkpoint-{step}").mkdir(parents=True)
    written = tmp_path / "written" / "checkpoint-27"
    written.mkdir(parents=True)
    manifest = checkpoints.Manifest(depends_on={}, micro_batch=1)
    final = checkpoints.save(written, tmp_path / "kept", manifest, most=2)
    assert final.path.is_dir()
    assert {p.name for p in (tmp_path / "kept").iterdir()} == {"checkpoint-20", "checkpoint-27"}


def test_when_no_checkpoint_is_whole_a_resume_refuses_instead_of_starting_over(tmp_path, settings):
    run = train(tmp_path, settings, stop_at=2)
    for checkpoint in run.checkpoints():
        (checkpoint / "scheduler.pt").unlink()
    with pytest.raises(BadInput, match="none of the run's checkpoints is whole"):
        train(tmp_path, settings, run=run)


# ---- disks


@pytest.fixture
def small_disk(tmp_path):
    """A folder that holds 8 MB and no more."""
    yield from mounted(tmp_path / "disk", "size=8m")


def test_a_full_disk_ends_the_run_in_words_and_it_goes_on_when_there_is_room(small_disk, tiny_settings):
    store = RunStore(small_disk)
    run = jobs.start_training(store, changed(tiny_settings, "training", max_steps=5000, save_steps=2))
    until(lambda: len(events(run, Checkpoint)) > 1, "two checkpoints")
    fill(small_disk)
    until(lambda: run.status().state not in ALIVE, "its end")
    status = run.status()
    assert status.state in ("failed", "interrupted")
    assert "disk is full" in status.error + status.hint
    assert "--resume" in status.hint
    assert any(checkpoints.Checkpoint(c).damage() is None for c in run.checkpoints())
    fill(small_disk)  # the half of a checkpoint that met the end of the disk is gone
    with pytest.raises(BadInput, match="No space left on device"):
        jobs.start_training(store, tiny_settings)
    assert len(store.list()) == 1, "a run that cannot be made leaves nothing"

    (small_disk / "filler").unlink()
    before = len(events(run, Checkpoint))
    jobs.resume_training(run)
    until(lambda: len(events(run, Checkpoint)) > before or run.status().state not in ALIVE, "one more checkpoint")
    assert run.status().state == "running", run.log_tail(20)
    jobs.stop(run, now=True)


def test_a_read_only_runs_folder_is_refused_in_words(tmp_path, tiny_settings):
    for disk in mounted(tmp_path / "disk", "size=1m,ro"):
        with pytest.raises(BadInput, match="Read-only file system") as refused:
            jobs.start_training(RunStore(disk), tiny_settings)
        assert refused.value.problems[0].where == "--runs-dir"


def test_a_disk_that_became_read_only_is_said_by_whatever_would_write(tmp_path):
    for disk in mounted(tmp_path / "disk", "size=4m"):
        store = RunStore(disk)
        run = write_run(store, RunSettings(), "interrupted")
        (run.path / "checkpoints" / "checkpoint-1").mkdir(parents=True)
        evaluation = run.new_evaluation()
        evaluation.write_status("interrupted", job="evaluate")
        (evaluation.path / "settings.json").write_text(EvaluationOrder().model_dump_json())
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        for act in (
            lambda run=run: jobs.resume_training(run),
            lambda evaluation=evaluation: jobs.resume_evaluation(evaluation),
            lambda store=store, run=run: store.delete(run),
        ):
            with pytest.raises(BadInput, match="Read-only file system"):
                act()


def test_a_full_disk_is_told_whichever_library_meets_it():
    from safetensors import SafetensorError

    from medcot.engine.outcome import explain

    met = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert "disk is full" in explain(met).hint


@pytest.mark.parametrize(
    "own", ["checkpoint-2-copy", "checkpoint-best", "checkpoint-²", "checkpoint-", "checkpoint-007"]
)
def test_what_somebody_keeps_beside_the_checkpoints_ends_no_training_and_stays(tmp_path, own):
    kept = tmp_path / "kept"
    for name in (own, "checkpoint-2", "checkpoint-4"):
        (kept / name).mkdir(parents=True)
    (written := tmp_path / "checkpoint-6").mkdir()
    (written / "weights").write_text("w")
    checkpoints.save(written, kept, checkpoints.Manifest(depends_on={}, micro_batch=1), most=1)
    assert sorted(path.name for path in kept.iterdir()) == sorted([own, "checkpoint-6"])
