"""What an earlier version wrote: its runs, adapter, settings file and summaries stay usable.

`written_before/` was made by the version before the packages were laid out: two runs of the tiny model, one finished
with two evaluations, one stopped early. Only paths of the machine it was made on are replaced here.
"""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from medcot.cli import app
from medcot.runs.job_dir import ALIVE
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings.recipes import compose

KEPT = Path(__file__).with_name("written_before")
MADE_IN = "/medcot-before"


@pytest.fixture
def store(tmp_path, tiny_model, monkeypatch) -> RunStore:
    """A copy of the runs, whose paths lead to this test's model and data."""
    shutil.copytree(KEPT / "kept", tmp_path / "runs")
    shutil.copytree(tiny_model, tmp_path / "model")  # a model's identity is its folder's name and its weights' hash
    for name in ("records.jsonl", "questions.jsonl", "recipe.toml"):
        shutil.copy(KEPT / name, tmp_path / name)
    for path in tmp_path.rglob("*"):
        # A checkpoint stays as it is: its manifest has a hash of each of its files.
        if path.suffix in (".json", ".jsonl", ".toml") and not {"checkpoints", "model"} & set(path.parts):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(MADE_IN, str(tmp_path)), encoding="utf-8")
    monkeypatch.setenv("MEDCOT_RUNS_DIR", str(tmp_path / "runs"))
    return RunStore(tmp_path / "runs")


def medcot(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_they_are_listed_and_shown(store):
    listed = {run["id"]: run for run in json.loads(medcot("runs", "--json"))["runs"]}
    assert {name: run["state"] for name, run in listed.items()} == {"finished": "finished", "stopped": "stopped"}
    shown = json.loads(medcot("show", "finished", "--json"))
    assert (shown["state"], shown["settings"]["training"]["max_steps"]) == ("finished", 4)
    assert shown["metrics"]["summary"]["kind"] == "records"


@pytest.mark.parametrize("number", [0, 1])
def test_a_summary_reads_and_writes_as_it_was(store, number):
    evaluation = sorted(store.get("finished").evaluations(), key=lambda e: e.path.name)[number]
    written = json.loads((evaluation.path / "summary.json").read_text(encoding="utf-8"))
    read = evaluation.summary()
    assert read.as_json() == written
    said = json.loads(medcot("results", "finished", "--evaluation", evaluation.path.name, "--json"))
    assert said["summary"] == written
    medcot("results", "finished", "--evaluation", evaluation.path.name)


def test_a_settings_file_says_the_same_run(store):
    """But for what was done otherwise then (over-long records, system messages): that run goes on as it began."""
    settings, run = compose("starter", store.root.parent / "recipe.toml"), store.get("stopped").settings()
    assert (settings.data.overlong, run.data.overlong) == ("shorten", "cut")
    assert (settings.data.system_messages, run.data.system_messages) == ("keep", "leave_out")
    same = run.replacing("data", overlong="shorten", system_messages="keep")
    assert settings == same.model_copy(update={"name": settings.name, "recipe": "starter"})


@pytest.mark.slow
def test_a_stopped_run_is_resumed_and_ends(store):
    medcot("train", "--resume", "stopped")
    run = store.get("stopped")
    assert run.status().state == "finished"
    assert run.metrics()["step"] == 60
    events = map(json.loads, (run.path / "events.jsonl").read_text(encoding="utf-8").splitlines())
    steps = [event["step"] for event in events if event["type"] == "step"]
    assert steps == sorted(set(steps)), "no step is reported twice"


@pytest.mark.slow
def test_a_finished_run_is_evaluated_asked_published_and_exported(store, tmp_path):
    before = min((KEPT / "kept" / "finished" / "evaluation").glob("*/summary.json"))
    before = json.loads(before.read_text(encoding="utf-8"))
    medcot("evaluate", "finished", "--set", f"evaluation.max_new_tokens={before['decoding']['max_new_tokens']}")
    again = newest(store.get("finished"))
    assert again["arms"].keys() == before["arms"].keys()
    for arm, scores in before["arms"].items():
        # ROUGE has read letters beyond ASCII since, and this model's outputs are full of them.
        same = {k: v for k, v in scores.items() if k != "seconds" and not k.endswith("_rouge_l")}
        assert {k: again["arms"][arm][k] for k in same} == pytest.approx(same)
    assert json.loads(medcot("ask", "finished", "What suggests gout?", "--json"))
    assert "adapter_model.safetensors" in medcot("publish", "finished", "--repo", "somebody/adapter", "--dry-run")
    medcot("export", "finished", "--to", str(tmp_path / "merged"))
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def newest(run: Run) -> dict:
    evaluation = max(run.evaluations(), key=lambda e: e.path.name)
    assert evaluation.status().state not in ALIVE
    return json.loads((evaluation.path / "summary.json").read_text(encoding="utf-8"))
