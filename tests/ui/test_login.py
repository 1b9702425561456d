"""Who is let in: the token of a page on this machine, the password of a page for others, and how often it is tried."""

import os
import re
import shutil
import socket
import subprocess
import threading

import httpx
import pytest
from gradio_client import Client

from medcot.errors import BadInput
from medcot.ui import build_app, login
from medcot.ui.login import Attempts, credentials, token_for
from medcot.ui.serve import Served
from medcot.ui.sessions import when_closed
from tests.fakes import FakeClient

SECRET = "a-long-password"
TOKEN = "the-token-of-this-page"


# ---- what the page is started with


def test_a_page_that_others_can_reach_demands_a_login(monkeypatch):
    assert credentials("127.0.0.1", None) is None
    assert credentials("0.0.0.0", f"ada:a:{SECRET}") == ("ada", f"a:{SECRET}")
    for host, auth in (("0.0.0.0", None), ("192.0.2.7", None), ("127.0.0.1", "ada"), ("127.0.0.1", ":x")):
        with pytest.raises(BadInput):
            credentials(host, auth)
    monkeypatch.setenv("SPACE_ID", "a/b")
    assert credentials("0.0.0.0", None) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "medcot.example"])
def test_a_short_password_is_refused_where_others_can_try_theirs(host):
    with pytest.raises(BadInput, match="the password has 11 characters, and others can try theirs"):
        credentials(host, "ada:elevencharz")
    assert credentials(host, "ada:twelve-chars") == ("ada", "twelve-chars")
    assert credentials("127.0.0.1", "ada:short") == ("ada", "short")


@pytest.mark.parametrize("held", [f"ada:{SECRET}", f"ada:{SECRET}\n", f"ada:{SECRET}\r\n", f"\ufeffada:{SECRET}\n"])
def test_name_and_password_may_come_from_a_file(monkeypatch, tmp_path, held):
    (tmp_path / "auth").write_bytes(held.encode())
    monkeypatch.setenv("MEDCOT_AUTH_FILE", str(tmp_path / "auth"))
    assert credentials("0.0.0.0", None) == ("ada", SECRET)
    assert credentials("0.0.0.0", f"bob:{SECRET}") == ("bob", SECRET), "what is said in so many words goes before it"


@pytest.mark.parametrize("held", [None, b"", b"\n", b"ada", b"ada:", b":x", b"ada:short", b"\xff\xfe"])
def test_a_file_that_holds_no_login_is_named(monkeypatch, tmp_path, held):
    if held is not None:
        (tmp_path / "auth").write_bytes(held)
    monkeypatch.setenv("MEDCOT_AUTH_FILE", str(tmp_path / "auth"))
    with pytest.raises(BadInput, match="MEDCOT_AUTH_FILE"):
        credentials("0.0.0.0", None)


def test_a_page_without_a_login_has_a_token_unless_it_is_not_wanted(monkeypatch):
    assert len({token_for(None) for _ in range(10)}) == 10
    assert all(re.fullmatch(r"[\w-]{32}", token_for(None)) for _ in range(10))
    assert token_for(None, wanted=False) is None
    assert token_for(("ada", SECRET)) is None
    monkeypatch.setenv("MEDCOT_TOKEN", TOKEN)
    assert token_for(None) == TOKEN
    monkeypatch.setenv("SPACE_ID", "a/b")
    assert token_for(None) is None


@pytest.mark.parametrize("chosen", ["", "short", "a b c d e f g h", "äääääääääääääää", "a;b,c=d&e?f/g#h", "x" * 11])
def test_a_token_that_is_soon_guessed_or_fits_no_address_is_refused(monkeypatch, chosen):
    monkeypatch.setenv("MEDCOT_TOKEN", chosen)
    with pytest.raises(BadInput, match="MEDCOT_TOKEN"):
        token_for(None)


# ---- the token


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    page = Served(build_app(tmp_path_factory.mktemp("token") / "runs", FakeClient()), token=TOKEN)
    yield page
    page.close()


@pytest.fixture
def strange(monkeypatch):
    """Every connection comes from another account of this machine."""
    monkeypatch.setattr(login, "account_of", lambda client, server: os.getuid() + 1)


def client_of(page, **options):
    return httpx.Client(base_url=page.url, trust_env=False, timeout=60, **options)


