"""A run exported as GGUF: asked by llama.cpp, held against the merged model, whole or not there at all."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from medcot.adapters.open import of_run
from medcot.engine.gguf import check
from medcot.engine.held_out import Asked, asked_of
from medcot.errors import BadInput, WorkerFailed
from medcot.prompts.contract import PromptContract
from medcot.runs.export import AskedFile, clear, drafting, shipped
from medcot.runs.job_dir import ALIVE
from medcot.runs.run import Run
from medcot.settings import ModelSettings, PromptSettings, build
from medcot.settings.export import export_order
from medcot.workers import client as workers
from medcot.workers import jobs
from medcot.workers.protocol import ExportRequest
from tests import families
from tests.conftest import tiny_raw, write_records
from tests.engine_tools import changed, train
from tests.faults.tools import fill, mounted


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("gguf")
    settings = build(tiny_raw(tiny_model, write_records(folder / "records.jsonl")))
    return of_run(train(folder / "runs", changed(settings, "training", max_steps=25)))


def exported(adapter, target, *quantize, format="gguf", report=lambda event: None, **more):
    from medcot.engine.gguf.export import export

    order = export_order(format, quantize, **{"max_new_tokens": 24, **more})
    return export(ExportRequest(adapter=adapter, target=target, order=order), report)


def test_the_file_is_asked_the_held_out_questions_and_says_so(adapter, tmp_path):
    made = exported(adapter, tmp_path / "shipped", "f16", "q8_0")
    names = {p.name for p in (tmp_path / "shipped").iterdir()}
    files = {f"{adapter.name}-F16.gguf", f"{adapter.name}-Q8_0.gguf"}
    assert names == {*files, "Modelfile", "README.md", "prompt_contract.json"}
    assert [p.name for p in tmp_path.iterdir()] == ["shipped"], "nothing is left beside it"
    for file in made.files:
        asked = file.asked
        assert asked.same_prompts == asked.questions > 2
        assert asked.tokens > 24
        assert asked.same_tokens >= 0.97 * asked.tokens
        assert asked.running_on == 0
        assert 0 <= asked.scores["answer_rouge_l"] <= 1
        assert file.refused == ""
    readme = (tmp_path / "shipped" / "README.md").read_text()
    share = made.files[0].asked.same_tokens / made.files[0].asked.tokens
    assert f"| tokens that the exported model chooses too | {share:.2%}" in readme
    assert "ollama create" in readme
    assert f"FROM ./{adapter.name}-Q8_0.gguf" in (tmp_path / "shipped" / "Modelfile").read_text()
    assert made.commands[0] == f"cd {tmp_path / 'shipped'}"


def test_the_contract_travels_in_the_file(adapter, tmp_path):
    from medcot.engine.gguf.llama import facts_of

    made = exported(adapter, tmp_path / "my shipped", questions=0)
    assert made.commands[0] == f"cd '{tmp_path}/my shipped'"
    assert facts_of(tmp_path / "my shipped" / made.files[0].name).contract == adapter.contract
    assert made.files[0].asked is None
    assert "llama.cpp was not asked: no questions were wanted" in (tmp_path / "my shipped" / "README.md").read_text()


def test_without_the_extra_the_file_is_written_and_said_to_be_unasked(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("medcot.engine.gguf.export.can_run_files", lambda: False)
    made = exported(adapter, tmp_path / "shipped", "q8_0")
    assert any("llama.cpp was not asked: the package xllamacpp is not installed" in note for note in made.notes)
    assert (tmp_path / "shipped" / made.files[0].name).is_file()


def test_the_adapter_alone_says_on_its_base_what_tuned_says(adapter, tmp_path):
    made = exported(adapter, tmp_path / "shipped", format="lora-gguf")
    names = {p.name for p in (tmp_path / "shipped").iterdir()}
    assert names == {
        f"{adapter.name}-LoRA.gguf",
        "Modelfile",
        "README.md",
        "prompt_contract.json",
        "chat_template.jinja",
    }
    asked = made.files[0].asked
    assert asked.same_tokens >= 0.97 * asked.tokens > 20
    modelfile = (tmp_path / "shipped" / "Modelfile").read_text()
    assert modelfile.startswith(f"FROM ./base.gguf\nADAPTER ./{adapter.name}-LoRA.gguf\n")
    assert "Template and end tokens would be the base's own" in (tmp_path / "shipped" / "README.md").read_text()
    template = (tmp_path / "shipped" / "chat_template.jinja").read_text()
    assert adapter.contract.date_string in template, "it needs nothing to be told"


@pytest.mark.parametrize("name", ["gemma3_text", "phi3"])
def test_an_adapter_of_any_ranks_and_scales(tmp_path, name):
    """Scales of its own by layer, which one alpha in the file does not say, and layers that are joined."""
    base = families.build(name, tmp_path / "base")
    targets = families.FAMILIES[name][1]
    more = {"rank_pattern": {targets[0]: 2}, "alpha_pattern": {targets[-1]: 16}, "use_rslora": True}
    path = families.adapter(base, targets, tmp_path / "adapter", **more)
    from medcot.adapters.open import Adapter

    adapter = Adapter(name="mine", path=path, base=ModelSettings(id=str(base)), prompt=PromptSettings())
    made = exported(adapter, tmp_path / "shipped", format="lora-gguf")
    asked = made.files[0].asked
    assert (asked.questions, asked.scores) == (3, {})
    assert asked.same_tokens >= 0.95 * asked.tokens


def test_who_stops_an_export_does_not_wait_for_the_answers_under_way(monkeypatch):
    """A server whose answers take 20 seconds, as those of a large model do."""
    ended = threading.Event()

    class Slow:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            ended.set()

        def complete(self, prompt, decoding, stops):
            if prompt:
                ended.wait(20)
            return check.Completion([], "finished", 0.0, by_token=True)

    def report(event):
        if event.done == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(check, "LlamaServer", lambda *given, **more: Slow())
    checker = check.Checker.__new__(check.Checker)
    checker.report, checker.most, checker.context, checker.prompts = report, 8, 256, [[], [1], [2]]
    checker.asked = Asked([], [])
    checker.contract = PromptContract(style="plain", system=None, template_hash=None, eos_id=2, eos_token="x")
    began = time.monotonic()
    checker._each = lambda: ()
    with pytest.raises(KeyboardInterrupt):
        checker.ask(Path("x.gguf"))
    assert time.monotonic() - began < 10


def asked(**values):
    usual = {"questions": 24, "same_prompts": 24, "tokens": 1000, "same_tokens": 990, "same_answers": 20}
    return AskedFile(**{**usual, "stopped": 24, "running_on": 0, "tokens_per_second": 9.0, **values})


@pytest.mark.parametrize(
    ("values", "quantization", "words"),
    [
        ({}, "q8_0", ""),
        ({"same_tokens": 899}, "q8_0", "only 899 of 1000 tokens are those of the exported model"),
        ({"same_tokens": 600}, "q4_0", ""),
        ({"same_tokens": 499}, "q4_0", "only 499"),
        ({"running_on": 3}, "q4_0", "3 of 24 answers run on where the exported model stops"),
        ({"same_prompts": 23}, "f16", "makes 1 of 24 prompts other than the contract's"),
        ({"same_prompts": 23, "other_prompts": ["record 7"]}, "f16", "other than the contract's: of record 7"),
    ],
)
def test_a_file_that_babbles_is_not_good(values, quantization, words):
    said = check.verdict(asked(**values), quantization)
    assert words in said if words else said == ""


def test_a_question_with_another_prompt_is_named_by_its_record(adapter, tmp_path, monkeypatch):
    """llama.cpp reads the name of a special token in a question as that token."""
    from medcot.engine.gguf import export as engine

    questions = asked_of(adapter, 3)
    odd = replace(questions, questions=[*questions.questions[:2], "What does <|im_end|> suggest?"])
    monkeypatch.setattr(engine, "asked_of", lambda *given: odd)
    with pytest.raises(WorkerFailed, match=rf"makes 1 of 3 prompts .*: of record {questions.records[2].record}\. "):
        exported(adapter, tmp_path / "shipped", questions=3)


def test_a_file_that_is_not_good_is_removed_and_the_others_are_kept(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("medcot.engine.gguf.export.verdict", lambda asked, name: "babbles" if name == "q4_0" else "")
    made = exported(adapter, tmp_path / "shipped", "q8_0", "q4_0", questions=2)
    assert [file.refused for file in made.files] == ["", "babbles"]
    assert [p.name for p in (tmp_path / "shipped").glob("*.gguf")] == [f"{adapter.name}-Q8_0.gguf"]
    assert "Q4_0.gguf was not kept: babbles." in (tmp_path / "shipped" / "README.md").read_text()
    assert "Q8_0.gguf" in (tmp_path / "shipped" / "Modelfile").read_text().splitlines()[0]


def test_where_no_file_is_good_nothing_is_kept(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr("medcot.engine.gguf.check.LEAST", {"q8_0": 1.1})
    with pytest.raises(WorkerFailed, match=r"No file says what was measured. q8_0: only"):
        exported(adapter, tmp_path / "shipped", questions=2)
    assert list(tmp_path.iterdir()) == []


def test_a_quantization_that_needs_llama_cpps_tool_is_refused_without_it(adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BadInput, match=r"q4_k_m: made by llama.cpp's own llama-quantize, which is not on"):
        exported(adapter, tmp_path / "shipped", "q4_k_m")
    assert list(tmp_path.iterdir()) == []


def test_llama_cpps_tool_makes_the_file_of_the_16_bit_one(adapter, tmp_path, monkeypatch):
    """A stand-in for the tool that copies: that it is called rightly, and the 16-bit file is taken away."""
    tool = tmp_path / "bin" / "llama-quantize"
    tool.parent.mkdir()
    tool.write_text('#!/bin/sh\necho "$3" >> "$(dirname "$0")/asked"\ncp "$1" "$2"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    exported(adapter, tmp_path / "shipped", "q4_k_m", questions=0)
    assert (tool.parent / "asked").read_text() == "Q4_K_M\n"
    assert [p.name for p in (tmp_path / "shipped").glob("*.gguf")] == [f"{adapter.name}-Q4_K_M.gguf"]
    tool.write_text("#!/bin/sh\necho out of luck >&2\nexit 3\n")
    with pytest.raises(WorkerFailed, match="llama-quantize failed: out of luck"):
        exported(adapter, tmp_path / "again", "q4_k_m", questions=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gguff", ()), "--format: 'gguff' is none"),
        (("gguf", ("q8_0", "q9", "Q4_0")), "--quantize: 'q9' is none"),
        (("merged", ("q8_0",)), "--quantize: belongs to --format gguf"),
        (("gguf", ("",)), "--quantize: '' is none"),
    ],
)
def test_what_is_no_format_is_refused(arguments, words):
    with pytest.raises(BadInput, match=words):
        export_order(*arguments)
    assert export_order("gguf").quantize == ("q8_0",)
    assert export_order("gguf", ["F16", "f16"]).quantize == ("f16",)


def test_another_family_is_refused_before_anything_is_merged(tmp_path):
    from medcot.adapters.open import Adapter

    base = families.build("gpt2", tmp_path / "base")
    path = families.adapter(base, families.FAMILIES["gpt2"][1], tmp_path / "adapter")
    adapter, stages = Adapter(name="x", path=path, base=ModelSettings(id=str(base)), prompt=PromptSettings()), []
    with pytest.raises(BadInput, match="family gpt2 are not written as GGUF"):
        exported(adapter, tmp_path / "shipped", report=lambda event: stages.append(event.stage))
    assert not [stage for stage in stages if "Merging" in stage]
    assert {p.name for p in tmp_path.iterdir()} == {"base", "adapter"}


def test_a_disk_that_fills_while_it_is_written_is_said_and_nothing_is_left(adapter, tmp_path):
    def report(event):
        if event.stage.startswith("Writing") and ".gguf" in event.stage and not list(disk.glob("filler")):
            fill(disk, 16_384)

    for disk in mounted(tmp_path / "disk", "size=3m"):
        with pytest.raises(BadInput, match="the disk is full; nothing was left there"):
            exported(adapter, disk / "shipped", "f16", questions=0, report=report)
        assert [p.name for p in disk.iterdir()] == ["filler"]


def wait_until(condition, seconds=100):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_a_killed_export_leaves_nothing_and_says_that_it_ended(adapter, tmp_path, monkeypatch):
    """`kill -9`, as by a kernel that is out of memory."""
    clients = []

    class Client(workers.ServiceClient):
        def __init__(self, *given, **more):
            super().__init__(*given, **more)
            clients.append(self)

    def on_stage(stage):
        if [p.name for p in tmp_path.iterdir()] == [".shipped.part"]:
            clients[0]._child.kill()

    monkeypatch.setattr(workers, "ServiceClient", Client)
    with pytest.raises(WorkerFailed, match="ended unexpectedly, perhaps for want of memory"):
        workers.export(adapter.path.parents[1], adapter, tmp_path / "shipped", on_stage, export_order("gguf"))
    assert list(tmp_path.iterdir()) == []
    assert shipped(adapter.path.parent) == []


@pytest.mark.parametrize("ends", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_leaves_nothing_of_an_export(adapter, tmp_path, ends):
    """Which ends all processes of the command at once."""
    order = ["--to", str(tmp_path / "shipped"), "--format", "gguf", "--runs-dir", str(adapter.path.parents[1])]
    command = [sys.executable, "-m", "medcot", "export", adapter.name, *order]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as one:
        wait_until(lambda: any(tmp_path.glob(".shipped.part/model/merged/*")) or one.poll() is not None)
        os.killpg(one.pid, ends)
        os.kill(one.pid, ends)  # shells send it again
    assert one.returncode == 128 + ends
    assert list(tmp_path.iterdir()) == []


def test_two_exports_to_one_folder_do_not_disturb_each_other(adapter, tmp_path):
    with drafting(tmp_path / "shipped") as draft:
        draft.mkdir()
        with pytest.raises(BadInput, match=r"--to: another export to .*/shipped is at work. Wait until it ends"):
            exported(adapter, tmp_path / "shipped", questions=0)
        clear(tmp_path / "shipped")
        assert draft.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_of_the_page_is_interrupted_and_the_next_one_takes_its_rest_away(adapter):
    run = Run(adapter.path.parent)
    first = jobs.start_export(run, export_order("gguf", max_new_tokens=8))
    draft = first.path / ".model.part"
    wait_until(draft.exists)
    os.kill(first.status().pid, signal.SIGKILL)
    wait_until(lambda: first.status().state not in ALIVE)
    assert first.status().state == "interrupted"
    assert (first.files(), shipped(run.path), draft.exists()) == ([], [], True)
    second = jobs.start_export(run, export_order("gguf", questions=2, max_new_tokens=8))
    assert not draft.exists()
    wait_until(lambda: second.status().state not in ALIVE)
    assert second.status().state == "finished", second.log_tail()
    assert [file.title for file in shipped(run.path)] == ["Q8_0"]


def test_a_draft_that_a_killed_export_left_is_replaced(adapter, tmp_path):
    draft = tmp_path / ".shipped.part"
    (draft / "merged").mkdir(parents=True)
    (draft / "half.gguf").write_bytes(b"half")
    exported(adapter, tmp_path / "shipped", questions=0)
    assert [p.name for p in tmp_path.iterdir()] == ["shipped"]
    assert not (tmp_path / "shipped" / "half.gguf").exists()
    assert json.loads((tmp_path / "shipped" / "prompt_contract.json").read_text())["style"] == "chat"
