"""The run directory: whole or not there, honest about dead workers, readable whatever a crash left behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medcot.errors import BadInput, Failure, Problem
from medcot.evaluation.summary import EXAMPLE, Summary
from medcot.runs.events import Finished, PlanMade, Progress, Started, Step, Stopped, Validation, Warned
from medcot.runs.job_dir import WORKER_MODULE, command
from medcot.runs.run import Evaluation, Run
from medcot.runs.store import RunStore
from medcot.settings import build
from tests.evaluation.test_report import example, summary_of
from tests.fakes import write_run


def summary(**values) -> Summary:
    return Summary.model_validate({**summary_of([example("a")]), **values})


@pytest.fixture
def store(runs_dir) -> RunStore:
    return RunStore(runs_dir)


@pytest.fixture
def run(store) -> Run:
    return store.create(build({"name": "Heart & Lung"}))


@pytest.fixture
def process():
    """Starts `python -c ... WORDS` that sleeps; its command line holds the words, as a worker's would."""
    started = []

    def start(*words: str) -> subprocess.Popen:
        code = "import sys, time; print(flush=True); time.sleep(120)"
        child = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE)
        started.append(child)
        child.stdout.readline()
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        child.stdout.close()


def step(n: int, loss: float = 2.0) -> Step:
    return Step(
        step=n,
        total_steps=10,
        epoch=0.1,
        loss=loss,
        learning_rate=1e-4,
        grad_norm=1.0,
        tokens_seen=10,
        tokens_per_second=5.0,
        eta_seconds=1.0,
        gpu_memory_gib=0.0,
    )


# ---- making, listing, finding


def test_a_new_run_is_queued_with_its_settings_and_a_name_to_recognise_it(run, store):
    assert "-heart-lung-" in run.id
    assert run.settings() == build({"name": "Heart & Lung"})
    assert json.loads((run.path / "status.json").read_text())["state"] == "queued"
    assert [p.name for p in store.root.iterdir()] == [run.id]
    assert (run.path.stat().st_mode & 0o777) == 0o755


def test_the_folder_of_runs_is_made_when_needed_and_kept_when_there(tmp_path):
    store = RunStore(tmp_path / "not" / "yet")
    assert {store.create(build({})).path.parent for _ in range(3)} == {tmp_path / "not" / "yet"}
    assert len(store.list()) == 3


def test_a_run_appears_whole_or_not_at_all(store, monkeypatch):
    seen = []
    write_status = Run.write_status

    def look(self, *arguments, **named):
        seen.append(store.list())
        write_status(self, *arguments, **named)

    monkeypatch.setattr(Run, "write_status", look)
    created = store.create(build({}))
    assert seen == [[]]
    assert [r.id for r in store.list()] == [created.id]