WRONG = (
    {},
    {"params": {"token": "wrong"}},
    {"params": {"token": ""}},
    {"params": {"token": TOKEN[:-1]}},
    {"headers": {"Authorization": f"Bearer {TOKEN}x"}},
    {"headers": {"Authorization": "Basic YTpi"}},
    {"headers": {"Authorization": b"Bearer \xfc"}},
    {"cookies": {"medcot-token-1": TOKEN}},
)


@pytest.mark.parametrize("given", WRONG, ids=str)
def test_without_the_token_nothing_is_told_and_nothing_done(guarded, strange, given):
    with client_of(guarded, **given) as client:
        asked = [
            client.get("/"),
            client.get("/config"),
            client.get("/theme.css"),
            client.get("/favicon.ico"),
            client.get("/gradio_api/info"),
            client.get("/gradio_api/heartbeat/s"),
            client.get("/gradio_api/queue/data?session_hash=s"),
            client.post("/gradio_api/queue/join", json={"fn_index": 0, "data": [], "session_hash": "s"}),
            client.post("/gradio_api/upload", files={"files": ("q.jsonl", b"{}")}),
            client.get("/nowhere"),
        ]
    assert {answer.status_code for answer in asked} == {401}
    page, *others = asked
    assert "The address that medcot printed when it was started holds it" in page.text
    assert 'name="token"' in page.text
    assert ("That is not this page" in page.text) == bool(given.get("params", {}).get("token"))
    assert all("Authorization: Bearer TOKEN" in answer.text for answer in others)
    assert TOKEN not in "".join(answer.text for answer in asked)


