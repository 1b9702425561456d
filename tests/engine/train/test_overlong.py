"""Runs with records that are too long: counted, resumed exactly, and as they began where they are older."""

import json

import pytest
import torch
from safetensors.torch import load_file

from medcot.errors import BadInput
from medcot.runs.run import Run
from medcot.settings import build
from tests.conftest import make_records, tiny_raw
from tests.engine_tools import changed, train


@pytest.fixture
def settings(tmp_path, tiny_model):
    """Over 12 records, of which 2 and 7 have a long reasoning and 9 a long answer; record 2 is held out."""
    rows = make_records(12)
    for place in (1, 6):
        rows[place]["Complex_CoT"] = "Think of it first. " * 20
    rows[8]["Response"] = "A long answer. " * 60
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return changed(build(tiny_raw(tiny_model, path)), "training", max_length=110)


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.adapter_dir / "adapter_model.safetensors")


def assert_same(one: Run, other: Run) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_a_run_that_shortens_counts_it_and_is_resumed_exactly(tmp_path, settings):
    whole = train(tmp_path / "whole", settings)
    plan = whole.plan()
    assert (plan.records, plan.held_out, plan.truncated, plan.shortened, plan.left_out) == (7, 4, 0, 1, 1)
    assert len(plan.held_out_hashes) == 4
    stopped = train(tmp_path / "stopped", settings, stop_at=2)
    assert_same(whole, train(tmp_path / "stopped", settings, run=stopped))
    other = changed(settings, "data", overlong="leave_out")
    with pytest.raises(BadInput, match=r"data.overlong: was shorten when checkpoint-4 was written, and is leave_out"):
        train(tmp_path / "stopped", other, run=stopped)


@pytest.mark.slow
def test_a_run_whose_settings_were_written_before_there_was_a_choice_goes_on_cutting(tmp_path, settings):
    cut = changed(settings, "data", overlong="cut")
    whole, stopped = train(tmp_path / "whole", cut), train(tmp_path / "stopped", cut, stop_at=2)
    path = stopped.path / "settings.json"
    written = json.loads(path.read_text())
    del written["data"]["overlong"], written["data"]["identifiers"]
    path.write_text(json.dumps(written))
    (manifest,) = (json.loads((p / "manifest.json").read_text()) for p in stopped.checkpoints())
    assert not any("overlong" in name for name in manifest["depends_on"]), "older checkpoints do not name it"
    assert stopped.settings().data.overlong == "cut"
    assert_same(whole, train(tmp_path / "stopped", stopped.settings(), run=stopped))
