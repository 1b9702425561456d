"""TensorBoard's and trackio's own readers find the figures that W&B gets; one that is missing or dead harms nothing."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from medcot.engine import tracking
from medcot.engine.tracking import wandb_run
from medcot.evaluation.summary import Summary
from medcot.runs.events import AnyEvent, Step, Validation, Warned
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import as_written, build
from medcot.workers import preflight
from tests.test_written_before import KEPT

BOTH = ("tensorboard", "trackio")
TABLE = "evaluation/table"
FINISHED = min((KEPT / "kept" / "finished" / "evaluation").glob("*/summary.json"))


def step(number: int, loss: float) -> Step:
    given = {"epoch": 0.5, "learning_rate": 1e-4, "grad_norm": 1.0, "tokens_seen": 10, "tokens_per_second": 5.0}
    return Step(step=number, total_steps=8, loss=loss, eta_seconds=0, gpu_memory_gib=0, **given)


@pytest.fixture
def run(runs_dir, monkeypatch):
    """A run that both trackers copy; trackio reads its folder's name once, so that each test has a fresh one."""
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("trackio", "wandb")]:
        monkeypatch.delitem(sys.modules, name)
    made = RunStore(runs_dir).create(build({"tracking": {"to": list(BOTH), "project": "mine"}}))
    yield made
    monkeypatch.delenv("TRACKIO_DIR", raising=False)


def follow(run: Run, *events: AnyEvent, summary: Summary | None = None) -> list[AnyEvent]:
    heard: list[AnyEvent] = []
    with tracking.follow(run, run.settings(), heard.append) as report:
        for event in events:
            report(event)
        if summary:
            report.figures(summary)
    return heard


def scalars(run: Run) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's own reader finds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(run.path / "tensorboard")).Reload()
    names = found.Tags()["scalars"]
    return {name: [(e.step, round(e.value, 6)) for e in found.Scalars(name)] for name in names}


def logs(run: Run) -> list[dict]:
    """What trackio's own reader finds."""
    import trackio
    from trackio.sqlite_storage import SQLiteStorage

    (read,) = trackio.Api().runs("mine")
    assert (read.id, read.name) == (run.id, run.id)
    assert read.config["training"]["seed"] == 42
    return SQLiteStorage.get_logs("mine", run_id=read.id)


def test_both_hold_the_figures_that_wandb_gets_and_a_resumed_run_goes_on_in_them(run):
    events = [Validation(step=0, loss=3.0), step(1, 2.5), step(2, 2.25), step(3, 2.0)]
    assert follow(run, *events) == events
    (run.checkpoints_dir / "checkpoint-2").mkdir(parents=True)
    events += (again := [step(3, 1.75), Validation(step=3, loss=1.5)])
    assert follow(run, *again) == again
    summary = Summary.model_validate_json(FINISHED.read_text())
    assert follow(run, summary=summary) == []

    board = scalars(run)
    assert board["train/loss"] == [(1, 2.5), (2, 2.25), (3, 1.75)]
    assert board["validation/loss"] == [(0, 3.0), (3, 1.5)]
    expected = {name for event in events for name in tracking.row(event)} - {"step"}
    numbers = {f"evaluation/{n}" for n, v in tracking.flat(summary.as_json()).items() if not isinstance(v, str)}
    assert numbers
    assert set(board) == expected | numbers
    kept = logs(run)
    assert [(entry["step"], entry["train/loss"]) for entry in kept if "train/loss" in entry] == [
        *((1, 2.5), (2, 2.25), (3, 2.0)),
        (3, 1.75),
    ]
    (results,) = (entry for entry in kept if TABLE in entry)
    assert numbers <= set(results)
    assert results[TABLE].startswith("kind,measure,arm,value")
    assert not (Path(os.environ["HF_HOME"]) / "trackio").exists()


@pytest.mark.parametrize("name", BOTH)
def test_a_broken_installation_is_told_once_and_ends_no_job(name, run, monkeypatch):
    monkeypatch.setitem(sys.modules, {"tensorboard": "torch.utils.tensorboard"}.get(name, name), None)
    heard = follow(run, step(1, 2.0), step(2, 1.0))
    assert [e.step for e in heard if isinstance(e, Step)] == [1, 2]
    (told,) = [e.message for e in heard if isinstance(e, Warned)]
    assert "is left out" in told
    assert scalars(run) if name == "trackio" else logs(run), "the other one has it all"


def test_files_that_cannot_be_written_any_more_are_told_once_each(run, monkeypatch):
    heard: list[AnyEvent] = []
    with tracking.follow(run, run.settings(), heard.append) as report:
        report(step(1, 2.0))
        from trackio.sqlite_storage import SQLiteStorage

        def full(**_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(SQLiteStorage, "bulk_log", full)
        monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", lambda *_: full())
        report(step(2, 1.0))
        report(step(3, 1.0))
    assert [e.step for e in heard if isinstance(e, Step)] == [1, 2, 3]
    told = [e.message for e in heard if isinstance(e, Warned)]
    assert [message.partition(" did not")[0] for message in told] == ["TensorBoard", "trackio"]
    assert "No space left" in told[0]
    assert f"tensorboard --logdir {run.path / 'tensorboard'}" in told[0]


def test_a_tracker_that_is_not_installed_is_found_before_the_start(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "trackio" else name)
    settings = build({"tracking": {"to": ["trackio", "wandb"]}})
    assert [str(problem) for problem in preflight.device_problems(settings)] == [
        "tracking.to: trackio is not installed. Install it: pip install 'medcot[trackers]'"
    ]


@pytest.mark.parametrize(
    ("tracking", "to"),
    [
        ({"wandb": True}, ("wandb",)),
        ({"wandb": False, "project": "p"}, ()),
        ({"wandb": True, "to": ["trackio"]}, ("wandb", "trackio")),
        ({"to": "tensorboard"}, ("tensorboard",)),
        ({"to": "trackio, wandb"}, ("trackio", "wandb")),
        ({"to": "none"}, ()),
        ({"to": ["wandb", "wandb"]}, ("wandb",)),
    ],
)
def test_one_name_a_list_and_what_was_written_before_there_was_a_choice(tracking, to):
    assert build({"tracking": tracking}).tracking.to == to
    assert as_written(build({"tracking": tracking}).model_dump_json()).tracking.to == to


def test_wandb_among_several_is_left_out_alone(run, monkeypatch):
    monkeypatch.setattr(wandb_run, "_offline_because", lambda wandb: "it is away")
    monkeypatch.setattr(wandb_run, "_init", lambda *_: 1 / 0)
    settings = run.settings().replacing("tracking", to=("wandb", *BOTH))
    heard: list[AnyEvent] = []
    with tracking.follow(run, settings, heard.append) as report:
        report(step(1, 2.0))
    assert [e.message for e in heard if isinstance(e, Warned)] == [
        "Weights & Biases is left out: it is away; division by zero."
    ]
    assert scalars(run)["train/loss"] == [(1, 2.0)]
    shutil.rmtree(run.path)
