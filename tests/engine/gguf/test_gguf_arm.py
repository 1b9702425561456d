"""A GGUF file as one more arm of an evaluation, asked one question, and served: a run's deployment, proven."""

import json

import pytest
from typer.testing import CliRunner

from medcot.adapters.open import of_run
from medcot.cli import app
from medcot.engine import deployed
from medcot.errors import BadInput
from medcot.runs.export import shipped
from medcot.settings.evaluation import EndpointSettings
from medcot.settings.export import export_order
from medcot.workers.protocol import AskFileRequest, CheckedServer, CheckRequest
from tests.engine.test_evaluate import evaluated


@pytest.fixture(scope="module")
def evaluation(run, file):
    job = evaluated(run, adapters=[str(file)])
    job.write_status("finished")
    return job


@pytest.mark.slow
def test_base_tuned_and_the_file_stand_in_one_table(evaluation, file):
    summary = evaluation.summary()
    assert list(summary.arms) == ["base", "tuned", file.stem]
    assert f"{file.stem}-base" in summary.paired
    same = [e.arms["tuned"].output == e.arms[file.stem].output for e in evaluation.examples()]
    assert sum(same) >= len(same) - 1, "the file says what tuned says, but for near ties"
    assert all(e.arms[file.stem].tokens for e in evaluation.examples())


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("nothing.gguf", {}, "there is no such file"),
        ("broken.gguf", {}, "is no GGUF file that can be read"),
        ("tuned.gguf", {}, "tuned is an arm already"),
        (None, {"processes": 2}, "llama.cpp uses all cores by itself"),
    ],
)
def test_what_is_no_file_is_refused_before_anything_is_asked(run, file, tmp_path, name, values, words):
    for made in ("broken.gguf", "tuned.gguf"):
        (tmp_path / made).write_bytes(b"GGUF" * 100)
    with pytest.raises(BadInput, match=words):
        evaluated(run, adapters=[str(tmp_path / name if name else file)], **values)


def test_a_file_needs_the_extra(run, file, monkeypatch):
    monkeypatch.setattr("medcot.engine.gguf.llama.can_run_files", lambda: False)
    with pytest.raises(BadInput, match=r"xllamacpp: is not installed.*pip install 'medcot\[export\]'"):
        evaluated(run, adapters=[str(file)])


def test_the_command_line_asks_a_file(file, runs_dir):
    done = CliRunner().invoke(app, ["ask", str(file), "What suggests gout?", "--max-new-tokens", "8", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["file"]["tokens"] <= 8
    assert said["file"]["text"]
    refused = CliRunner().invoke(app, ["ask", "no.gguf", "What suggests gout?"])
    assert refused.exit_code == 2
    assert "there is no such file" in refused.output


@pytest.mark.slow
def test_the_command_line_exports_a_file_and_shows_what_llama_cpp_said(run, tmp_path):
    runs = ["--runs-dir", str(run.path.parent)]
    asked = ["export", run.id, *runs, "--format", "gguf", "--questions", "2", "--max-new-tokens", "8"]
    done = CliRunner().invoke(app, [*asked, "--quantize", "q8_0,f16", "--to", str(tmp_path / "a")])
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "Merged and checked" in said
    assert "are those of the exported model" in said
    assert "ollama create" in said
    assert {p.suffix for p in (tmp_path / "a").iterdir()} == {".gguf", "", ".md", ".json"}
    noted = {(file.path.parent, file.title): file.checked for file in shipped(run.path)}
    assert noted == {(tmp_path / "a", "F16"): True, (tmp_path / "a", "Q8_0"): True}, "the run knows them"
    again = CliRunner().invoke(app, [*asked, "--to", str(tmp_path / "a")])
    assert again.exit_code == 2
    assert "is there already" in again.output


@pytest.mark.slow
def test_a_file_answers_as_tuned_did(evaluation, file):
    from medcot.engine.gguf.arm import answer

    sample = evaluation.samples()[0]
    request = AskFileRequest(file=file, question=sample.question, max_new_tokens=16)
    assert answer(request, lambda event: None).text == sample.arms[file.stem].output


@pytest.fixture
def server(file, monkeypatch):
    """llama.cpp's own server over the file, as anybody would ask it."""
    from medcot.engine.gguf.llama import LlamaServer

    with LlamaServer(file, context=1024) as running:
        monkeypatch.setenv("MEDCOT_ENDPOINT_KEY", running.key)
        yield running


def test_a_deployment_is_proven_by_its_answers(run, evaluation, server):
    endpoint = EndpointSettings(url=server.address, base="any", tuned="any", concurrency=2)
    request = CheckRequest(adapter=of_run(run), endpoint=endpoint, order=export_order("merged", max_new_tokens=16))
    found = deployed.check(request, lambda event: None)
    assert found.questions == len(evaluation.examples())
    assert found.same_answers >= found.questions - 1
    assert found.same_begun > 0.7
    assert found.tuned["answer_rouge_l"] == pytest.approx(evaluation.summary().arms["tuned"]["answer_rouge_l"])
    assert found.problem == ""


def test_the_command_line_checks_a_server_and_says_what_is_missing(run, evaluation, server):
    runs = ["--runs-dir", str(run.path.parent)]
    asked = ["export", run.id, *runs, "--check", server.address, "--model", "any", "--max-new-tokens", "16"]
    done = CliRunner().invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["questions"] == len(evaluation.examples())
    for extra, words in [
        ([], "--to: is missing"),
        (["--check", server.address], "--model: is missing"),
        (["--check", "ftp://x", "--model", "a"], "is not an http"),
        (["--check", server.address, "--model", "a", "--to", "x"], "cannot be combined with --to"),
        (["--model", "a", "--to", "x"], "belongs to --check"),
    ]:
        refused = CliRunner().invoke(app, ["export", run.id, *runs, *extra])
        assert refused.exit_code == 2
        assert words in " ".join(refused.output.split())


@pytest.mark.parametrize(
    ("scores", "stopped", "words"),
    [
        ({"answer_rouge_l": 0.3, "truncated": 0.0}, 24, ""),
        ({"answer_rouge_l": 0.3, "truncated": 0.5}, 12, "50% of its answers run on to the limit, 4% of tuned's"),
        ({"answer_rouge_l": 0.1, "truncated": 0.0}, 24, "score 0.100 ROUGE-L, tuned's 0.300"),
    ],
)
def test_another_thing_than_was_measured_is_said(scores, stopped, words):
    tuned = {"answer_rouge_l": 0.3, "truncated": 0.04}
    found = CheckedServer(
        **{"url": "http://x", "model": "m", "questions": 24, "same_answers": 0, "same_begun": 0.1},
        **{"tokens_per_second": 1.0, "stopped": stopped, "scores": scores, "tuned": tuned},
    )
    said = deployed.problem(found)
    assert words in said if words else said == ""
    assert "none of its answers ends" in deployed.problem(found.model_copy(update={"stopped": 0, "tuned": {}}))
