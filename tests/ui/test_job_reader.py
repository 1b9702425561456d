"""Job directories are folded once, event by event, for all viewers, and in linear time."""

from itertools import pairwise

import pytest

from medcot.runs.events import Sample, Started, Validation, Warned
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.ui import job_reader
from medcot.ui.job_reader import Curve, Reader, Seen
from tests.browser.test_states import step
from tests.conftest import at_once
from tests.fakes import write_run


def test_only_what_is_new_is_read(runs_dir):
    store = RunStore(runs_dir)
    run = write_run(store, RunSettings(), "running", [step(1)])
    reader = Reader(store)
    assert [s.step for s in reader.seen(run).steps.points] == [1]
    offset = reader.seen(run).offset
    run.append(step(2))
    seen = reader.seen(run)
    assert [s.step for s in seen.steps.points] == [1, 2]
    assert seen.offset > offset
    assert seen.total_steps == 10


def test_a_continued_run_tells_again_what_came_after_its_checkpoint(runs_dir):
    events = [Validation(step=0, loss=4), step(1), step(2), Validation(step=2, loss=3), step(3)]
    again = [Started(job="train"), Warned(message="new"), Validation(step=0, loss=4), step(2)]
    store = RunStore(runs_dir)
    run = write_run(store, RunSettings(), "running", [*events, *again])
    seen = Reader(store).seen(run)
    assert [s.step for s in seen.steps.points] == [1, 2]
    assert [v.step for v in seen.validations.points] == [0]
    assert seen.warnings == ["new"]


def test_the_time_that_workers_worked_is_the_same_here_and_in_the_job_itself(runs_dir):
    times = [(Warned, 50), (Started, 100), (Warned, 130), (Warned, 160), (Started, 1000), (Started, 900), (Warned, 905)]
    more = {Started: {"job": "train"}, Warned: {"message": "x"}}
    run = write_run(RunStore(runs_dir), RunSettings(), "stopped", [kind(time=t, **more[kind]) for kind, t in times])
    assert Reader(RunStore(runs_dir)).seen(run).worked == run.worked_seconds() == 60 + 5


def test_what_a_browser_sends_is_never_a_path(runs_dir):
    store = RunStore(runs_dir)
    write_run(store, RunSettings(), "finished", adapter=True)
    for sent in ("../" + runs_dir.name, "", None, 3, ["x"], store.list()[0].id[:8]):
        assert Reader(store).find(sent) is None


def test_settings_that_cannot_be_read_are_none(runs_dir):
    store = RunStore(runs_dir)
    run = write_run(store, RunSettings(), "finished")
    (run.path / "settings.json").write_text("{}}")
    assert Reader(store).settings(run) is None


# ---- curves of any length


def folded(events) -> Seen:
    seen = Seen()
    for event in events:
        seen.fold(event)
    return seen


@pytest.mark.parametrize("count", [0, 1, 2, 9, 10, 11, 20, 21, 22, 41, 1000, 1001])
def test_a_long_curve_is_thinned_evenly_and_keeps_its_ends(monkeypatch, count):
    monkeypatch.setattr(job_reader, "MOST_POINTS", 10)
    points = [s.step for s in folded(step(n) for n in range(1, count + 1)).steps.points]
    assert len(points) <= 11
    assert points[:1] == [1][:count]
    assert points[-1:] == [count][:count]
    gaps = {b - a for a, b in pairwise(points[:-1])}
    assert len(gaps) <= 1, "what is drawn of it is as dense at its end as at its beginning"


def test_a_long_curve_goes_on_after_a_return_to_a_checkpoint(monkeypatch):
    monkeypatch.setattr(job_reader, "MOST_POINTS", 10)
    straight = folded(step(n) for n in range(1, 301))
    returned = folded(step(n) for n in [*range(1, 201), *range(120, 301)])
    for seen in (straight, returned):
        points = [s.step for s in seen.steps.points]
        assert points == sorted(set(points))
        assert points[-1] == 300
        assert len(points) <= 11
    assert returned.steps.newest.step == 300


def test_each_event_is_handled_without_going_through_those_before_it(monkeypatch):
    """A look at a run of 200,000 steps once took two minutes."""
    looked_at = 0

    class Counted(Curve):
        def cut(self, number):
            nonlocal looked_at
            looked_at += len(self.kept)
            super().cut(number)

    seen = Seen(steps=Counted(), validations=Counted())
    for n in range(1, 2001):
        seen.fold(step(n))
        if n % 50 == 0:
            seen.fold(Validation(step=n, loss=1.0))
    assert looked_at == 0, "only a return to a checkpoint takes something away"
    assert len(seen.validations.points) == 40


def test_samples_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(job_reader, "MOST_SAMPLES", 6)
    seen = folded(Sample(arm="tuned", question=q, output=f"{n}", step=n) for n in range(9) for q in "ab")
    assert [(s.step, s.question) for s in seen.samples.values()] == [(n, q) for n in (6, 7, 8) for q in "ab"]


# ---- one state of the folder for all tabs


def test_within_a_second_all_tabs_see_one_state_and_what_somebody_does_is_seen_at_once(runs_dir, monkeypatch):
    store = RunStore(runs_dir)
    write_run(store, RunSettings(), "finished")
    reader, taken = Reader(store), []
    read = store._folder._runs
    monkeypatch.setattr(store._folder, "_runs", lambda: (taken.append(1), read())[1])
    for _ in range(20):
        with reader.one_moment():
            for _ in range(5):
                reader.look(), reader.mark(), reader.tuned(), reader.busy()
    assert len(taken) == 1
    mark = reader.mark()
    write_run(store, RunSettings(), "finished")
    assert reader.mark() != mark, "outside a tick, as after a click, it is read anew"
    with reader.one_moment():
        assert len(reader.look().runs) == 2, "and a tick after it does not go back"


def test_many_threads_share_one_look(runs_dir):
    store = RunStore(runs_dir)
    for _ in range(3):
        write_run(store, RunSettings(), "finished")
    reader = Reader(store)

    def tab():
        versions = set()
        for _ in range(20):
            with reader.one_moment():
                versions.add((reader.look().version, len(reader.look().runs)))
        return versions

    assert at_once(8, tab) == [{(1, 3)}] * 8
