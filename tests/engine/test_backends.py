"""Backends: what one needs is known without it, and Unsloth is imported before the libraries that it changes."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import medcot
from medcot.adapters.open import Adapter, of_run
from medcot.errors import BadInput
from medcot.settings import BACKENDS, LoraSettings, ModelSettings, backend_for, backend_problem, build
from medcot.workers.protocol import ExportRequest
from tests import families
from tests.conftest import tiny_raw
from tests.engine_tools import train

UNSLOTH = """
import sys
assert not {"transformers", "trl", "peft"} & sys.modules.keys()
class FastLanguageModel: pass
"""
ASKED = """
import sys
from medcot.engine import backends
from medcot.settings import build
settings = build({"backend": "unsloth"})
profile = backends.class_for(settings).memory
assert "unsloth" not in sys.modules, "a plan needs the profile alone"
assert backends.for_training(settings).memory is profile
print(backends.for_training(settings).name)
"""


def test_unsloth_is_imported_first_and_only_where_it_trains(tmp_path):
    (tmp_path / "unsloth.py").write_text(UNSLOTH)
    path = f"{tmp_path}:{Path(medcot.__file__).parents[1]}"
    done = subprocess.run(
        [sys.executable, "-c", ASKED], env={"PYTHONPATH": path, "PATH": ""}, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "unsloth", done.stderr


def test_auto_takes_the_first_that_can_run_and_a_name_is_taken_as_it_is(monkeypatch):
    installed = {"peft"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in installed or None)
    auto, named = build({}), build({"backend": "unsloth"})
    assert (backend_for(auto.backend, gpu=True), backend_for(auto.backend, gpu=False)) == ("peft", "peft")
    assert "not installed" in backend_problem("unsloth", gpu=True).what
    installed.add("unsloth")
    assert (backend_for(auto.backend, gpu=True), backend_for(auto.backend, gpu=False)) == ("unsloth", "peft")
    assert "CUDA" in backend_problem("unsloth", gpu=False).what
    assert backend_for(named.backend, gpu=False) == "unsloth"


def test_every_backend_of_the_settings_has_its_module():
    from medcot.engine import backends

    for name in BACKENDS:
        assert backends.class_for(build({"backend": name})).name == name


EXPERTS = ["mixtral", "qwen3_moe", "qwen2_moe", "gpt_oss", "olmoe", "granitemoe", "phimoe"]


@pytest.mark.parametrize("name", EXPERTS)
def test_an_adapter_that_training_starts_with_can_be_opened_afterwards_or_is_refused_at_once(tmp_path, name):
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.lora import trained_parameters
    from medcot.engine.models import LocalModel

    base, backend = families.build(name, tmp_path / "base"), PeftBackend()

    def attached(lora):
        model = backend.load(LocalModel(base, name), ModelSettings(dtype="float32"), max_length=0)
        if lora:
            trained_parameters(families.on_meta(name), lora)  # as a plan does, and so every start
        return model if lora is None else backend.attach(model, lora, seed=1, checkpointing=False)

    lora = LoraSettings(rank=4)
    try:
        model = attached(lora)
    except BadInput as bad:
        (problem,) = bad.problems
        named = re.search(r"lora\.target_modules=\[(.*)\]", problem.fix)[1]
        model = attached(lora.model_copy(update={"target_modules": tuple(re.findall(r"\w+", named))}))
    model.save_pretrained(tmp_path / "adapter")
    assert backend.with_adapter(attached(None), tmp_path / "adapter")


@pytest.mark.parametrize(
    "name", ["mixtral", *(pytest.param(name, marks=pytest.mark.slow) for name in ("qwen3_moe", "gpt_oss", "olmoe"))]
)
def test_a_mixture_of_experts_is_trained_opened_decoded_and_exported(tmp_path, records, name):
    from medcot.engine.answer.load import open_decoder
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.export import export
    from medcot.evaluation.answers import Decoding

    base = families.build(name, tmp_path / "base")
    raw = tiny_raw(base, records)
    raw["lora"]["target_modules"] = list(families.ATTENTION)
    adapter: Adapter = of_run(train(tmp_path / "runs", build(raw)))
    notes = []
    decoder = open_decoder(adapter, PeftBackend(), notes.append, max_length=256)
    rows = decoder.rows_for("What suggests gout?")
    decoder.decode(rows, Decoding(16))
    assert all(row.tokens for row in rows)
    assert not any("changes nothing" in getattr(note, "message", "") for note in notes)
    made = export(ExportRequest(adapter=adapter, target=tmp_path / "merged"), lambda event: None)
    assert made.same_tokens >= 0.9 * made.tokens
