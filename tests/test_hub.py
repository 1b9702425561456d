"""Model and data from the Hub through the real clients, against a stub Hub on the loopback interface."""

import contextlib
import json
import os
import socket
import subprocess
from pathlib import Path

import pytest

from medcot.hub import CONNECT_SECONDS
from tests import forkserver
from tests.conftest import make_records, pairs, tiny_raw
from tests.hub_stub import FOREIGN, GATED_TOKEN, HubStub, Repo, answered

MODEL, GATED_MODEL, PICKLED_MODEL = "someone/tiny-instruct", "someone/gated-instruct", "someone/pickled"
DATA, GATED_DATA = "FreedomIntelligence/medical-o1-reasoning-SFT", "someone/gated-data"
CARD = """---
license: apache-2.0
configs:
- config_name: en
  data_files: medical_o1_sft.json
- config_name: zh
  data_files: medical_o1_sft_Chinese.json
---
# Reasoning
"""


@pytest.fixture
def hub(tiny_model: Path):
    model = {p.name: p.read_bytes() for p in tiny_model.iterdir()}
    chinese = [{"Question": "何为贫血？", "Complex_CoT": "先想定义。", "Response": "血红蛋白减少。"}] * 12
    data = {
        "README.md": CARD.encode(),
        ".gitattributes": b"*.json filter=lfs\n",
        "medical_o1_sft.json": json.dumps(make_records(16)).encode(),
        "medical_o1_sft_Chinese.json": json.dumps(chinese).encode(),
    }
    # Other formats of the same weights, as many repositories hold them.
    decoys = dict.fromkeys(
        ("pytorch_model.bin", "consolidated.00.pth", "tiny.gguf", "model.onnx", "tf_model.h5"), b"x" * 64
    )
    pickled = {k: v for k, v in model.items() if k != "model.safetensors"} | decoys
    models = {MODEL: Repo(model | decoys), GATED_MODEL: Repo(model, gated=True), PICKLED_MODEL: Repo(pickled)}
    models |= {"someone/failing": Repo(model, fault="500"), "someone/dropped": Repo(model, fault="drop")}
    datasets = {DATA: Repo(data), GATED_DATA: Repo(data, gated=True), "someone/dropped": Repo(data, fault="drop")}
    for fault in (*FOREIGN, "429"):
        name = f"someone/{fault.replace(' ', '-')}"
        models[name], datasets[name] = Repo(model, fault=fault), Repo(data, fault=fault)
    datasets["someone/scripted"] = Repo({"scripted.py": b"raise SystemExit('it was run')", "README.md": b"x"})
    with HubStub(models, datasets) as stub:
        yield stub


