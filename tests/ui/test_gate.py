"""What stands before Gradio, by raw requests: names, other sites, routes that are not ours, and words that must go."""

import json
import time

import httpx
import pytest

from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.ui import build_app, sessions, thrift
from medcot.ui.gate import ROUTES, names_of
from medcot.ui.serve import Served
from medcot.ui.sessions import when_closed
from tests.browser.conftest import wait_until
from tests.fakes import FakeClient, write_run
from tests.ui.test_guard import SPACE

ROUTES_OF_OTHERS = (
    "/gradio_api/deep_link?session_hash=x",
    "/gradio_api/runs",
    "/gradio_api/dev/reload",
    "/gradio_api/openapi.json",
    "/gradio_api/stream/a/b/1/playlist.m3u8",
    "/gradio_api/proxy=http://127.0.0.1",
    "/monitoring",
    "/monitoring/summary",
    "/docs",
    "//gradio_api/deep_link?session_hash=x",
    "/gradio_api/queue/../deep_link",
)


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    return tmp_path_factory.mktemp("gate")


@pytest.fixture(scope="module")
def app(state):
    return build_app(state / "runs", FakeClient(base="Base.", tuned="Tuned."))


@pytest.fixture(scope="module")
def served(app, state):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(state / "gradio"))
        page = Served(app, allow_hosts=["medcot.example"])
        yield page
        page.close()


def get(served, path="/", **headers):
    return httpx.get(served.url + path, headers=headers, trust_env=False, timeout=60)


def test_a_page_answers_to_its_own_names_and_to_addresses(served):
    port = served.url.rpartition(":")[2]
    for name in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", "192.0.2.7", "MEDCOT.example", "localhost"):
        assert get(served, Host=name).status_code == 200, name
    for name in (f"evil.example:{port}", "localhost.evil.example", "medcot.example.evil", "[", ""):
        refused = get(served, "/theme.css", Host=name)
        assert refused.status_code == 403, name
        assert "does not answer to the name" in refused.text
    assert "Start it with --allow-host evil.example" in get(served, Host="evil.example").text


def test_a_page_for_others_answers_to_this_machines_names_too():
    import socket

    assert names_of("127.0.0.1") == {"127.0.0.1", "localhost", "::1"}
    assert {socket.gethostname().lower(), "0.0.0.0", "b.example"} <= names_of("0.0.0.0", ["B.example", " "])


OTHERS = (
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    {"Origin": "http://["},
)


@pytest.mark.parametrize("headers", OTHERS, ids=str)
def test_another_site_reads_nothing_and_sends_nothing(served, headers):
    client = httpx.Client(base_url=served.url, headers=headers, trust_env=False, timeout=60)
    asked = [
        client.post("/gradio_api/upload", files={"files": ("q.jsonl", b"{}")}),
        client.post("/gradio_api/queue/join", json={"fn_index": 0, "data": [], "session_hash": "s"}),
        client.get("/config"),
        client.get("/gradio_api/heartbeat/s"),
        client.get("/gradio_api/queue/data?session_hash=s"),
        client.get("/logout"),
        client.post("/login", data={"username": "a", "password": "b"}),
        client.options("/config", headers={"Access-Control-Request-Method": "GET"}),
        client.get("/", headers={"Sec-Fetch-Mode": "cors"}),
    ]
    for answer in asked:
        assert answer.status_code == 403, answer.request.url
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_page_itself_programs_and_links_are_let_in(served):
    own = {"Sec-Fetch-Site": "same-origin", "Origin": served.url}
    assert get(served, "/config", **own).status_code == 200
    assert get(served, "/config", Origin=served.url).status_code == 200
    assert get(served, "/config").status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert get(served, **link).status_code == 200
    behind_tls = {"Host": "medcot.example", "Origin": "https://medcot.example"}
    found = get(served, "/config", **behind_tls)
    assert found.status_code == 200
    assert not [name for name in found.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ROUTES_OF_OTHERS)
def test_routes_that_are_not_ours_are_not_there(served, path):
    # As it stands: httpx would take the dots out.
    import socket

    with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2]))) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert raw.recv(100).startswith(b"HTTP/1.1 404")


