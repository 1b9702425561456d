"""An adapter from elsewhere, measured alone: what is written, what is refused, and what nothing may pretend."""

import json
import os
import shutil
from pathlib import Path

import pytest

from medcot.adapters import publish
from medcot.adapters.open import of_run, open_adapter
from medcot.errors import BadInput
from medcot.runs.store import RunStore
from medcot.settings import build
from medcot.settings.evaluation import EvaluationOrder
from medcot.workers import adopt
from medcot.workers.adopt import Elsewhere
from tests import forkserver
from tests.conftest import make_records, tiny_raw, write_records
from tests.engine_tools import train
from tests.hub_stub import HubStub, Repo

ADAPTER, BASE = "AzzamShahid/llama-3b-medical-cot", "someone/tiny-instruct"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("adopting")
    return train(folder / "runs", build(tiny_raw(tiny_model, write_records(folder / "records.jsonl"))))


@pytest.fixture
def theirs(trained, tmp_path):
    """What a stranger leaves of an adapter: weights and their shape, and no contract, tokenizer or settings."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        shutil.copy(trained.adapter_dir / name, folder / name)
    return folder


def configure(folder: Path, **values) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def adopted(runs_dir, theirs, tiny_model, records, *pairs):
    return adopt.adopt(RunStore(runs_dir), Elsewhere(str(theirs), str(records), "plain", str(tiny_model), pairs))


def evaluated(run, **options):
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.evaluate import evaluate

    job = run.new_evaluation()
    order = EvaluationOrder(**{"max_new_tokens": 8, "tell_base": False, **options})
    evaluate(run, job, order, PeftBackend(), job.append)
    return job


def test_every_record_is_asked_and_nothing_pretends_to_be_trained_here(runs_dir, theirs, tiny_model, records):
    run = adopted(runs_dir, theirs, tiny_model, records)
    shutil.rmtree(theirs)  # what was measured stays, wherever its folder has gone
    assert run.origin() == str(theirs)
    assert (run.settings().prompt.style, run.settings().model.id) == ("plain", str(tiny_model))
    job = evaluated(run)
    summary = job.summary()
    assert (summary.adapter, summary.data.records) == (str(theirs), 16)
    assert summary.decoding.contract == "plain"
    assert [e.record for e in job.examples()] == list(range(1, 17))
    assert any("not trained here" in note for note in summary.notes)
    page = (job.path / "report.html").read_text(encoding="utf-8")
    assert f"Tuned is the adapter {theirs}, not trained here." in page
    assert "held-out" not in page.lower()
    with pytest.raises(BadInput, match="not trained here"):
        publish.collect(run, "ada/mine")


def test_the_adapter_is_asked_as_its_opener_said_and_as_chat_would(runs_dir, theirs, tiny_model, records):
    store = RunStore(runs_dir)
    run = adopted(runs_dir, theirs, tiny_model, records)
    opened = open_adapter(str(theirs), store, style="plain", base=str(tiny_model))
    found = of_run(run)
    assert (found.prompt, found.base, found.contract) == (opened.prompt, opened.base, None)
    assert open_adapter(run.id, store) == found
    with pytest.raises(BadInput, match="Evaluate it as one"):
        adopt.adopt(store, Elsewhere(run.id, str(records)))


def test_settings_that_the_author_published_tell_what_the_adapter_has_learned(runs_dir, theirs, tiny_model, trained):
    published = trained.settings().model_dump(mode="json") | {"data": {"source": "starter"}}
    (theirs / "settings.json").write_text(json.dumps(published))
    run = adopted(runs_dir, theirs, tiny_model, "starter")
    notes = evaluated(run, records=1).summary().notes
    assert any("it was trained on starter" in note for note in notes)


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_made(runs_dir, theirs, tmp_path, tiny_model):
    columns = tmp_path / "columns.jsonl"
    columns.write_text('{"a": "1", "b": "2"}\n')
    store = RunStore(runs_dir)
    with pytest.raises(BadInput) as refused:
        adopt.adopt(store, Elsewhere(str(theirs), str(columns), pairs=["data.held_out=3", "lora.rank=4"]))
    words = "\n".join(map(str, refused.value.problems))
    for part in (
        "--style plain",
        "--base OWNER/NAME",
        "no record of",
        "nothing is held out",
        "only data.* and evaluation.* can be set",
    ):
        assert part in words
    assert not runs_dir.exists()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "x.bin").write_bytes(b"\x80\x04."), "pickled files"),
        (lambda folder: configure(folder, base_model_name_or_path="meta/other-3B"), "adapter for meta/other-3B"),
        (lambda folder: configure(folder, use_dora=True), "use_dora"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "has no adapter_model.safetensors"),
    ],
)
def test_an_adapter_that_cannot_be_measured_is_refused_by_name(runs_dir, theirs, records, spoil, words):
    spoil(theirs)
    with pytest.raises(BadInput, match=words):
        adopt.open_elsewhere(RunStore(runs_dir), Elsewhere(str(theirs), None, "plain", BASE))


@pytest.mark.parametrize(
    ("content", "words"), [("", "holds no records"), (json.dumps(make_records(1)[0])[:-9] + "\n", "is not JSON")]
)
def test_records_that_cannot_be_asked_are_refused(runs_dir, theirs, tmp_path, tiny_model, content, words):
    file = tmp_path / "own.jsonl"
    file.write_text(content)
    with pytest.raises(BadInput, match=words):
        adopted(runs_dir, theirs, tiny_model, file)
    assert not runs_dir.exists()


def test_an_order_that_cannot_be_carried_out_leaves_no_folder(runs_dir, theirs, tiny_model, records):
    def order(settings):
        return EvaluationOrder(**settings.model_dump(), questions="/nowhere.jsonl")

    store = RunStore(runs_dir)
    with pytest.raises(BadInput, match="there is no file"):
        adopt.measure(store, Elsewhere(str(theirs), str(records), "plain", str(tiny_model)), order)
    assert store.list() == []


# ---- the command, against the Hub


@pytest.fixture
def hub(theirs, tiny_model):
    configure(theirs, base_model_name_or_path=BASE)
    files = {p.name: p.read_bytes() for p in theirs.iterdir()} | {"training_args.bin": b"\x80\x04."}
    base = {p.name: p.read_bytes() for p in tiny_model.iterdir()}
    with HubStub({ADAPTER: Repo(files), BASE: Repo(base)}) as stub:
        yield stub


def medcot(hub, *arguments):
    return forkserver.run("medcot", *arguments, env={**os.environ, "HF_ENDPOINT": hub.endpoint})


def test_half_of_an_order_is_refused(runs_dir):
    with HubStub() as hub:
        done = medcot(hub, "evaluate", "--data", "x.jsonl", "--style", "plain")
        assert done.returncode == 2
        assert "belongs to --adapter" in done.stderr
        assert "belong to --adapter" in done.stderr
        done = medcot(hub, "evaluate", "some-run", "--adapter", ADAPTER, "--resume", "latest")
        assert done.returncode == 2
        for words in ("cannot be combined with the run some-run", "--resume", "--data: is missing"):
            assert words in done.stderr


@pytest.mark.slow
def test_a_hub_adapter_is_measured_alone_with_its_commit_pinned(hub, records, runs_dir):
    asked = medcot(hub, "evaluate", "--adapter", ADAPTER, "--data", records)
    assert (asked.returncode, "--style plain" in asked.stderr) == (2, True)
    assert not runs_dir.exists()

    few = ("--set", "evaluation.records=3", "--set", "evaluation.max_new_tokens=8", "--set", "model.dtype=float32")
    refused = medcot(hub, "evaluate", "--adapter", ADAPTER, "--style", "plain", "--data", records, *few)
    assert "only data.* and evaluation.* can be set" in " ".join(refused.stderr.split())
    done = medcot(hub, "evaluate", "--adapter", ADAPTER, "--style", "plain", "--data", records, *few[:4], "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    pinned = f"{ADAPTER}@{hub.models[ADAPTER].sha}"
    assert found["summary"]["adapter"] == pinned
    assert found["summary"]["data"]["records"] == 3
    assert not hub.asked("training_args.bin"), "no pickle is fetched"
    run = RunStore(runs_dir).get("latest")
    assert run.settings().model.revision == hub.models[BASE].sha

    listed = medcot(hub, "runs")
    assert "not trained here" in " ".join(listed.stdout.split())
    shown = medcot(hub, "show", "latest")
    assert f"adapter {pinned}, not trained here" in shown.stdout
    assert "recipe" not in shown.stdout
    again = medcot(hub, "results", "latest")
    assert pinned in again.stdout.replace("\n", "")
    assert "held-out" not in again.stdout
    refused = medcot(hub, "publish", "latest", "--repo", "ada/mine", "--dry-run")
    assert (refused.returncode, "was not trained here" in refused.stderr) == (2, True)


@pytest.mark.parametrize("name", ["settings.json", "prompt_contract.json", "tokenizer_config.json"])
def test_a_link_to_another_file_is_not_copied_into_a_run(runs_dir, theirs, tiny_model, records, tmp_path, name):
    secret = tmp_path / "secret.json"
    secret.write_text('{"mine": 1}')
    (theirs / name).symlink_to(secret)
    with pytest.raises(BadInput, match=rf"{name}: is no file of this folder, but a link"):
        adopted(runs_dir, theirs, tiny_model, records)
    assert not list(runs_dir.glob("*"))
