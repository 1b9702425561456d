"""The end of a page's stream of answers, and an event that is sent in that moment."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet

import httpx
import pytest

from medcot.ui import build_app, streams
from medcot.ui.serve import Served
from tests.fakes import FakeClient

SESSION = "somebody"


class Viewer:
    """A page as Gradio's own sends its events: `first` is the one that chooses a run."""

    def __init__(self, served, event):
        self.client, self.event = httpx.Client(base_url=f"{served.url}/gradio_api", trust_env=False, timeout=60), event

    def send(self) -> str:
        sent = {"data": [], "event_data": None, "fn_index": self.event, "trigger_id": None, "session_hash": SESSION}
        return self.client.post("/queue/join", json=sent).json()["event_id"]

    def stream(self):
        return self.client.stream("GET", "/queue/data", params={"session_hash": SESSION})


@pytest.fixture
def viewer(runs_dir) -> Iterator[Viewer]:
    app = build_app(runs_dir, FakeClient())
    served = Served(app)
    viewer = Viewer(served, next(i for i, event in app.fns.items() if event.name == "first"))
    yield viewer
    viewer.client.close()
    served.close()


def completed_by(lines) -> list[str]:
    """The events that a stream answers before it ends."""
    done = []
    for line in lines:
        message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {"msg": ""}
        if message["msg"] == "process_completed":
            done.append(message["event_id"])
        if message["msg"] == "close_stream":
            break
    return done


def test_an_event_sent_while_a_stream_ends_is_confirmed_after_the_page_has_noticed(viewer, monkeypatch):
    monkeypatch.setattr(streams, "NOTICE_SECONDS", 60.0)
    first = viewer.send()
    with ThreadPoolExecutor() as pool:
        with viewer.stream() as stream:
            lines = stream.iter_lines()  # held, since httpx hangs up when they are dropped
            assert completed_by(lines) == [first]
            second = pool.submit(viewer.send)
            with pytest.raises(NotYet):
                second.result(timeout=0.5)
        confirmed = second.result(timeout=30)
    with viewer.stream() as stream:
        assert completed_by(stream.iter_lines()) == [confirmed]


def test_a_page_that_does_not_hang_up_is_not_waited_for(viewer, monkeypatch):
    monkeypatch.setattr(streams, "NOTICE_SECONDS", 0.1)
    viewer.send()
    with viewer.stream() as stream:
        lines = stream.iter_lines()
        completed_by(lines)
        assert viewer.send()
