"""Base and tuned as two models of a server, through the service worker's own way of answering."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from medcot.errors import BadInput
from medcot.prompts.contract import Exchange, PromptContract
from medcot.settings.evaluation import EndpointSettings
from medcot.workers import protocol as m

CHAT = PromptContract(style="chat", system=None, template_hash=None, eos_id=-1, eos_token="")


class Handler(BaseHTTPRequestHandler):
    """Lists models b and t, and streams each its own words; what was asked is kept on the server object."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._send(json.dumps({"data": [{"id": "b"}, {"id": "t"}]}).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        if self.server.fails == body["model"]:
            self.send_error(500, "broken")
            return
        words = ["<think>", f"of {body['model']}", "</think>", "<response>", "so", "</response>"]
        lines = [json.dumps({"choices": [{"delta": {"content": w}}]}) for w in words]
        end = json.dumps({"choices": [{"delta": {}, "finish_reason": "length"}]})
        self._send("".join(f"data: {line}\n\n" for line in [*lines, end, "[DONE]"]).encode())

    def _send(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.fails = [], ""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def pair(server, base="b", tuned="t"):
    from medcot.engine.answer.chat import ServerPair

    return ServerPair(EndpointSettings(url=f"http://127.0.0.1:{server.server_port}", base=base, tuned=tuned), CHAT)


def ask(**more):
    return m.AskRequest(id="1", question="Why?", max_new_tokens=9, **more)


def test_both_models_are_asked_at_once_each_after_its_own_history(server):
    pieces = ["", ""]

    def send(piece):
        pieces[0] += piece.base
        pieces[1] += piece.tuned
        assert piece.tokens_per_second > 0
        assert set(piece.tokens) == {"base", "tuned"}

    said = Exchange("First?", "words")
    found = pair(server).answer(ask(tuned_history=[said]), send, lambda: False)
    assert (found["base"].reasoning, found["tuned"].reasoning) == ("of b", "of t")
    assert (found["base"].answer, found["base"].ended, found["base"].tokens) == ("so", "limit", 6)
    assert found["tuned"].text.startswith(pieces[1])
    assert 0 < found["tuned"].first_token_seconds <= found["tuned"].seconds
    lengths = {body["model"]: len(body["messages"]) for body in server.asked}
    assert lengths == {"b": 1, "t": 3}


def test_a_cancelled_answer_and_a_broken_server_end_in_words(server):
    stopped = pair(server).answer(ask(), lambda *_: None, lambda: True)
    assert {a.ended for a in stopped.values()} == {"stopped"}
    server.fails = "t"
    with pytest.raises(BadInput, match="HTTP 500"):
        pair(server).answer(ask(), lambda *_: None, lambda: False)


@pytest.mark.timeout(60)
def test_a_fault_while_listening_ends_the_answer_and_blocks_nobody(server, monkeypatch):
    asked = pair(server)

    def stream(*_):
        yield "so"
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(asked.endpoint, "stream", stream)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        asked.answer(ask(), lambda *_: None, lambda: False)


def test_a_model_that_the_server_has_not_is_refused_before_anything_is_asked(server):
    with pytest.raises(BadInput, match="serves no model 'x'"):
        pair(server, tuned="x")
    assert server.asked == []


def test_the_worker_connects_without_taking_the_device(server, runs_dir):
    from medcot.workers.client import ServiceClient
    from medcot.workers.slot import Slot

    runs_dir.mkdir(parents=True)
    client = ServiceClient(runs_dir)
    try:
        named = EndpointSettings(url=f"http://127.0.0.1:{server.server_port}", base="b", tuned="t")
        *_, loaded = client.request(m.ConnectRequest(name="n", endpoint=named))
        assert isinstance(loaded, m.Loaded)
        assert (loaded.run, loaded.remote, loaded.follow_ups) == ("n", True, True)
        assert client.loaded == loaded
        slot = Slot(runs_dir)
        assert slot.try_acquire("a job")
        slot.release()
        *_, answered = client.request(m.AskRequest(question="Why?"))
        assert answered.tuned.answer == "so"
    finally:
        client.close()
