"""The card and the push: what goes to the Hub, what never does, and what is said when it goes wrong."""

import json
import os
import shutil
from pathlib import Path

import pytest

from medcot.adapters import publish as publishing
from medcot.adapters.card import fenced, model_card
from medcot.adapters.publish import Pushed, collect
from medcot.errors import BadInput, WorkerFailed
from medcot.evaluation.answers import Sample
from medcot.evaluation.summary import Summary
from medcot.runs.events import Failed, Finished, Started
from medcot.runs.export import AskedFile, Exported, GgufFile, remember
from medcot.runs.run import Run
from medcot.settings import build
from medcot.settings.export import ExportOrder
from tests import forkserver
from tests.conftest import tiny_raw, write_records
from tests.engine_tools import changed, train
from tests.fakes import CONTRACT
from tests.hub_stub import FOREIGN, WRITE_TOKEN, HubStub, Repo

REPO = "ada/tiny-medical-cot"
QUESTION = "What suggests gout?"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("publishing")
    run = train(folder / "runs", build(tiny_raw(tiny_model, write_records(folder / "records.jsonl"))))
    run.append(Started(job="train", device="A small CPU"))
    run.append(Finished(seconds=605.0, peak_memory_gib=3.7))
    run.write_status("finished")
    return run.path


@pytest.fixture
def run(trained, tmp_path):
    return Run(Path(shutil.copytree(trained, tmp_path / "runs" / trained.name)))


def evaluated(run: Run, verdict: str = "better", low: float = 0.05, decoding: dict | None = None) -> None:
    """An evaluation as the worker leaves one, with a sample that holds Markdown."""
    arm = {"answer_rouge_l": 0.08, "reasoning_rouge_l": 0.0, "format_strict": 0.0, "format_lenient": 0.0}
    arm |= {"truncated": 0.9, "length_ratio": 5.5, "records": 24}
    job = run.new_evaluation()
    paired = {"difference": 0.08, "low": low, "high": 0.11, "win": 21, "tie": 0, "loss": 3, "verdict": verdict}
    job.write_summary(
        Summary(
            version=1,
            run=run.id,
            data={"source": run.settings().data.source, "revision": None, "records": 24},
            decoding=decoding or {"max_new_tokens": 320, "temperature": 0.0},
            metric="rougeL F1, stemmer",
            arms={"base": arm, "tuned": {**arm, "answer_rouge_l": 0.163, "truncated": 0.0, "length_ratio": 0.7}},
            floors={"echo": 0.15, "shuffled": 0.116, "empty": 0.0, "gold_reasoning": 0.194},
            paired={"tuned-base": {**paired, "records_needed": 200}},
        )
    )
    said = {"output": "Gout.\n```\n![x](http://127.0.0.1:9/x.png)"}
    job.write_lines("samples", [Sample(group="g", question=QUESTION, base=said, tuned=said)] * 4)
    job.write_status("finished", job="evaluate")


# ---- the card


def test_the_card_holds_what_the_run_measured_and_its_metadata_parses(run):
    from huggingface_hub import ModelCard

    evaluated(run)
    text = model_card(run, CONTRACT, repo=REPO)
    for words in (
        "For research only",
        "A small CPU",
        "10 minutes, 3.7 GiB",
        "| 0 |",
        "![Train and validation loss by optimizer step](loss.png)",
        "+0.080 (95% interval +0.050 to +0.110)",
        "| the reference reasoning as answer | 0.194 |",
        "above tuned: wording like the reference's is still far off",
        "Not for care",
        f"medcot ask {REPO}",
        "training.max_steps=4",
    ):
        assert words in text
    assert text.count("<details>") == 6, "three samples, two arms"
    data = ModelCard(text).data
    assert data.library_name == "peft"
    assert data.datasets is None, "a local file is no data set of the Hub"
    base, tuned = data.eval_results
    assert (base.metric_type, base.metric_value, tuned.metric_value) == ("rouge", 0.08, 0.163)
    assert str(run.path.parent) not in text
    assert run.settings().model.id not in text