def test_every_route_that_the_page_needs_is_there(served):
    needed = ("/", "/config", "/theme.css", "/favicon.ico", "/gradio_api/info", "/gradio_api/startup-events")
    assert [path for path in needed if get(served, path).status_code != 200] == []
    assert ROUTES.fullmatch("/assets/index-1.js")


def test_each_answer_forbids_frames_of_others_and_guesses_of_types(served):
    for path in ("/", "/theme.css", "/nowhere"):
        headers = get(served, path).headers
        assert headers["content-security-policy"] == "frame-ancestors 'self'"
        assert headers["x-frame-options"] == "SAMEORIGIN"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


def test_what_tells_of_runs_or_was_typed_is_in_no_cache(served):
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/heartbeat/x", "/nowhere"):
        with httpx.stream("GET", served.url + path, trust_env=False, timeout=60) as found:
            assert "no-store" in found.headers["cache-control"] or "no-cache" in found.headers["cache-control"], path
    for path in ("/theme.css", "/favicon.ico"):
        assert "no-store" not in get(served, path).headers.get("cache-control", "")


@pytest.mark.parametrize("told", [True, False], ids=["by its length", "in pieces"])
@pytest.mark.parametrize(
    "path",
    ["queue/join", "cancel", "reset", "run/list_runs", "api/list_runs", "call/list_runs", "call/v2/x", "../login"],
)
def test_a_request_may_be_as_long_as_the_page_needs_and_no_longer(served, path, told):
    def status(size):
        body = json.dumps({"fn_index": 0, "data": ["x" * size], "session_hash": "s", "event_id": "e"}).encode()
        pieces = body if told else (body[n : n + 100_000] for n in range(0, len(body), 100_000))
        address = served.url + ("/login" if path == "../login" else f"/gradio_api/{path}")
        kind = "x-www-form-urlencoded" if path == "../login" else "json"
        headers = {"Content-Type": f"application/{kind}"}
        return httpx.post(address, content=pieces, headers=headers, trust_env=False, timeout=60)

    refused = status(1_000_000)
    assert (refused.status_code, "may have 1,000,000 bytes" in refused.text) == (413, True)
    assert status(900_000).status_code != 413


def test_the_page_calls_itself_by_its_own_name_and_comes_compressed(served):
    found = get(served)
    assert "<title>medcot</title>" in found.text
    assert 'property="og:title" content="medcot"' in found.text
    for of_others in ("Click to try out the app!", 'content="Gradio"', "@Gradio", "raw.githubusercontent.com"):
        assert of_others not in found.text
    assert found.headers["content-encoding"] == "gzip"
    assert "<svg" in get(served, "/favicon.ico").text


def ask(served, session, question, *, name):
    """Load the page in a session, as a tab does, and send a question; returns how that ended."""
    config = get(served, "/config").json()
    names = {c["id"]: c["props"].get("elem_id") or c["props"].get("value") for c in config["components"]}
    values = {c["id"]: c["props"].get("value") for c in config["components"]}
    given = {"run": name, "chat-model": name, "question": question}

    def events(wanted, component=None):
        for event in config["dependencies"]:
            if any(kind == wanted and (component is None or names.get(i) == component) for i, kind in event["targets"]):
                yield event

    def sent(event):
        data = [given.get(names.get(i), values[i]) for i in event["inputs"]]
        return {"fn_index": event["id"], "data": data, "session_hash": session}

    def post(path, body):
        answer = httpx.post(f"{served.url}/gradio_api/{path}", json=body, trust_env=False, timeout=60)
        assert answer.status_code == 200

    (look,) = events("click", "look")
    for event in [*events("load"), look, *events("click", "ask")]:
        if event == look:  # it brings the model that can be asked
            post("run/predict", sent(look))
            continue
        post("queue/join", sent(event))
        address = f"{served.url}/gradio_api/queue/data?session_hash={session}"
        with httpx.stream("GET", address, trust_env=False, timeout=60) as told:
            ended = next(json.loads(line[5:]) for line in told.iter_lines() if "process_completed" in line)
    return ended


