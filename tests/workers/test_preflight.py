"""What is found to be wrong before anything is started: device, model folder and data, all at once."""

import json
import shutil

import pytest

from medcot.errors import BadInput
from medcot.settings import build
from medcot.workers import preflight
from tests.conftest import tiny_raw, write_records


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


def conversations(path, systems, turns=1):
    """Records of chat messages, each under its system message."""
    said = [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "<think>Since it swells.</think>It is gout."},
    ]
    rows = [{"messages": [{"role": "system", "content": system}, *said * turns]} for system in systems]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_system_message_that_all_records_share_becomes_the_contracts_and_is_told(tiny_model, tmp_path):
    raw = tiny_raw(tiny_model, conversations(tmp_path / "a.jsonl", ["Be brief."] * 8))
    settings, told = preflight.check(build(raw))
    assert (settings.prompt.system, settings.data.system_messages) == ("Be brief.", "leave_out")
    assert any("becomes prompt.system" in note for note in told.warnings)
    again, told = preflight.check(settings)
    assert (again, told.system) == (settings, None), "the settings of the run say it by themselves"
    own, told = preflight.check(build({**raw, "prompt": {"system": "Mine."}}))
    assert (own.prompt.system, told.unused) == ("Mine.", ["messages.system"])
    left, told = preflight.check(build({**raw, "data": {**raw["data"], "system_messages": "leave_out"}}))
    assert (left.prompt.system, told.unused) == (None, ["messages.system"])
    plain, told = preflight.check(build({**raw, "prompt": {"style": "plain"}}))
    assert (plain.prompt.system, plain.data.system_messages, told.unused) == (None, "leave_out", ["messages.system"])


def test_where_there_are_no_system_messages_the_setting_stays_as_it_is(tiny_settings):
    plain, _ = preflight.check(tiny_settings.replacing("prompt", style="plain"))
    assert plain.data.system_messages == "keep"


def test_further_data_without_system_messages_goes_under_that_of_the_first(tiny_model, tmp_path):
    raw = tiny_raw(tiny_model, conversations(tmp_path / "a.jsonl", ["Be brief."] * 8))
    further = {"data": {**raw["data"], "more": str(write_records(tmp_path / "b.jsonl", 3))}}
    settings, _ = preflight.check(build({**raw, **further}))
    assert (settings.prompt.system, settings.data.system_messages) == ("Be brief.", "leave_out")
    conversations(tmp_path / "b.jsonl", ["Be kind."])
    settings, _ = preflight.check(build({**raw, **further}))
    assert (settings.prompt.system, settings.data.system_messages) == (None, "keep")


def test_other_system_messages_stay_with_their_records(tiny_model, tmp_path):
    raw = tiny_raw(tiny_model, conversations(tmp_path / "a.jsonl", ["Be brief."] * 4 + ["Be kind."] * 4))
    settings, told = preflight.check(build(raw))
    assert (settings.prompt.system, settings.data.system_messages) == (None, "keep")
    assert [e.system for e in told.first] == ["Be kind."] * 3


def test_several_turns_need_a_contract_with_follow_ups(tiny_model, tmp_path):
    raw = tiny_raw(tiny_model, conversations(tmp_path / "a.jsonl", ["Be brief."] * 8, turns=2))
    _, told = preflight.check(build(raw))
    assert told.several == 1
    found = problems_of({**raw, "prompt": {"style": "plain"}})
    assert found.keys() == {"prompt.style"}
    assert "record 1 has several turns, and the plain contract has no follow-ups" in found["prompt.style"]