def test_a_full_disk_is_said_and_leaves_nothing(store, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("medcot.runs.job_dir.write_atomically", full)
    with pytest.raises(BadInput, match="No space left on device"):
        store.create(build({}))
    assert list(store.root.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadInput, match="cannot be written") as refused:
            RunStore(place).create(build({}))
        assert refused.value.problems[0].where == "--runs-dir"
        assert RunStore(place).list() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_said_so(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="Permission denied"):
        RunStore(tmp_path).create(build({}))


def test_listing_is_newest_first_and_passes_over_what_is_no_run(store):
    ids = ["20260102-000000-b-0001", "20260101-000000-z-0002", "20260103-000000-a-0003"]
    made = store.create(build({}))
    for run_id in ids:
        shutil.copytree(made.path, store.root / run_id)
    shutil.rmtree(made.path)
    (store.root / "notes").mkdir()
    (store.root / "file.txt").write_text("")
    shutil.copytree(store.root / ids[0], store.root / ".new-half")
    assert [r.id for r in store.list()] == [ids[2], ids[0], ids[1]]
    assert store.get("latest").id == ids[2]


def test_a_store_that_is_not_there_holds_nothing(store):
    assert store.list() == []
    with pytest.raises(BadInput, match="no run 'latest'"):
        store.get("latest")


def test_a_run_is_found_by_any_unambiguous_part_of_its_id(store):
    first = store.create(build({"name": "cardiac"}))
    second = store.create(build({"name": "renal"}))
    assert store.get("renal").id == second.id
    assert store.get(first.id[-4:] if first.id[-4:] not in second.id else first.id).id == first.id
    with pytest.raises(BadInput, match="fits 2 runs") as refused:
        store.get("a")
    assert first.id in str(refused.value)
    for strange in ("nothing-like-it", "../" + first.id, "\0", "/etc", "x" * 5000):
        with pytest.raises(BadInput, match="there is no run"):
            store.get(strange)


def test_a_whole_id_wins_over_ids_that_contain_it(store, run):
    shutil.copytree(run.path, store.root / f"{run.id}-copy")
    assert store.get(run.id).id == run.id


# ---- state


def test_a_worker_that_runs_is_running(run, process):
    worker = process(WORKER_MODULE, str(run.path.resolve()))
    run.write_status("running", pid=worker.pid)
    assert run.status().state == "running"
    worker.kill()
    worker.wait()
    status = run.status()
    assert status.state == "interrupted"
    assert "worker.log" in status.hint
    assert "start a new run" in status.hint
    assert json.loads((run.path / "status.json").read_text())["state"] == "running", "a reader writes nothing"


def test_another_process_with_the_workers_pid_cannot_fool_a_reader(run, process, store):
    run.write_status("running", pid=process("innocent", str(run.path.resolve())).pid)
    assert run.status().state == "interrupted"
    run.write_status("running", pid=os.getpid())
    assert run.status().state == "interrupted"
    other = process(WORKER_MODULE, str(store.root.resolve() / f"{run.id}-other"))
    run.write_status("stopping", pid=other.pid)
    assert run.status().state == "interrupted"


def test_an_interrupted_run_with_a_checkpoint_says_how_to_continue(run):
    run.write_status("running", pid=None)
    (run.checkpoints_dir / "checkpoint-20").mkdir(parents=True)
    assert f"medcot train --resume {run.id}" in run.status().hint


def test_an_ended_run_needs_no_process(run):
    for state in ("finished", "failed", "stopped"):
        run.write_status(state, pid=os.getpid(), failure=Failure(problems=[Problem("", "why", "what next")]))
        assert (run.status().state, run.status().error, run.status().hint) == (state, "why", "what next")


def test_the_start_time_and_pid_stay_through_changes_of_state(run):
    run.write_status("running", pid=123456)
    before = run.status()
    run.write_status("finished")
    after = run.status()
    assert (after.started, after.pid, after.job) == (before.started, 123456, "train")
    assert after.updated >= before.updated


def test_a_continued_run_counts_from_its_first_start_and_all_its_work(run):
    started = run.status().started
    run.write_status("stopped")
    run.write_status("queued")
    assert run._read_status().started == started
    assert run.worked_seconds() == 0
    for event in (
        Warned(time=50.0, message="as older workers began"),
        Started(time=100.0, job="train"),
        Progress(time=130.0, stage="x"),
        Stopped(time=160.0),
        Started(time=1000.0, job="train"),
        Progress(time=1010.0, stage="x"),
        Started(time=900.0, job="train"),  # the clock went back
        Progress(time=905.0, stage="x"),
    ):
        run.append(event)
    assert run.worked_seconds() == 60 + 10 + 5


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"state": "resting"}', b"\xff\xfe", b"[]"])
def test_a_damaged_status_is_a_failed_run_and_not_an_error(run, store, content):
    path = run.path / "status.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    status = run.status()
    assert status.state == "failed"
    assert "missing or damaged" in status.error
    assert [r.id for r in store.list()] == [run.id]


