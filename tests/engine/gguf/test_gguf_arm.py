"""A GGUF file as one more arm of an evaluation, asked one question, and served: a run's deployment, proven."""

import json

import httpx
import pytest
from typer.testing import CliRunner

from medcot.adapters.open import of_run
from medcot.cli import app
from medcot.engine import deployed
from medcot.engine.answer.server import Endpoint
from medcot.engine.gguf import arm
from medcot.engine.gguf.arm import FileArm
from medcot.engine.gguf.llama import LlamaServer
from medcot.engine.held_out import Asked, asked_of
from medcot.errors import BadInput, WorkerFailed
from medcot.evaluation.answers import Decoding, Shown
from medcot.prompts.contract import STYLES, PromptContract
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


def test_an_adapters_file_is_said_to_need_its_base(run, tmp_path):
    from transformers import AutoConfig

    from medcot.engine.gguf.adapter import write_adapter
    from medcot.engine.gguf.writer import Naming

    adapter, alone = of_run(run), tmp_path / "x-LoRA.gguf"
    config = AutoConfig.from_pretrained(adapter.base.id)
    write_adapter(adapter.path, config, adapter.contract, Naming("x", "y", "z"), alone)
    with pytest.raises(BadInput, match=r"x-LoRA.gguf: is an adapter alone, which answers only beside its base's file"):
        FileArm.of(str(alone))


def test_a_slow_answer_is_followed_so_that_nobody_takes_llama_cpp_for_hung(file, monkeypatch):
    """The client ends a process that says nothing for ten minutes; an answer may take longer."""
    monkeypatch.setattr(arm, "FOLLOW_SECONDS", 0.001)
    request = AskFileRequest(file=file, question="What suggests gout?", max_new_tokens=400)
    counts = []
    for _ in range(10):  # a model this small may have answered before anybody looks
        stages = []
        found = arm.answer(request, lambda event, said=stages: said.append(event.stage))
        if counts := [int(stage.split()[1]) for stage in stages if stage.endswith("tokens so far")]:
            break
    assert counts == sorted(counts)
    assert 0 < counts[-1] <= found.tokens


def test_an_answer_that_takes_too_long_is_not_called_an_end_of_llama_cpp(monkeypatch):
    def slow(request):
        raise httpx.ReadTimeout("timed out")

    server = LlamaServer.__new__(LlamaServer)
    server._http = httpx.Client(base_url="http://x", transport=httpx.MockTransport(slow))
    with pytest.raises(WorkerFailed, match=r"no whole answer within 30 minutes\. Ask for fewer new tokens"):
        server.complete([1], Decoding(8))


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


def test_an_answer_that_tuned_gave_with_more_tokens_is_not_compared():
    """A smaller budget cuts a server's answers, and says nothing about what is served there."""
    tuned = [Shown(output="short", tokens=90, answer_rouge_l=0.5), Shown(output="long", tokens=400, answer_rouge_l=0.1)]
    asked = Asked(["a", "b"], ["A", "B"], tuned=tuned, most=512)
    assert deployed.within_budget(asked, None, 200) == (Decoding(512), asked), "as the evaluation did, not as the run"
    decoding, fewer = deployed.within_budget(asked, 128, 200)
    assert (decoding, fewer.questions, fewer.records, fewer.tuned) == (Decoding(128), ["a"], ["A"], tuned[:1])
    assert fewer.note == "1 questions are left out: tuned's answers to them have 128 tokens or more."
    with pytest.raises(BadInput, match=r"--max-new-tokens: is 64, and all of tuned's answers are longer.* had 512"):
        deployed.within_budget(asked, 64, 200)
    assert deployed.within_budget(Asked(["a"], []), None, 200)[0] == Decoding(200)


class Deployed:
    """A server that lists one model, and knows it by another name too, as Ollama does."""

    def __init__(self, monkeypatch, own):
        self.own, self.bodies = own, []
        monkeypatch.setattr(deployed, "Endpoint", lambda *given: Endpoint(*given, httpx.MockTransport(self.answer)))

    def answer(self, request):
        if request.url.path.endswith("/models"):
            return httpx.Response(200, json={"data": [{"id": "mine:latest"}]})
        if request.url.path == "/api/version":
            return httpx.Response(200, json={"version": "0.12"}) if self.own == "ollama" else httpx.Response(404)
        self.bodies.append(body := json.loads(request.content))
        if not body["model"].startswith("mine"):
            return httpx.Response(404, text="no such model")
        said = {"finish_reason": "stop", "text": "<response>x", "message": {"content": "<response>x"}}
        return httpx.Response(200, json={"choices": [said]})


@pytest.mark.parametrize("name", ["mine", "mine:latest", "yours"])
def test_a_name_that_the_server_does_not_know_is_said_with_those_that_it_has(run, monkeypatch, name):
    server = Deployed(monkeypatch, "ollama")
    endpoint = EndpointSettings(url="http://x", base=name, tuned=name)
    request = CheckRequest(adapter=of_run(run), endpoint=endpoint, order=export_order("merged", questions=2))
    if name != "yours":
        assert deployed.check(request, lambda event: None).questions == 2
        assert {body["max_tokens"] for body in server.bodies} == {of_run(run).max_new_tokens}
        return
    with pytest.raises(BadInput, match=r"--model: .*HTTP 404.* It lists no 'yours'; it has mine:latest. Name one"):
        deployed.check(request, lambda event: None)


@pytest.mark.parametrize("own", ["ollama", "llama-server"])
def test_ollama_gets_the_question_alone_under_the_plain_contract_and_others_the_whole_text(run, monkeypatch, own):
    server = Deployed(monkeypatch, own)
    plain = PromptContract(style="plain", system=None, template_hash=None, eos_id=2, eos_token="x")
    adapter = of_run(run).model_copy(update={"contract": plain})
    endpoint = EndpointSettings(url="http://x", base="mine", tuned="mine")
    order = export_order("merged", questions=1)
    found = deployed.check(CheckRequest(adapter=adapter, endpoint=endpoint, order=order), lambda event: None)
    asked, (body,) = asked_of(adapter, 1).questions[0], server.bodies
    if own == "ollama":
        assert body["messages"] == [{"role": "user", "content": asked}]
    else:
        assert body["prompt"] == f"{STYLES['plain'].text.format(question=asked)}"
    assert (found.stopped, body["stop"]) == (1, ["</response>"])
