"""How long a job takes is what its like took here, or what was measured elsewhere; else nothing is said."""

import platform

import pytest

from medcot.machine import Device
from medcot.runs import pace
from medcot.runs.events import Finished, Started, Validation
from medcot.runs.liveness import LOCK
from medcot.runs.pace import Size
from medcot.runs.store import RunStore
from medcot.settings.recipes import compose
from tests.browser.test_states import step
from tests.fakes import plan_made, write_run

TWO_CORES = Device((), 2, 24.0, 20.0)


@pytest.fixture(autouse=True)
def _no_bfloat16(monkeypatch):
    monkeypatch.setattr("medcot.machine.computes_bfloat16", lambda: False)


def trained(store, settings, host=""):
    """A run of 100 records: 20 s of loading, 100 s of steps at 100 tokens/s, 40 s in two validations, 5 GiB."""
    plan = plan_made(time=1020, records=100, held_out=24, total_steps=25)
    last = step(25, 25).model_copy(update={"tokens_seen": 10_000, "tokens_per_second": 100.0})
    told = [Started(time=1000, job="train", device="CPU"), plan, *(Validation(step=n, loss=1) for n in (0, 25)), last]
    ended = Finished(time=1160, seconds=160, peak_memory_gib=5)
    run = write_run(store, settings, "finished", [*told, ended])
    (run.path / LOCK).write_text(host or platform.node(), encoding="utf-8")
    return run


def test_a_run_like_one_that_this_machine_has_finished_takes_as_long(runs_dir):
    store, settings = RunStore(runs_dir), compose("starter")
    trained(store, settings)
    found = pace.training(settings, store.look().runs, TWO_CORES)
    # 20 s, 100 s, and validations before the first step and after steps 20 and 25
    assert (round(found.seconds), found.gib, found.here) == (180, 5, True)
    twice = settings.replacing("training", epochs=2)
    # the steps twice, and validations after steps 20, 40 and 50
    assert round(pace.training(twice, store.look().runs, TWO_CORES).seconds) == 300
    short = settings.replacing("training", max_steps=1)
    assert round(pace.training(short, store.look().runs, TWO_CORES).seconds) == 20 + 4 + 40


@pytest.mark.parametrize("changed", [{"id": "owner/model"}, {"dtype": "float32"}])
def test_another_model_or_number_format_is_not_alike(runs_dir, changed):
    store = RunStore(runs_dir)
    trained(store, compose("starter").replacing("model", **changed))
    assert not pace.training(compose("starter"), store.look().runs, TWO_CORES).here


def test_what_another_machine_took_says_nothing_of_this_one(runs_dir):
    store = RunStore(runs_dir)
    trained(store, compose("starter"), host="elsewhere")
    found = pace.training(compose("starter"), store.look().runs, TWO_CORES)
    assert not found.here
    assert 300 < found.seconds < 400  # docs/performance.md: 5:28 on two cores without bfloat16
    four = pace.training(compose("starter"), store.look().runs, Device((), 4, 24.0, 20.0))
    assert four.seconds < 0.7 * found.seconds


def test_where_the_size_of_the_data_is_not_known_nothing_is_said(runs_dir):
    store, settings = RunStore(runs_dir), compose("starter", None, ["data.source=mine.jsonl"])
    trained(store, compose("starter"))
    assert pace.training(settings, store.look().runs, TWO_CORES) is None
    found = pace.training(settings, store.look().runs, TWO_CORES, Size(records=200, tokens=50))
    assert round(found.seconds) == 20 + 100 + 80
    assert pace.training(compose("llama-3.2-3b-medical-cot"), store.look().runs, TWO_CORES) is None
    own = compose("starter", None, ["data.validation=mine.jsonl"])
    for named in ("validation=mine.jsonl", "test=OWNER/NAME:test", "more=mine.jsonl", "more=OWNER/NAME"):
        further = compose("starter", None, [f"data.{named}"])
        assert pace.starter_size(further) is None, "a file is read in a process of its own alone"
    assert pace.training(own, store.look().runs, TWO_CORES, Size(records=200, tokens=50)) is None
    found = pace.training(own, store.look().runs, TWO_CORES, Size(records=200, tokens=50, validated=12))
    assert round(found.seconds) == 20 + 100 + 40


def test_a_run_that_was_continued_or_says_too_little_is_no_measure(runs_dir):
    store, settings = RunStore(runs_dir), compose("starter")
    write_run(store, settings, "finished", [Finished(seconds=3)])
    assert not pace.training(settings, store.look().runs, TWO_CORES).here


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (20, "under a minute"),
        (61, "about 2 min"),
        (599, "about 10 min"),
        (601, "about 15 min"),
        (3600, "about 1 h"),
        (6216, "about 1 h 45 min"),
    ],
)
def test_times_are_rounded_up(seconds, words):
    assert pace.about(seconds) == words
