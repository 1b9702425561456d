"""Names, notes and deletion of runs: nothing becomes a path, and no living run goes."""

import os
import shlex

import pytest

from medcot.errors import BadInput
from medcot.runs.run import ABOUT, About, Run
from medcot.runs.store import RunStore
from medcot.settings import RunSettings, build
from medcot.settings.build import differences
from medcot.settings.recipes import compose
from tests.cli.test_cli import medcot, only_json
from tests.fakes import write_run

BAD_NAMES = ["../x", "a;touch y", "nul\0nul", "/etc/passwd", "n" * 300, ".hidden", "line\nbreak", "back\\slash"]


@pytest.fixture
def store(runs_dir) -> RunStore:
    return RunStore(runs_dir)


@pytest.fixture
def run(store) -> Run:
    return write_run(store, RunSettings(name="Heart"), "finished", adapter=True)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_is_refused_for_a_new_run_and_for_an_old_one(run, name):
    with pytest.raises(BadInput):
        build({"name": name})
    before = sorted(run.path.parent.rglob("*"))
    with pytest.raises(BadInput) as refused:
        run.describe(name=name)
    assert refused.value.problems[0].where == "name"
    assert run.about() == About()
    assert sorted(run.path.parent.rglob("*")) == before


def test_a_name_and_a_note_stand_by_themselves_and_can_be_taken_away(run, store):
    run.describe(name="Ångström 2")
    run.describe(note="lr too high\nsee run 3")
    assert run.about() == About(name="Ångström 2", note="lr too high\nsee run 3")
    assert store.get("Ångström 2").id == run.id, "a run is found by its name"
    assert run.id in [r.id for r in store.list()], "the folder keeps its id"
    run.describe(name=" ")
    assert run.about() == About(note="lr too high\nsee run 3")


def test_a_damaged_file_says_nothing(run):
    (run.path / ABOUT).write_text("{half")
    assert run.about() == About()


def test_deletion_takes_the_whole_run_and_nothing_else(store, run):
    other = write_run(store, RunSettings(), "failed")
    store.delete(run)
    assert [r.id for r in store.list()] == [other.id]
    assert [p.name for p in store.root.iterdir()] == [other.id]


@pytest.mark.parametrize("state", ["queued", "running", "stopping"])
def test_a_living_run_is_never_deleted(store, monkeypatch, state):
    monkeypatch.setattr("medcot.runs.job_dir.JobDir.worker_alive", lambda self, pid: pid == os.getpid())
    run = write_run(store, RunSettings(), state, pid=os.getpid())
    with pytest.raises(BadInput) as refused:
        store.delete(run)
    assert f"{run.id} is {state}" in str(refused.value)
    assert run.path.is_dir()


def test_a_run_whose_evaluation_lives_is_never_deleted(store, run, monkeypatch):
    monkeypatch.setattr("medcot.runs.job_dir.JobDir.worker_alive", lambda self, pid: pid == os.getpid())
    run.new_evaluation().write_status("running", job="evaluate", pid=os.getpid())
    with pytest.raises(BadInput) as refused:
        store.delete(run)
    assert "the evaluation" in str(refused.value)


def test_a_link_is_removed_and_what_it_points_to_stays(store, run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    run.path.rename(elsewhere)
    run.path.symlink_to(elsewhere)
    store.delete(Run(run.path))
    assert store.list() == []
    assert (elsewhere / "settings.json").is_file()


def test_the_command_line_renames_notes_and_deletes(run, runs_dir):
    found = only_json(medcot("rename", run.id, "my run", "--json"))
    assert found == {"run": run.id, "name": "my run", "note": ""}
    assert medcot("note", "my run", "keep it").returncode == 0
    shown = only_json(medcot("show", "my run", "--json"))
    assert (shown["name"], shown["note"]) == ("my run", "keep it")
    assert shown["size_bytes"] > 100
    refused = medcot("rename", run.id, "../x")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert only_json(medcot("delete", "my run", "--yes", "--json")) == {"run": run.id, "deleted": True}
    assert not run.path.exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model": {"id": "me/base", "revision": "abc"}, "lora": {"rank": 20}}, "me/base --revision abc ... 32"),
        ({"model": {"id": "me/base"}, "lora": {"rank": 8}}, "me/base ... 8"),
        ({"model": {"id": "me/base"}, "lora": {"rank": 8, "dora": True}}, ""),
        ({}, ""),
    ],
)
def test_show_has_the_command_that_serves_base_and_tuned_where_vllm_can(store, changed, said):
    run = write_run(store, build({"recipe": "demo", **changed}), "finished", adapter=True)
    shown = only_json(medcot("show", run.id, "--json"))["serve"]
    named, _, rank = said.partition(" ... ")
    known = f"vllm serve {named} --served-model-name base --enable-lora --max-lora-rank {rank} --lora-modules tuned="
    assert shown == (f"{known}{shlex.quote(str(run.adapter_dir))}" if said else "")
    assert (f"serve {shown}" in medcot("show", run.id).stdout) == bool(said)


def test_delete_asks_and_without_anybody_to_ask_refuses(run):
    refused = medcot("delete", run.id)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    for answer, left in (("n", True), ("y", False)):
        terminal, ours = os.openpty()
        os.write(terminal, f"{answer}\n".encode())
        medcot("delete", run.id, stdin=ours)
        assert run.path.exists() is left
        os.close(ours)
        os.close(terminal)


def test_the_settings_in_which_two_runs_differ():
    one = compose("starter")
    other = compose("starter", None, ["lora.rank=8", "data.limit=10", "name=x"])
    assert differences(one, other) == [("name", None, "x"), ("data.limit", None, 10), ("lora.rank", 16, 8)]
    assert differences(one, one) == []
