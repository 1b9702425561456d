"""Passes that are summed apart from the Trainer, as a GPU's captured ones are: here they are computed each time."""

import pytest
import torch

from medcot.engine.train.memory_plan import Hardware
from medcot.engine.train.passes import ATTEMPTS, Passes
from medcot.runs.events import Warned
from tests.engine_tools import adapter_tensors, assert_same_weights, changed, steps, train


@pytest.fixture
def apart(monkeypatch):
    monkeypatch.setattr(Hardware, "gains_by_capture", lambda *_: True)


def test_it_learns_what_the_trainer_learns(tmp_path, tiny_settings, apart, monkeypatch):
    settings = changed(tiny_settings, "training", accumulation=2, max_steps=4, log_steps=1)
    ours = train(tmp_path / "ours", settings)
    monkeypatch.undo()
    theirs = train(tmp_path / "theirs", settings)
    assert [s.loss for s in steps(ours)] == [s.loss for s in steps(theirs)]
    assert_same_weights(adapter_tensors(ours), adapter_tensors(theirs))


def test_a_capture_that_fails_is_tried_again_and_then_given_up(monkeypatch):
    weight, told, captured = torch.nn.Parameter(torch.ones(2)), [], []
    passes = Passes([weight], told.append)
    passes._attempts = ATTEMPTS  # as on a GPU
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)

    def refuse(*_):
        captured.append(1)
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(passes, "_captured", refuse)
    for _ in range(8):
        passes.begin()
        passes.add({"input_ids": torch.ones(1, 2)}, torch.tensor(2.0), lambda inputs, items: (weight * 3).sum() / items)
        passes.finish()
        assert weight.grad.tolist() == [1.5, 1.5]
    assert len(captured) == ATTEMPTS
    assert [isinstance(event, Warned) for event in told] == [True]
    assert "somewhat slower" in told[0].message
