"""The merged model: what plain transformers makes of it, and that it appears whole or not at all."""

import shutil

import pytest

from medcot.adapters import Adapter, of_run
from medcot.errors import BadInput, WorkerFailed
from medcot.safe_adapter import header
from medcot.settings import ModelSettings, PromptSettings, build
from tests.conftest import tiny_raw, write_records
from tests.engine_tools import changed, train
from tests.faults.tools import fill, mounted


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, tiny_model):
    """One that plainly changes what the tiny model says."""
    folder = tmp_path_factory.mktemp("export")
    settings = build(tiny_raw(tiny_model, write_records(folder / "records.jsonl")))
    return of_run(train(folder / "runs", changed(settings, "training", max_steps=25)))


def merged(adapter, target):
    from medcot.engine.export import export

    return export(adapter, target, lambda event: None)


def test_plain_transformers_says_what_base_and_adapter_say(adapter, tmp_path, tiny_model):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = merged(adapter, tmp_path / "merged")
    assert (made["dtype"], made["prompts"]) == ("float16", 3)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    assert stored.dtype == torch.float16
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    prompt = AutoTokenizer.from_pretrained(tmp_path / "merged")("What suggests gout?", return_tensors="pt")

    def said(model):
        return model.generate(**prompt, max_new_tokens=24, do_sample=False)[0].tolist()

    alone = said(base)
    assert said(plain) == said(PeftModel.from_pretrained(base, adapter.path).eval()) != alone
    names = {p.name for p in (tmp_path / "merged").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "prompt_contract.json", "README.md"} <= names
    assert [p.name for p in tmp_path.iterdir()] == ["merged"], "nothing is left beside it"


def test_tied_weights_are_written_once(tiny_model, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from medcot.engine.export import write
    from tests.fakes import CONTRACT

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    adapter = Adapter(name="x", path=tmp_path, base=ModelSettings(), prompt=PromptSettings())
    write(model, tokenizer, adapter, CONTRACT, tmp_path / "draft", "float16")
    names = header(tmp_path / "draft" / "model.safetensors")
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names


def test_a_model_that_says_something_else_is_not_kept(adapter, tmp_path, monkeypatch):
    from peft import PeftModel

    monkeypatch.setattr(PeftModel, "merge_and_unload", lambda self, **_: self.unload(), raising=False)
    with pytest.raises(WorkerFailed, match=r"does not say what base and adapter say \(float16: question 1 differs"):
        merged(adapter, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_too_small_a_disk_is_said_before_anything_is_loaded(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(BadInput, match="GiB free"):
        merged(adapter, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("leaving", [0, 16_384, 300_000], ids=["at once", "amid the weights", "after the weights"])
def test_a_disk_that_fills_while_it_is_written_is_said_and_nothing_is_left(adapter, tmp_path, leaving):
    """There was room when it was looked at; somebody else took it."""
    from medcot.engine.export import export

    def report(event):
        if event.stage.startswith("Writing"):
            fill(disk, leaving)

    for disk in mounted(tmp_path / "disk", "size=2m"):
        with pytest.raises(BadInput, match="the disk is full; nothing was left there"):
            export(adapter, disk / "merged", report)
        assert [p.name for p in disk.iterdir()] == ["filler"]


def test_a_disk_that_is_too_small_is_said_before_anything_is_loaded(adapter, tmp_path):
    for disk in mounted(tmp_path / "disk", "size=128k"):
        with pytest.raises(BadInput, match="GiB free"):
            merged(adapter, disk / "merged")
        assert list(disk.iterdir()) == []


def test_a_folder_that_is_there_is_never_written_over(adapter, tmp_path):
    from medcot.exporting import export

    with pytest.raises(BadInput, match="is there already"):
        export(tmp_path, adapter, tmp_path, print)
