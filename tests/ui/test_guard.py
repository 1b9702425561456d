"""On a Space: a visitor's raw request to any event that changes something is refused, its owner's is not."""

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
import time

import gradio as gr
import httpx
import pytest

from medcot.adapters import publish
from medcot.settings import RunSettings
from medcot.ui import build_app, guard
from medcot.ui.publish import PublishPanel
from medcot.ui.train.open_run import OpenRun, Parts
from medcot.ui.train.start import Start
from tests.fakes import write_run

SPACE = {
    "SPACE_ID": "ada/medcot",
    "SYSTEM": "spaces",
    "OAUTH_CLIENT_ID": "client",
    "OAUTH_CLIENT_SECRET": "secret",
    "OAUTH_SCOPES": "openid profile",
    "OPENID_PROVIDER_URL": "http://127.0.0.1:9",
}


DONE = publish.Pushed(repo="ada/x", url="https://huggingface.co/ada/x", commit="0" * 40, public=True, files=[])
AT_WORK = 10.0  # seconds; heartbeats come in between


def login(name: str, *, orgs: tuple = (), expires: float = 3600.0) -> dict:
    user = {"preferred_username": name, "orgs": [{"preferred_username": o, "roleInOrg": r} for o, r in orgs]}
    return {"userinfo": user, "expires_at": time.time() + expires, "access_token": "hf_x", "scope": "openid"}


@pytest.mark.parametrize(
    ("who", "allowed", "may"),
    [
        ({}, "", False),
        (login("ada"), "", True),
        (login("Ada"), "", True),
        (login("bob"), "", False),
        (login("bob"), "eve, bob", True),
        (login("bob", orgs=(("ada", "write"),)), "", True),
        (login("bob", orgs=(("ada", "read"),)), "", False),
        ({}, "*", True),
    ],
)
def test_who_may_act_on_a_space(monkeypatch, who, allowed, may):
    assert guard.may_act(who), "off a Space the page is one's own"
    monkeypatch.setenv("SPACE_ID", "ada/medcot")
    monkeypatch.setenv("MEDCOT_ALLOW", allowed)
    assert guard.may_act(who) is may


VISITORS_MAY = {
    "page.Page.watch.<locals>.look",
    "page.Page.lead.<locals>.show",
    "page.Page.first",
    "page.Page.take_measured",
    "side.run_list.RunList.further",
    "train.open_run.OpenRun.begin_with",
    "train.open_run.Parts.show_plan",
    "form.Form.filled_from",
    "train.start.Start.described",
    "train.start.Start.as_toml",
    "train.start.Start.left",
    "train.start.Start.opened",
    "train.start.Start.retimed",
    "train.start.Start.with_hub",
    "train.start.Start.with_starter",
    "train.plan.Plan.preview",  # which does nothing for a visitor
    "train.demo.Demo.open",
    "train.manage.Manage.fill",
    "train.manage.Manage.reuse",
    "commands.SameCommand.written",
    "train.curves.Curves.draw",
    "train.draft.Draft.restore",
    "evaluate.questions.Questions.show_kind",
    "evaluate.records.RecordList.open",
    "evaluate.records.RecordList.sort",
    "evaluate.records.RecordList.turn",
    "evaluate.take.TakePanel.show_kind",
    "evaluate.tab.EvaluateTab.open",
    "chat.beside.Beside.open",
    "chat.picker.Picker.choose",
    "chat.picker.Picker.decoding_state",
    "chat.picker.Picker.same_as_evaluation",
    "chat.tab.ChatTab.ask",
    "chat.tab.ChatTab.stop",  # of the visitor's own answer, like the next
    "chat.tab.ChatTab.clear",
    "chat.tab.ChatTab.demonstrated",
    "chat.tab.ChatTab.first_sample",
    "api.Api.runs",
    "api.Api.summary",
    "api.Api.ask",
    "gradio.components.login_button.LoginButton._check_login_status",
}


def name_of(handler) -> str:
    return f"{handler.__module__.removeprefix('medcot.ui.')}.{handler.__qualname__}"


def events_of(tmp_path, monkeypatch) -> tuple[dict, set]:
    """The page as a Space builds it: what acts, by number, with its name and inputs; and the names that are open."""
    for name, value in SPACE.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setattr(f"gradio.oauth.{name}", value, raising=False)
    (tmp_path / "runs").write_text("")
    acting, open_ = {}, set()
    for number, event in build_app(tmp_path / "runs").fns.items():
        if event.fn and guard.is_open(event.fn):
            open_.add(name_of(event.fn))
        elif event.fn:
            acting[number] = (name_of(event.fn), len(event.inputs))
    return acting, open_