def test_status_and_summary_are_replaced_whole(run):
    run.write_status("running")
    evaluation = run.new_evaluation()
    evaluation.write_summary(summary())
    left = [p.name for p in [*run.path.iterdir(), *evaluation.path.iterdir()]]
    assert not [name for name in left if name.startswith(".")]
    rights = {(run.path / name).stat().st_mode for name in ("status.json", "settings.json")}
    assert len(rights) == 1, "whoever may read the settings may read the state"


@pytest.mark.parametrize("content", ["", "{", '{"training": {"epochs": 0}}', '{"of_another_version": 1}'])
def test_damaged_settings_are_said_so(run, content):
    (run.path / "settings.json").write_text(content)
    with pytest.raises(BadInput, match=r"settings\.json"):
        run.settings()


# ---- events


def test_events_come_back_as_they_were_written_and_only_once(run):
    assert run.events() == ([], 0)
    run.append(step(1))
    run.append(Warned(message="Zeilen\nund \u2028 贫血"))
    first, offset = run.events()
    assert [e.type for e in first] == ["step", "warning"]
    assert first[1].message == "Zeilen\nund \u2028 贫血"
    assert run.events(offset) == ([], offset)
    run.append(Finished(seconds=1.0))
    later, end = run.events(offset)
    assert [e.type for e in later] == ["finished"]
    assert run.events()[0] == first + later
    assert end == (run.path / "events.jsonl").stat().st_size


def test_half_a_line_waits_for_its_rest(run):
    run.append(step(1))
    path = run.path / "events.jsonl"
    line = Finished(seconds=2.5).model_dump_json() + "\n"
    with path.open("a") as file:
        file.write(line[:20])
    events, offset = run.events()
    assert [e.type for e in events] == ["step"]
    with path.open("a") as file:
        file.write(line[20:])
    assert [e.type for e in run.events(offset)[0]] == ["finished"]


def test_lines_that_a_crash_spoilt_are_passed_over(run):
    run.append(step(1))
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'{"type": "step", "st')  # a worker is killed here; the next one appends
    run.append(step(2))
    with (run.path / "events.jsonl").open("ab") as file:
        file.write(b'\xff\xfe\n\n{"type": "of another version"}\n[]\n')
    run.append(step(3))
    assert [e.step for e in run.events()[0]] == [1, 3]


def test_figures_for_lists(run):
    assert run.metrics() == {
        "step": 0,
        "total_steps": 0,
        "loss": None,
        "first_validation_loss": None,
        "validation_loss": None,
        "kept_step": None,
        "seconds": None,
        "summary": None,
    }
    plan = dict.fromkeys(("records", "held_out", "truncated", "trainable_parameters", "total_parameters"), 1)
    run.append(PlanMade(**plan, total_steps=10, fingerprint="f", model="m"))
    assert run.metrics()["total_steps"] == 10
    for event in (Validation(step=0, loss=3.0), step(1, 2.5), step(2, 2.0), Validation(step=2, loss=1.5)):
        run.append(event)
    figures = run.metrics()
    assert (figures["step"], figures["loss"]) == (2, 2.0)
    assert (figures["first_validation_loss"], figures["validation_loss"]) == (3.0, 1.5)


def test_the_log_shows_its_end_and_a_progress_bar_once(run):
    assert run.log_tail() == ""
    run.log_path.write_bytes(b"first\n" * 10_000 + b"bar 1\rbar 2\rbar 3\nlast \xff line\n")
    assert run.log_tail(2) == "bar 3\nlast \ufffd line"


# ---- checkpoints and evaluations


def test_checkpoints_count_by_number_and_half_written_ones_do_not(run):
    for name in ("checkpoint-5", "checkpoint-20", "checkpoint-100", "checkpoint-x", "checkpoint-", ".writing"):
        (run.checkpoints_dir / name).mkdir(parents=True)
    assert [p.name for p in run.checkpoints()] == ["checkpoint-100", "checkpoint-20", "checkpoint-5"]


def test_an_adapter_is_there_when_its_weights_are(run):
    run.adapter_dir.mkdir()
    assert not run.has_adapter
    (run.adapter_dir / "adapter_model.safetensors").write_bytes(b"")
    assert run.has_adapter


