"""The command as a person runs it: its own process, exit codes, words on stderr, one JSON object on stdout."""

import json
import os
import signal
import subprocess
import time

import pytest

from medcot import machine
from medcot.runs.store import RunStore
from tests import forkserver
from tests.conftest import pairs, tiny_raw


def medcot(*arguments, **options):
    return forkserver.run("medcot", *arguments, **options)


def tiny_arguments(model, records, **training):
    raw = tiny_raw(model, records)
    raw["training"].update(training)
    return [part for pair in pairs(raw) for part in ("--set", pair)]


def only_json(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_whole_job_from_quickstart_to_ask(tiny_model, records, runs_dir):
    found = only_json(medcot("quickstart", *tiny_arguments(tiny_model, records), "--json", fresh=True))
    assert found.keys() == {"run", "run_dir", "summary"}
    assert found["summary"]["data"]["records"] == 4

    shown = only_json(medcot("show", "--json"))
    assert (shown["id"], shown["state"]) == (found["run"], "finished")
    assert {"settings", "metrics"} <= shown.keys()
    listed = only_json(medcot("runs", "--json"))
    assert [r["id"] for r in listed["runs"]] == [found["run"]]

    asked = only_json(medcot("ask", "latest", "What suggests gout?", "--max-new-tokens", "8", "--json"))
    assert (asked["question"], asked["emergency"]) == ("What suggests gout?", [])
    for arm in ("base", "tuned"):
        assert {"reasoning", "answer", "problems"} <= asked[arm].keys()

    again = only_json(medcot("evaluate", "--set", "evaluation.records=2", "--json"))
    assert again["summary"]["data"]["records"] == 2
    refused = medcot("evaluate", "--set", "training.epochs=2")
    assert refused.returncode == 2
    assert "only evaluation.* can be changed" in " ".join(refused.stderr.split())


def test_plan_audits_and_estimates_without_making_a_run(tiny_model, records, runs_dir):
    arguments = (*tiny_arguments(tiny_model, records, max_length=70), "--set", "data.overlong=cut")
    found = only_json(medcot("plan", *arguments, "--json"))
    assert found.keys() == {"problems", "audit", "plan"}
    assert {"records", "lengths", "truncated_share", "duplicates", "near_duplicates"} <= found["audit"].keys()
    assert {"trainable_parameters", "peak_memory_gib", "micro_batch", "accumulation", "steps"} <= found["plan"].keys()
    assert found["plan"]["steps"] == 4
    assert 0 < found["audit"]["truncated_share"] <= 1
    assert any("is the answer" in note for note in found["problems"])
    # r * (in + out) over q, k, v, o, gate, up, down of two layers
    assert found["plan"]["trainable_parameters"] == 2 * 4 * (128 + 96 + 96 + 128 + 3 * 192)
    assert not list(runs_dir.glob("*/settings.json")), "nothing is started"


def test_ctrl_c_stops_the_worker_saves_and_says_how_to_go_on(tiny_model, records, runs_dir):
    arguments = tiny_arguments(tiny_model, records, max_steps=3000, save_steps=9000)
    piped = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    started = machine.spawn("medcot", "train", *arguments, **piped, text=True)
    store = RunStore(runs_dir)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (store.list() and store.list()[0].metrics()["step"]):
        time.sleep(0.2)
    os.kill(started.pid, signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130, said
    (run,) = store.list()
    assert run.status().state == "stopped"
    assert run.checkpoints()
    assert f"medcot train --resume {run.id}" in " ".join(said.split())


def test_doctor_answers_also_without_a_hub(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = only_json(medcot("doctor", "--json"))
    assert {"device", "versions"} <= found.keys()
    assert found["hub"]["reachable"] is False
    assert found["versions"]["torch"]
    assert found["recipe"] in ("starter", "llama-3.2-3b-medical-cot")


def test_init_config_prints_a_file_that_train_takes(tmp_path):
    printed = medcot("init-config", "--recipe", "llama-3.2-3b-medical-cot")
    assert printed.returncode == 0
    from medcot.settings.recipes import compose

    file = tmp_path / "run.toml"
    file.write_text(printed.stdout)
    assert compose(config=file) == compose("llama-3.2-3b-medical-cot")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "model.id=/no/such/folder"], "there is no folder"),
        (["--set", "data.source=missing.jsonl"], "there is no file missing.jsonl"),
        (
            ["--set", "training.epochs=0", "--set", "model.id=/no/such/folder", "--set", "data.source=missing.jsonl"],
            "training.epochs: must be greater than 0; got 0. ✗ model.id: there is no folder /no/such/folder. "
            "Check the path; a Hub model is named OWNER/NAME. ✗ data.source: there is no file missing.jsonl.",
        ),
        (["--recipe", "reference-exact", "--set", "model.id=/no/such"], "4bit needs a CUDA GPU"),
    ],
)
def test_bad_input_is_told_all_at_once_and_leaves_nothing(arguments, words, runs_dir, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = medcot("train", *arguments)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not runs_dir.exists()


def test_a_resume_with_other_settings_beside_it_is_refused(tiny_model, records):
    done = medcot("train", "--resume", "latest", "--set", "training.max_steps=200")
    assert done.returncode == 2
    assert "goes on with the run's own settings" in " ".join(done.stderr.split())


def test_words_that_stand_apart_are_refused_with_the_way_to_write_them(runs_dir):
    asked = ["export", "latest", "--runs-dir", str(runs_dir), "--to", "x", "--format", "gguf"]
    apart = medcot(*asked, "--quantize", "f16", "q8_0", "q4_0")
    assert apart.returncode == 2
    assert "Join several with commas: --quantize f16,q8_0,q4_0" in " ".join(apart.stderr.split())
    again = medcot(*asked, "--quantize", "f16", "--quantize", "q9")
    assert "--quantize: 'q9' is none" in " ".join(again.stderr.split()), "each of them is read"
    more = medcot(*asked, "another")
    assert "RUN: another is too much" in " ".join(more.stderr.split())