def test_visitors_may_what_is_named_and_nothing_else(tmp_path, monkeypatch):
    acting, open_ = events_of(tmp_path, monkeypatch)
    assert open_ == VISITORS_MAY
    names = " ".join(name for name, _ in acting.values())
    for action in ("Start.start", "stop_training", "resume", "EvaluateTab.start", "publish"):
        assert action in names
    events = build_app(tmp_path / "runs").fns
    started_by = {how for number in acting for _, how in events[number].targets}
    assert started_by <= {"click", "upload", "submit", "then"}, "a visitor's page would be refused by itself"
    for number, (_, inputs) in acting.items():
        asked = events[number].fn
        with pytest.raises(gr.Error, match="Only the owner"):
            list(asked(*[None] * inputs))  # a generator refuses when it is first asked for something


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """The app as a Space runs it, with its own sign-in; its runs folder is a file, so that nothing can start."""
    folder = tmp_path_factory.mktemp("space")
    (folder / "runs").write_text("")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), "--runs-dir", str(folder / "runs")],
        # What its owner may start must find no network.
        env={**os.environ, **SPACE, "PIP_NO_INDEX": "1", "HF_HUB_OFFLINE": "1"},
        stdout=log,
        stderr=log,
    )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 90
    while True:
        try:
            httpx.get(f"{url}/config", timeout=5)
            break
        except httpx.HTTPError:
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
    yield url
    server.terminate()
    server.wait()


def cookie(who: dict) -> dict[str, str]:
    """The signed session of somebody who has signed in, as gradio's own middleware writes it."""
    import itsdangerous

    key = hashlib.sha256((SPACE["OAUTH_CLIENT_SECRET"] + "-v4").encode()).hexdigest()
    content = base64.b64encode(json.dumps({"oauth_info": who}).encode())
    return {"session": itsdangerous.TimestampSigner(key).sign(content).decode()}


def post(url: str, event: int, data: list, who: dict | None) -> str:
    """A raw request to the queue for an event, past the page; returns how it ended, as text."""
    session = f"s{event}{'o' if who else 'v'}"
    asked = {"fn_index": event, "data": data, "session_hash": session}
    # The cookie is only sent over https, as on a Space; here it is put into the header by hand.
    headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in cookie(who).items())} if who else {}
    joined = httpx.post(f"{url}/gradio_api/queue/join", json=asked, headers=headers, timeout=30)
    assert joined.status_code == 200, joined.text
    address = f"{url}/gradio_api/queue/data?session_hash={session}"
    with httpx.stream("GET", address, timeout=60, headers=headers) as told:
        started = None
        for line in told.iter_lines():
            if '"process_completed"' in line:
                return line
            started = started or (time.monotonic() if '"process_starts"' in line else None)
            if started and time.monotonic() - started > AT_WORK:
                return "at work"  # a refusal is the first thing that a function does
    raise AssertionError("no end")


@pytest.mark.slow
def test_every_raw_request_that_changes_something_is_refused_to_visitors_and_done_for_the_owner(
    space, tmp_path, monkeypatch
):
    acting, _ = events_of(tmp_path, monkeypatch)
    refused = json.dumps(guard.refusal())
    page = httpx.get(f"{space}/config").json()
    # What the page itself would send, untouched, so that a request gets as far as the function.
    values = {component["id"]: component["props"].get("value") for component in page["components"]}
    served = {event["id"]: [values.get(i) for i in event["inputs"]] for event in page["dependencies"]}
    for number, (name, inputs) in acting.items():
        data = served[number]
        assert len(data) == inputs
        assert refused in post(space, number, data, None), f"{name} is open to visitors"
        assert refused in post(space, number, data, login("ada", expires=-1)), f"{name} is open to old logins"
        assert refused not in post(space, number, data, login("ada")), f"{name} is closed to the owner"


@pytest.mark.slow
def test_the_page_says_what_visitors_may_and_that_runs_will_vanish(space):
    page = json.dumps(httpx.get(f"{space}/config").json())
    assert "Visitors read results and chat" in page
    assert "lost when this Space restarts" in page
    assert "Sign in" in page


def test_a_space_publishes_with_nobodys_token_but_a_visitors_own(monkeypatch, page):
    """Its HF_TOKEN is its owner's, whomever MEDCOT_ALLOW lets in."""
    pushed = []
    monkeypatch.setattr(publish, "publish", lambda *_, **named: pushed.append(named["secrets"]) or DONE)
    run = write_run(page.store, RunSettings(), "finished", adapter=True)
    given = (run.id, "ada/x", "", True)
    with page.demo:
        panel = PublishPanel(page)

    def told(token):
        return list(panel.publish(*given, token, None))[-1][panel.result]

    assert "Published" in told("")
    monkeypatch.setenv("SPACE_ID", "ada/medcot")
    monkeypatch.setenv("MEDCOT_ALLOW", "*")
    assert "Hub token</strong>: is empty, and nobody is signed in." in told(" ")
    assert "Published" in told("hf_typed")
    assert pushed == [None, {"HF_TOKEN": "hf_typed"}]


def test_the_form_is_closed_to_a_visitor_who_is_told_why(page, monkeypatch):
    with page.demo:
        parts = Parts(gr.Tabs())
        start = Start(page, OpenRun(page), parts)
    assert start.begin not in start.opened(gr.Request())
    monkeypatch.setenv("SPACE_ID", "ada/medcot")
    monkeypatch.setenv("OAUTH_CLIENT_ID", "client")
    view = start.opened(gr.Request())
    assert "Only the owner of this Space may do this" in view[start.closed]
    assert [view[button]["interactive"] for button in (start.begin, start.check, start.upload)] == [False] * 3
