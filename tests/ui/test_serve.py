"""What the process holds, how many it serves at once, and what it says when it ends."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import gradio as gr
import httpx
import pytest

from medcot import ui
from medcot.errors import BadInput
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.ui import serve
from medcot.ui.serve import Served, farewell, server_of
from medcot.ui.theme import CONTRASTS, CSS, PALETTE, theme
from tests.browser.conftest import wait_until
from tests.fakes import FakeClient, write_run


def test_bad_arguments_end_with_words_and_code_2(runs_dir):
    done = subprocess.run(
        [sys.executable, "app.py", "--host", "0.0.0.0", "--runs-dir", str(runs_dir)],
        capture_output=True,
        text=True,
        timeout=60,
        env={k: v for k, v in os.environ.items() if k != "SPACE_ID"},
    )
    assert done.returncode == 2
    assert "--auth USER:PASSWORD" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_page_prints_the_address_that_lets_in_and_leaves_nothing_when_it_is_told_to_end(runs_dir, tmp_path):
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path / "uploads")}
    command = [sys.executable, "app.py", "--port", "0", "--runs-dir", str(runs_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as page:
        address = page.stdout.readline().split()[0]
        with httpx.Client(trust_env=False, timeout=60) as viewer:
            elsewhere = {"X-Forwarded-For": "203.0.113.9"}  # this account needs no token for itself
            assert viewer.get(address.partition("?")[0], headers=elsewhere).status_code == 401
            assert viewer.get(address, follow_redirects=True).status_code == 200
            upload = viewer.post(address.replace("/?", "/gradio_api/upload?"), files={"files": ("q.jsonl", b"{}")})
            assert Path(upload.json()[0]).is_file()
        page.send_signal(signal.SIGTERM)
        assert page.wait(60) == 0
    assert [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()] == []


def test_the_page_process_loads_no_model_library():
    code = (
        "import sys, medcot.ui.serve; from pathlib import Path; medcot.ui.build_app(Path('nowhere')); "
        "print([m for m in ('torch', 'transformers', 'evaluate', 'trl', 'peft', 'medcot.engine', 'medcot.cli') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_nothing_is_stored_reported_or_published(monkeypatch):
    arguments = {}
    monkeypatch.setattr(gr, "mount_gradio_app", lambda web, page, **given: arguments.update(given))
    ui.mount(None, gr.Blocks())
    for name in ("run_history", "enable_monitoring", "ssr_mode", "mcp_server", "show_error", "pwa"):
        assert arguments[name] is False


@pytest.mark.parametrize(("seconds", "closed"), [(1, False), (3600, True)])
def test_an_upload_that_no_run_keeps_goes_after_a_while_and_at_the_latest_with_the_page(
    runs_dir, tmp_path, monkeypatch, seconds, closed
):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(ui, "UPLOADS_STAY", seconds)
    served = Served(ui.build_app(runs_dir, FakeClient()))
    try:
        sent = httpx.post(f"{served.url}/gradio_api/upload", files={"files": ("q.jsonl", b"{}")}, trust_env=False)
        [path] = sent.json()
        assert Path(path).read_bytes() == b"{}"
        deadline = time.monotonic() + 60
        while not closed and Path(path).exists():
            assert time.monotonic() < deadline, "it is still there"
            time.sleep(0.2)
    finally:
        served.close()
    assert not Path(path).exists()


def test_beyond_the_most_connections_the_page_says_that_it_is_busy_and_comes_back(runs_dir, monkeypatch):
    monkeypatch.setattr(serve, "MOST_CONNECTIONS", 8)
    served = Served(ui.build_app(runs_dir, FakeClient()))

    def status():
        with httpx.Client(trust_env=False, timeout=30) as client:
            return client.get(f"{served.url}/theme.css").status_code

    try:
        with contextlib.ExitStack() as idle:
            for _ in range(20):
                idle.enter_context(socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2]))))
            wait_until(lambda: status() == 503)
        wait_until(lambda: status() == 200)
    finally:
        served.close()


def test_the_limit_of_open_files_is_raised_as_far_as_it_may():
    told = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({}, {})); from medcot import machine; "
    told += "print(machine.open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    for soft, hard, raised in ((64, 256, 256), (64, 64, 64), (256, 4096, 4096)):
        command = [sys.executable, "-c", told.format(soft, hard)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.split() == [str(raised), str(raised), str(hard)]


def test_the_end_names_the_jobs_that_go_on(runs_dir, monkeypatch):
    monkeypatch.setattr("medcot.runs.job_dir.JobDir.worker_alive", lambda self, pid: pid == os.getpid())
    store = RunStore(runs_dir)
    write_run(store, RunSettings(), "finished")
    assert farewell(runs_dir) == ""
    run = write_run(store, RunSettings(), "running", pid=os.getpid())
    assert run.id in farewell(runs_dir)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), CONTRASTS)
def test_text_meets_wcag_aa(ink, ground, mode):
    light, dark = sorted((luminance(PALETTE[n][mode]) for n in (ink, ground)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def luminance(color):
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_look_fetches_nothing():
    assert "http" not in CSS
    assert "@import" not in CSS + theme()._get_theme_css()
    assert "googleapis" not in theme()._get_theme_css()


def test_a_model_server_is_named_whole_or_refused():
    assert server_of(None, None, None, "chat") is None
    named = server_of("http://127.0.0.1:8000/v1", "b", "t", "plain")
    assert named is not None
    assert (named.name, named.style) == ("t and b at http://127.0.0.1:8000/v1", "plain")
    for given in (("http://127.0.0.1:8000", None, "t"), ("ftp://x", "b", "t"), ("http://u:p@x", "b", "t")):
        with pytest.raises(BadInput):
            server_of(*given, "chat")


def test_an_upload_that_ends_while_the_page_ends_does_not_end_it_in_a_traceback(runs_dir, tmp_path, monkeypatch):
    app = ui.build_app(runs_dir, FakeClient())
    served = Served(app)
    files = [tmp_path / name for name in ("first", "second")]
    for file in files:
        file.touch()
    uploads = app.upload_file_set
    uploads |= {str(file) for file in files}

    def remove(path, removed=os.remove):
        uploads.add(f"{path} and one more")
        removed(path)

    monkeypatch.setattr("gradio.route_utils.os.remove", remove)
    served.close()
    assert not any(file.exists() for file in files)


def test_after_ctrl_c_the_page_is_not_closed_under_a_server_that_still_ends(runs_dir, monkeypatch):
    fallen, served = [], Served(ui.build_app(runs_dir, FakeClient()))
    monkeypatch.setattr(threading, "excepthook", fallen.append)
    main = threading.get_ident()
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        served.wait()
    served.close()
    time.sleep(2 * serve.END_SECONDS)
    assert fallen == [], "a traceback on the terminal"
