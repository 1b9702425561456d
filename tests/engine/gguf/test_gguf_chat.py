"""Chat with an exported file in tuned's place, through the service worker: streamed, stopped, given back."""

import psutil
import pytest

from medcot.adapters.open import of_run
from medcot.prompts.contract import Exchange
from medcot.workers import protocol as m
from medcot.workers.client import ServiceClient
from medcot.workers.slot import Slot
from tests.engine_tools import cancelled_at_the_first

QUESTION = "What suggests gout?"


@pytest.fixture(scope="module")
def client(run):
    client = ServiceClient(run.path.parent)
    yield client
    client.close()


@pytest.fixture
def loaded(client, run, file):
    *_, reply = client.request(m.LoadRequest(adapter=of_run(run), file=file))
    assert isinstance(reply, m.Loaded), reply
    return reply


def ask(client, **more):
    return list(client.request(m.AskRequest(question=QUESTION, **{"max_new_tokens": 16, **more})))


def llama(client):
    """The process in which llama.cpp runs."""
    children = psutil.Process(client._child.pid).children(recursive=True)
    return [child for child in children if "medcot.engine.gguf.server" in " ".join(child.cmdline())]


def test_the_file_answers_as_alone_and_base_as_beside_tuned(client, run, file, loaded):
    from medcot.engine.gguf.arm import answer

    assert (loaded.run, loaded.file, loaded.follow_ups) == (run.id, file.name, True)
    *pieces, answered = ask(client)
    alone = answer(m.AskFileRequest(file=file, question=QUESTION, max_new_tokens=16), lambda event: None)
    assert answered.tuned.text == alone.text.rstrip("�"), "but for a character that was not complete at the limit"
    assert (answered.tuned.tokens, answered.tuned.ended) == (alone.tokens, alone.ended)
    assert answered.tuned.text.startswith("".join(piece.tuned for piece in pieces))
    assert 0 < answered.tuned.first_token_seconds <= answered.tuned.seconds
    *_, after = ask(client, tuned_history=[Exchange(QUESTION, "Pain.")])
    assert after.tuned.text != answered.tuned.text, "it hears what was said before"

    list(client.request(m.LoadRequest(adapter=of_run(run))))
    *_, beside = ask(client)
    assert client.loaded.file == ""
    assert beside.base.text == answered.base.text == after.base.text
    assert beside.tuned.text.rstrip("�") == answered.tuned.text, "and in 16 bits the file says what tuned says"


@pytest.mark.slow
def test_a_stopped_answer_keeps_what_came_and_the_next_question_is_answered(client, loaded):
    request = m.AskRequest(question=QUESTION, max_new_tokens=1500, temperature=1.0, seed=3)
    replies = cancelled_at_the_first(client, request)
    assert isinstance(replies[-1], m.Answered)
    assert "stopped" in (replies[-1].base.ended, replies[-1].tuned.ended)
    assert isinstance(ask(client)[-1], m.Answered)


def test_more_than_there_is_room_for_is_refused_in_words(client, loaded):
    *_, refused = ask(client, max_new_tokens=9000)
    assert isinstance(refused, m.Failed)
    assert "Start a new conversation, ask for fewer new tokens" in str(refused.problems[0])


def test_llama_cpp_goes_with_the_model_and_holds_the_device_with_it(client, run, loaded):
    (child,) = llama(client)
    assert not Slot(run.path.parent).try_acquire("a job")
    list(client.request(m.UnloadRequest()))
    child.wait(timeout=20)
    slot = Slot(run.path.parent)
    assert slot.try_acquire("a job")
    slot.release()


@pytest.mark.slow
def test_where_llama_cpp_has_ended_it_is_said_and_the_next_question_loads_it_anew(client, loaded):
    (child,) = llama(client)
    child.kill()
    *_, failed = ask(client)
    assert isinstance(failed, m.Failed)
    assert "llama.cpp ended while it was asked" in str(failed.problems[0])
    assert client.loaded is None
    assert isinstance(ask(client)[-1], m.Answered)


def test_a_file_of_another_contract_or_none_at_all_is_refused(client, run, file, tmp_path):
    from medcot.workers.protocol import LoadRequest

    (tmp_path / "broken.gguf").write_bytes(b"GGUF" * 100)
    other = of_run(run)
    contract = other.contract.model_copy(update={"system": "Be brief."})
    for adapter, path, words in (
        (other.model_copy(update={"contract": contract}), file, "carries another prompt contract than the run"),
        (other, tmp_path / "broken.gguf", "is no GGUF file that can be read"),
    ):
        *_, failed = client.request(LoadRequest(adapter=adapter, file=path))
        assert isinstance(failed, m.Failed)
        assert words in str(failed.problems[0])
        assert llama(client) == []
        assert client.loaded is None
