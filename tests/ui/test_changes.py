"""The version of what the page shows, and the route that tells it."""

import os
import threading
import time

import httpx
import pytest

from medcot.runs import comparisons
from medcot.runs.events import Warned
from medcot.runs.job_dir import JobDir
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.ui import build_app
from medcot.ui.changes import Version
from medcot.ui.job_reader import Reader
from medcot.ui.serve import Served
from medcot.workers import protocol as m
from tests.fakes import FakeClient, write_run


@pytest.fixture
def client():
    return FakeClient()


@pytest.fixture
def store(runs_dir):
    return RunStore(runs_dir)


@pytest.fixture
def version(store, client, page):
    return Version(page.demo, Reader(store), client)


def moved(version, change):
    """Whether a change moves the version, which is at rest before and after it."""

    def settled():
        time.sleep(0.3)  # longer than a look at the folder is shared
        return version.look()

    before = settled()
    assert settled() == before
    change()
    after = settled()
    assert settled() == after
    return after != before


def test_the_version_moves_with_whatever_the_page_shows_and_rests_otherwise(version, store, client, monkeypatch):
    run = write_run(store, RunSettings(), "finished", adapter=True)
    running = write_run(store, RunSettings(), "running", pid=os.getpid())
    with monkeypatch.context() as patch:
        patch.setattr(JobDir, "worker_alive", lambda job, pid: True)
        assert moved(version, lambda: running.append(Warned(message="w")))
        assert moved(version, lambda: running.log_path.write_text("a line", encoding="utf-8"))
        assert moved(version, lambda: running.write_status("stopped"))
    assert moved(version, lambda: run.describe(name="named"))
    assert moved(version, lambda: run.new_evaluation().write_status("stopped", job="evaluate"))
    assert moved(version, lambda: comparisons.path_of(run).write_text("{}", encoding="utf-8"))
    assert moved(version, lambda: setattr(client, "loaded", m.Loaded(id="1", run="r", model="m", device="CPU")))
    assert moved(version, lambda: store.delete(running))
    assert not moved(version, lambda: None)


def test_versions_of_two_servers_are_never_the_same(page, store, client):
    assert Version(page.demo, Reader(store), client).look() != Version(page.demo, Reader(store), client).look()


def get(served, seen="", path="/changes", **kwargs):
    return httpx.get(served.url + path, params={"seen": seen}, trust_env=False, timeout=60, **kwargs)


def test_a_question_waits_for_the_next_change_and_many_learn_of_it_together(store, client):
    served = Served(build_app(store.root, client))
    try:
        seen = get(served, "another").text
        answers = []
        asking = [threading.Thread(target=lambda: answers.append(get(served, seen))) for _ in range(8)]
        for thread in asking:
            thread.start()
        time.sleep(1)
        assert answers == []
        store.create(RunSettings())
        for thread in asking:
            thread.join(30)
        assert {(a.status_code, a.headers["cache-control"]) for a in answers} == {(200, "no-store")}
        assert len({a.text for a in answers} | {seen}) == 2
        waiting = threading.Thread(target=get, args=(served, answers[0].text), daemon=True)
        waiting.start()
        time.sleep(0.5)
    finally:
        began = time.monotonic()
        served.close()
    waiting.join(30)
    assert not waiting.is_alive()
    assert time.monotonic() - began < 30


def test_only_who_may_see_the_page_is_told_of_changes(runs_dir, client):
    login = Served(build_app(runs_dir, client), auth=("ada", "a-long-password"))
    try:
        assert get(login).status_code == 401
        session = httpx.Client(base_url=login.url, trust_env=False, timeout=60)
        session.post("/login", data={"username": "ada", "password": "a-long-password"}).raise_for_status()
        assert session.get("/changes").status_code == 200
        assert get(login, headers={"Origin": "https://evil.example"}).status_code == 403
    finally:
        login.close()
    by_token = Served(build_app(runs_dir, client), token="a-token-of-the-page")
    try:
        assert get(by_token, headers={"Via": "1.1 proxy"}).status_code == 401
        authorised = {"Via": "1.1 proxy", "Authorization": "Bearer a-token-of-the-page"}
        assert get(by_token, headers=authorised).status_code == 200
    finally:
        by_token.close()
