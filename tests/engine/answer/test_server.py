"""The endpoint backend: against a real server of a tiny model, and against a transport that misbehaves on purpose."""

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from medcot.adapters.open import of_run
from medcot.errors import BadInput
from medcot.prompts.contract import PromptContract
from medcot.settings.evaluation import KEY_VARIABLE, EndpointSettings
from tests.engine_tools import changed, train

KEY = "sk-canary-7h1s-15-53cr37"
CHAT = PromptContract(style="chat", system="Be brief.", template_hash="h", eos_id=2, eos_token="<|im_end|>")
PLAIN = PromptContract(style="plain", system=None, template_hash=None, eos_id=2, eos_token="<|im_end|>")


@pytest.fixture
def ask(monkeypatch):
    """Asks an endpoint whose server is a function of the request; waits between retries are left out."""
    from medcot.engine.answer import server as endpoint
    from medcot.evaluation.answers import Decoding

    waits: list[float] = []
    monkeypatch.setattr(endpoint.time, "sleep", waits.append)
    monkeypatch.setenv(KEY_VARIABLE, KEY)

    def ask_(server, contract=CHAT, how="complete", **settings):
        named = EndpointSettings(url="http://127.0.0.1:9/v1/", base="b", tuned="t", **settings)
        client = endpoint.Endpoint(named, contract, httpx.MockTransport(server))
        arguments = ("t", " Why? ", Decoding(max_new_tokens=7, temperature=0.0, seed=3))
        return client.require_models() if how == "models" else getattr(client, how)(*arguments)

    ask_.waits = waits
    return ask_


def said(text, reason="stop", **more):
    choice = {"message": {"content": text}, "finish_reason": reason, **more}
    return httpx.Response(200, json={"choices": [choice], "usage": {"completion_tokens": 5}})


def test_chat_goes_as_messages_with_the_contracts_date_and_the_decoding(ask):
    seen = []

    def server(request):
        seen.append(request)
        return said("<think>a</think>", "length")

    found = ask(server)
    assert (found.text, found.tokens, found.ended) == ("<think>a</think>", 5, "limit")
    (request,) = seen
    assert request.url == "http://127.0.0.1:9/v1/chat/completions"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert json.loads(request.content) == {
        "model": "t",
        "max_tokens": 7,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 3,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
        "chat_template_kwargs": {"date_string": "26 Jul 2024"},
    }


OPENED = CHAT.model_copy(update={"opened": "<think>\n", "switches": {"enable_thinking": True}})


@pytest.mark.parametrize(
    ("sent", "whole"),
    [
        ({"content": "a</think>b"}, "<think>\na</think>b"),
        ({"content": "b", "reasoning_content": "a"}, "<think>a</think>b"),
        ({"content": "<think>a</think>b"}, "<think>a</think>b"),
    ],
)
def test_a_tag_that_the_template_opens_is_put_before_a_servers_text_once(ask, sent, whole):
    bodies = []

    def server(request):
        bodies.append(json.loads(request.content))
        if "stream" not in bodies[-1]:
            return httpx.Response(200, json={"choices": [{"message": sent}]})
        deltas = [{name: text} for name, text in reversed(sent.items())] + [{"content": "!"}]
        events = "".join(f"data: {json.dumps({'choices': [{'delta': delta}]})}\n\n" for delta in deltas)
        return httpx.Response(200, text=f"{events}data: [DONE]\n\n")

    assert ask(server, contract=OPENED).text == whole
    assert "".join(ask(server, contract=OPENED, how="stream")) == f"{whole}!"
    options = {"date_string": "26 Jul 2024", "enable_thinking": True}
    assert [body["chat_template_kwargs"] for body in bodies] == [options, options]


def test_plain_goes_as_text_without_a_bos_token_and_its_stop_string_comes_back(ask):
    def server(request):
        body = json.loads(request.content)
        assert request.url.path == "/v1/completions"
        assert body["prompt"] == "Below is a medical question. Think step by step to solve it.\nQuestion: Why?\n"
        assert body["stop"] == ["</response>"]
        choice = {"text": "<response>x", "finish_reason": "stop", "stop_reason": "</response>"}
        return httpx.Response(200, json={"choices": [choice]})

    assert ask(server, PLAIN).text == "<response>x</response>"


@pytest.mark.parametrize(
    ("text", "reason", "whole"),
    [
        ("<think>a</think><response>x", "stop", "<think>a</think><response>x</response>"),
        ("<response>x", "length", "<response>x"),
        ("a question of its own", "stop", "a question of its own"),
        ("<response>x</response>", "stop", "<response>x</response>"),
    ],
)
def test_a_stop_string_comes_back_from_servers_that_do_not_say_which_it_was(ask, text, reason, whole):
    """llama-server and Ollama: an answer that has begun was ended by what closes it, any other by its end token."""
    answer = httpx.Response(200, json={"choices": [{"text": text, "finish_reason": reason}]})
    assert ask(lambda _: answer, PLAIN).text == whole


