"""Weights & Biases away, without a key, dying: the run goes on, its own record is complete, and no key is written."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from medcot.errors import BadInput
from medcot.runs.events import Finished, Step, Validation, Warned
from medcot.runs.store import RunStore
from medcot.settings import build
from medcot.ui.job_reader import Reader
from medcot.workers import jobs
from tests.engine_tools import changed
from tests.faults.tools import ended, events, until

UPLOADED = ("config.yaml", "wandb-summary.json")
CANARY = "canary0" + "f" * 33  # W&B wants 40 characters


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return RunStore(tmp_path / "runs")


def warnings(job):
    return " ".join(e.message for e in events(job, Warned))


def files_with(text: str, *roots: Path) -> list[Path]:
    return [p for root in roots for p in root.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


@pytest.mark.slow
def test_with_the_service_away_a_run_finishes_and_its_evaluation_too_and_no_key_is_written(
    store, tiny_settings, monkeypatch, tmp_path
):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    secrets = {"WANDB_API_KEY": CANARY}
    run = jobs.start_training(store, changed(tiny_settings, "tracking", to=("wandb",), project="mine"), secrets)
    until(lambda: run.status().pid, "a pid")
    assert CANARY.encode() not in Path(f"/proc/{run.status().pid}/cmdline").read_bytes()
    assert ended(run).state == "finished", run.log_tail(40)
    assert len(events(run, Step)) == tiny_settings.training.max_steps
    assert len(events(run, Validation)) == 3
    assert len(events(run, Finished)) == 1
    assert "http://127.0.0.1:9 does not answer" in warnings(run)
    seen = Reader(store).seen(run)
    assert "wandb sync" in " ".join(seen.warnings), "the page shows it too"
    assert "wandb sync" in warnings(run)
    (logged,) = (run.path / "wandb").glob("offline-run-*/*.wandb")
    for name in (b"train/loss", b"validation/loss", b"gpu_memory_gib", b"progress", b"learning_rate"):
        assert name in logged.read_bytes()

    evaluation = jobs.start_evaluation(run, secrets=secrets)
    assert ended(evaluation).state == "finished", evaluation.log_tail(40)
    both = sorted((run.path / "wandb").glob("offline-run-*/*.wandb"))
    assert {p.name for p in both} == {f"run-{run.id}.wandb"}, "training and evaluation are one W&B run"
    assert b"evaluation/arms/tuned/answer_rouge_l" in b"".join(p.read_bytes() for p in both)
    assert files_with(CANARY, run.path, tmp_path / "home") == []
    assert list((tmp_path / "home").rglob("*wandb*")) == []


class Service(ThreadingHTTPServer):
    """A W&B that knows one account and takes everything; `seen` is what it was sent: (path, login, text)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.seen: list[tuple[str, str, str]] = []
        self.runs: dict[str, dict] = {}
        self.address = f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, text: str) -> dict:
        if path != "/graphql":
            return {}
        asked = json.loads(text)
        given, entity = asked["variables"], {"id": "e", "name": "team"}
        project = {"id": "p", "name": given.get("project"), "entity": entity}
        if asked["operationName"] == "RunResumeStatus":
            return {"data": {"model": {**project, "bucket": self.runs.get(given["name"])}}}
        if asked["operationName"] == "UpsertBucket":
            known = self.runs.setdefault(given["name"], _new_run(given["name"]))
            return {"data": {"upsertBucket": {"bucket": {**known, "project": project}, "inserted": True}}}
        if asked["operationName"] == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.address}/upload/{name}"} for name in given["files"]]
            return {"data": {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}}
        return {"data": {}}


def _new_run(name: str) -> dict:
    counts = dict.fromkeys(("logLineCount", "historyLineCount", "eventsLineCount"), 0)
    tails = {"historyTail": "[]", "eventsTail": "[]", "summaryMetrics": "{}", "config": "{}", "wandbConfig": "{}"}
    return {
        "id": name,
        "name": name,
        "displayName": name,
        "tags": [],
        "notes": "",
        "sweepName": None,
        **counts,
        **tails,
    }