def test_the_card_holds_what_the_runs_gguf_files_answered(run):
    evaluated(run)
    assert "GGUF" not in model_card(run, CONTRACT, repo=REPO), "nothing was exported"
    asked = AskedFile(
        questions=24,
        same_prompts=24,
        tokens=3000,
        same_tokens=2990,
        same_answers=20,
        stopped=23,
        running_on=0,
        tokens_per_second=40.0,
        scores={"answer_rouge_l": 0.1614},
        tuned={"answer_rouge_l": 0.163},
    )
    for tokens in (2000, 2990):
        file = GgufFile(name="RUN-Q8_0.gguf", quantization="q8_0", bytes=145_000_000)
        shipped = file.model_copy(update={"asked": asked.model_copy(update={"same_tokens": tokens})})
        bad = GgufFile(name="RUN-Q4_0.gguf", quantization="q4_0", bytes=1, asked=asked, refused="it answers otherwise")
        made = {"path": "/gone", "dtype": "float16", "bytes": 1, "prompts": 3, "tokens": 96, "same_tokens": 96}
        remember(run.path, ExportOrder(format="gguf"), Exported(**made, files=[shipped, bad]))
    text = model_card(run, CONTRACT, repo=REPO)
    head, rest = text.split("## As GGUF files")
    rows = [line for line in rest.partition("## Sample outputs")[0].splitlines() if line.startswith("| ")]
    assert len(rows) == 3, rows
    assert rows[2] == "| Q8_0 | 145,000,000 | 2990 of 3000 | 23 of 24 | 0.161 | 0.163 |", "the newest, and none refused"
    assert head.endswith("\n\n")
    assert "\n\n## Sample outputs" in rest
    assert "/gone" not in text


def test_the_card_words_the_decoding_as_every_other_face_does(run):
    evaluated(run, decoding={"max_new_tokens": 320, "temperature": 0.7, "top_p": 0.9, "seed": 7})
    summary = run.latest_summary()
    assert "320 new tokens at most, temperature 0.7, top-p 0.9, seed 7" in str(summary.decoding)
    assert str(summary.decoding) in model_card(run, CONTRACT, repo=REPO)


def test_a_card_without_an_evaluation_claims_nothing(run):
    from huggingface_hub import ModelCard

    text = model_card(run, CONTRACT, repo=REPO)
    assert "No evaluation was run" in text
    assert "Sample outputs" not in text
    assert ModelCard(text).data.eval_results is None


def test_improvement_is_claimed_only_where_the_interval_shows_it(run):
    about = "This adapter improves medical reasoning."
    with pytest.raises(BadInput, match=r"'improves'.*No evaluation was run"):
        model_card(run, CONTRACT, about=about)
    evaluated(run, "not distinguishable", low=-0.01)
    with pytest.raises(BadInput, match=r"'improves'.*Not distinguishable"):
        model_card(run, CONTRACT, about=about)
    assert "improv" not in model_card(run, CONTRACT).lower()
    assert "does not improve" in model_card(run, CONTRACT, about="It does not improve on its base.")
    with pytest.raises(BadInput, match="'better'"):
        model_card(run, CONTRACT, about="It is no toy. Clearly better and more accurate than its base.")
    evaluated(run, "better")
    assert about in model_card(run, CONTRACT, about=about)


def test_a_llama_brings_its_notice_its_licence_and_its_name(run):
    from huggingface_hub import ModelCard

    settings = changed(run.settings(), "model", id="meta-llama/Llama-3.2-3B-Instruct", revision="abc")
    settings = changed(settings, "data", source="FreedomIntelligence/medical-o1-reasoning-SFT", config="en")
    (run.path / "settings.json").write_text(settings.model_dump_json())
    text = model_card(run, CONTRACT, repo="ada/llama-3b-cot")
    data = ModelCard(text).data
    assert (data.base_model, data.license) == ("meta-llama/Llama-3.2-3B-Instruct", "llama3.2")
    assert data.datasets == ["FreedomIntelligence/medical-o1-reasoning-SFT"]
    assert "Built with Llama" in text
    assert "Llama 3.2 Community License, Copyright © Meta Platforms" in text
    assert "made with GPT-4o" in text
    with pytest.raises(BadInput, match="begins with Llama"):
        collect(run, "ada/medical-cot")
    assert "NOTICE" in {f.path for f in collect(run, "ada/llama-3b-medical-cot")}


