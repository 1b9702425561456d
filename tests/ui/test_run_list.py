"""The list of runs at the side, and the comparison of those that are ticked."""

import re

import pytest

from medcot.runs.events import Finished, Progress, Started, Stopped, Validation
from medcot.runs.ids import name_of, title_of
from medcot.runs.job_dir import JobDir
from medcot.runs.run import ORIGIN
from medcot.settings import RunSettings, build
from medcot.settings.recipes import compose
from medcot.ui.side.comparison import MOST, Comparison, ticked
from medcot.ui.side.run_list import PAGE, RunList
from medcot.ui.train.open_run import OpenRun
from tests.browser.test_states import step, summary
from tests.fakes import write_run


@pytest.fixture
def side(page) -> RunList:
    with page.demo:
        return RunList(page)


@pytest.fixture
def compared(page) -> Comparison:
    with page.demo:
        return Comparison(page)


def drawn(side, chosen=None, search="", most=PAGE):
    return side.look(chosen, search, most, "")[side.list]


def finished(page, *pairs, loss=2.5):
    told = [Validation(step=0, loss=3.5), *(step(n) for n in range(1, 11)), Validation(step=10, loss=loss)]
    return write_run(page.store, compose("starter", None, list(pairs)), "finished", [*told, Finished(seconds=75)])


def test_a_row_says_name_state_loss_and_what_the_evaluation_found(page, side, monkeypatch):
    monkeypatch.setattr(JobDir, "worker_alive", lambda self, pid: True)
    run = finished(page)
    evaluation = run.new_evaluation()
    evaluation.write_summary(summary())
    evaluation.write_status("finished", job="evaluate")
    shown = drawn(side)
    for words in (name_of(run.id), "Finished", "Validation loss 2.500", "ROUGE-L +0.010 <i>(−0.020 to +0.040)</i>"):
        assert words in shown
    run.describe(name="<b>Mine")
    assert "&lt;b&gt;Mine" in drawn(side)
    evaluation.write_status("running", pid=1)
    assert "Evaluation running" in drawn(side)
    (run.path / ORIGIN).write_text('{"adapter": "ada/tuned"}')
    evaluation.write_status("finished", job="evaluate")
    assert "Not trained here" in drawn(side)


def test_one_at_work_says_how_far_it_is_and_is_drawn_anew_as_it_goes_on(page, side, monkeypatch):
    monkeypatch.setattr(JobDir, "worker_alive", lambda self, pid: True)
    run = write_run(page.store, RunSettings(), "running", [Started(job="train", device="CPU")], pid=1)
    first = side.look(run.id, "", PAGE, "")
    assert ">Running</span>" in first[side.list]
    assert side.look(run.id, "", PAGE, first[side.mark]) == {}
    run.append(Progress(stage="Training", done=3, total=10))
    then = side.look(run.id, "", PAGE, first[side.mark])
    assert "Running, 30%" in then[side.list]
    assert 'aria-valuenow="30"' in then[side.list]


def test_one_whose_files_cannot_be_read_is_listed_and_says_so(page, side):
    run = finished(page)
    (run.path / "settings.json").write_text("{")
    assert run.id in drawn(side)
    assert "Cannot be read, and is left out: settings.json." in drawn(side)


def test_of_many_runs_the_newest_are_listed_and_the_chosen_one_and_more_on_request(page, side):
    runs = [write_run(page.store, RunSettings(), "finished") for _ in range(4)]
    shown = drawn(side, runs[0].id, most=2)
    assert [run.id in shown for run in runs] == [True, False, True, True]
    assert "4 runs." in shown
    assert side.look(None, "", 2, "")[side.more]["visible"] is True
    assert side.look(None, "", 4, "")[side.more]["visible"] is False
    assert side.further(PAGE) == 2 * PAGE
    assert all(run.id in drawn(side) for run in runs)


def test_the_list_is_one_for_all_who_look_whatever_they_have_chosen(page, side):
    runs = [write_run(page.store, RunSettings(), "finished") for _ in range(3)]
    seen = side.look(runs[0].id, "", PAGE, "")
    assert side.look(runs[1].id, "", PAGE, seen[side.mark]) == {}


@pytest.mark.parametrize(
    ("search", "found"),
    [("", 2), ("MINE", 1), ("mine x", 0), ("talk", 1), ("failed", 1), ("starter", 2), ("  ", 2)],
)
def test_a_search_finds_names_ids_notes_and_states_by_all_its_words(page, side, search, found):
    write_run(page.store, build({"name": "starter"}), "failed")
    write_run(page.store, build({"name": "starter"}), "finished").describe(name="Mine", note="after the talk")
    shown = drawn(side, search=search)
    assert shown.count("<li>") == found
    assert (f"{found} of 2 runs" in shown) == bool(search)


