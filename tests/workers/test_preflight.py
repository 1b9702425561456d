"""What is found to be wrong before anything is started: device, model folder and data, all at once."""

import json
import shutil

import pytest

from medcot.errors import BadInput
from medcot.settings import build
from medcot.workers import preflight
from tests.conftest import tiny_raw


def problems_of(raw: dict) -> dict[str, str]:
    with pytest.raises(BadInput) as refused:
        preflight.check(build(raw))
    return {p.where: f"{p.what} {p.fix}" for p in refused.value.problems}


def test_what_is_fine_comes_back_with_its_records(tiny_settings, tiny_model):
    settings, told = preflight.check(tiny_settings)
    assert settings.model.id == str(tiny_model.resolve())
    assert (told.train, told.held_out) == (12, 4)


def test_a_relative_model_folder_is_kept_as_a_whole_path(tiny_model, records, monkeypatch):
    monkeypatch.chdir(tiny_model.parent)
    settings, _ = preflight.check(build(tiny_raw(f"./{tiny_model.name}", records)))
    assert settings.model.id == str(tiny_model.resolve())


def test_device_model_and_data_are_all_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "has_cuda", lambda: False)
    found = problems_of(
        {
            "backend": "unsloth",
            "model": {"id": str(tmp_path / "no-model"), "quantization": "4bit"},
            "data": {"source": str(tmp_path / "none.jsonl")},
        }
    )
    assert set(found) == {"backend", "model.quantization", "model.id", "data.source"}
    assert "CUDA" in found["model.quantization"]
    assert "starter" in found["model.quantization"]


def test_a_gpu_lifts_what_only_the_gpu_forbids(tiny_settings, monkeypatch):
    monkeypatch.setattr(preflight, "has_cuda", lambda: True)
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: object())
    wanted = build(tiny_settings.model_dump() | {"backend": "unsloth"})
    assert preflight.device_problems(wanted) == []
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)
    (problem,) = preflight.device_problems(wanted)
    assert "not installed" in problem.what


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ("*.json", "safetensors"),
        ("*.safetensors", "config.json"),
    ],
)
def test_a_folder_that_is_no_safetensors_model_is_refused(tiny_model, records, tmp_path, keep, words):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model.glob(keep):
        shutil.copy(file, folder)
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    assert words in problems_of(tiny_raw(folder, records))["model.id"]


@pytest.mark.parametrize(
    "name", ["./nowhere", "/no/where", "~/no-such-folder", "~nobody-of-that-name/x", "a/b/c", "./" + "x" * 290]
)
def test_a_path_that_leads_nowhere_is_not_looked_for_on_the_hub(records, name, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "there is no folder" in problems_of(tiny_raw(name, records))["model.id"]


def test_a_quantized_base_is_not_trained_on_and_may_be_asked(tiny_model, records, tmp_path):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    assert "are quantized (gptq)" in problems_of(tiny_raw(folder, records))["model.id"]
    preflight.check(build(tiny_raw(folder, records)), whole=True)
