"""Opening an adapter: by run, by folder, from the Hub; what it says of itself is checked and never followed."""

import json
import math
import os
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from medcot import hub as hub_module
from medcot.adapters.base import check_base, local_folder
from medcot.adapters.open import open_adapter
from medcot.adapters.tensors import require_finite
from medcot.errors import BadInput
from medcot.runs.store import RunStore
from medcot.settings import ModelSettings, build
from medcot.workers.adopt import Elsewhere, open_elsewhere
from tests import forkserver
from tests.conftest import tiny_raw, write_records
from tests.engine_tools import train
from tests.hub_stub import HubStub, Repo

ADAPTER, BASE = "AzzamShahid/llama-3b-medical-cot", "someone/tiny-instruct"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("adapters")
    return train(folder / "runs", build(tiny_raw(tiny_model, write_records(folder / "records.jsonl"))))


@pytest.fixture
def folder(trained, tmp_path):
    """An adapter as others leave one: without a contract, its base a path of another machine."""
    folder = Path(shutil.copytree(trained.adapter_dir, tmp_path / "theirs"))
    (folder / "prompt_contract.json").unlink()
    return folder


def configure(folder: Path, **values) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lora_alpha", math.nan),
        ("lora_alpha", math.inf),
        ("lora_alpha", "16"),
        ("r", 0),
        ("r", True),
        ("alpha_pattern", {"q_proj": math.nan}),
        ("rank_pattern", [8]),
    ],
)
def test_a_scale_that_is_no_number_is_refused(folder, tiny_model, name, value):
    configure(folder, **{name: value})
    with pytest.raises(BadInput, match=f"adapter_config.json has a {name}.* that is no finite number above 0"):
        open_adapter(str(folder), RunStore(folder.parent), style="chat", base=str(tiny_model))


def test_a_run_is_opened_by_id_part_latest_and_folder(trained, tiny_model):
    store = RunStore(trained.path.parent)
    found = open_adapter(trained.id, store)
    assert (found.name, found.path, found.base.id) == (trained.id, trained.adapter_dir, str(tiny_model))
    assert found.contract.style == "chat"
    assert found.trained_on.startswith("tiny-model@sha256:")
    for name in ("latest", trained.id[5:], str(trained.path), str(trained.adapter_dir)):
        assert open_adapter(name, store) == found


def test_a_folder_without_contract_asks_for_one_and_for_its_base_at_once(folder, runs_dir, tiny_model):
    with pytest.raises(BadInput) as refused:
        open_adapter(str(folder), RunStore(runs_dir))
    contract, base = refused.value.problems
    assert "--style plain" in contract.fix
    assert "is not followed" in base.what
    assert "--base" in base.fix
    found = open_adapter(str(folder), RunStore(runs_dir), style="plain", base=str(tiny_model))
    assert (found.name, found.contract, found.prompt.style, found.base.id) == (
        "theirs",
        None,
        "plain",
        str(tiny_model),
    )
    with pytest.raises(BadInput, match="chat or plain"):
        open_adapter(str(folder), RunStore(runs_dir), style="poem", base=str(tiny_model))


def test_a_base_that_is_a_path_here_is_not_followed(folder, runs_dir, monkeypatch, tiny_model):
    monkeypatch.chdir(folder.parent)
    shutil.copytree(tiny_model, "owner/model")
    for named in ("owner/model", "../x", str(tiny_model), None, 7):
        configure(folder, base_model_name_or_path=named)
        with pytest.raises(BadInput, match="is not followed"):
            open_adapter(str(folder), RunStore(runs_dir), style="chat")


@pytest.mark.parametrize("written", ["models/other", "./models/other", "models/other/", "models/../models/other"])
def test_a_base_that_is_a_folder_here_is_that_folder_however_it_is_written(
    folder, runs_dir, monkeypatch, tiny_model, written
):
    """Not a Hub model of that name, which would be another base than the adapter's."""
    monkeypatch.chdir(folder.parent)
    here = shutil.copytree(tiny_model, folder.parent / "models" / "other")
    configure(folder, base_model_name_or_path="someone/tiny-instruct")
    found = open_elsewhere(RunStore(runs_dir), Elsewhere(str(folder), None, style="chat", base=written))
    assert found.base.id == str(here)
    assert hub_module.check_model(ModelSettings(id=written)).id == str(here)


def test_a_recorded_hub_model_is_not_a_folder_that_happens_to_have_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "someone" / "tiny-instruct").mkdir(parents=True)
    assert local_folder(ModelSettings(id="someone/tiny-instruct", revision="a" * 40)) is None
    assert local_folder(ModelSettings(id="someone/tiny-instruct"))


def test_a_folder_that_hides_a_hub_model_is_told_from_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "google" / "gemma-3-270m").mkdir(parents=True)
    with pytest.raises(BadInput) as refused:
        check_base(ModelSettings(id="google/gemma-3-270m"))
    no_model, hidden = refused.value.problems
    assert "holds no config.json" in no_model.what
    assert "For the Hub's model of this name" in hidden.fix


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"megatron_config": {"x": 1}}, "megatron_config"),
        ({"peft_type": "IA3"}, "IA3"),
    ],
)
def test_what_is_more_than_lora_is_refused_by_name(folder, runs_dir, change, words):
    configure(folder, **change)
    with pytest.raises(BadInput, match=words):
        open_adapter(str(folder), RunStore(runs_dir), style="chat", base="starter")


