"""What may leave the page as a zip, to whom, and that it is whole."""

import asyncio
import io
import json
import os
import shutil
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from medcot.adapters.publish import Published
from medcot.runs.export import new_export
from medcot.runs.run import Run
from medcot.settings.export import ExportOrder
from medcot.ui import download_route
from medcot.ui.download_route import Downloads, link, zipped
from medcot.ui.gate import ROUTES

KEPT = Path(__file__).parents[1] / "written_before" / "kept" / "finished"


@pytest.fixture
def run(runs_dir) -> Run:
    return Run(Path(shutil.copytree(KEPT, runs_dir / "kept-1")))


@pytest.fixture
def client(runs_dir) -> TestClient:
    return TestClient(Downloads(PlainTextResponse("gradio"), runs_dir))


def opened(answer) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(answer.content))


def test_the_adapter_comes_whole_with_its_card_and_without_a_folder_of_this_machine(run, client, runs_dir):
    assert ROUTES.fullmatch("/" + link(run)), "the gate lets it through"
    answer = client.get("/" + link(run))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == 'attachment; filename="kept-1-adapter.zip"'
    with opened(answer) as archive:
        assert archive.testzip() is None
        names = {name.removeprefix("kept-1-adapter/") for name in archive.namelist()}
        assert {"adapter_model.safetensors", "adapter_config.json", "prompt_contract.json", "README.md"} <= names
        weights = archive.read("kept-1-adapter/adapter_model.safetensors")
        assert weights == (run.adapter_dir / "adapter_model.safetensors").read_bytes()
        assert json.loads(archive.read("kept-1-adapter/adapter_config.json"))["peft_type"] == "LORA"
        assert all(str(runs_dir).encode() not in archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("模型-1", "attachment; filename=\"__-1-adapter.zip\"; filename*=UTF-8''%E6%A8%A1%E5%9E%8B-1-adapter.zip"),
        ("für (A)", "attachment; filename=\"f_r (A)-adapter.zip\"; filename*=UTF-8''f%C3%BCr%20%28A%29-adapter.zip"),
        ("Run (2), new", 'attachment; filename="Run (2), new-adapter.zip"'),
    ],
)
def test_a_run_whose_folder_has_any_name_comes_under_that_name(run, client, runs_dir, name, header):
    named = Run(run.path.rename(runs_dir / name))
    answer = client.get("/" + link(named))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == header
    with opened(answer) as archive:
        assert f"{name}-adapter/adapter_model.safetensors" in archive.namelist()


def test_a_download_whose_weights_are_still_being_read_holds_nobody_else_up(run, runs_dir, monkeypatch):
    begun, released = threading.Event(), threading.Event()

    def read(*_):
        begun.set()
        assert released.wait(5), "nobody else was answered meanwhile"
        return []

    monkeypatch.setattr(download_route, "content", read)

    async def at_once() -> str:
        there = httpx.ASGITransport(Downloads(PlainTextResponse("gradio"), runs_dir))
        async with httpx.AsyncClient(transport=there, base_url="http://page") as client:
            download = asyncio.create_task(client.get("/" + link(run)))
            while not begun.is_set():
                await asyncio.sleep(0.001)
            other = await client.get("/")
            released.set()
            await download
            return other.text

    with ThreadPoolExecutor() as aside:  # where a browser test ran before, this thread's event loop is Playwright's
        assert aside.submit(asyncio.run, at_once()).result() == "gradio"


@pytest.mark.parametrize("name", ["..", "%2e%2e", "kept-1%2f..", "none", "kept-1%00"])
@pytest.mark.parametrize("what", ["adapter", "..%2fadapter", "settings", "latest"])
def test_nothing_else_can_be_asked_for(run, client, name, what):
    answer = client.get(f"/take/{name}/{what}.zip")
    assert answer.status_code == 404 or answer.text == "gradio"


def test_a_run_that_has_not_finished_is_refused_in_words(run, client):
    run.write_status("stopped")
    answer = client.get("/" + link(run))
    assert answer.status_code == 409
    assert "only a finished run" in answer.text


def test_an_export_comes_once_it_has_finished(run, client):
    export = new_export(run.path, ExportOrder())
    export.write_status("running", pid=os.getpid())
    (export.target / "sub").mkdir(parents=True)
    (export.target / "sub" / "model.safetensors").write_bytes(b"w" * 3_000_000)
    assert client.get("/" + link(run, export.id)).status_code == 404
    export.write_status("finished", job="export")
    with opened(client.get("/" + link(run, export.id))) as archive:
        assert archive.read(f"kept-1-{export.id}/sub/model.safetensors") == b"w" * 3_000_000


def test_a_visitor_of_a_space_takes_nothing(run, client, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "ada/space")
    assert client.get("/" + link(run)).status_code == 403


def test_a_zip_is_made_in_pieces_that_need_no_memory_for_the_whole(tmp_path):
    (tmp_path / "big").write_bytes(b"x" * 5_000_000)
    sent = list(zipped([Published("big", tmp_path / "big"), Published("small.txt", b"s")], "folder"))
    assert max(map(len, sent)) < 1_200_000
    with zipfile.ZipFile(io.BytesIO(b"".join(sent))) as archive:
        assert archive.namelist() == ["folder/big", "folder/small.txt"]
        assert archive.testzip() is None