def test_text_of_a_model_cannot_leave_its_fence():
    assert fenced("a ```` b").splitlines()[0] == "`````text"


# ---- what is refused before anything is asked of the Hub


@pytest.mark.parametrize(
    "repo", ["tiny", "a/b/c", "a b/c", "../x", "ada/", "ada/x--y", "a--b/x", "ada-/x", "ada/x.git", "http://h/x"]
)
def test_a_name_that_is_none_is_refused(run, repo):
    with pytest.raises(BadInput, match="is no repository's name"):
        collect(run, repo)


def test_unfinished_failed_and_broken_runs_are_refused(run):
    import numpy as np
    from safetensors.numpy import load_file, save_file

    for state in ("stopped", "failed"):
        run.write_status(state)
        run.append(Failed(error="x", hint="y"))
        with pytest.raises(BadInput, match=f"is {state}, and only a finished run"):
            collect(run, REPO)
    run.write_status("finished")
    path = run.adapter_dir / "adapter_model.safetensors"
    weights = load_file(path)
    name = sorted(weights)[3]
    save_file({**weights, name: np.full_like(weights[name], np.nan)}, path, metadata={"format": "pt"})
    with pytest.raises(BadInput, match="NaN or infinity"):
        collect(run, REPO)


def test_secrets_pickles_and_folders_of_this_machine_do_not_pass(run, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    template = run.adapter_dir / "chat_template.jinja"
    original = template.read_bytes()
    leaks = {
        b"{# 0123456789abcdef #}": "token or a key",
        f"{{# {WRITE_TOKEN} #}}".encode(): "token or a key",
        b"\x80\x04\x95": "is a pickle",
        f"{{# {run.path.parent} #}}".encode(): "folder of this machine",
    }
    for content, words in leaks.items():
        template.write_bytes(content)
        with pytest.raises(BadInput, match=words):
            collect(run, REPO)
    template.write_bytes(original)
    (run.adapter_dir / "notes.txt").write_text("not for the Hub")
    (run.adapter_dir / "training_args.bin").write_bytes(b"\x80\x04.")
    paths = {f.path for f in collect(run, REPO)}
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors", "prompt_contract.json"} <= paths
    assert {"settings.json", "loss.png", "tokenizer.json"} <= paths
    assert not {"notes.txt", "training_args.bin"} & paths


def test_a_base_and_a_file_that_are_gone_and_a_servers_address_are_named_to_nobody(run):
    settings = changed(run.settings(), "model", id="/mnt/hospital/secret-base")
    settings = changed(settings, "data", source="/mnt/hospital/records.jsonl")
    (run.path / "settings.json").write_text(settings.model_dump_json())
    evaluated(run)
    job = run.evaluations()[0]
    job.write_summary(job.summary().model_copy(update={"engine": "http://10.0.0.7:8000/v1"}))
    for file in collect(run, REPO):
        content = file.content if isinstance(file.content, bytes) else file.content.read_bytes()
        assert b"/mnt/hospital" not in content, file.path
        assert b"10.0.0.7" not in content, file.path
    (run.adapter_dir / "chat_template.jinja").write_bytes(b"{# /mnt/hospital/secret-base #}")
    with pytest.raises(BadInput, match="folder of this machine"):
        collect(run, REPO)


# ---- the push, through the real client


@pytest.fixture
def hub():
    with HubStub() as stub:
        yield stub


@pytest.fixture
def publish(run, hub, monkeypatch):
    """Publishes as the page does, one child process a time; returns the answer, or the words of the refusal."""
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")

    def publish_(repo: str = REPO, token: str = WRITE_TOKEN, endpoint: str = hub.endpoint) -> Pushed | str:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        try:
            answer: Pushed | str = publishing.publish(run, repo, secrets={"HF_TOKEN": token})
        except (BadInput, WorkerFailed) as refused:
            answer = str(refused)
        assert WRITE_TOKEN not in str(answer)
        return answer

    return publish_


def files_of(run: Run) -> dict[str, bytes]:
    return {str(p.relative_to(run.path)): p.read_bytes() for p in run.path.rglob("*") if p.is_file()}


def test_a_run_is_pushed_in_one_private_commit(run, hub, publish, tiny_model):
    evaluated(run)
    before = files_of(run)
    listed = [{"path": f.path, "bytes": f.size} for f in collect(run, REPO)]
    found = publish()
    repo = hub.models[REPO]
    assert found.model_dump()["files"] == listed
    assert {f["path"]: f["bytes"] for f in listed} == {
        n: len(c) for n, c in repo.files.items() if n != ".gitattributes"
    }
    assert (found.public, repo.private, len(hub.commits), found.commit) == (False, True, 1, repo.sha)
    assert hub.asked("/api/validate-yaml"), "the client has the card's metadata checked"
    assert files_of(run) == before, "the run is untouched"
    assert WRITE_TOKEN.encode() not in b"".join([*repo.files.values(), *before.values()])
    assert json.loads(repo.files["adapter_config.json"])["base_model_name_or_path"] == tiny_model.name

    shutil.rmtree(run.path / "evaluation")
    assert publish().created is False
    assert "evaluation/summary.json" not in repo.files, "what is no longer true is removed"


@pytest.mark.slow
def test_from_the_command_line_to_the_hub_and_back(run, hub, tiny_model):
    def medcot(*arguments: str) -> dict:
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": WRITE_TOKEN, "HF_HUB_DISABLE_XET": "1"}
        words = (*arguments, "--runs-dir", run.path.parent, "--json")
        fresh = "--public" in arguments
        done = forkserver.run("medcot", *words, fresh=fresh, env={**os.environ, **environment})
        assert done.returncode == 0, done.stderr
        assert WRITE_TOKEN not in done.stderr + done.stdout
        return json.loads(done.stdout)

    dry = medcot("publish", run.id, "--repo", REPO, "--dry-run")
    assert hub.requests == [], "a dry run asks nobody"
    assert medcot("publish", run.id, "--repo", REPO, "--public")["files"] == dry["files"]
    assert hub.models[REPO].private is False
    # Its base is a folder of this machine, which is not published: whoever asks it has to name one.
    answered = medcot("ask", REPO, QUESTION, "--base", str(tiny_model), "--max-new-tokens", "4")
    local = medcot("ask", run.id, QUESTION, "--max-new-tokens", "4")
    assert (answered["base"]["text"], answered["tuned"]["text"]) == (local["base"]["text"], local["tuned"]["text"])


def test_rights_and_repositories_that_are_there_are_respected(run, hub, publish):
    hub.models["ada/model"] = Repo({"config.json": b"{}", "model.safetensors": b"x"}, private=True)
    hub.models["ada/open"] = Repo({".gitattributes": b""})
    before = files_of(run)
    assert "may not write to" in publish(token="hf_ofSomebodyElse000000000000000000000")
    assert "HF_TOKEN: is not set" in publish(token="")
    assert "holds no adapter, but config.json" in publish("ada/model")
    assert "is there and public" in publish("ada/open")
    assert hub.commits == []
    assert "cannot be reached" in publish(endpoint="http://127.0.0.1:9")
    assert files_of(run) == before


@pytest.mark.parametrize("fault", sorted(FOREIGN.keys() - {"no commit"}))
def test_a_page_in_the_hubs_place_is_told_from_the_hub(hub, publish, fault):
    hub.models[REPO] = Repo({}, fault=fault)
    said = publish()
    assert "is not the Hub (" in said
    assert "sign in with a browser" in said
    assert not hub.commits


def test_what_fails_once_is_tried_again_and_a_lost_answer_is_no_failure(hub, publish):
    hub.faults = {"commit": 1, "answer": 1}
    assert publish().commit == hub.models[REPO].sha
    assert len(hub.commits) == 1


@pytest.mark.slow
def test_failed_and_half_pushes_say_what_the_hub_holds_now(run, hub, publish):
    before = files_of(run)
    hub.faults = {"commit": 9}
    assert "was made for it and is empty" in publish()
    assert set(hub.models[REPO].files) == {".gitattributes"}
    hub.faults = {"half": 1}
    half = publish()
    assert "Half pushed" in half
    assert "adapter_model.safetensors" in half
    hub.faults = {"commit": 9}
    assert "is as it was before" in publish()
    hub.faults = {}
    assert publish().commit == hub.models[REPO].sha
    assert files_of(run) == before
