"""An Apple GPU, as far as torch's own answer that there is one leads: what is chosen, and what is said of it."""

import pytest

from medcot.settings import build
from medcot.workers.protocol import TorchDevice


@pytest.fixture
def mps(monkeypatch):
    import torch

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


def test_the_gpu_is_taken_in_float32_and_doctor_says_so(mps):
    import torch

    from medcot.engine import models
    from medcot.engine.backends.peft import PeftBackend

    assert models.device_type() == "mps"
    assert models.compute_dtype("auto") == torch.float32
    assert models.compute_dtype("bfloat16") == torch.bfloat16
    assert PeftBackend().device() == "Apple GPU (mps)"
    assert PeftBackend("cpu").device().startswith("CPU")
    seen = models.torch_device()
    assert (seen.cuda, seen.mps) == (False, True)
    assert str(seen) == "computes in float32 on the Apple GPU (mps), without 4-bit"
    before = TorchDevice.model_validate(seen.model_dump(exclude={"mps"}))
    assert str(before) == "computes in float32"


def test_several_processes_share_no_apple_gpu(mps, monkeypatch):
    from medcot.engine import distributed, models

    monkeypatch.setattr(distributed, "local_world_size", lambda: 2)
    assert models.device_type() == "cpu"


def test_the_plan_says_where_it_would_run_and_4_bit_is_refused(mps, tiny_settings):
    from medcot.engine.train import audit
    from medcot.workers import preflight

    assert audit.ON_APPLE in audit.plan(tiny_settings, lambda event: None).problems
    (problem,) = preflight.device_problems(build({"model": {"quantization": "4bit"}}))
    assert problem.where == "model.quantization"
