"""The history's two lists: a tick tells of a choice only where that run is gone."""

from medcot.settings import RunSettings
from medcot.ui.train.history import History
from tests.fakes import write_run


def test_a_tick_leaves_what_is_chosen_alone_until_that_run_is_gone(page):
    tab = History(page)
    one, other = (write_run(page.store, RunSettings(), "finished") for _ in range(2))
    _, *lists = tab.look(one.id, None, "")[:3]
    assert all([value for _, value in listed["choices"]] == [other.id, one.id] for listed in lists)
    assert all("value" not in listed for listed in lists)
    page.store.delete(one)
    _, left, right = tab.look(one.id, other.id, "")[:3]
    assert left["value"] is None
    assert "value" not in right


def test_a_comparison_that_an_older_tick_took_away_comes_back(page):
    tab = History(page)
    one, other = (write_run(page.store, RunSettings(), "finished") for _ in range(2))
    *_, nothing, mark = tab.look(one.id, None, "")
    assert nothing == ""
    *_, compared, _ = tab.look(one.id, other.id, mark)
    assert compared == tab.compare(one.id, other.id) != ""
