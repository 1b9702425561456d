"""What a run was shipped as: the files of its exports that are there, and whether they were found good."""

import pytest

from medcot.runs.export import exports_of, new_export, shipped
from medcot.settings import RunSettings
from medcot.settings.export import export_order
from tests.fakes import made_in, write_run, write_shipped


@pytest.fixture
def run(runs_dir):
    from medcot.runs.store import RunStore

    return write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True)


def found(run):
    return [(file.title, file.checked, file.path) for file in shipped(run.path)]


def test_files_of_the_page_and_of_the_command_line_are_found_the_newest_of_each_kind(run, tmp_path):
    assert found(run) == []
    export = new_export(run.path, export_order("gguf"))
    export.write_status("finished", job="export")
    made = made_in(export.target, "q8_0", "q4_0")
    (export.path / "exported.json").write_text(made.model_copy(update={"path": "/moved/since"}).model_dump_json())
    in_the_run = [("Q8_0", True, export.target / "a-q8_0.gguf"), ("Q4_0", True, export.target / "a-q4_0.gguf")]
    assert found(run) == in_the_run
    write_shipped(run, tmp_path / "shipped", "f16", "q8_0")
    outside = [(kind.upper(), True, tmp_path / "shipped" / f"a-{kind}.gguf") for kind in ("f16", "q8_0")]
    assert found(run) == [*outside, in_the_run[1]]
    assert [one.status().state for one in exports_of(run.path)] == ["finished", "finished"]


def test_one_that_was_checked_goes_before_a_newer_one_that_was_not(run, tmp_path):
    write_shipped(run, tmp_path / "checked", "q8_0")
    write_shipped(run, tmp_path / "newer", "q8_0", "q4_0", checked=False)
    assert [(title, checked) for title, checked, _ in found(run)] == [("Q8_0", True), ("Q4_0", False)]


def test_what_is_not_good_not_whole_or_no_model_is_not_found(run, tmp_path):
    write_shipped(run, tmp_path / "refused", "q8_0", refused="babbles")
    write_shipped(run, tmp_path / "adapter", "LoRA")
    write_shipped(run, tmp_path / "cut", "f16", bytes=5)
    write_shipped(run, tmp_path / "away", "q4_0", name="../cut/a-f16.gguf")
    write_shipped(run, tmp_path / "gone", "q5_0")
    (tmp_path / "gone" / "a-q5_0.gguf").unlink()
    running = new_export(run.path, export_order("gguf"))
    (running.path / "exported.json").write_text(made_in(running.target, "q5_1").model_dump_json())
    running.write_status("failed", job="export")
    assert found(run) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"path": 3}', '{"files": [{}]}', "[" * 10_000])
def test_a_damaged_note_is_passed_over(run, tmp_path, text):
    write_shipped(run, tmp_path / "shipped", "q8_0")
    (exports_of(run.path)[0].path / "exported.json").write_text(text)
    assert found(run) == []
