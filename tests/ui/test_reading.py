"""Job directories are folded once, event by event, for all viewers."""

from medcot.events import Started, Validation, Warned
from medcot.runs import RunStore
from medcot.settings import RunSettings
from medcot.ui.reading import Reader
from tests.browser.test_states import step
from tests.fakes import write_run


def test_only_what_is_new_is_read(runs_dir):
    store = RunStore(runs_dir)
    run = write_run(store, RunSettings(), "running", [step(1)])
    reader = Reader(store)
    assert [s.step for s in reader.seen(run).steps] == [1]
    offset = reader.seen(run).offset
    run.append(step(2))
    seen = reader.seen(run)
    assert [s.step for s in seen.steps] == [1, 2]
    assert seen.offset > offset
    assert seen.total_steps == 10


def test_a_continued_run_tells_again_what_came_after_its_checkpoint(runs_dir):
    events = [Validation(step=0, loss=4), step(1), step(2), Validation(step=2, loss=3), step(3)]
    again = [Started(job="train"), Warned(message="new"), Validation(step=0, loss=4), step(2)]
    store = RunStore(runs_dir)
    run = write_run(store, RunSettings(), "running", [*events, *again])
    seen = Reader(store).seen(run)
    assert [s.step for s in seen.steps] == [1, 2]
    assert [v.step for v in seen.validations] == [0]
    assert seen.warnings == ["new"]


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