def medcot(*arguments: str, endpoint: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return forkserver.run("medcot", *arguments, env={**os.environ, "HF_ENDPOINT": endpoint, **environment})


def train(endpoint: str, *, model: str = MODEL, data: str = DATA, config: str = "en", **environment: str):
    raw = tiny_raw(model, data)
    raw["data"]["config"] = config
    sets = [word for pair in pairs(raw) for word in ("--set", pair)]
    return medcot("train", *sets, "--json", endpoint=endpoint, **environment)


@pytest.mark.slow
def test_a_run_from_hub_ids_to_an_evaluated_adapter(hub: HubStub, runs_dir: Path):
    trained = train(hub.endpoint)
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)
    run_dir = Path(result["run_dir"])
    assert (run_dir / "adapter" / "adapter_model.safetensors").is_file()

    settings = json.loads((run_dir / "settings.json").read_text())
    assert settings["model"]["revision"] == hub.models[MODEL].sha
    assert settings["data"]["revision"] == hub.datasets[DATA].sha
    plan = next(e for e in map(json.loads, (run_dir / "events.jsonl").read_text().splitlines()) if e["type"] == "plan")
    assert (plan["records"], plan["held_out"]) == (12, 4)

    evaluated = medcot("evaluate", result["run"], "--json", endpoint=hub.endpoint)
    assert evaluated.returncode == 0, evaluated.stderr
    summary = json.loads(evaluated.stdout)["summary"]
    assert summary["data"]["records"] == 4
    assert summary["data"]["revision"] == hub.datasets[DATA].sha
    assert summary["arms"]["base"]["records"] == summary["arms"]["tuned"]["records"] == 4

    sha = hub.models[MODEL].sha
    assert plan["model"] == f"{MODEL}@{sha}", "its weights are named by their commit"

    # Once fetched, all of it is at hand without a network, and a run that begins so names the same weights.
    offline = train("http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert offline.returncode == 0, offline.stderr
    begun = Path(json.loads(offline.stdout)["run_dir"])
    assert json.loads((begun / "settings.json").read_text())["model"]["revision"] == sha
    before = len(hub.requests)
    again = medcot("evaluate", result["run"], "--json", endpoint="http://127.0.0.1:9", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert len(hub.requests) == before

    weights = [r for r in hub.requests if r.startswith("GET") and f"{MODEL}/resolve" in r and "safetensors" in r]
    assert len(weights) == 1
    for suffix in (".bin", ".pth", ".gguf", ".onnx", ".h5", "_Chinese.json"):
        assert not hub.asked(suffix)


def refused(done: subprocess.CompletedProcess[str], runs_dir: Path, *words: str) -> None:
    """Exit code 2, every one of the words both for people and in the JSON, no traceback, and no run left behind."""
    assert done.returncode == 2, done.stderr
    problems = "\n".join(json.loads(done.stdout)["problems"])
    for word in words:
        assert word in problems
        assert word in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not list(runs_dir.glob("*"))
    assert not list(runs_dir.glob(".new-*"))


def test_a_missing_model_and_a_missing_data_set_are_both_named(hub: HubStub, runs_dir: Path):
    done = train(hub.endpoint, model="someone/not-there", data="someone/no-data")
    refused(done, runs_dir, "someone/not-there", "someone/no-data", "Check the name")


def test_a_missing_configuration_is_answered_with_those_there_are(hub: HubStub, runs_dir: Path):
    refused(train(hub.endpoint, config="fr"), runs_dir, "fr", "'en', 'zh'", "data.config")


def test_gated_repositories_say_that_terms_must_be_accepted(hub: HubStub, runs_dir: Path):
    done = train(hub.endpoint, model=GATED_MODEL, data=GATED_DATA)
    refused(done, runs_dir, GATED_MODEL, GATED_DATA, "HTTP 401", "accept its terms")


def test_an_unreachable_hub_is_said_at_once(runs_dir: Path):
    refused(train("http://127.0.0.1:9"), runs_dir, "http://127.0.0.1:9", "cannot be reached", "HF_HUB_OFFLINE")


def test_a_hub_that_accepts_and_never_answers_is_asked_once_and_given_up(runs_dir: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        refused(train(endpoint), runs_dir, endpoint, "cannot be reached")
        silent.setblocking(False)
        connections = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                connections += 1
    # So the wait is this long, however slow the machine.
    assert connections == 1
    assert CONNECT_SECONDS <= 5


# What preflight says, many cases to one child process: its imports take longer than its answers.
_PREFLIGHT = """
import json, os, sys
from medcot.workers import preflight
from medcot.errors import BadInput
from medcot.settings import build
answers = []
for raw, token in json.load(sys.stdin):
    os.environ["HF_TOKEN"] = token
    try:
        settings, told = preflight.check(build(raw))
        answers.append({"model": settings.model.revision, "data": settings.data.revision, "train": told.train})
    except BadInput as bad:
        answers.append(str(bad))
print(json.dumps(answers))
"""


@pytest.fixture
def preflight(hub: HubStub):
    def ask(*cases: tuple[dict, str]) -> list:
        return answered(hub.endpoint, _PREFLIGHT, given=json.dumps(cases))

    return ask


def case(model: str = MODEL, data: str = DATA, token: str = "", at: tuple[str | None, str | None] = (None, None)):
    raw = tiny_raw(model, data)
    raw["model"]["revision"], raw["data"]["revision"] = at
    raw["data"]["config"] = "en"
    return raw, token


def test_what_is_missing_or_forbidden_is_told_apart(hub: HubStub, preflight):
    pinned = (hub.models[MODEL].sha, hub.datasets[DATA].sha)
    fine, at_commits, with_terms, missing, stranger, pickled, no_revision, failing, dropped, misnamed, url = preflight(
        case(),
        case(at=pinned),
        case(model=GATED_MODEL, data=GATED_DATA, token=GATED_TOKEN),
        case(model="someone/not-there", token="hf_any"),
        case(model=GATED_MODEL, data=GATED_DATA, token="hf_of_somebody_else"),
        case(model=PICKLED_MODEL),
        case(at=("v9", "v8")),
        case(model="someone/failing"),
        case(model="someone/dropped", data="someone/dropped"),
        case(model="some one/model", data="FreedomIntelligence/medical-o1-reasoning-SFT:en"),
        case(model=f"{hub.endpoint}/inside/model", data=f"{hub.endpoint}/inside"),
    )
    assert fine == at_commits == {"model": pinned[0], "data": pinned[1], "train": 12}
    assert with_terms == {
        "model": hub.models[GATED_MODEL].sha,
        "data": hub.datasets[GATED_DATA].sha,
        "train": 12,
    }
    assert "there is no model someone/not-there" in missing
    for name in (GATED_MODEL, GATED_DATA):
        assert name in stranger
    assert stranger.count("HTTP 403") == stranger.count("accept its terms") == 2
    assert "hf_of_somebody_else" not in stranger
    assert "safetensors" in pickled
    assert not hub.asked(f"{PICKLED_MODEL}/resolve")
    assert "revision v9" in no_revision
    assert "revision v8" in no_revision
    assert "HTTP 500" in failing
    assert dropped.count("stopped answering") == 2
    assert "there is no model some one/model" in misnamed
    assert "there is no data set FreedomIntelligence/medical-o1-reasoning-SFT:en" in misnamed
    assert "there is no folder" in url
    assert f"{hub.endpoint}/inside is an address" in url
    assert not hub.asked("inside"), "a name that is an address is not an order to go there"


def test_what_answers_in_the_hubs_place_is_not_taken_for_the_hub(hub: HubStub, preflight):
    names = [f"someone/{fault.replace(' ', '-')}" for fault in FOREIGN]
    for name, said in zip(names, preflight(*(case(model=name, data=name) for name in names)), strict=True):
        assert said.count("is not the Hub (") == 2, said
        assert said.count(name) == 2
        assert said.count("sign in with a browser") == 2


def test_a_hub_that_is_asked_too_often_says_to_wait(hub: HubStub, preflight):
    (said,) = preflight(case(model="someone/429", data="someone/429"))
    assert said.count("asked too often") == said.count("Wait some minutes") == 2


def test_a_data_set_that_brings_a_script_is_refused_and_nothing_of_it_is_run(hub: HubStub, preflight):
    (said,) = preflight(case(data="someone/scripted"))
    assert "someone/scripted" in said
    assert "download its files" in said
    assert "it was run" not in said


def test_a_token_with_a_character_that_is_not_seen_is_told_and_not_shown(hub: HubStub, preflight):
    for said in preflight(*(case(token=f"hf_se{odd}cret") for odd in ("\u200b", "ü", "\x1b"))):
        assert "HF_TOKEN: holds a character that no token has" in said
        assert "cret" not in said