def test_what_is_ticked_is_compared_and_no_more_than_the_curves_can_tell_apart(page, compared):
    runs = [finished(page, f"lora.rank={rank}", loss=2 + rank / 100) for rank in (4, 8, 16, 32, 64)]
    assert compared.look("", "") == {}
    assert compared.look(runs[0].id, "")[compared.whole]["visible"] is False
    both = compared.look(f"{runs[0].id}/{runs[1].id}", "")
    assert both[compared.whole]["visible"] is True
    for words in ("LoRA rank", title_of(runs[0].id), "2.040", "2.080", "1:15"):
        assert words in both[compared.shown]
    assert both[compared.shown].count("<polyline") == 4
    chosen = "/".join(run.id for run in runs)
    assert compared.look(chosen, "")[compared.shown].count("<polyline") == MOST


def test_the_time_of_what_did_not_finish_is_what_its_workers_worked(page, compared):
    """Not the time between its first start and its last change of state, in which it may have lain for days."""
    told = [Started(time=100, job="train"), Validation(time=160, step=0, loss=3), Stopped(time=175)]
    told += [Started(time=90_000, job="train"), Stopped(time=90_030)]
    stopped, waiting = (write_run(page.store, RunSettings(), state, told) for state in ("stopped", "failed"))
    (waiting.path / "events.jsonl").unlink()
    adopted = write_run(page.store, RunSettings(), "finished")
    (adopted.path / ORIGIN).write_text('{"adapter": "ada/tuned"}')
    evaluation = adopted.new_evaluation()
    for event in (Started(time=100, job="evaluate"), Progress(time=161, stage="Answering")):
        evaluation.append(event)
    evaluation.write_status("stopped", job="evaluate")
    shown = compared.look("/".join(run.id for run in (stopped, waiting, adopted)), "")[compared.shown]
    assert times(shown) == ["1:45", "–", "1:01"]
    evaluation.append(Finished(time=200, seconds=125))
    evaluation.write_status("finished")
    shown = compared.look(f"{stopped.id}/{adopted.id}", "")[compared.shown]
    assert times(shown) == ["1:45", "2:05"]


def times(shown: str) -> list[str]:
    """The cells of the comparison's row Time."""
    (row,) = (row for row in shown.split("<tr>") if ">Time<" in row)
    return re.findall(r"<td[^>]*>([^<]*)</td>", row)


def test_what_a_browser_sends_as_ticked_is_looked_up_and_never_a_path(page, compared):
    run = finished(page)
    for sent in (None, "../../etc", f"{run.id}/{run.id}", f"{run.id}/gone", 3, "/" * 10_000):
        view = compared.look(sent, "nothing before")
        assert view[compared.shown] == ""
    assert ticked("a/a/b") == ["a", "b"]


def test_a_run_that_is_gone_is_ticked_no_more_and_leaves_its_place_to_another(page, compared):
    runs = [finished(page) for _ in range(3)]
    ids = [run.id for run in runs]
    seen = compared.look("/".join(ids), "")
    assert page.ticked not in seen, "what a person ticks meanwhile is left alone"
    page.store.delete(runs[1])
    assert compared.look("/".join(ids), seen[compared.mark])[page.ticked] == f"{ids[0]}/{ids[2]}"
    page.store.delete(runs[0])
    page.store.delete(runs[2])
    assert compared.look("/".join(ids), seen[compared.mark])[page.ticked] == ""


def test_runs_are_compared_by_what_their_evaluations_found(page, compared):
    runs = [finished(page) for _ in range(2)]
    evaluation = runs[0].new_evaluation()
    evaluation.write_summary(summary())
    evaluation.write_status("finished", job="evaluate")
    shown = compared.look("/".join(run.id for run in runs), "")[compared.shown]
    assert "Answer ROUGE-L" in shown
    assert "+0.010 (−0.020 to +0.040)" in shown
    assert "Their settings are the same." in shown


def test_a_comparison_begins_with_the_open_run_and_the_newest_other_that_was_trained_here(page):
    with page.demo:
        tab = OpenRun(page)
    one, elsewhere = (write_run(page.store, RunSettings(), "finished") for _ in range(2))
    (elsewhere.path / ORIGIN).write_text('{"adapter": "ada/tuned"}')
    assert tab.begin_with(one.id) == {page.ticked: one.id}
    assert tab.view(one.id)[tab.compare]["visible"] is False, "there is none to compare it with"
    other, late = write_run(page.store, RunSettings(), "finished"), write_run(page.store, RunSettings(), "finished")
    (late.path / ORIGIN).write_text('{"adapter": "ada/tuned"}')
    assert tab.begin_with(one.id) == {page.ticked: f"{one.id}/{other.id}"}
    assert tab.view(one.id)[tab.compare]["visible"] is True
