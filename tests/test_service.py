"""The service worker over its real pipe: streams, cancels, gives the device back, and its death is noticed."""

import time

import pytest

from medcot import jobs
from medcot import messages as m
from medcot.adapters import of_run
from medcot.runs import RunStore
from medcot.service import ServiceClient, new_id
from tests.conftest import tiny_raw, write_records
from tests.engine_tools import train


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
    return list(client.request(m.LoadRequest(id=new_id(), adapter=of_run(run))))[-1]


def test_both_arms_stream_and_the_end_holds_the_whole(client, run):
    assert isinstance(load(client, run), m.Loaded)
    replies = list(client.request(m.AskRequest(id=new_id(), question="What suggests gout?", max_new_tokens=30)))
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
    question, said = "And then?", m.Said(question="What suggests gout?", output="Pain.")

    def ask(**extra):
        return list(client.request(m.AskRequest(id=new_id(), question=question, max_new_tokens=20, **extra)))[-1]

    alone, after = ask(), ask(tuned_history=[said])
    assert after.base.text == alone.base.text, "the base was told nothing before"
    assert after.tuned.text != alone.tuned.text
    long = m.Said(question="Why? " * 3000, output="x")
    refused = ask(base_history=[long])
    assert isinstance(refused, m.Problems)
    assert "Start a new conversation" in refused.problems[0]


def test_a_load_that_fails_leaves_no_model_and_is_not_taken_for_the_one_before(client, run):
    """Nor does an answer to an older load count, where one more was sent before it came."""
    load(client, run)
    broken = of_run(run).model_copy(update={"path": run.path / "gone"})
    replies = client.request(m.LoadRequest(id=new_id(), adapter=broken))
    next(replies)
    assert client.loaded is None, "the one before is given up first"
    assert isinstance(list(replies)[-1], m.Problems)
    assert client.loaded is None

    first = client.request(m.LoadRequest(id=new_id(), adapter=of_run(run)))
    next(first)
    assert isinstance(list(client.request(m.LoadRequest(id=new_id(), adapter=broken)))[-1], m.Problems)
    assert isinstance(list(first)[-1], m.Loaded)
    assert client.loaded is None, "the worker gave it up for the one that failed"
    assert load(client, run) == client.loaded


def test_a_request_is_cancelled_by_its_id(client, run):
    load(client, run)
    request = m.AskRequest(id=new_id(), question="What suggests gout?", max_new_tokens=1500, temperature=1.0, seed=3)
    replies = []
    for reply in client.request(request):
        replies.append(reply)
        if len(replies) == 1:
            client.cancel(request.id)
    assert isinstance(replies[-1], m.Answered)
    assert "stopped" in (replies[-1].base.ended, replies[-1].tuned.ended)


def test_a_loaded_model_holds_the_slot_and_gives_it_back_to_a_job_that_waits(client, run, tiny_settings):
    load(client, run)
    store = RunStore(run.path.parent)
    assert not jobs.Slot(store.root).try_acquire("me")
    started = jobs.start_training(store, tiny_settings)
    deadline = time.monotonic() + 100
    while started.status().state == "queued" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert started.status().state in ("running", "finished"), started.log_tail()
    assert client.loaded is None
    assert client.unloaded.reason == "a job waits for the device"

    while started.status().state == "running" and time.monotonic() < deadline:
        refused = load(client, run)
        if isinstance(refused, m.Problems):
            assert started.id in refused.problems[0], "says who has the device"
            break
    jobs.stop(started, now=True) if started.status().state == "running" else None


def test_asking_without_a_model_says_what_to_do(client):
    list(client.request(m.UnloadRequest(id=new_id())))
    reply = list(client.request(m.AskRequest(id=new_id(), question="Why?")))[-1]
    assert isinstance(reply, m.Problems)
    assert "Choose a run" in reply.problems[0]


def test_a_worker_that_dies_is_reported_and_started_anew(client, run):
    load(client, run)
    request = m.AskRequest(id=new_id(), question="Why?", max_new_tokens=2000, temperature=1.0)
    replies = []
    for reply in client.request(request):
        if not replies:
            client._child.kill()
        replies.append(reply)
    assert isinstance(replies[-1], m.Problems)
    assert "ended unexpectedly" in replies[-1].problems[0]
    assert isinstance(load(client, run), m.Loaded)


def test_nothing_that_was_asked_is_written_anywhere(client, run):
    canary = "canaryquestion7731"
    load(client, run)
    list(client.request(m.AskRequest(id=new_id(), question=f"What is {canary}?", max_new_tokens=5)))
    holding = [p for p in run.path.parent.rglob("*") if p.is_file() and canary.encode() in p.read_bytes()]
    assert holding == []
