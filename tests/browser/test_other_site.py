"""Another web site in the browser of somebody who has the page open, its cookie included: it reads and does nothing."""

import http.server
import threading
import time

import httpx
import pytest

from medcot.ui import build_app
from medcot.ui.serve import Served
from tests.fakes import FakeClient

pytestmark = pytest.mark.slow
TOKEN = "the-token-of-this-page"
TRIES = """async url => {
  const tried = {};
  const upload = new FormData();
  upload.append("files", new Blob(["{}"]), "q.jsonl");
  const join = {method: "POST", headers: {"Content-Type": "text/plain"}, body: '{"fn_index": 0, "data": []}'};
  const requests = {
    config: ["/config", {}],
    upload: ["/gradio_api/upload", {method: "POST", body: upload}],
    join: ["/gradio_api/queue/join", join],
    json: ["/gradio_api/queue/join", {...join, headers: {"Content-Type": "application/json"}}],
    logout: ["/logout", {}],
  };
  for (const [name, [path, options]] of Object.entries(requests)) {
    for (const mode of ["cors", "no-cors"]) {
      const sent = fetch(url + path, {...options, mode, credentials: "include"});
      tried[`${name} ${mode}`] = await sent.then(answer => answer.type, error => "refused");
    }
  }
  tried.events = await new Promise(done => {
    const heard = new EventSource(url + "/gradio_api/heartbeat/x", {withCredentials: true});
    heard.onmessage = () => done("heard");
    heard.onerror = () => done("refused");
  });
  const frame = document.createElement("iframe");
  frame.src = url;
  document.body.append(frame);
  await new Promise(done => frame.onload = done);
  return tried;
}"""


@pytest.fixture
def elsewhere():
    """The port of an empty page of another origin."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title><body>")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture(params=["token", "login", "neither"])
def served(request, runs_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    ways = {"token": {"token": TOKEN}, "login": {"auth": ("ada", "a-long-password")}, "neither": {}}
    page = Served(build_app(runs_dir, FakeClient()), **ways[request.param])
    yield page
    page.close()


def test_it_reads_nothing_sends_nothing_and_shows_no_frame(chromium, served, elsewhere, tmp_path):
    context = chromium.new_context()
    own = context.new_page()
    own.goto(served.address)
    if own.get_by_label("password").count():
        sent = httpx.post(f"{served.url}/login", data={"username": "ada", "password": "a-long-password"})
        for name, value in sent.cookies.items():
            context.add_cookies([{"name": name, "value": value, "url": served.url}])
    for name in ("127.0.0.1", "localhost"):  # another port of this host, and another name
        refused_all(context, served, f"http://{name}:{elsewhere}", tmp_path)
    context.close()


def refused_all(context, served, elsewhere, tmp_path):
    theirs = context.new_page()
    asked = []
    theirs.on("response", lambda answer: asked.append((answer.url, answer.status)))
    theirs.goto(elsewhere)
    tried = theirs.evaluate(TRIES, served.url)
    # What a script of another site cannot look into is "opaque": that nothing came of it is seen by its status.
    assert set(tried.values()) <= {"refused", "opaque"}
    reached = [(url, status) for url, status in asked if url.startswith(served.url) and url.rstrip("/") != served.url]
    assert {status for _, status in reached} == {403}
    assert list((tmp_path / "uploads").rglob("q.jsonl")) == []
    deadline = time.monotonic() + 30  # the frame may not have asked yet
    while not (frame := theirs.frames[1]).url and time.monotonic() < deadline:
        theirs.wait_for_timeout(50)
    assert frame.url == "chrome-error://chromewebdata/"