def test_the_words_of_a_closed_tab_are_gone_from_memory_and_in_no_file(served, app, state):
    run = write_run(RunStore(state / "runs"), RunSettings(), "finished", adapter=True)
    words, session = "patient John Smith, MRN 12345678", "closing"
    with httpx.stream("GET", f"{served.url}/gradio_api/heartbeat/{session}", trust_env=False, timeout=60) as beat:
        beats = beat.iter_raw()  # a name, since the stream ends with it
        next(beats)
        told = ask(served, session, words, name=run.id)
        assert "Not sent" in json.dumps(told)
        assert session in app.state_holder.session_data
    wait_until(lambda: session not in app.state_holder.session_data)
    time.sleep(0.5)
    assert session not in app.state_holder.session_data, "nothing that ends later brings it back"
    assert session not in app.state_holder.time_last_used
    assert [f for f in state.rglob("*") if f.is_file() and "12345678" in f.read_text(errors="replace")] == []


def test_of_closed_pages_nothing_stays_in_the_queue_or_in_what_the_page_keeps(served, app, state, monkeypatch):
    monkeypatch.setattr(sessions, "UNSENT_STAYS", 0.2)
    run, queue = write_run(RunStore(state / "runs"), RunSettings(), "finished", adapter=True), app._queue
    kept = (queue.pending_messages_per_session, queue.pending_event_ids_session, app.state_holder.session_data)
    queue.event_analytics |= {f"earlier-{number}": {} for number in range(10 * thrift.KNOWN_EVENTS)}
    for number in range(3):
        session = f"visitor-{number}"
        with httpx.stream("GET", f"{served.url}/gradio_api/heartbeat/{session}", trust_env=False, timeout=60) as beat:
            beats = beat.iter_raw()
            next(beats)
            ask(served, session, "What suggests gout?", name=run.id)
            assert all(session in each for each in kept)
    wait_until(lambda: not any(str(key).startswith("visitor-") for each in kept for key in each))
    assert not [event for event in queue.event_ids_to_events.values() if event.session_hash.startswith("visitor-")]
    assert len(queue.event_analytics) <= thrift.KNOWN_EVENTS


def test_who_sends_events_without_a_heartbeat_is_not_kept_without_end(served, app):
    most = app._queue.pending_messages_per_session.max_size
    for number in range(most + 10):
        app._queue.pending_event_ids_session[f"stranger-{number}"] = set()
    assert len(app._queue.pending_event_ids_session) == most


def test_a_stranger_who_opens_nothing_but_a_heartbeat_makes_no_session(served, app):
    made, ended = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradio.state_holder.SessionState.__init__", lambda self, blocks: made.append(self))
        when_closed(app, ended.append)
        for number in range(5):
            with httpx.stream("GET", f"{served.url}/gradio_api/heartbeat/{number}", trust_env=False) as beat:
                beats = beat.iter_raw()
                next(beats)
        wait_until(lambda: sorted(ended) == [str(number) for number in range(5)])
    assert made == []
    assert not [event for event in app.fns.values() if any(kind == "unload" for _, kind in event.targets)]


@pytest.mark.slow
def test_only_so_many_sessions_are_kept(served, app):
    for number in range(app.state_session_capacity + 5):
        app.state_holder[f"made-up-{number}"]
    assert len(app.state_holder.session_data) == app.state_session_capacity <= 200


def test_a_question_that_is_too_long_is_refused_before_any_pattern_is_tried(served, state, monkeypatch):
    tried = []
    for name in ("emergency", "identifiers"):
        monkeypatch.setattr(f"medcot.safety.{name}", tried.append)
    run = write_run(RunStore(state / "runs"), RunSettings(), "finished", adapter=True)
    told = json.dumps(ask(served, "long", "a." * 20_000, name=run.id))
    assert "has 40000 characters, and 8000 is the most" in told
    assert tried == []


@pytest.mark.parametrize("host", ["ada-medcot.hf.space", "medcot.of-ada.example"])
def test_a_space_takes_any_name_and_no_other_site(monkeypatch, runs_dir, host):
    for name, value in SPACE.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setattr(f"gradio.oauth.{name}", value, raising=False)
    space = Served(build_app(runs_dir, FakeClient()))
    try:
        own = get(space, "/config", Host=host, Origin=f"https://{host}")
        assert own.status_code == 200
        assert own.headers["content-security-policy"] == "frame-ancestors 'self' https://huggingface.co"
        assert "x-frame-options" not in own.headers
        assert get(space, "/config", Host=host, Origin="https://evil.example").status_code == 403
        back = {"Host": host, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert get(space, "/login/callback?code=x", **back).status_code != 403
    finally:
        space.close()
