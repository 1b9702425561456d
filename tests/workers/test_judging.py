"""`medcot judge` with its real worker: from the command to the table, killed, continued, and refused."""

import json
import os
import re
import signal

import pytest
from typer.testing import CliRunner

from medcot import data
from medcot.cli import app
from medcot.evaluation.judge.faults import plant
from medcot.runs import judging
from medcot.runs.run import Evaluation
from medcot.runs.store import RunStore
from medcot.settings.evaluation import KEY_VARIABLE
from medcot.settings.judging import judge_order
from medcot.settings.recipes import compose
from medcot.workers import jobs
from tests.fakes import write_run
from tests.faults.tools import ended, until
from tests.judges import Server, serving, write_evaluation

KEY = "sk-canary-7u1c3"


@pytest.fixture(scope="module")
def held_out():
    return data.load(compose("starter").data).held_out


@pytest.fixture
def run(tmp_path):
    return write_run(RunStore(tmp_path / "runs"), compose("starter"), "finished")


@pytest.fixture
def evaluation(run, held_out) -> Evaluation:
    faulty = [plant("negation", e.answer) or e.answer for e in held_out]
    return write_evaluation(run, held_out, {"base": [e.answer for e in held_out], "tuned": faulty})


def medcot(run, *arguments: str, code: int = 0):
    done = CliRunner().invoke(app, [*arguments, "--runs-dir", str(run.path.parent)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def test_a_killed_judging_goes_on_and_asks_nothing_twice(run, evaluation, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    server = Server(seconds=0.1)
    with serving(server) as url:
        jobs.start_judging(run, evaluation, judge_order(url, "judge", None, concurrency=4), judging.Given())
        verdicts = evaluation.path / judging.VERDICTS
        until(lambda: verdicts.is_file() and len(verdicts.read_bytes().splitlines()) > 100, "a hundred verdicts")
        os.kill(evaluation.status().pid, signal.SIGKILL)
        status = ended(evaluation)
        assert status.state == "interrupted"
        assert f"medcot judge {run.id} --resume {evaluation.id}" in status.hint
        assert evaluation.summary().judges == {}
        kept = {json.loads(line)["key"] for line in verdicts.read_text().splitlines() if line.endswith("}")}
        server.asked.clear()
        server.seconds = 0.0
        done = medcot(run, "judge", run.id, "--resume", "latest")
    lines = [json.loads(line)["key"] for line in verdicts.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == len(kept) + server.asked.total()
    said = re.sub(r"[│\s]+", " ", done.stdout)  # without the frame
    assert "(licensed): tuned is worse than base in right answers: " in said
    assert evaluation.summary().arms["tuned"]["judged_wrong"] > 0.9
    assert [p for p in run.path.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()] == []


def test_the_estimate_says_how_much_and_asks_nothing(run, evaluation):
    named = ("--endpoint", "http://127.0.0.1:9", "--model", "judge", "--estimate")
    found = json.loads(medcot(run, "judge", *named, "--price", "1,2", "--json").stdout)
    assert found["requests"] > 200
    assert found["price"] == pytest.approx((found["tokens_in"] + 2 * found["tokens_out"]) / 1e6)
    said = " ".join(medcot(run, "judge", *named, "--how", "pair", "--reasoning").output.split())
    assert re.search(r"At most \d+ requests, about [\d,]+ tokens sent and [\d,]+ got\.", said)
    assert evaluation.status().job == "evaluate"
    assert not (evaluation.path / judging.ORDER).exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ["judge: is not named."]),
        (("--endpoint", "http://h"), ["--model: is missing."]),
        (("--model", "m"), ["--endpoint: is missing."]),
        (("--endpoint", "http://h", "--model", "m", "--judge-model", "x"), ["--judge-model: cannot be combined"]),
        (("--endpoint", "ftp://h", "--model", "m"), ["--endpoint: is not an http"]),
        (("--endpoint", "http://h", "--model", " "), ["--model: names no model"]),
        (("--endpoint", "http://h", "--model", "m", "--how", "vibes"), ["--how: "]),
        (("--endpoint", "http://h", "--model", "m", "--concurrency", "0"), ["--concurrency: "]),
        (("--endpoint", "http://h", "--model", "m", "--how", "rubric"), ["--rubric: is missing."]),
        (
            ("--endpoint", "http://h", "--model", "m", "--rubric", "no.jsonl"),
            ["--rubric: belongs to", "there is no file"],
        ),
        (
            ("--endpoint", "http://h", "--model", "m", "--labels", "no.jsonl", "--price", "x"),
            ["no file", "--price: 'x' is"],
        ),
        (("--endpoint", "http://h", "--model", "m", "--price", "nan,1"), ["--price: "]),
    ],
)
def test_every_wrong_option_is_told_at_once(run, evaluation, options, words):
    said = " ".join(medcot(run, "judge", *options, code=2).output.split())
    assert [part for part in words if part not in said] == []
    assert evaluation.status().state == "finished"


def test_what_cannot_be_judged_is_told(run):
    named = ("--endpoint", "http://127.0.0.1:9", "--model", "judge")
    assert "it has none" in " ".join(medcot(run, "judge", *named, code=2).output.split())
    unfinished = run.new_evaluation()
    unfinished.write_status("stopped", job="evaluate")
    said = " ".join(medcot(run, "judge", *named, code=2).output.split())
    assert f"{unfinished.id} is not finished. Go on with it first: medcot evaluate" in said
    assert "judge.json: cannot be read" in " ".join(medcot(run, "judge", "--resume", "latest", code=2).output.split())


def test_a_server_that_is_not_there_is_told_and_the_evaluation_stays_as_it_was(run, evaluation):
    before = evaluation.summary()
    done = medcot(run, "judge", "--endpoint", "http://127.0.0.1:9", "--model", "judge", code=2)
    assert "did not answer: ConnectError. Start it, or fix the address." in " ".join(done.output.split())
    assert evaluation.summary() == before
    assert json.loads(medcot(run, "results", "--json").stdout)["evaluation"] == evaluation.id