def test_an_end_token_is_not_taken_for_the_stop_string_where_the_server_says_what_ended_it(ask):
    choice = {"text": "<response>x", "finish_reason": "stop", "stop_reason": None}
    assert ask(lambda _: httpx.Response(200, json={"choices": [choice]}), PLAIN).text == "<response>x"


def test_ollama_is_not_measured_under_a_text_that_it_would_put_into_another(ask):
    def server(request):
        own = request.url.path == "/api/version"
        return httpx.Response(200, json={"version": "0.12.0"} if own else {"data": [{"id": "b"}, {"id": "t"}]})

    with pytest.raises(BadInput, match=r"is Ollama, which puts its own template around the plain contract's text"):
        ask(server, PLAIN, how="models")
    ask(server, how="models")  # messages go through a template anyway


def test_reasoning_that_a_server_gives_apart_is_not_lost(ask):
    def server(_):
        return httpx.Response(200, json={"choices": [{"message": {"content": "B", "reasoning_content": "A"}}]})

    assert ask(server).text == "<think>A</think>B"


def test_pieces_of_a_stream_make_up_the_text_and_the_stream_says_how_it_ended(ask):
    deltas = [{"role": "assistant"}, {"reasoning_content": "A"}, {"reasoning_content": "a"}, {"content": "B"}, {}]

    def server(_):
        lines = [{"choices": [{"delta": d, "finish_reason": None if d else "length"}]} for d in deltas]
        return httpx.Response(200, text="".join(f"data: {json.dumps(x)}\n\n" for x in lines) + "data: [DONE]\n\n")

    def read():
        pieces.append((yield from ask(server, how="stream")))

    pieces: list[str] = []
    assert "".join(read()) == "<think>Aa</think>B"
    assert pieces == ["limit"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"error": {"message": f"out of memory, {KEY}", "code": 500}}, "broke off: out of memory, [key]"),
        ({"error": "out of memory"}, "broke off: out of memory"),
        ({"error": {"code": 500}}, "broke off"),
        ([1], "another shape"),
        (None, "another shape"),
        ({"choices": [None]}, "another shape"),
        ({"choices": [{"delta": "B"}]}, "another shape"),
        ({"choices": "B"}, "another shape"),
    ],
)
def test_a_stream_that_ends_in_an_error_or_in_no_answer_is_not_called_finished(ask, line, words):
    def server(_):
        lines = [{"choices": [{"delta": {"content": "A"}}]}, line]
        return httpx.Response(200, text="".join(f"data: {json.dumps(x)}\n\n" for x in lines) + "data: [DONE]\n\n")

    stream = ask(server, how="stream")
    assert next(stream) == "A"
    with pytest.raises(BadInput) as refused:
        next(stream)
    assert words in str(refused.value)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("line", ["[" * 100_000, "9" * 5000, "{"], ids=["deep", "digits", "cut"])
def test_a_stream_that_is_no_json_breaks_off_in_words(ask, line):
    stream = ask(lambda _: httpx.Response(200, text=f"data: {line}\n\n"), how="stream")
    with pytest.raises(BadInput, match="broke off"):
        next(stream)


@pytest.mark.parametrize("trouble", [503, 429, httpx.ConnectError("no"), httpx.ReadTimeout("slow")])
def test_what_passes_is_tried_again_with_growing_waits(ask, trouble):
    left = [trouble, trouble]

    def server(_):
        if not left:
            return said("ok")
        now = left.pop()
        if isinstance(now, Exception):
            raise now
        return httpx.Response(now, headers={"Retry-After": "4"} if now == 429 else {})

    assert ask(server).text == "ok"
    assert ask.waits == ([4.0, 8.0] if trouble == 429 else [0.5, 1.0])


@pytest.mark.parametrize(
    ("answer", "words", "tries"),
    [
        (httpx.Response(503), "answered HTTP 503", 3),
        (httpx.Response(404, text="no such model"), "answered HTTP 404: no such model", 1),
        (httpx.Response(401, text="bad"), f"refuses the key (HTTP 401). Set {KEY_VARIABLE}", 1),
        (httpx.Response(200, text="<html>"), "not JSON", 1),
        (httpx.Response(200, text="[" * 100_000), "not JSON", 1),
        (httpx.Response(200, text='{"choices": ' + "9" * 5000 + "}"), "not JSON", 1),
        (httpx.Response(200, json={"choices": []}), "another shape", 1),
        (httpx.Response(302, headers={"Location": "http://elsewhere/"}), "answered HTTP 302", 1),
    ],
)
def test_what_does_not_pass_is_said_in_words(ask, answer, words, tries):
    asked = []

    def server(request):
        asked.append(request)
        return answer

    with pytest.raises(BadInput) as refused:
        ask(server, retries=2)
    assert words in str(refused.value)
    assert len(asked) == tries


