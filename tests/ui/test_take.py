"""Download and export in the page, and the same on the command line."""

import os

import pytest

from medcot.errors import BadInput, Failure, Problem
from medcot.runs.events import Progress, Started
from medcot.runs.export import Exported, exports_of, new_export, remember
from medcot.runs.job_dir import JobDir
from medcot.settings import RunSettings, build
from medcot.settings.evaluation import EvaluationOrder
from medcot.settings.export import ExportOrder, export_order
from medcot.ui import commands
from medcot.ui.evaluate.take import TakePanel
from medcot.workers import jobs
from tests.fakes import write_run


@pytest.fixture
def panel(page) -> TakePanel:
    with page.demo:
        return TakePanel(page)


@pytest.fixture
def run(page):
    return write_run(page.store, RunSettings(), "finished", adapter=True)


def write_export(run, state, **status):
    export = new_export(run.path, ExportOrder())
    export.write_status(state, job="export", **status)
    return export


def test_an_export_is_shown_from_its_start_to_its_end_and_what_went_wrong_in_words(page, panel, run, monkeypatch):
    started = []
    monkeypatch.setattr(jobs, "_spawn", lambda job, *_: started.append(job) or job.write_status("queued", job="export"))
    view = panel.start_export(run.id, "merged", [])
    assert view[panel.problems] == ""
    assert [one.id for one in started] == [one.id for one in exports_of(run.path)]
    (export,) = started
    assert view[panel.start]["interactive"] is False
    assert view[panel.stop]["visible"] is True
    again = panel.start_export(run.id, "merged", [])
    assert "is at work" in again[panel.problems]
    assert len(started) == 1, "twice is once"

    export.write_status("running", pid=os.getpid())
    monkeypatch.setattr(type(export), "worker_alive", lambda *_: True)
    export.append(Started(job="export", device="CPU"))
    export.append(Progress(stage="Merging"))
    assert "Merging" in panel.look(run.id, view[panel.mark])[panel.made]
    assert page.reader.look().at_work() == export, "others wait for it"
    with pytest.raises(BadInput, match="Stop it first"):
        page.store.delete(run)

    export.write_status("failed", failure=Failure(problems=[Problem("", "No room.", "Free some.")]))
    shown = panel.look(run.id, "")
    assert "No room." in shown[panel.made]
    assert "Free some." in shown[panel.made]
    assert shown[panel.start]["interactive"] is True


def test_a_finished_export_has_its_link_and_sizes_and_names_no_folder_of_the_server(page, panel, run):
    export = write_export(run, "finished")
    export.target.mkdir()
    (export.target / "model.safetensors").write_bytes(b"x" * 2_500_000)
    (export.path / "exported.json").write_text("{")
    shown = panel.look(run.id, "")[panel.made]
    assert f'href="take/{run.id}/{export.id}.zip"' in shown
    assert "2.5 MB" in shown
    assert str(page.store.root) not in shown
    assert "Checked" not in shown, "a damaged file says nothing"
    assert panel.look(run.id, panel.look(run.id, "")[panel.mark]) == {}, "nothing new, nothing sent"


def test_an_export_of_the_command_line_is_listed_without_a_link_or_a_folder(panel, run, tmp_path):
    counts = {"bytes": 4, "prompts": 3, "tokens": 9, "same_tokens": 9}
    remember(run.path, export_order("gguf"), Exported(path=str(tmp_path / "shipped"), dtype="float16", **counts))
    shown = panel.look(run.id, "")[panel.made]
    assert "Export, gguf" in shown
    assert "written outside the run" in shown
    assert "href" not in shown
    assert str(tmp_path) not in shown


def test_a_quantization_is_asked_for_with_gguf_and_refused_by_its_label(panel, run, monkeypatch):
    started = []
    monkeypatch.setattr(jobs, "start_export", lambda run, order: started.append(order))
    assert panel.show_kind("gguf")[panel.quantize]["visible"] is True
    assert panel.show_kind("merged")[panel.quantize]["visible"] is False
    panel.start_export(run.id, "gguf", ["q4_0"])
    assert (started[0].format, started[0].quantize) == ("gguf", ("q4_0",))
    problems = panel.start_export(run.id, "gguf", ["q99"])[panel.problems]
    assert "Quantization" in problems
    assert "--" not in problems
    assert len(started) == 1


@pytest.mark.parametrize("chosen", ["", None, "zip", 3, ["merged"]])
def test_an_unknown_format_is_refused_and_nothing_starts(panel, run, chosen):
    view = panel.start_export(run.id, chosen, None)
    assert "Choose one of merged" in view[panel.problems]
    assert exports_of(run.path) == []


def test_there_is_nothing_to_take_of_an_unfinished_run_or_of_none(page, panel):
    stopped = write_run(page.store, RunSettings(), "stopped", adapter=True)
    assert "href" not in panel.look(stopped.id, "")[panel.adapter]
    assert panel.look("none", "")[panel.adapter] == ""
    assert "none is chosen" in panel.start_export("none", "merged", [])[panel.problems]


def test_the_adapter_can_be_taken_as_soon_as_the_run_that_was_looked_at_has_finished(page, panel, monkeypatch):
    monkeypatch.setattr(JobDir, "worker_alive", lambda self, pid: True)
    run = write_run(page.store, RunSettings(), "running", adapter=True, pid=1)
    seen = panel.look(run.id, "")
    assert "once the run has finished" in seen[panel.adapter]
    run.append(Progress(stage="Training", done=3, total=10))
    assert panel.look(run.id, seen[panel.mark]) == {}, "not with each step"
    run.write_status("finished")
    assert f'href="take/{run.id}' in panel.look(run.id, seen[panel.mark])[panel.adapter]


def test_commands_say_what_differs_from_the_run_and_quote_what_needs_it(page):
    run = write_run(page.store, build({"evaluation": {"records": 5}}), "finished", adapter=True)
    own = run.settings().evaluation.model_dump()
    assert f"evaluate {run.id}" in commands.evaluating(run, EvaluationOrder(**own))
    assert "--set" not in commands.evaluating(run, EvaluationOrder(**own))
    order = EvaluationOrder(
        **{**own, "records": None, "temperature": 0.5, "tell_base": False}, questions="/up/my q.csv"
    )
    said = commands.evaluating(run, order)
    for words in ("evaluation.records=none", "evaluation.temperature=0.5", "evaluation.tell_base=false", "'my q.csv'"):
        assert words in said
    assert "/up/" not in said
    assert commands.exporting(run, ExportOrder()).startswith(f"medcot export {run.id} --to {run.id}-merged")
    assert "--format gguf --quantize f16,q4_0" in commands.exporting(run, export_order("gguf", ["f16", "q4_0"]))
    assert "--about 'a; rm -rf'" in commands.publishing(run, "ada/x", "a; rm -rf", True)
    assert "--public" in commands.publishing(run, "", "", True)
