"""The service worker over its real pipe: streams, cancels, gives the device back, and its death is noticed."""

import io
import subprocess
import sys
import time

import pytest

from medcot import data
from medcot.adapters.open import of_run
from medcot.engine.service import Service
from medcot.errors import BadInput, WorkerFailed
from medcot.prompts.contract import Exchange
from medcot.runs.job_dir import WORKER_MODULE
from medcot.runs.store import RunStore
from medcot.workers import jobs
from medcot.workers import protocol as m
from medcot.workers.client import ServiceClient
from medcot.workers.slot import Slot
from tests.conftest import tiny_raw, write_records
from tests.engine_tools import cancelled_at_the_first, train
from tests.fakes import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_model):
    from medcot.settings import build

    folder = tmp_path_factory.mktemp("service")
    return train(folder / "runs", build(tiny_raw(tiny_model, write_records(folder / "records.jsonl"))))


@pytest.fixture(scope="module")
def client(run):
    client = ServiceClient(run.path.parent)
    yield client
    client.close()


def load(client, run):
    return list(client.request(m.LoadRequest(adapter=of_run(run))))[-1]


def load_when_free(client, run):
    """Load as soon as a job that was stopped has given the device back."""
    deadline = time.monotonic() + 100
    while isinstance(reply := load(client, run), m.Failed) and reply.kind == "busy" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert isinstance(reply, m.Loaded), reply


def test_both_arms_stream_and_the_end_holds_the_whole(client, run):
    assert isinstance(load(client, run), m.Loaded)
    replies = list(client.request(m.AskRequest(question="What suggests gout?", max_new_tokens=30)))
    answered = replies[-1]
    assert isinstance(answered, m.Answered)
    pieces = [r for r in replies if isinstance(r, m.Piece)]
    assert pieces
    assert answered.base.text.startswith("".join(p.base for p in pieces))
    assert answered.tuned.text.startswith("".join(p.tuned for p in pieces))
    assert answered.base.tokens <= 30
    assert answered.base.ended in ("finished", "limit")


def test_a_follow_up_is_answered_after_its_history_and_one_that_does_not_fit_is_refused(client, run):
    loaded = load(client, run)
    assert loaded.follow_ups
    question, said = "And then?", Exchange("What suggests gout?", "Pain.")

    def ask(**extra):
        return list(client.request(m.AskRequest(question=question, max_new_tokens=20, **extra)))[-1]

    alone, after = ask(), ask(tuned_history=[said])
    assert after.base.text == alone.base.text, "the base was told nothing before"
    assert after.tuned.text != alone.tuned.text
    long = Exchange("Why? " * 3000, "x")
    refused = ask(base_history=[long])
    assert isinstance(refused, m.Failed)
    assert "Start a new conversation" in str(refused.problems[0])


def test_a_load_that_fails_leaves_no_model_and_is_not_taken_for_the_one_before(client, run):
    """Nor does an answer to an older load count, where one more was sent before it came."""
    load(client, run)
    broken = of_run(run).model_copy(update={"path": run.path / "gone"})
    replies = client.request(m.LoadRequest(adapter=broken))
    next(replies)
    assert client.loaded is None, "the one before is given up first"
    assert isinstance(list(replies)[-1], m.Failed)
    assert client.loaded is None

    first = client.request(m.LoadRequest(adapter=of_run(run)))
    next(first)
    assert isinstance(list(client.request(m.LoadRequest(adapter=broken)))[-1], m.Failed)
    assert isinstance(list(first)[-1], m.Loaded)
    assert client.loaded is None, "the worker gave it up for the one that failed"
    assert load(client, run) == client.loaded


def test_a_request_is_cancelled_by_its_id(client, run):
    load(client, run)
    request = m.AskRequest(question="What suggests gout?", max_new_tokens=1500, temperature=1.0, seed=3)
    replies = cancelled_at_the_first(client, request)
    assert isinstance(replies[-1], m.Answered)
    assert "stopped" in (replies[-1].base.ended, replies[-1].tuned.ended)


def test_a_loaded_model_holds_the_slot_and_gives_it_back_to_a_job_that_waits(client, run, tiny_settings):
    load(client, run)
    store = RunStore(run.path.parent)
    assert not Slot(store.root).try_acquire("me")
    started = jobs.start_training(store, tiny_settings)
    deadline = time.monotonic() + 100
    while started.status().state == "queued" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert started.status().state in ("running", "finished"), started.log_tail()
    assert client.loaded is None
    assert client.unloaded.reason == "a job waits for the device"

    while started.status().state == "running" and time.monotonic() < deadline:
        refused = load(client, run)
        if isinstance(refused, m.Failed):
            assert started.id in str(refused.problems[0]), "says who has the device"
            break
    jobs.stop(started, now=True) if started.status().state == "running" else None


