"""Ids of jobs, and what people read instead of them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from medcot.runs.ids import has_plain_name, name_of, new_id, title_of, when


def test_ids_sort_by_time_cannot_meet_and_are_plain_folder_names():
    ids = [new_id("Night run: β=2/../x") for _ in range(50)]
    assert [one[:19] for one in ids] == sorted(one[:19] for one in ids)
    assert len(set(ids)) == 50
    assert all(has_plain_name(Path(one)) and "night-run-2-x" in one for one in ids)


def test_an_id_is_read_as_what_and_when_in_this_machines_time(monkeypatch):
    made = datetime(datetime.now().year, 3, 7, 12, 4, tzinfo=UTC)
    here = made.astimezone()
    expected = f"{here.day} {here:%b} {here:%H:%M}"
    stamp = made.strftime("%Y%m%d-%H%M%S")
    assert when(f"{stamp}-000-starter-c202") == expected
    assert name_of(f"{stamp}-000-night-run-c202") == f"Night run, {expected}"
    assert name_of(f"{stamp}-000-c202") == f"Run, {expected}"
    assert title_of(f"{stamp}-000-night-run-c202") == f"Night run, {expected} · c202"
    assert title_of(f"{stamp}-000-night-run-c202", "Mine") == "Mine · c202"
    assert when("20190307-120400-000-starter-c202").startswith("7 Mar 2019 ")


@pytest.mark.parametrize(
    "name", ["kept by hand", "20261399-000000-000-starter-c202", "", "2026", "20261130-002832-960-x-zzzz"]
)
def test_a_folder_of_another_name_is_called_as_it_is(name):
    assert (when(name), name_of(name), title_of(name)) == ("", name, name)
