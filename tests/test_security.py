"""What docs/security.md promises: keys stay in a worker's environment, and no model brings code to run."""

import ast
import io
import json
import os
import pickle
import re
import shutil
from pathlib import Path

import httpx
import pytest

import medcot
from medcot import machine
from medcot.errors import BadInput
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.settings.evaluation import EvaluationOrder
from medcot.ui import build_app
from medcot.ui.serve import Served
from medcot.ui.train import start
from medcot.workers import jobs
from tests.fakes import FakeClient, write_run

ROOT = Path(medcot.__file__).parent
CANARY = "canary-7d20b1"


# ---- keys


def test_no_key_is_in_what_the_page_serves(monkeypatch, runs_dir):
    for name in start.KEYS:
        monkeypatch.setenv(name, CANARY)
    page = Served(build_app(runs_dir, FakeClient()))
    try:
        answers = {path: httpx.get(page.url + path, trust_env=False) for path in ("", "/config", "/gradio_api/info")}
    finally:
        page.close()
    assert CANARY not in "".join(answer.text for answer in answers.values())
    fields = [c for c in answers["/config"].json()["components"] if c["props"].get("type") == "password"]
    assert len(fields) >= len(start.KEYS)
    assert not any(f["props"].get("value") for f in fields)


@pytest.fixture
def started(monkeypatch):
    """The command and the environment of the last child that was to be started."""
    seen = {}

    class Process:
        pid = 4_000_000

        def __init__(self, *command, env, **_):
            seen.update(command=command, env=env)
            self.stdin = io.BytesIO()

    monkeypatch.setattr(machine, "spawn", Process)
    return seen


def test_typed_keys_go_into_the_workers_environment_and_nowhere_else(monkeypatch, runs_dir, tiny_settings, started):
    monkeypatch.setenv("WANDB_API_KEY", "the-apps-own")
    run = jobs.start_training(RunStore(runs_dir), tiny_settings, start.secrets(["", f" {CANARY} "]))
    assert started["env"]["HF_TOKEN"] == CANARY
    assert started["env"]["WANDB_API_KEY"] == "the-apps-own", "an empty field leaves the environment as it is"
    assert CANARY not in " ".join(started["command"])
    assert CANARY not in os.environ.values()
    assert [p for p in run.path.rglob("*") if p.is_file() and CANARY in p.read_text()] == []


SERVER = {"url": "http://127.0.0.1:9", "base": "b", "tuned": "t"}


@pytest.mark.parametrize("server", [None, SERVER], ids=["no server", "a server"])
def test_a_servers_key_goes_to_the_evaluation_that_asks_it_and_to_no_other_job(monkeypatch, runs_dir, started, server):
    for name in ("MEDCOT_ENDPOINT_KEY", "MEDCOT_AUTH", "MEDCOT_TOKEN", "OAUTH_CLIENT_SECRET"):
        monkeypatch.setenv(name, CANARY)
    run = write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True)
    job = jobs.start_evaluation(run, EvaluationOrder(endpoint=server))
    kept = {"MEDCOT_ENDPOINT_KEY"} if server else set()
    assert {name for name, value in started["env"].items() if value == CANARY} == kept
    job.write_status("stopped")
    jobs.resume_evaluation(job)
    assert {name for name, value in started["env"].items() if value == CANARY} == kept


# ---- models


class Runs:
    """Unpickled, it writes a file."""

    def __init__(self, proof: Path):
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


@pytest.fixture
def model(tmp_path, tiny_model):
    return shutil.copytree(tiny_model, tmp_path / "model")


def load(folder, settings):
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.models import LocalModel, load_tokenizer

    return PeftBackend().load(LocalModel(folder, ""), settings.model, max_length=64), load_tokenizer(folder)


def test_a_pickle_beside_safetensors_is_not_opened_and_alone_it_is_refused(model, tmp_path, tiny_settings):
    proof = tmp_path / "was-run"
    for name in ("pytorch_model.bin", "model.bin", "training_args.bin"):
        (model / name).write_bytes(pickle.dumps(Runs(proof)))
    assert load(model, tiny_settings)[0].num_parameters() > 0
    (model / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="cannot be loaded"):
        load(model, tiny_settings)
    assert not proof.exists()


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_a_model_that_brings_its_own_code_is_refused_without_running_it(model, tmp_path, tiny_settings, file):
    proof = tmp_path / "was-run"
    (model / "own_code.py").write_text(f"from pathlib import Path\nPath({str(proof)!r}).touch()\n")
    config = json.loads((model / file).read_text())
    if file == "config.json":
        config |= {"model_type": "own", "auto_map": {"AutoConfig": "own_code.C", "AutoModelForCausalLM": "own_code.M"}}
    else:
        config |= {"tokenizer_class": "OwnTokenizer", "auto_map": {"AutoTokenizer": ["own_code.T", "own_code.T"]}}
    (model / file).write_text(json.dumps(config))
    with pytest.raises(BadInput, match="cannot be loaded"):
        load(model, tiny_settings)
    assert not proof.exists()


def test_no_code_here_unpickles_or_lets_a_model_run_its_own_code():
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "trust_remote_code":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {a.name for a in node.names} | {getattr(node, "module", None)}
                assert not names & {"pickle", "dill", "cloudpickle", "joblib"}, path
            if isinstance(node, ast.Attribute) and node.attr == "load" and isinstance(node.value, ast.Name):
                assert node.value.id != "torch", path


# ---- the documents


def test_every_test_that_the_documents_name_is_there():
    docs = [*(ROOT.parent / "docs").glob("*.md"), ROOT.parent / "README.md"]
    named = {n for d in docs for n in re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", d.read_text(encoding="utf-8"))}
    assert named
    for file, test in named:
        path = ROOT.parent / file
        assert path.is_file(), file
        assert not test or f"def {test}(" in path.read_text(encoding="utf-8"), f"{file}::{test}"
