"""A base's folder before anything opens it: weights that are whole, a tokenizer, and what is no model at all."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from medcot.adapters import base
from medcot.errors import BadInput
from medcot.settings import ModelSettings

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0f1e2d3c\nsize 988097824\n"


@pytest.fixture
def folder(tmp_path):
    """A folder with all that a model needs, and nothing in it that a library could load."""
    path = tmp_path / "model"
    path.mkdir()
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "tokenizer.json").write_text("{}")
    save_file({"model.norm.weight": np.ones(64, np.float32)}, path / base.SINGLE)
    return path


@pytest.fixture
def sharded(folder):
    tensors = dict(zip(("a", "b"), SHARDS, strict=True))
    for name, file in tensors.items():
        save_file({name: np.ones(64, np.float32)}, folder / file)
    (folder / base.SINGLE).unlink()
    (folder / base.INDEX).write_text(json.dumps({"weight_map": tensors}))
    return folder


def refused(folder) -> str:
    with pytest.raises(BadInput) as raised:
        base.check_base(ModelSettings(id=str(folder)))
    assert {p.where for p in raised.value.problems} == {"model.id"}
    assert all(p.fix for p in raised.value.problems)
    return str(raised.value)


def test_what_is_whole_is_taken_by_its_whole_path(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert base.check_base(ModelSettings(id="./model")).id == str(folder.resolve())


def test_shards_that_are_whole_are_taken(sharded):
    base.require_model(sharded)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.write_text(POINTER), "is a Git LFS pointer and not the weights. Fetch them: git lfs pull"),
        (lambda file: file.write_bytes(file.read_bytes()[:-10]), "is cut off or no safetensors file"),
        (lambda file: file.write_bytes(file.read_bytes()[:12]), "is cut off or no safetensors file"),
        (lambda file: file.write_bytes(b""), "is cut off or no safetensors file"),
        (lambda file: file.write_bytes(b"PK\x03\x04" + bytes(200)), "is cut off or no safetensors file"),
        (lambda file: file.write_text("<!DOCTYPE html><html>Sign in</html>"), "is cut off or no safetensors file"),
        (lambda file: save_file({}, file), "holds no weights"),
    ],
    ids=["pointer", "cut", "cut-in-header", "empty", "pickle", "page", "no-tensor"],
)
def test_weights_that_are_none_are_named_with_their_file(folder, sharded, damage, said):
    damage(sharded / SHARDS[1])
    assert f"{SHARDS[1]} {said}" in refused(sharded)
    shutil.move(sharded / SHARDS[1], sharded / base.SINGLE)
    assert f"{base.SINGLE} {said}" in refused(sharded)


def test_weights_cut_off_anywhere_are_not_whole(folder):
    whole = (folder / base.SINGLE).read_bytes()
    for size in range(len(whole)):
        (folder / base.SINGLE).write_bytes(whole[:size])
        assert "is cut off" in refused(folder)
    (folder / base.SINGLE).write_bytes(whole + b"\n")
    assert "is cut off" in refused(folder)


def test_every_file_that_is_not_whole_is_named(sharded):
    (sharded / SHARDS[0]).write_text(POINTER)
    (sharded / SHARDS[1]).unlink()
    said = refused(sharded)
    assert f"{SHARDS[0]} is a Git LFS pointer" in said
    assert f"{SHARDS[1]} is not there, and {base.INDEX} names it" in said


@pytest.mark.parametrize(
    "index",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"weight_map": []}',
        '{"weight_map": {"a": 7}}',
        '{"weight_map": {"a": "../x.safetensors"}}',
    ],
)
def test_an_index_that_cannot_be_followed_is_refused(sharded, index):
    save_file({"a": np.ones(4, np.float32)}, sharded.parent / "x.safetensors")
    (sharded / base.INDEX).write_text(index)
    assert base.INDEX in refused(sharded)


def test_a_shard_that_is_a_link_to_nowhere_is_not_there(sharded):
    (sharded / SHARDS[0]).unlink()
    (sharded / SHARDS[0]).symlink_to(sharded / "gone")
    assert f"{SHARDS[0]} is not there" in refused(sharded)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model", "qwen.tiktoken"])
def test_any_familys_tokenizer_is_one(folder, name):
    (folder / "tokenizer.json").rename(folder / name)
    base.require_model(folder)


def test_no_tokenizer_is_told_together_with_broken_weights(folder):
    (folder / "tokenizer.json").unlink()
    (folder / base.SINGLE).write_text(POINTER)
    said = refused(folder)
    assert "holds no tokenizer. Copy tokenizer.json" in said
    assert "Git LFS pointer" in said


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], "holds an adapter, and a base is needed"),
        (["config.json", base.SINGLE, "adapter_config.json"], "move adapter_config.json out of it"),
        (["model-q4.gguf"], "holds a GGUF file"),
        (["README.md"], "holds no config.json"),
        ([], "holds no config.json"),
        (["config.json", "pytorch_model.bin"], "pytorch_model.bin is a pickle"),
        (["config.json", "pytorch_model-00001-of-00002.bin"], "pytorch_model-00001-of-00002.bin is a pickle"),
        (["config.json", "other.safetensors"], f"Weights are in {base.SINGLE}"),
        (["config.json", "model-q4.gguf"], "has no safetensors weights"),
    ],
)
def test_a_folder_of_another_kind_is_called_by_its_name(tmp_path, files, said):
    for name in files:
        (tmp_path / name).write_text("{}")
    assert said in refused(tmp_path)


@pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "compressed-tensors", "mxfp4"])
def test_weights_of_a_few_bits_are_not_trained_on(folder, method):
    (folder / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": method}}))
    problem = base.quantized(folder)
    assert f"are quantized ({method})" in problem.what
    assert "in 16 bits" in problem.fix


@pytest.mark.parametrize("gpu", [True, False])
def test_those_of_bitsandbytes_are_where_there_is_a_gpu(folder, monkeypatch, gpu):
    monkeypatch.setattr(base, "has_cuda", lambda: gpu)
    (folder / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "bitsandbytes"}}))
    assert (base.quantized(folder) is None) == gpu


@pytest.mark.parametrize("config", ["{}", "[]", "{", '{"quantization_config": null}', '{"quantization_config": {}}'])
def test_a_configuration_without_that_says_nothing_of_it(folder, config):
    (folder / "config.json").write_text(config)
    assert base.quantized(folder) is None


@pytest.mark.parametrize(
    "config",
    [
        {"attn_implementation": "someone/kernels"},
        {"_attn_implementation": "flash_attention_3|someone/kernels@v1:f"},
        {"_attn_implementation_internal": "a/b"},
        {"experts_implementation": "a/b"},
        {"text_config": {"attn_implementation": "a/b"}},
        {"attn_implementation": {"text_config": "a/b"}},
    ],
    ids=str,
)
def test_a_configuration_that_asks_for_code_of_the_hub_is_refused(folder, config):
    (folder / "config.json").write_text(json.dumps(config))
    assert "asks for code of the Hub, which is never run" in refused(folder)


def test_an_attention_that_transformers_has_itself_is_taken(folder):
    (folder / "config.json").write_text('{"attn_implementation": "sdpa", "layers": [{"x": "a/b"}], "name": "a/b"}')
    base.require_model(folder)


@pytest.mark.parametrize("content", ["{", "[" * 100_000, '{"x": ' + "9" * 5000 + "}"], ids=["cut", "deep", "digits"])
def test_a_configuration_that_cannot_be_read_is_told_before_anything_opens_it(folder, content):
    (folder / "config.json").write_text(content)
    assert "config.json cannot be read" in refused(folder)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"weight_map": ' + "[" * 100_000], ids=["deep", "deeper"])
def test_an_index_of_weights_without_end_is_refused(sharded, content):
    (sharded / base.INDEX).write_text(content)
    assert "cannot be read" in refused(sharded)