class _Answer(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode(errors="replace")
        self.server.seen.append((self.path, self.headers.get("Authorization", ""), text))
        answer = json.dumps(self.server.answer(self.path, text)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_PUT = do_POST

    def log_message(self, *_):
        pass


@pytest.fixture
def service(monkeypatch):
    server = Service()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", server.address)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.real_spawn
def test_with_a_key_training_and_evaluation_are_one_run_there_and_nothing_of_this_machine_is_sent(
    store, tiny_settings, service
):
    secrets = {"WANDB_API_KEY": CANARY}
    run = jobs.start_training(store, changed(tiny_settings, "tracking", to=("wandb",), project="mine"), secrets)
    assert ended(run).state == "finished", run.log_tail(40)
    assert warnings(run) == ""
    evaluation = jobs.start_evaluation(run, secrets=secrets)
    assert ended(evaluation).state == "finished", evaluation.log_tail(40)
    assert warnings(evaluation) == ""
    assert list(service.runs) == [run.id]
    streamed = "".join(text for path, _, text in service.seen if path == f"/files/team/mine/{run.id}/file_stream")
    for name in ("train/loss", "validation/loss", "gpu_memory_gib", "progress", "evaluation/arms/tuned/answer_rouge_l"):
        assert name in streamed
    assert {path for path, login, _ in service.seen if not login} <= {f"/upload/{n}" for n in UPLOADED}
    sent = "".join(text for *_, text in service.seen)
    for private in (CANARY, os.uname().nodename, str(Path.cwd()), "requirements"):
        assert private not in sent
    assert files_with(CANARY, run.path) == []


@pytest.mark.slow
def test_when_its_helper_process_dies_or_the_run_is_killed_training_goes_on_and_nothing_is_left(
    store, tiny_settings, service
):
    settings = changed(changed(tiny_settings, "tracking", to=("wandb",)), "training", max_steps=5000, save_steps=5000)
    run = jobs.start_training(store, settings, {"WANDB_API_KEY": CANARY})
    until(lambda: events(run, Step), "a step")
    (helper,) = [p for p in psutil.Process(run.status().pid).children() if "wandb-core" in p.name()]
    helper.kill()
    told = len(events(run, Step))
    until(lambda: "did not take everything" in warnings(run) or run.status().state != "running", "the warning")
    until(lambda: len(events(run, Step)) > told + 3 or run.status().state != "running", "more steps")
    assert run.status().state == "running", run.log_tail(40)
    jobs.stop(run)
    assert ended(run).state == "stopped", run.log_tail(40)

    other = jobs.start_training(store, settings, {"WANDB_API_KEY": CANARY})
    until(lambda: events(other, Step), "a step")
    family = psutil.Process(other.status().pid).children(recursive=True)
    assert family
    jobs.stop(other, now=True)
    until(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family), "their end")


@pytest.mark.slow
def test_it_is_off_unless_asked_for_and_then_wandb_is_not_even_imported(tmp_path):
    code = (
        "import sys; from pathlib import Path; from medcot.engine import tracking; from medcot.runs.run import Run; "
        "from medcot.settings import RunSettings\n"
        "with tracking.follow(Run(Path('r')), RunSettings(), print) as report:\n"
        "    report('an event'); import trl.trainer.callbacks\n"
        "    print(sys.modules['wandb'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.split("\n")[:2] == ["an event", "None"], done.stderr


@pytest.mark.parametrize("value", ["", "a/b", "a:b", "x" * 129])
def test_a_project_that_wandb_would_refuse_is_refused_before_the_start(value):
    with pytest.raises(BadInput) as refused:
        build({"tracking": {"project": value}})
    assert [p.where for p in refused.value.problems] == ["tracking.project"]