def test_a_job_that_waits_goes_before_the_next_question(client, run, monkeypatch):
    """Whoever asks without a pause keeps no training from the device."""
    load_when_free(client, run)
    store = RunStore(run.path.parent)
    waiting = write_run(store, run.settings(), "queued")
    worker = subprocess.Popen(
        [sys.executable, "-c", "input()", "-m", WORKER_MODULE, str(waiting.path.resolve())], stdin=subprocess.PIPE
    )
    waiting.write_status("queued", pid=worker.pid)
    try:
        *_, reply = client.request(m.AskRequest(question="What suggests gout?", max_new_tokens=4))
        assert isinstance(reply, m.Failed)
        assert reply.kind == "busy"
        assert "has been waiting for the device and goes first" in str(reply.problems[0])
        assert client.loaded is None
        assert Slot(store.root).try_acquire("the job"), "the device is free"
        assert "goes first" in str(load(client, run).problems[0]), "and stays so until the job has it"
    finally:
        worker.kill()
        worker.wait()


@pytest.fixture
def given_back(run):
    """A client whose worker has given its model back while a question was on its way."""
    client = ServiceClient(run.path.parent, idle_seconds=0.1)
    load_when_free(client, run)
    deadline = time.monotonic() + 60
    while client.unloaded is None and time.monotonic() < deadline:
        time.sleep(0.05)
    yield client
    client.close()


def test_a_question_that_crosses_the_giving_back_is_answered_all_the_same(given_back):
    for _ in range(2):
        *_, reply = given_back.request(m.AskRequest(question="What suggests gout?", max_new_tokens=4))
        assert isinstance(reply, m.Answered), reply
        assert given_back.loaded


@pytest.mark.parametrize("job", ["waits", "is at work"])
def test_a_question_that_crosses_the_giving_back_to_a_job_is_told_of_the_job(given_back, run, job):
    store = RunStore(run.path.parent)
    other = write_run(store, run.settings(), "queued")
    worker = subprocess.Popen(
        [sys.executable, "-c", "input()", "-m", WORKER_MODULE, str(other.path.resolve())], stdin=subprocess.PIPE
    )
    other.write_status("queued" if job == "waits" else "running", pid=worker.pid)
    slot = Slot(store.root)
    try:
        assert job == "waits" or slot.try_acquire(other.id)
        *_, reply = given_back.request(m.AskRequest(question="What suggests gout?", max_new_tokens=4))
        assert isinstance(reply, m.Failed)
        assert reply.kind == "busy"
        assert ("goes first" if job == "waits" else f"in use by the run {other.id}") in str(reply.problems[0])
    finally:
        slot.release()
        worker.kill()
        worker.wait()


def test_a_question_after_an_unloading_on_request_loads_nothing(given_back):
    list(given_back.request(m.UnloadRequest()))
    *_, reply = given_back.request(m.AskRequest(question="Why?"))
    assert isinstance(reply, m.Failed)
    assert "Choose a run" in str(reply.problems[0])


class Ended:
    """A pair whose llama.cpp has ended."""

    closed = False

    def answer(self, *_):
        raise WorkerFailed("llama.cpp ended while it was asked.")

    def close(self):
        self.closed = True


def test_where_llama_cpp_has_ended_it_is_told_that_nothing_is_loaded(tmp_path):
    """Before the question has failed, since whoever asks next loads only what he takes for unloaded."""
    service = Service(RunStore(tmp_path), io.StringIO(), idle_seconds=300)
    service.pair = pair = Ended()
    service.requests.put(m.AskRequest(question="Why?"))
    service.requests.put(None)
    service.run()
    unloaded, failed = map(m.REPLY.validate_json, service.out.getvalue().splitlines())
    assert isinstance(unloaded, m.Unloaded)
    assert "llama.cpp" in unloaded.reason
    assert isinstance(failed, m.Failed)
    assert pair.closed


def test_a_problem_comes_over_the_pipe_as_it_was_made(client, tiny_settings, tmp_path):
    """Where it is may hold what a sentence has between where and what."""
    source = tmp_path / "of: ours.jsonl"
    source.write_text("{}\n", encoding="utf-8")
    settings = tiny_settings.model_copy(update={"data": tiny_settings.data.model_copy(update={"source": str(source)})})
    with pytest.raises(BadInput) as here:
        data.load(settings.data)
    assert ": " in here.value.problems[0].where
    with pytest.raises(BadInput) as there:
        client.call(m.PlanRequest(settings=settings))
    assert there.value.problems == here.value.problems


def test_asking_without_a_model_says_what_to_do(client):
    list(client.request(m.UnloadRequest()))
    reply = list(client.request(m.AskRequest(question="Why?")))[-1]
    assert isinstance(reply, m.Failed)
    assert "Choose a run" in str(reply.problems[0])


def test_a_worker_that_dies_is_reported_and_started_anew(client, run):
    load(client, run)
    request = m.AskRequest(question="Why?", max_new_tokens=2000, temperature=1.0)
    replies = []
    for reply in client.request(request):
        if not replies:
            client._child.kill()
        replies.append(reply)
    assert isinstance(replies[-1], m.Failed)
    assert "ended unexpectedly" in str(replies[-1].problems[0])
    assert isinstance(load(client, run), m.Loaded)


def test_nothing_that_was_asked_is_written_anywhere(client, run):
    canary = "canaryquestion7731"
    load(client, run)
    list(client.request(m.AskRequest(question=f"What is {canary}?", max_new_tokens=5)))
    holding = [p for p in run.path.parent.rglob("*") if p.is_file() and canary.encode() in p.read_bytes()]
    assert holding == []
