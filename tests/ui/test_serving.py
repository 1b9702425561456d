"""Who may see the page, what the process holds, and what it says when it ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from medcot import ui
from medcot.errors import BadInput
from medcot.runs import RunStore
from medcot.settings import RunSettings
from medcot.ui import launch_arguments
from medcot.ui.serving import credentials, farewell, server_of
from medcot.ui.theme import CONTRASTS, CSS, PALETTE, theme
from tests.fakes import FakeClient, write_run


def test_a_page_that_others_can_reach_demands_a_login(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert credentials("127.0.0.1", None) is None
    assert credentials("0.0.0.0", "ada:a:b") == ("ada", "a:b")
    for host, auth in (("0.0.0.0", None), ("192.0.2.7", None), ("127.0.0.1", "ada"), ("127.0.0.1", ":x")):
        with pytest.raises(BadInput):
            credentials(host, auth)
    monkeypatch.setenv("SPACE_ID", "a/b")
    assert credentials("0.0.0.0", None) is None


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


def test_the_page_process_loads_no_model_library():
    code = (
        "import sys, medcot.ui.serving; from pathlib import Path; medcot.ui.build_app(Path('nowhere')); "
        "print([m for m in ('torch', 'transformers', 'evaluate', 'trl', 'peft', 'medcot.engine', 'medcot.cli') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_nothing_is_stored_reported_or_published():
    arguments = launch_arguments()
    for name in ("run_history", "enable_monitoring", "ssr_mode", "mcp_server", "show_error", "share"):
        assert arguments[name] is False


@pytest.mark.parametrize(("seconds", "closed"), [(1, False), (3600, True)])
def test_an_upload_that_no_run_keeps_goes_after_a_while_and_at_the_latest_with_the_page(
    runs_dir, tmp_path, monkeypatch, seconds, closed
):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    monkeypatch.setattr(ui, "UPLOADS_STAY", seconds)
    app = ui.build_app(runs_dir, FakeClient())
    _, address, _ = app.launch(prevent_thread_lock=True, quiet=True, **launch_arguments())
    try:
        sent = httpx.post(f"{address}gradio_api/upload", files={"files": ("q.jsonl", b"{}")}, trust_env=False)
        [path] = sent.json()
        assert Path(path).read_bytes() == b"{}"
        deadline = time.monotonic() + 60
        while not closed and Path(path).exists():
            assert time.monotonic() < deadline, "it is still there"
            time.sleep(0.2)
    finally:
        app.close(verbose=False)
    assert not Path(path).exists()


def test_the_end_names_the_jobs_that_go_on(runs_dir, monkeypatch):
    monkeypatch.setattr("medcot.jobdirs.JobDir.worker_alive", lambda self, pid: pid == os.getpid())
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
