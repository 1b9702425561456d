"""Train, on real workers with a tiny model."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from medcot.runs.ids import name_of
from medcot.runs.store import RunStore
from medcot.ui.form import Form
from tests.browser.conftest import PATIENCE, app, end, field, fill, free_port, points, unfold, wait_until
from tests.conftest import write_records
from tests.fakes import FakeClient

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)


@pytest.fixture
def long_run(tiny_model, tmp_path):
    """What to type for a training that does not end by itself while a test looks, however busy the machine is."""
    return {
        "model.id": tiny_model,
        "data.source": write_records(tmp_path / "many.jsonl", 500),
        "data.held_out": 4,
        "training.epochs": 100,
        "training.micro_batch": 1,
        "training.max_length": 256,
    }


def start(page: Page, values: dict) -> None:
    fill(page, values)
    page.locator("#start").click()
    expect(page.locator("#live .mc-badge")).to_have_text("Running")


def test_points_arrive_a_reload_and_a_second_viewer_see_them_and_stop_stops(serve, open_page, runs_dir, long_run):
    url = serve(runs_dir)
    page = open_page(url)
    expect(page.locator("#live")).to_contain_text("No run yet")
    start(page, long_run)
    [run] = RunStore(runs_dir).list()
    try:
        wait_until(lambda: points(page) >= 3)
        before = points(page)
        page.reload()
        expect(page.locator("#live .mc-badge")).to_have_text("Running")
        wait_until(lambda: points(page) > before)
        second = open_page(url)
        expect(second.locator("#live h3")).to_have_text(name_of(run.id))
        wait_until(lambda: points(second) > before)
        page.get_by_role("button", name="Stop training", exact=True).click()
        expect(page.locator("#live .mc-badge")).to_have_text("Stopped")
        expect(second.locator("#live .mc-badge")).to_have_text("Stopped")
        expect(page.get_by_role("button", name="Continue from the checkpoint")).to_be_visible()
        assert run.status().state == "stopped"
        assert run.checkpoints()
    finally:
        end(run)


def test_two_fast_clicks_start_one_run_which_is_brought_into_view(serve, open_page, runs_dir, long_run):
    page = open_page(serve(runs_dir))
    fill(page, long_run)
    button = page.locator("#start")
    button.click()
    button.evaluate("e => e.click()")  # within the first one's request
    expect(page.locator("#live .mc-badge")).to_be_in_viewport()
    expect(button).not_to_have_attribute("data-busy", "Starting")
    [run] = RunStore(runs_dir).list()
    try:
        button.click()
        expect(page.locator("#form-notes, #train-problems").first).to_contain_text("was started a moment ago")
        assert [r.id for r in RunStore(runs_dir).list()] == [run.id]
        page.get_by_role("button", name="Stop now, without saving").click()
        expect(page.locator("#live .mc-badge")).to_have_text("Stopped")
        button.click()
        wait_until(lambda: len(RunStore(runs_dir).list()) == 2)
    finally:
        for run in RunStore(runs_dir).list():
            end(run)


def test_ctrl_c_takes_uploads_along_while_a_page_is_open(open_page, runs_dir, tmp_path):
    port, temporary = free_port(), tmp_path / "temporary"
    command = app(port, runs_dir)
    page = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "GRADIO_TEMP_DIR": str(temporary)})
    try:
        wait_until(lambda: answers(port))
        shown = open_page(f"http://127.0.0.1:{port}")
        shown.locator("#start").wait_for()  # it fetches nothing any more
        sent = httpx.post(f"http://127.0.0.1:{port}/gradio_api/upload", files={"files": ("q.jsonl", b"{}")})
        assert [Path(path).read_bytes() for path in sent.json()] == [b"{}"]
        page.send_signal(signal.SIGINT)
        page.wait(60)
        assert [path for path in temporary.rglob("*") if path.is_file()] == []
    finally:
        page.kill()


def test_a_killed_worker_is_interrupted_with_what_to_do(serve, open_page, runs_dir, long_run):
    page = open_page(serve(runs_dir))
    start(page, long_run)
    [run] = RunStore(runs_dir).list()
    pid = run.status().pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    expect(page.locator("#live .mc-badge")).to_have_text("Interrupted")
    expect(page.locator("#live")).to_contain_text("The worker's process is gone")


def test_a_restarted_app_finds_the_worker_and_ctrl_c_says_that_it_goes_on(open_page, runs_dir, long_run):
    port = free_port()
    command = app(port, runs_dir)
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: answers(port))
    start(open_page(f"http://127.0.0.1:{port}"), long_run)
    [run] = RunStore(runs_dir).list()
    try:
        first.send_signal(signal.SIGINT)
        said, _ = first.communicate(timeout=30)
        assert f"Still at work, without this page: {run.id}" in said
        assert run.status().state == "running"
        again = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(lambda: answers(port))
        page = open_page(f"http://127.0.0.1:{port}")
        expect(page.locator("#live .mc-badge")).to_have_text("Running")
        expect(page.locator("#live h3")).to_have_text(name_of(run.id))
        again.send_signal(signal.SIGINT)
        again.wait(30)
    finally:
        first.kill()
        end(run)


def answers(port: int) -> bool:
    import httpx

    try:
        return httpx.get(f"http://127.0.0.1:{port}", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def test_bad_input_is_told_all_at_once_and_beside_its_field(empty_page):
    page = empty_page
    fill(page, {"training.epochs": "-1", "training.learning_rate": "fast", "data.source": "missing.csv"})
    page.locator("#start").click()
    problems = page.locator("#train-problems")
    expect(problems).to_contain_text("3 things have to be fixed first")
    expect(problems).to_contain_text("Epochs: must be greater than 0; got -1")
    expect(problems).to_contain_text("Learning rate: must be a number; got 'fast'")
    expect(problems).to_contain_text("there is no file missing.csv")
    expect(page.locator("#set-training-epochs")).to_contain_text("greater than 0")
    expect(page.locator("#set-data-source")).to_contain_text("there is no file missing.csv")
    wrong = page.locator(".mc-wrong")
    expect(wrong).to_have_count(3)
    fill(page, {"training.epochs": "1"})
    expect(wrong).to_have_count(2)  # before another start is tried
    fill(page, {"training.learning_rate": "1e-3"})
    expect(wrong).to_have_count(1)
    page.locator("#start").click()
    expect(problems).to_contain_text("One thing has to be fixed first")
    expect(page.locator("#set-training-epochs")).not_to_contain_text("greater than 0")
    expect(page.locator("#live")).to_contain_text("No run yet")


def test_a_field_that_is_wrong_is_unfolded_and_all_is_well_once_it_is_right(empty_page):
    page = empty_page
    fill(page, {"lora.rank": "many"})
    page.locator("#settings > button").click()  # folds it
    expect(field(page, "lora.rank")).to_be_hidden()
    page.locator("#start").click()
    expect(page.locator("#train-problems")).to_contain_text("LoRA rank: must be a whole number; got 'many'")
    expect(field(page, "lora.rank")).to_be_visible()
    fill(page, {"lora.rank": "8"})
    expect(page.locator("#train-problems")).not_to_contain_text("fixed first")
    expect(page.locator(".mc-wrong")).to_have_count(0)


def test_the_last_of_two_recipes_chosen_at_once_fills_the_form(serve, open_page, runs_dir, monkeypatch):
    first_asked, go_on, filled_from = threading.Event(), threading.Event(), Form.filled_from

    def slow(form, recipe):
        first_asked.set()
        assert go_on.wait(60)
        return filled_from(form, recipe)

    monkeypatch.setattr(Form, "filled_from", slow)
    page = open_page(serve(runs_dir, FakeClient()))
    page.get_by_role("radio", name="Llama 3.2 3B, medical reasoning").check()
    assert first_asked.wait(60)
    last = page.get_by_role("radio", name="Llama 3.2 3B, as the reference notebook")
    last.check()
    go_on.set()
    expect(page.locator("#command")).to_have_text("medcot train --recipe reference-exact")
    expect(last).to_be_checked()


def test_a_recipe_fills_the_form_and_the_command_follows(empty_page):
    page = empty_page
    page.get_by_role("radio", name="Llama 3.2 3B, medical reasoning").check()
    expect(page.locator("#command")).to_have_text("medcot train --recipe llama-3.2-3b-medical-cot")
    unfold(page)
    expect(field(page, "model.id")).to_have_value("unsloth/Llama-3.2-3B-Instruct")
    fill(page, {"lora.rank": "32"})
    expect(page.locator("#command")).to_have_text("medcot train --recipe llama-3.2-3b-medical-cot --set lora.rank=32")
    page.locator("#start").click()
    expect(page.locator("#train-problems")).to_contain_text("4bit needs a CUDA GPU")