def status_for_account(address: str, account: int) -> str:
    """The HTTP status that a program of an account of this machine gets."""
    asking = "import sys, urllib.request as r; r.urlopen(sys.argv[1])"
    asked = subprocess.run(  # in a Python without this environment, which another account may not be able to read
        ["/usr/bin/env", "python3", "-I", "-c", asking, address],
        user=account,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return "200" if asked.returncode == 0 else re.findall(r"HTTP Error (\d+)", asked.stderr)[0]


def test_the_account_that_serves_the_page_needs_no_token_on_this_machine(guarded):
    with client_of(guarded) as client:
        assert client.get("/config").json()["title"] == "medcot"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
def test_what_a_proxy_of_this_account_hands_on_needs_the_token(guarded, header):
    with client_of(guarded, headers={header: "203.0.113.9"}) as client:
        assert client.get("/config").status_code == 401
    with client_of(guarded, headers={"Host": "192.0.2.7"}) as client:
        assert client.get("/config").status_code == 401


@pytest.mark.skipif(os.getuid() != 0, reason="only root may start a program of another account")
@pytest.mark.skipif(not shutil.which("python3"), reason="no Python that every account can start")
def test_another_account_of_this_machine_needs_the_token(guarded):
    assert status_for_account(f"{guarded.url}/config", 0) == "200"
    assert status_for_account(f"{guarded.url}/config", 65534) == "401"
    assert status_for_account(f"{guarded.url}/config?token={TOKEN}", 65534) == "200"


def test_where_the_system_does_not_tell_whose_a_connection_is_the_token_is_needed(guarded, monkeypatch):
    monkeypatch.setattr(login, "account_of", lambda client, server: None)
    with client_of(guarded) as client:
        assert client.get("/config").status_code == 401


def test_the_address_lets_in_once_and_a_cookie_from_then_on(guarded, strange):
    with client_of(guarded) as client:
        first = client.get(f"/?token={TOKEN}&__theme=dark")
        assert (first.status_code, first.headers["location"]) == (303, "./?__theme=dark")
        cookie = first.headers["set-cookie"]
        assert re.fullmatch(rf"medcot-token-\d+={TOKEN}; HttpOnly; Path=/; SameSite=strict", cookie)
        assert client.get("/").status_code == 200
        assert client.get("/config").json()["title"] == "medcot"
    assert httpx.get(guarded.address, trust_env=False).headers["location"] == "./"


def test_a_program_sends_the_token_in_the_query_or_as_a_header(guarded, strange):
    with client_of(guarded, params={"token": TOKEN}) as client:
        assert client.get("/config").status_code == 200
    program = Client(guarded.url, headers={"Authorization": f"Bearer {TOKEN}"}, verbose=False)
    assert program.predict(api_name="/list_runs") == []
    program.close()


def test_another_site_is_refused_also_with_the_token(guarded):
    with client_of(guarded, headers={"Origin": "https://evil.example"}, params={"token": TOKEN}) as client:
        assert client.get("/config").status_code == 403


# ---- the password


@pytest.fixture
def locked(runs_dir):
    page = Served(build_app(runs_dir, FakeClient()), auth=("ada", SECRET))
    yield page
    page.close()


def log_in(page, password, name="ada"):
    with client_of(page) as client:
        return client.post("/login", data={"username": name, "password": password})


def test_before_the_login_no_session_is_made_and_after_it_all_is_there(locked):
    with client_of(locked) as client:
        for path in ("/gradio_api/heartbeat/s", "/config", "/gradio_api/info"):
            assert client.get(path).status_code == 401, path
        for path in ("/gradio_api/cancel", "/gradio_api/reset", "/gradio_api/reset/"):
            assert client.post(path, json={"session_hash": "s", "event_id": "e"}).status_code == 401, path
        assert client.get("/").status_code == 200, "the login page"
        client.cookies = log_in(locked, SECRET).cookies
        with client.stream("GET", "/gradio_api/heartbeat/s") as beat:
            assert beat.status_code == 200
            beats = beat.iter_raw()
            assert b"ALIVE" in next(beats)
        assert client.get("/config").status_code == 200
    program = Client(locked.url, auth=("ada", SECRET), verbose=False)
    assert program.predict(api_name="/list_runs") == []
    program.close()


def test_nobody_without_a_login_ends_the_session_of_somebody_else(locked):
    ended = []
    when_closed(locked._app, ended.append)
    with client_of(locked) as client:
        assert client.get("/gradio_api/heartbeat/somebodys").status_code == 401
    assert ended == []


def test_many_guesses_at_once_are_refused_in_words_and_each_failure_is_logged(locked, monkeypatch, caplog):
    monkeypatch.setattr(Attempts, "PATIENCE", 0.5)
    seen = []
    threads = [threading.Thread(target=lambda n=n: seen.append(log_in(locked, f"guess {n}"))) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in seen if answer.status_code == 429]
    assert len(refused) >= 10
    assert all("Try again in" in answer.text and int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert len([r for r in caplog.records if "A login from 127.0.0.1" in r.message]) == 20
    assert "guess" not in caplog.text, "what was typed may be another password"


def test_a_few_mistakes_cost_nothing(locked):
    for _ in range(3):
        assert log_in(locked, "mistyped").status_code == 400
    assert log_in(locked, SECRET).status_code == 200


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def attempts(clock):
    return Attempts(clock)


def test_the_delay_grows_with_each_failure_of_a_client_and_has_an_end(attempts, clock):
    waits = []
    for _ in range(14):
        waits.append(attempts.begin("a"))
        clock.now += waits[-1]
    assert waits[:9] == [0, 0, 0, 0, 0, 0, 1, 2, 4]
    assert max(waits) <= 60
    assert attempts.begin("b") < 1.1, "another client's are its own"


def test_attempts_in_one_moment_wait_for_one_another(attempts):
    assert [attempts.begin("a") for _ in range(10)] == [0, 0, 0, 0, 0, 0, 1, 3, 7, 15]
    assert attempts.begin("a") == 15, "what is refused makes nobody wait longer"


def test_clients_without_number_are_slowed_together_and_not_remembered_without_end(attempts, clock):
    tried = sum(attempts.begin(f"client {n}") <= attempts.PATIENCE for n in range(5000))
    assert tried <= 50 + 1 + attempts.PATIENCE
    for n in range(5000):
        clock.now += 1
        attempts.begin(f"later {n}")
    assert len(attempts._failed) <= attempts.MOST


def test_a_success_and_a_quiet_quarter_of_an_hour_forget(attempts, clock):
    for _ in range(7):
        attempts.begin("a")
    attempts.succeed("a")
    assert attempts.begin("a") == 0
    for _ in range(8):
        attempts.begin("a")
    clock.now += 10_000
    assert attempts.begin("a") == 0
    assert attempts.failures("a") == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_whose_a_connection_is_is_told_while_it_stands(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        try:
            listening.bind((host, 0))
        except OSError:
            pytest.skip(f"this machine has no {host}")
        listening.listen()
        server = listening.getsockname()[:2]
        with socket.create_connection(server) as client:
            accepted, address = listening.accept()
            with accepted:
                assert login.account_of(address[:2], server) == os.getuid()
                client.shutdown(socket.SHUT_WR)
                assert login.account_of(address[:2], server) is None, "an end that is closing is not its account's"
    assert login.account_of(address[:2], server) is None
    assert login.account_of(("not an address", 1), server) is None
