"""The named endpoints, through the real gradio_client."""

import threading

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

from medcot.evaluation.summary import Summary
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.ui import build_app
from medcot.ui.serve import Served
from medcot.workers import protocol as m
from tests.browser.conftest import wait_until
from tests.evaluation.test_report import example, summary_of
from tests.fakes import FakeClient, write_run

TEXT = "<think>\nSigns.\n</think>\n<response>\nGout.\n</response>"


@pytest.fixture
def model():
    return FakeClient(base="Rambling.", tuned=TEXT)


@pytest.fixture
def served(runs_dir, model):
    run = write_run(RunStore(runs_dir), RunSettings(), "finished", adapter=True)
    page = Served(build_app(runs_dir, model))
    yield run, Client(page.url, verbose=False)
    page.close()


def test_runs_summaries_and_answers_by_name(served):
    run, client = served
    (found,) = client.predict(api_name="/list_runs")
    assert (found["id"], found["state"], found["adapter"]) == (run.id, "finished", True)

    with pytest.raises(AppError, match="has not been evaluated"):
        client.predict(run.id, api_name="/evaluation_summary")
    job = run.new_evaluation()
    written = summary_of([example("a")])
    job.write_summary(Summary.model_validate(written))
    job.write_status("finished", job="evaluate")
    assert client.predict(run.id, api_name="/evaluation_summary") == written
    with pytest.raises(AppError, match="no run"):
        client.predict("../x", api_name="/evaluation_summary")

    answered = client.predict(run.id, "What suggests gout?", api_name="/ask_base_and_tuned")
    assert (answered["tuned"]["reasoning"], answered["tuned"]["answer"]) == ("Signs.", "Gout.")
    assert (answered["base"]["text"], answered["emergency"]) == ("Rambling.", [])
    answered = client.predict(run.id, "I have crushing chest pain now", api_name="/ask_base_and_tuned")
    assert "112, 911 or 999" in answered["emergency"][0]
    with pytest.raises(AppError, match="question: is empty"):
        client.predict(run.id, " ", api_name="/ask_base_and_tuned")


def test_questions_that_a_program_asks_at_once_are_all_answered_and_end_with_the_program(served, model):
    run, client = served
    model.hold = threading.Event()
    sent = [client.submit(run.id, f"Question {n}?", api_name="/ask_base_and_tuned") for n in range(3)]
    wait_until(lambda: asked(model))
    model.hold.set()
    assert [s.result(60)["question"] for s in sent] == ["Question 0?", "Question 1?", "Question 2?"]
    assert model.cancelled == []

    model.hold = threading.Event()
    for number in (4, 5):
        client.submit(run.id, f"Question {number}?", api_name="/ask_base_and_tuned")
    wait_until(lambda: len(asked(model)) == 4)
    client.close()
    wait_until(lambda: model.cancelled == [asked(model)[3].id])
    assert len(asked(model)) == 4, "who waited is not answered any more"


def asked(model):
    return [r for r in model.requests if isinstance(r, m.AskRequest)]


def test_nothing_else_is_offered_to_other_programs(served):
    offered = served[1].view_api(return_format="dict")["named_endpoints"]
    assert offered.keys() == {"/list_runs", "/evaluation_summary", "/ask_base_and_tuned"}