@pytest.mark.parametrize("cut", [0, 7, 300, -1])
def test_a_cut_weights_file_is_refused(folder, runs_dir, cut):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        open_adapter(str(folder), RunStore(runs_dir), style="chat", base="starter")


@pytest.mark.parametrize(
    "tensors",
    [
        {"x.lora_A.weight": {"shape": [2], "data_offsets": [0, 8]}},
        {"x.lora_A.weight": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}},
        {"x.lora_A.weight": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"x.lora_A.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}},
    ],
    ids=["no type", "wrong shape", "backwards", "nothing"],
)
def test_weights_that_do_not_fit_their_own_header_are_refused(folder, runs_dir, tensors):
    head = json.dumps(tensors).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + b"\0" * 8)
    with pytest.raises(BadInput, match="not a whole safetensors file"):
        open_adapter(str(folder), RunStore(runs_dir), style="chat", base="starter")


def test_a_base_that_cannot_be_one_is_refused_in_words(folder, runs_dir):
    with pytest.raises(BadInput, match="names no base that can be used"):
        open_adapter(str(folder), RunStore(runs_dir), style="chat", base="o/" + "x" * 400)
    configure(folder, base_model_name_or_path="owner/" + "x" * 400)
    with pytest.raises(BadInput):
        open_adapter(str(folder), RunStore(runs_dir), style="chat")


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("F32", np.array([1e38, -1], "<f4").tobytes(), np.array([1, np.nan], "<f4").tobytes()),
        ("F16", np.array([6e4, -1], "<f2").tobytes(), np.array([1, np.inf], "<f2").tobytes()),
        ("BF16", struct.pack("<2H", 0x7F7F, 0x8000), struct.pack("<2H", 0x3F80, 0x7FC0)),
    ],
)
def test_weights_that_are_no_numbers_are_found_in_every_format(tmp_path, dtype, good, bad):
    file = tmp_path / "adapter_model.safetensors"
    for data, found in ((good, None), (bad, "hold NaN or infinity, x first")):
        head = json.dumps({"x": {"dtype": dtype, "shape": [2], "data_offsets": [0, len(data)]}}).encode()
        file.write_bytes(struct.pack("<Q", len(head)) + head + data)
        if found is None:
            require_finite(file)
        else:
            with pytest.raises(BadInput, match=found):
                require_finite(file)


def test_an_adapter_of_another_shape_is_refused_when_it_meets_the_base(folder, tmp_path, tiny_model):
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    from medcot.engine.backends.peft import PeftBackend

    narrow = LlamaForCausalLM(
        LlamaConfig(vocab_size=512, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4)
    )
    with pytest.raises(BadInput, match="does not fit this base"):
        PeftBackend().with_adapter(narrow, folder)
    deeper = AutoModelForCausalLM.from_pretrained(tiny_model).config
    deeper.num_hidden_layers, deeper.layer_types = 3, None
    deep = LlamaForCausalLM(deeper)
    with pytest.raises(BadInput, match="does not fit this base"):
        PeftBackend().with_adapter(deep, folder)


# ---- from the Hub, through the real client


@pytest.fixture
def hub(folder, tiny_model):
    configure(folder, base_model_name_or_path=BASE)
    files = {p.name: p.read_bytes() for p in folder.iterdir()}
    files |= {"training_args.bin": b"\x80\x04.", "optimizer.pt": b"\x80\x04."}
    pickled = {k: v for k, v in files.items() if not k.endswith("safetensors")} | {"adapter_model.bin": b"\x80\x04."}
    base = {p.name: p.read_bytes() for p in tiny_model.iterdir()}
    models = {ADAPTER: Repo(files), "someone/pickled": Repo(pickled), BASE: Repo(base)}
    with HubStub(models) as stub:
        yield stub


def ask(hub: HubStub, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = ("ask", *arguments, "What suggests gout?", "--max-new-tokens", "8", "--json")
    return forkserver.run("medcot", *words, env={**os.environ, "HF_ENDPOINT": hub.endpoint})


def test_a_foreign_adapter_is_asked_from_the_hub_once_its_contract_is_named(hub):
    unasked = ask(hub, ADAPTER)
    assert unasked.returncode == 2
    assert "--style plain" in unasked.stderr
    answered = ask(hub, f"{ADAPTER}@{hub.models[ADAPTER].sha}", "--style", "plain")
    assert answered.returncode == 0, answered.stderr
    found = json.loads(answered.stdout)
    assert found["base"]["text"] != found["tuned"]["text"]
    for pickle in ("training_args.bin", "optimizer.pt"):
        assert not hub.asked(pickle), "no pickle is fetched"


def test_what_the_hub_does_not_have_is_said_in_words(hub):
    cases = {
        "someone/pickled": "in a pickle",
        BASE: "is no adapter",
        "someone/nowhere": "Check the name",
        f"{ADAPTER}@v9": "revision v9",
    }
    for name, words in cases.items():
        done = ask(hub, name, "--style", "plain")
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert words in " ".join(done.stderr.split())
    assert not hub.asked("adapter_model.bin")