def test_the_newest_evaluation_with_a_summary_is_the_runs(run):
    for name, text in (
        ("20260101-a", summary(seconds=1).text()),
        ("20260102-b", summary(seconds=2).text()),
        ("20260103-c", "{"),
        ("20260104-d", ""),
        ("20260105-e", '{"schema": 1, "run": "of no known shape"}'),
    ):
        folder = run.path / "evaluation" / name
        folder.mkdir(parents=True)
        if text:
            (folder / "summary.json").write_text(text)
        Evaluation(folder).write_status("finished", job="evaluate")
    (run.path / "evaluation" / "20260106-not-begun").mkdir()
    assert [e.id for e in run.evaluations()] == ["20260105-e", "20260104-d", "20260103-c", "20260102-b", "20260101-a"]
    assert run.latest_summary() == summary(seconds=2)
    assert run.evaluations()[0].examples() == []


def test_a_runs_jobs_are_its_training_and_its_evaluations(run):
    evaluation = run.new_evaluation()
    evaluation.write_status("queued", job="evaluate")
    assert [job.path for job in run.job_dirs()] == [run.path, evaluation.path]
    assert [job.status().job for job in run.job_dirs()] == ["train", "evaluate"]


def test_rows_of_an_evaluation_keep_their_text(run):
    evaluation = run.new_evaluation()
    rows = [EXAMPLE.validate_python(example(text)) for text in ("贫血?\u2028next", "a\nb\x85c\x0cd")]
    evaluation.write_lines("examples", rows)
    assert evaluation.examples() == rows
    assert evaluation.samples() == []
    evaluation.write_summary(summary(run="贫血"))
    assert evaluation.summary() == summary(run="贫血")


def test_a_summary_keeps_what_another_version_wrote_beside_it_and_gains_nothing(run):
    evaluation = run.new_evaluation()
    written = {**summary_of([example("a")]), "later": {"n": 1}}
    written["arms"]["base"]["later"] = "text"
    written["paired"]["tuned-base"]["later"] = None
    (evaluation.path / "summary.json").write_text(json.dumps(written))
    evaluation.write_summary(evaluation.summary())
    assert json.loads((evaluation.path / "summary.json").read_text()) == written


def test_a_command_to_type_names_the_runs_folder_where_it_is_not_the_usual_one(tmp_path, runs_dir, monkeypatch):
    assert command("stop x", runs_dir) == "medcot stop x"
    assert command("stop x", tmp_path / "my runs") == f"medcot stop x --runs-dir '{tmp_path / 'my runs'}'"
    monkeypatch.delenv("MEDCOT_RUNS_DIR")
    monkeypatch.chdir(tmp_path)
    assert command("stop x", tmp_path / "runs") == "medcot stop x"
    with pytest.raises(BadInput, match="`medcot runs --runs-dir elsewhere` lists them"):
        RunStore(Path("elsewhere")).get("x")


@pytest.mark.parametrize("name", ['x-"><img src=x onerror=1>', "a&b", "-rf", "a\x1b[2J", "a\nb", "\u202ea", "<b>"])
def test_a_folder_that_is_called_as_no_run_is_called_is_not_listed(runs_dir, name):
    store = RunStore(runs_dir)
    run = write_run(store, build({}), "finished", adapter=True)
    shutil.copytree(run.path, runs_dir / name)
    assert [r.id for r in store.list()] == [run.id]
    good = run.new_evaluation()
    good.write_status("finished", job="evaluate")
    shutil.copytree(good.path, good.path.with_name(name))
    assert [e.id for e in run.evaluations()] == [good.id]


@pytest.mark.parametrize("name", ["20260101-000000-000-x-1a2b", "my run (2)", "copy_of.run", "研究"])
def test_a_folder_with_a_plain_name_is_listed(runs_dir, name):
    store = RunStore(runs_dir)
    run = write_run(store, build({}), "finished", adapter=True)
    run.path.rename(runs_dir / name)
    assert [r.id for r in store.list()] == [name]
