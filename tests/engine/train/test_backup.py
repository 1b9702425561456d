"""A run's backup: pushed while it trains, fetched where its folder is gone, and the weights are the very same."""

import hashlib
import json
import pickle
import shutil
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medcot.adapters.backup import MARK, require_free, restore
from medcot.cli import app
from medcot.errors import BadInput
from medcot.runs.events import Warned
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import build
from tests.conftest import tiny_raw, write_records
from tests.engine_tools import adapter_tensors, assert_same_weights, changed, steps, train
from tests.hub_stub import WRITE_TOKEN, HubStub, Repo

REPO = "ada/run-1"
FOLDER = "checkpoints/checkpoint-4/"


class Killed(BaseException):
    """The machine is gone."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory, tiny_model):
    records = write_records(tmp_path_factory.mktemp("backup") / "records.jsonl")
    made = changed(build(tiny_raw(tiny_model, records)), "lora", dropout=0.1)
    return changed(made, "training", max_steps=6, backup=REPO)


@pytest.fixture
def hub(monkeypatch):
    with HubStub() as stub:
        monkeypatch.setenv("HF_ENDPOINT", stub.endpoint)
        monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("medcot.engine.train.backup.FIRST_WAIT", 0.01)
        yield stub


@pytest.fixture(scope="module")
def killed(tmp_path_factory, settings):
    """What a run that was killed in its fifth step had pushed, and its id."""

    def fault(model, number, rows):
        if number == 5:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, HubStub() as stub:
        patch.setenv("HF_ENDPOINT", stub.endpoint)
        patch.setenv("HF_TOKEN", WRITE_TOKEN)
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        root = tmp_path_factory.mktemp("killed")
        with pytest.raises(Killed):
            train(root, settings, fault=fault)
        (run,) = RunStore(root).list()
        assert not (run.path / ".backup").exists()
        shutil.rmtree(root)
        repo = stub.models[REPO]
        assert repo.private
        return repo.files, run.id


@pytest.fixture
def kept(hub, killed):
    """The repository, to change before it is fetched."""
    hub.models[REPO] = Repo(dict(killed[0]), private=True)
    return hub.models[REPO].files


def warnings(run: Run) -> list[str]:
    return [event.message for event in run.events_of(Warned)]


def test_a_killed_run_whose_folder_is_gone_goes_on_elsewhere_to_the_very_same_weights(
    tmp_path, settings, killed, kept, hub
):
    pushed, run_id = killed
    assert {name.split("/")[1] for name in pushed if name.startswith("checkpoints/")} == {"checkpoint-4"}
    assert not any(name.endswith("training_args.bin") for name in pushed)
    run = restore(RunStore(tmp_path / "new"), REPO)
    assert (run.id, run.status().state) == (run_id, "stopped")
    assert run.settings() == settings
    assert [s.step for s in steps(run)] == [1, 2, 3, 4]
    train(tmp_path / "new", settings, run=run)
    whole = train(tmp_path / "whole", changed(settings, "training", backup=None))
    assert [(s.step, s.loss) for s in steps(run)] == [(s.step, s.loss) for s in steps(whole)]
    assert_same_weights(adapter_tensors(whole), adapter_tensors(run))
    assert warnings(run) == []
    assert {name.split("/")[1] for name in kept if name.startswith("checkpoints/")} == {"checkpoint-4"}
    now = hub.models[REPO].files
    assert {name.split("/")[1] for name in now if name.startswith("checkpoints/")} == {"checkpoint-6"}
    with pytest.raises(BadInput, match=f"the run {run_id} is in .* already"):
        restore(RunStore(tmp_path / "new"), REPO)


def test_a_hub_that_fails_is_told_once_and_no_step_waits_for_it(tmp_path, settings, hub):
    hub.faults["commit"] = 1000
    run = train(tmp_path, settings)
    assert run.has_adapter
    assert [s.step for s in steps(run)] == [1, 2, 3, 4, 5, 6]
    (told,) = warnings(run)
    assert told.startswith(f"The backup to {REPO} failed (")
    assert hub.models[REPO].files.keys() == {".gitattributes"}


def test_the_end_waits_so_long_and_no_longer(tmp_path, settings, hub, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr("medcot.engine.train.backup.LAST_SECONDS", 0.1)
    monkeypatch.setattr("medcot.engine.train.backup.Backup._push", lambda self, state: release.wait(60))
    run = train(tmp_path, settings)
    release.set()
    assert run.has_adapter
    assert "did not end in 0 s" in warnings(run)[-1]


@pytest.mark.parametrize(
    ("files", "private", "words"),
    [
        ({}, False, "is public"),
        ({"model.safetensors": b"x"}, True, "holds something else than a backup"),
        ({MARK: b'{"version": 1, "run": "another"}'}, True, "holds the backup of another run, another"),
        ({MARK: b'{"version": 2, "run": "r"}'}, True, "of another version"),
    ],
)
def test_a_repository_that_is_not_this_runs_alone_is_refused_before_anything_is_loaded(
    tmp_path, settings, hub, files, private, words
):
    hub.models[REPO] = Repo(files, private=private)
    with pytest.raises(BadInput, match=words) as refused:
        train(tmp_path, settings)
    assert refused.value.problems[0].where == "training.backup"
    assert not hub.commits
    with pytest.raises(BadInput, match=words):
        require_free(REPO)


def test_without_a_token_or_its_rights_nothing_starts(tmp_path, settings, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(BadInput, match=r"may not make or write ada/run-1 \(HTTP 403\)"):
        train(tmp_path, settings)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(BadInput, match=r"is not set, and training\.backup needs it"):
        train(tmp_path, settings)


class Exploding:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_restored_pickle_of_state_runs_no_code(tmp_path, settings, kept):
    """Its hash fits the manifest, as whoever changes a backup can see to."""
    harm = pickle.dumps(Exploding(tmp_path / "harm"))
    kept[FOLDER + "optimizer.pt"] = harm
    manifest = json.loads(kept[FOLDER + "manifest.json"])
    manifest["files"]["optimizer.pt"] = hashlib.sha256(harm).hexdigest()
    kept[FOLDER + "manifest.json"] = json.dumps(manifest).encode()
    run = restore(RunStore(tmp_path / "new"), REPO)
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        train(tmp_path / "new", settings, run=run)
    assert not (tmp_path / "harm").exists()


def test_only_expected_files_are_fetched(tmp_path, kept, hub):
    strange = ("evil.py", "checkpoints/checkpoint-4/evil.pkl", "checkpoints/checkpoint-4/training_args.bin")
    strange += (
        "checkpoints/checkpoint-04/optimizer.pt",
        "checkpoints/checkpoint-4/sub/optimizer.pt",
        "a/settings.json",
    )
    kept |= dict.fromkeys(strange, b"x")
    run = restore(RunStore(tmp_path / "new"), REPO)
    there = {path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file()}
    assert not there & set(strange)
    assert not [request for request in hub.requests if any(name in request for name in strange)]
    assert [path.name for path in (tmp_path / "new").iterdir()] == [run.id]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.clear(), "no backup of a run: it has no medcot-backup.json"),
        (lambda f: f.pop("settings.json"), "no backup of a run: it has no settings.json"),
        (lambda f: [f.pop(n) for n in list(f) if n.startswith("checkpoints")], "no checkpoint: the run ended before"),
        (lambda f: f.update({MARK: b"[]"}), "another version of medcot, or damaged"),
        (lambda f: f.update({MARK: b'{"version": 1, "run": "../../x"}'}), "names a run as none is called"),
        (
            lambda f: f.update({"settings.json": b'{"training": {"epochs": -1}}'}),
            "another version of medcot, or damaged",
        ),
        (lambda f: f.pop(FOLDER + "manifest.json"), "is not whole: manifest.json cannot be read"),
        (lambda f: f.update({FOLDER + "adapter_config.json": b'{"peft_type": "IA3"}'}), "IA3 adapter, not LoRA"),
        (lambda f: f.update({FOLDER + "adapter_model.safetensors": b"x" * 99}), "not a whole safetensors file"),
    ],
)
def test_what_is_no_backup_is_refused_in_words_and_leaves_nothing(tmp_path, kept, change, words):
    change(kept)
    with pytest.raises(BadInput, match=words):
        restore(RunStore(tmp_path / "new"), REPO)
    assert list((tmp_path / "new").glob("*")) == []


def test_a_repository_that_is_missing_or_public_is_refused(tmp_path, kept, hub):
    said = CliRunner().invoke(app, ["train", "--resume", "ada/none"])
    assert said.exit_code == 2
    assert "there is no ada/none on" in " ".join(said.output.split())
    with pytest.raises(BadInput, match="there is no ada/none on"):
        restore(RunStore(tmp_path / "new"), "ada/none")
    hub.models[REPO].private = False
    with pytest.raises(BadInput, match="is public"):
        restore(RunStore(tmp_path / "new"), REPO)
