"""The client of the service worker, without a worker or with one that hangs."""

import errno
import subprocess
import threading
import time
from pathlib import Path

import pytest

from medcot.errors import BadInput
from medcot.workers import client as of_worker
from medcot.workers import protocol as m
from medcot.workers.client import ServiceClient


class Answering(ServiceClient):
    """A client whose worker answers at once, and that counts how often it is ended."""

    ended = 0

    def _ensure_child(self):
        pass

    def _write(self, message):
        self._waiting[message.id].put(m.Result(id=message.id, value={}))

    def close(self):
        self.ended += 1


def test_a_worker_ends_when_it_was_unused_for_as_long_as_asked_and_never_by_default(tmp_path):
    kept, planner = Answering(tmp_path), Answering(tmp_path)
    planner.end_after = 0.2
    for client in (kept, planner, planner):
        client.call(m.DeviceRequest())
    under_way = planner.request(m.DeviceRequest())
    next(under_way)
    time.sleep(0.5)
    assert (kept.ended, planner.ended) == (0, 0), "it is asked something now"
    under_way.close()
    deadline = time.monotonic() + 10
    while not planner.ended and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    assert (kept.ended, planner.ended) == (0, 1)


# ---- a worker that hangs: tests/workers/hanging_worker.py


@pytest.fixture
def hanging(monkeypatch):
    """Makes a client of a worker that hangs at a moment, and that has little patience with it."""
    monkeypatch.setattr(of_worker, "SERVICE_MODULE", "tests.workers.hanging_worker")
    monkeypatch.setattr(of_worker, "WATCH_SECONDS", 0.05)
    for name, value in {"WORKING": (30.0, 1.0), "READING": (30.0, 1.0), "ANSWERING": 30.0}.items():
        monkeypatch.setattr(of_worker, name, value)
    made = []

    def make(mode, **patience):
        for name, value in patience.items():
            monkeypatch.setattr(of_worker, name, value)
        made.append(ServiceClient(Path(mode)))
        return made[-1]

    yield make
    for one in made:
        one.close()


CONNECT = {"name": "s", "endpoint": {"url": "http://127.0.0.1:9", "base": "b", "tuned": "t"}}
REQUESTS = {"loads": lambda: m.ConnectRequest(**CONNECT), "read": lambda: m.AskRequest(question="Why? " * 100_000)}


def request_of(mode):
    return REQUESTS.get(mode, lambda: m.AskRequest(question="Why?"))()


def asking(asked, request):
    """A thread that asks, and the replies so far."""
    replies = []
    thread = threading.Thread(target=lambda: replies.extend(asked.request(request)), daemon=True)
    thread.start()
    return thread, replies


@pytest.mark.real_spawn
@pytest.mark.parametrize(
    ("mode", "patience"),
    [
        ("loads", {"WORKING": (1.0, 9.0)}),
        ("words", {"READING": (1.0, 9.0)}),
        ("answer", {"ANSWERING": 1.0}),
        ("file", {"READING": (1.0, 9.0), "ANSWERING": 0.1}),  # base has not begun to read the question
        ("read", {"READING": (1.0, 9.0)}),  # the question is more than a pipe holds
    ],
)
def test_a_worker_that_hangs_is_ended_and_the_next_request_starts_another(hanging, mode, patience):
    asked = hanging(mode, **patience)
    threads, replies = zip(*(asking(asked, request_of(mode)) for _ in range(2)), strict=True)
    for thread in threads:
        thread.join(60)
    for who, told in zip(("who asked", "who asked behind it"), replies, strict=True):
        assert "gave no sign for 1 seconds and was ended. Ask again" in str(told[-1].problems[0]), who
    if mode != "read":
        assert isinstance(asked.call(m.DeviceRequest()), m.Result), "another worker answers"


@pytest.mark.real_spawn
@pytest.mark.parametrize("mode", ["words", "answer", "loads", "read"])
def test_who_presses_stop_need_not_wait_for_a_worker_that_hangs(hanging, mode):
    asked, request = hanging(mode), request_of(mode)
    thread, replies = asking(asked, request)
    time.sleep(0.3)
    canceller = threading.Thread(target=asked.cancel, args=(request.id,), daemon=True)
    canceller.start()
    for each in (thread, canceller):
        each.join(20)
    assert "did not stop for 1 seconds" in str(replies[-1].problems[0])
    if mode != "read":
        assert isinstance(asked.call(m.DeviceRequest()), m.Result)


@pytest.mark.slow
@pytest.mark.real_spawn
def test_a_slow_worker_that_gives_signs_is_let_be_and_who_waits_behind_it_too(hanging):
    asked = hanging("late", WORKING=(4.0, 9.0))
    threads, replies = zip(*(asking(asked, m.DeviceRequest()) for _ in range(2)), strict=True)
    for thread in threads:
        thread.join(60)
    one, other = (told[-1] for told in replies)
    assert one.value == other.value, "one worker answered both"


@pytest.mark.real_spawn
def test_a_worker_that_nobody_asks_anything_may_be_silent(hanging):
    asked = hanging("idle", WORKING=(1.0, 1.0))
    first = asked.call(m.DeviceRequest())
    time.sleep(2)
    assert asked.call(m.DeviceRequest()).value == first.value, "the same worker"


@pytest.mark.real_spawn
@pytest.mark.parametrize("missing", ["process", "reaper", "reader", "watcher"])
def test_where_no_worker_can_be_started_it_is_said_and_a_later_request_starts_one(hanging, monkeypatch, missing):
    asked, started = hanging("idle", READING=(0.0, 1.0)), []
    begin, make = threading.Thread.start, subprocess.Popen.__init__

    def made(process, *arguments, **options):
        if missing == "process":
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(process)
        make(process, *arguments, **options)

    def begun(thread):
        if thread._target.__name__ == {"reaper": "wait", "reader": "_read", "watcher": "_watch"}.get(missing):
            raise RuntimeError("can't start new thread")
        begin(thread)

    with monkeypatch.context() as full:
        full.setattr(subprocess.Popen, "__init__", made)
        full.setattr(threading.Thread, "start", begun)
        with pytest.raises(BadInput, match=r"^No further process can be started on this machine: .*try again later"):
            asked.call(m.AskRequest(question="Why?"))
    for child in started:
        assert child.wait(10), "nobody would read what it says"
    assert len(started) == (missing != "process")
    first = asked.call(m.DeviceRequest())
    time.sleep(0.5)
    assert asked.call(m.DeviceRequest()).value == first.value, "the same worker"
