"""What people bring is read apart: within limits, in words, and with nothing of it in the page's own process."""

import json
import os

import psutil
import pytest

from medcot import data
from medcot.errors import BadInput
from medcot.evaluation import choice_files
from medcot.runs.store import RunStore
from medcot.settings import STARTER, DataSettings, recipes
from medcot.settings.evaluation import EvaluationOrder
from medcot.workers import jobs, preflight, reading
from tests.conftest import make_records, write_records
from tests.fakes import write_run

ENDLESS = f"{'a.' * 100_000}a = 1\n"  # a reader of TOML takes time by the square of a name's parts


@pytest.fixture
def store(runs_dir) -> RunStore:
    return RunStore(runs_dir)


def command_of(process: psutil.Process) -> list[str]:
    """What a process runs; nothing once it has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def problem_of(read, *given, **named) -> str:
    with pytest.raises(BadInput) as refused:
        read(*given, **named)
    (problem,) = refused.value.problems
    return str(problem)


def test_what_takes_too_long_is_refused_in_words_and_no_process_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "SETTINGS_SECONDS", 1.0)
    (tmp_path / "run.toml").write_text(ENDLESS)
    said = problem_of(reading.settings_of, tmp_path / "run.toml")
    assert said.startswith("run.toml: reading the file takes more than 1 seconds")
    assert not [one for one in psutil.Process().children(recursive=True) if reading.MODULE in command_of(one)]


def test_what_takes_too_much_memory_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LEAST_BYTES", 2**28)
    monkeypatch.setattr(reading, "SHARE", 0)
    records = make_records(8)
    records[0]["Response"] = "x" * 2**27
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    source = str(tmp_path / "r.jsonl")
    said = problem_of(reading.records, DataSettings(source=source, held_out=1))
    assert said.startswith(f"data.source: reading {source} takes more than")
    assert "0.2 GiB of memory" in said
    order = EvaluationOrder(questions=source)
    assert "r.jsonl takes more than" in problem_of(reading.questions, order, tmp_path / "questions.jsonl")


def test_neither_records_nor_questions_nor_settings_are_read_here(store, tiny_settings, tmp_path, monkeypatch):
    def here(*given, **named):
        raise AssertionError("read in the process that serves the page")

    run = write_run(store, tiny_settings, "finished", adapter=True)
    for module, name in ((data, "load_fitted"), (data, "columns_of"), (choice_files, "load"), (recipes, "_read_toml")):
        monkeypatch.setattr(module, name, here)
    monkeypatch.setattr(jobs, "_spawn", lambda *given: None)
    _, told = preflight.check(tiny_settings)
    assert (told.train, told.held_out) == (12, 4)
    evaluation = jobs.start_evaluation(run, _asking(run, write_questions(tmp_path / "q.jsonl")))
    assert (evaluation.path / choice_files.KEPT).read_text().count("\n") == 3
    (tmp_path / "run.toml").write_text("[training]\nmax_steps = 7\n")
    assert reading.settings_of(tmp_path / "run.toml").training.max_steps == 7


def _asking(run, questions):
    return EvaluationOrder(**run.settings().evaluation.model_dump(), questions=str(questions))


def write_questions(path):
    rows = [{"question": f"q{i}", "options": ["a", "b"], "answer_idx": "A"} for i in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_of_refused_questions_nothing_stays_in_the_run(store, tiny_settings, tmp_path):
    run = write_run(store, tiny_settings, "finished", adapter=True)
    before = sorted(run.path.rglob("*"))
    (tmp_path / "q.jsonl").write_text('{"question": 1}\n')
    assert "has no text `question`" in problem_of(jobs.start_evaluation, run, _asking(run, tmp_path / "q.jsonl"))
    assert sorted(run.path.rglob("*")) == before


def test_the_problems_of_a_file_are_told_as_if_it_were_read_here(tmp_path):
    (tmp_path / "run.toml").write_text("[training]\nmax_step = 7\nlearning_rate = 'x'\n")
    with pytest.raises(BadInput) as refused:
        reading.settings_of(tmp_path / "run.toml")
    assert {p.where for p in refused.value.problems} == {"training.max_step", "training.learning_rate"}
    path = write_records(tmp_path / "r.jsonl", 4)
    assert "leaves none to train on" in problem_of(reading.records, DataSettings(source=str(path), held_out=4))


def test_a_preview_of_very_long_records_is_short_and_says_so(tmp_path):
    records = make_records(5)
    records[1]["Question"] = "word " * 100_000
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    told = reading.records(DataSettings(source=str(tmp_path / "r.jsonl"), held_out=1)).preview
    assert len(told.first) == reading.PREVIEWED
    assert told.first[0].question.endswith("… (and 479,999 more characters)")
    assert len(told.first[0].question) < reading.MOST_SHOWN + 100


def test_a_name_that_is_no_text_comes_back_as_one(tmp_path):
    rows = [{**record, "note \ud800": "text"} for record in make_records(4)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = reading.records(DataSettings(source=str(tmp_path / "r.jsonl"), held_out=1)).preview
    assert told.unused == ["note ?"]


def test_a_pipe_in_a_files_place_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "r.jsonl")
    said = problem_of(reading.records, DataSettings(source=str(tmp_path / "r.jsonl")))
    assert "cannot be read: it is no plain file" in said


def test_the_starter_is_read_so_too(tmp_path):
    assert reading.records(DataSettings(source=STARTER)).preview.train > 100
    order = EvaluationOrder(questions=STARTER)
    assert reading.questions(order, tmp_path / "q.jsonl") == order
    assert (tmp_path / "q.jsonl").read_text().count("\n") == 40


def test_columns_are_found_so_too(tmp_path):
    rows = [{"ask": record["Question"], "Complex_CoT": "r", "Response": "a"} for record in make_records(4)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = reading.columns(DataSettings(source=str(tmp_path / "r.jsonl")))
    assert sorted(found.names) == ["Complex_CoT", "Response", "ask"]
    assert found.data.question_column == "ask"