def test_the_key_is_in_no_message_and_no_log(ask, caplog):
    caplog.set_level(logging.DEBUG)

    def server(request):
        return httpx.Response(400, text=f"bad request with {request.headers['Authorization']}")

    with pytest.raises(BadInput) as refused:
        ask(server)
    assert KEY not in str(refused.value) + caplog.text
    assert "[key]" in str(refused.value)


def test_a_model_that_the_server_does_not_list_is_named(ask):
    listed = httpx.Response(200, json={"data": [{"id": "b"}, {"id": "other"}]})
    with pytest.raises(BadInput, match=r"serves no model 't'; it has b, other"):
        ask(lambda _: listed, how="models")


def test_a_server_that_is_not_there_or_refuses_the_key_is_told_before_anything_is_asked(ask):
    def gone(_):
        raise httpx.ConnectError("refused")

    with pytest.raises(BadInput, match=r"did not answer: ConnectError\. Start it"):
        ask(gone, how="models")
    with pytest.raises(BadInput, match="refuses the key"):
        ask(lambda _: httpx.Response(403), how="models")
    ask(lambda _: httpx.Response(500), how="models")  # it keeps no list, and may answer questions all the same


@pytest.mark.parametrize("url", ["ftp://host", "host:8000", "http://", "http://me:word@host/v1", "http://host/?key=1"])
def test_an_address_that_cannot_be_or_holds_a_secret_is_refused(url):
    with pytest.raises(ValidationError):
        EndpointSettings(url=url, base="b", tuned="t")


@pytest.fixture(scope="module")
def served(tmp_path_factory, tiny_model):
    """`transformers serve` on the tiny model, and a run whose tuned model it serves too."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from medcot.settings import build
    from tests.browser.conftest import free_port
    from tests.conftest import tiny_raw, write_records

    folder = tmp_path_factory.mktemp("served")
    settings = build(tiny_raw(tiny_model, write_records(folder / "records.jsonl")))
    run = train(folder / "runs", changed(settings, "training", max_steps=25, validate_steps=100, save_steps=100))
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), run.adapter_dir)
    merged.merge_and_unload().save_pretrained(folder / "tuned")  # the server takes whole models only
    for file in run.adapter_dir.glob("*token*"):
        shutil.copy(file, folder / "tuned")
    shutil.copy(run.adapter_dir / "chat_template.jinja", folder / "tuned")
    port = free_port()
    command = ["serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    start = "from medcot.engine import without_broken_torchvision; without_broken_torchvision(); "
    start += "from transformers.cli.transformers import main; main()"
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-c", start, *command], stdout=log, stderr=log, env=quiet)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, Path(folder / "log").read_text()
        try:
            if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.3)
    yield EndpointSettings(url=url, base=str(tiny_model), tuned=str(folder / "tuned"), concurrency=2), run
    server.terminate()
    server.wait(30)


@pytest.mark.slow
def test_a_real_server_answers_as_the_model_does_here(served):
    from medcot.engine.answer.load import open_decoder
    from medcot.engine.answer.server import Endpoint
    from medcot.engine.backends.peft import PeftBackend
    from medcot.evaluation.answers import Decoding

    named, run = served
    decoder = open_decoder(of_run(run), PeftBackend(), lambda event: None, max_length=512)
    rows = decoder.rows_for("What suggests gout?")
    decoding = Decoding(max_new_tokens=24)
    decoder.decode(rows, decoding)
    client = Endpoint(named, decoder.contract)
    client.require_models()
    for row, name in zip(rows, (named.base, named.tuned), strict=True):
        found = client.complete(name, "What suggests gout?", decoding)
        assert (found.text, found.tokens, found.ended) == (decoder.text(row), len(row.tokens), row.ended)
        streamed = "".join(client.stream(name, "What suggests gout?", decoding))
        half = "\ufffd"  # bytes of a character that the budget cut off; a stream may keep them back
        assert streamed.rstrip(half) == found.text.rstrip(half)
    assert decoder.text(rows[0]) != decoder.text(rows[1]), "the adapter must matter here"
    client.close()


@pytest.mark.slow
def test_an_evaluation_by_a_server_says_what_one_here_says(served):
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.evaluate import evaluate
    from medcot.settings.evaluation import EvaluationOrder

    named, run = served
    rows = {}
    for where in (None, named):
        job = run.new_evaluation()
        order = EvaluationOrder(max_new_tokens=12, records=2, endpoint=where)
        evaluate(run, job, order, PeftBackend(), job.append)
        rows[where] = [
            {arm: e.arms[arm].output.rstrip("\ufffd") for arm in ("base", "base-told", "tuned")} for e in job.examples()
        ]
    assert rows[named] == rows[None]
    assert job.summary().engine == named.url
    assert job.summary().notes == [
        "The server made the prompts with its own chat template, which was not compared with the contract's."
    ]
