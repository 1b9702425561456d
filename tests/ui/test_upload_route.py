"""Uploads by raw requests: from whom, how many, how much, and that nothing of them stays."""

import os
import socket
from pathlib import Path

import httpx
import pytest
from filelock import FileLock

from medcot.errors import BadInput
from medcot.ui import build_app, gate, upload_route
from medcot.ui.serve import Served
from medcot.ui.upload_route import own_folder
from tests.browser.conftest import wait_until
from tests.fakes import FakeClient
from tests.ui.test_guard import SPACE, cookie, login

FILE = {"files": ("q.jsonl", b"{}")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def served(folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        page = Served(build_app(tmp_path_factory.mktemp("runs"), FakeClient()))
        yield page
        page.close()


def send(page, files=FILE, path="/gradio_api/upload", **options):
    return httpx.post(f"{page.url}{path}", files=files, trust_env=False, timeout=60, **options)


def files_in(folder):
    return [file for file in folder.rglob("*") if file.is_file()]


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/upload/", "/gradio_api/upload?upload_id=x"])
def test_on_a_space_a_visitor_may_not_upload_and_its_owner_may(monkeypatch, runs_dir, tmp_path, path):
    for name, value in {**SPACE, "GRADIO_TEMP_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setattr(f"gradio.oauth.{name}", value, raising=False)
    space = Served(build_app(runs_dir, FakeClient()))
    try:
        for who in (None, login("ada", expires=-1), login("bob")):
            headers = {"Cookie": f"session={cookie(who)['session']}"} if who else {}
            refused = send(space, path=path, headers=headers)
            assert (refused.status_code, "Only the owner" in refused.text) == (403, True), who
        assert files_in(tmp_path) == []
        sent = send(space, path=path, headers={"Cookie": f"session={cookie(login('ada'))['session']}"})
        assert sent.status_code in (200, 307), sent.text
    finally:
        space.close()


@pytest.mark.parametrize("count", [1, upload_route.MOST_FILES])
def test_some_files_are_taken_whole(served, count):
    lines = b"filename=x; name=files\r\n--\r\n" * 1000
    sent = send(served, [("files", (f"{n}.jsonl", lines)) for n in range(count)])
    assert [Path(path).read_bytes() for path in sent.json()] == [lines] * count
    for path in sent.json():
        Path(path).unlink()


def test_too_many_files_are_refused_and_none_stays(served, folder):
    there = files_in(folder)
    sent = send(served, [("files", (f"{n}.jsonl", b"{}")) for n in range(upload_route.MOST_FILES + 1)])
    assert (sent.status_code, f"may have {upload_route.MOST_FILES} files" in sent.text) == (413, True)
    wait_until(lambda: files_in(folder) == there)  # they go once the answer is sent


@pytest.mark.parametrize("told", [True, False], ids=["by its length", "in pieces"])
def test_too_much_at_once_is_refused_and_nothing_stays(served, folder, monkeypatch, told):
    monkeypatch.setattr(gate.uploads, "MOST_BYTES", 1000)
    monkeypatch.setattr(gate, "AROUND_FILES", 1000)
    request = httpx.Request("POST", served.url, files={"files": ("q.jsonl", b"x" * 5000)})
    body, headers = request.read(), {"Content-Type": request.headers["content-type"]}
    there = files_in(folder)
    pieces = body if told else (body[n : n + 100] for n in range(0, len(body), 100))
    sent = httpx.post(f"{served.url}/gradio_api/upload", content=pieces, headers=headers, trust_env=False, timeout=60)
    assert (sent.status_code, "may have 2,000 bytes" in sent.text) == (413, True)
    assert files_in(folder) == there


def test_too_much_in_all_and_a_nearly_full_disk_are_refused_in_words(served, folder, monkeypatch):
    (folder / "there").write_bytes(b"x" * 900)
    monkeypatch.setattr(upload_route, "MOST_IN_ALL", 1000)
    refused = send(served, {"files": ("q.jsonl", b"x" * 200)})
    assert (refused.status_code, "Too much has been uploaded" in refused.text) == (507, True)
    monkeypatch.setattr(upload_route, "MOST_IN_ALL", 10**9)
    monkeypatch.setattr(upload_route, "KEPT_FREE", 2**60)
    refused = send(served)
    assert (refused.status_code, "is nearly full" in refused.text) == (507, True)
    (folder / "there").unlink()
    monkeypatch.setattr(upload_route, "KEPT_FREE", 0)
    assert send(served).status_code == 200


HEAD = b'--X\r\nContent-Disposition: form-data; name="files"; filename="z.jsonl"\r\n\r\n'
ASKED = b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=X\r\n"


def test_of_an_upload_that_is_cut_off_nothing_stays(served, folder):
    there = files_in(folder)
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2]))) as raw:
            raw.sendall(ASKED + b"Content-Length: 99999999\r\n\r\n" + HEAD + b"PATIENT John Smith\n" * 100_000)
            wait_until(lambda: len(files_in(folder)) > len(there))
    wait_until(lambda: files_in(folder) == there)


def test_what_cannot_be_read_leaves_nothing_either(served, folder):
    there = files_in(folder)
    for body in (b"", HEAD, HEAD + b"x", b"--X\r\n\r\n", b"--X--\r\n", b"nothing of the kind"):
        headers = {"Content-Type": "multipart/form-data; boundary=X"}
        httpx.post(f"{served.url}/gradio_api/upload", content=body, headers=headers, trust_env=False, timeout=60)
    assert files_in(folder) == there


# ---- the folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "place"))
    return tmp_path / "place"


def test_a_page_has_a_folder_of_its_own_that_goes_with_it(place):
    with own_folder() as folder, own_folder() as another:
        assert folder.parent == place
        assert another.parent == folder, "each is below the one that the environment names"
        assert os.environ["GRADIO_TEMP_DIR"] == str(another)
        assert folder.stat().st_mode & 0o077 == 0
        (folder / "tmpx").write_text("PATIENT")
    assert list(place.iterdir()) == []
    assert os.environ["GRADIO_TEMP_DIR"] == str(place)


def test_what_a_killed_page_left_goes_at_the_next_start_and_nothing_else(place):
    left, alive, new, others = (place / n for n in ("medcot-page-a", "medcot-page-b", "medcot-page-c", "somebodys"))
    for folder in (left, alive, new, others):
        folder.mkdir(parents=True)
        (folder / "tmpx").write_text("PATIENT")
        if folder != new:
            os.utime(folder, (0, 0))
    with FileLock(alive / ".lock"):
        os.utime(alive, (0, 0))
        with own_folder():
            assert [f.exists() for f in (left, alive, new, others)] == [False, True, True, True]


def test_a_place_that_cannot_be_written_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file" / "below"))
    with pytest.raises(BadInput, match=r"GRADIO_TEMP_DIR: .* cannot be written"), own_folder():
        pass
