"""Results that leave the page: the adapter as a zip that PEFT loads, an export from its start to its zip."""

import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from medcot.runs.export import Export, exports_of
from medcot.runs.job_dir import ALIVE
from medcot.runs.run import Run
from tests.browser.conftest import PATIENCE, end, wait_until
from tests.fakes import FakeClient

pytestmark = pytest.mark.slow
expect.set_options(timeout=PATIENCE)


def test_an_adapter_is_downloaded_and_loaded_and_an_export_runs_to_its_end(
    serve, open_page, tuned, tmp_path, endless_model
):
    page = open_page(serve(tuned.path.parent, FakeClient()))
    page.locator("#take-it").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Adapter as a zip").click()
    assert download.value.suggested_filename == f"{tuned.id}-adapter.zip"
    unpacked(download.value.path(), tmp_path)
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(endless_model)
    loaded = PeftModel.from_pretrained(base, tmp_path / f"{tuned.id}-adapter")
    assert any("lora_B" in name and bool(weight.any()) for name, weight in loaded.named_parameters())

    page.get_by_role("button", name="Start export", exact=True).click()
    try:
        expect(page.locator("#exports .mc-badge")).to_be_visible()
        expect(page.get_by_role("button", name="Start export", exact=True)).to_be_disabled()
        page.reload()
        page.get_by_role("tab", name="Evaluate", exact=True).click()
        page.get_by_role("button", name="Download or export").click()
        _, folder = finished(page, tuned, tmp_path, 180)
    finally:
        for job in exports_of(tuned.path):
            end(job)
    expect(page.locator("#exports")).to_contain_text("Checked: computing in")
    AutoModelForCausalLM.from_pretrained(folder)
    page.locator("#take").get_by_role("button", name="The same on the command line").click()
    expect(page.locator("#export-command")).to_contain_text(f"export {tuned.id} --to {tuned.id}-merged")


def test_a_gguf_file_is_chosen_written_asked_by_llama_cpp_and_downloaded(serve, open_page, tuned, tmp_path):
    gguf, _ = pytest.importorskip("gguf"), pytest.importorskip("xllamacpp")
    page = open_page(serve(tuned.path.parent, FakeClient()))
    page.locator("#take-it").click()
    page.locator("#export-format").get_by_role("radio", name="gguf: One file").check()
    page.locator("#export-quantize input").click()
    page.get_by_role("option", name="f16: 16 bits, as").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Start export", exact=True).click()
    try:
        expect(page.locator("#exports .mc-badge")).to_be_visible()
        export, folder = finished(page, tuned, tmp_path, 240)
    finally:
        for job in exports_of(tuned.path):
            end(job)
    (made,) = export.made().files
    assert made.quantization == "f16"
    assert made.asked.questions == made.asked.same_prompts == 4, "the held-out records, asked by llama.cpp"
    assert "llama-server" in (folder / "README.md").read_text(encoding="utf-8")
    file = gguf.GGUFReader(folder / made.name)
    assert file.fields["medcot.prompt_contract"]
    page.locator("#take").get_by_role("button", name="The same on the command line").click()
    expect(page.locator("#export-command")).to_contain_text("--quantize f16")


def finished(page: Page, run: Run, to: Path, seconds: float) -> tuple[Export, Path]:
    """The run's one export, which finishes within so many seconds, and its zip unpacked."""
    (export,) = exports_of(run.path)
    wait_until(lambda: export.status().state not in ALIVE, seconds)
    assert export.status().state == "finished", export.log_tail()
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as a zip").click()
    return export, unpacked(download.value.path(), to)


def unpacked(archive: Path, to: Path) -> Path:
    """Unpack a zip that has one folder, and return that."""
    with zipfile.ZipFile(archive) as content:
        content.extractall(to)
        return to / content.namelist()[0].partition("/")[0]
