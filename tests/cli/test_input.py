"""What a person can get wrong on the command line: exit code 2, every problem in words, nothing started or made."""

import json
import tomllib

import pytest
from typer.testing import CliRunner

from medcot import cli
from medcot.errors import Failure, Problem
from medcot.runs.store import RunStore
from medcot.settings import build, fields
from medcot.workers import jobs, preflight
from tests.conftest import make_records, pairs, tiny_raw


@pytest.fixture
def medcot(monkeypatch, runs_dir):
    """Runs a command in this process; starting a worker is an error here."""

    def no_worker(*_):
        raise AssertionError("a worker was started")

    monkeypatch.setattr(jobs, "_spawn", no_worker)

    def run(*arguments: str):
        return CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)

    return run


def refused(result, *words: str) -> list[str]:
    """The problems, when a command ended as one ends that was given bad input."""
    assert result.exit_code == 2, result.output
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    if not result.stdout:
        return []
    problems = json.loads(result.stdout)["problems"]
    assert problems
    return problems


@pytest.mark.parametrize("command", [["runs"], ["train"], ["delete", "latest", "--yes"], ["show"]])
def test_a_runs_folder_of_nobody_is_refused_in_words(medcot, command):
    refused(medcot(*command, "--runs-dir", "~nobody-here/x"), "names no user's folder")


@pytest.mark.parametrize("command", ["train", "plan", "quickstart"])
def test_all_problems_of_settings_come_at_once(medcot, runs_dir, command):
    wrong = ["training.epochs=0", "lora.rnk=8", "nonsense", "data.held_out=0", "evaluation.top_p=0.5"]
    result = medcot(command, *[w for pair in wrong for w in ("--set", pair)], "--json")
    problems = refused(result, "training.epochs", "Did you mean lora.rank?", "path=value", "data.held_out")
    assert len(problems) == 5
    assert not runs_dir.exists()


@pytest.mark.parametrize("command", ["train", "plan"])
def test_processes_that_cannot_share_a_step_are_refused_with_all_else(medcot, runs_dir, command):
    result = medcot(command, "--processes", "3", "--set", "data.source=nowhere.jsonl", "--json")
    problems = refused(result, "training.processes", "2 x 2 = 4", "one of 1, 2, 4", "nowhere.jsonl")
    assert len(problems) == 2
    assert not runs_dir.exists()


def test_without_json_nothing_is_on_standard_output(medcot):
    result = medcot("train", "--set", "training.epochs=0")
    refused(result, "training.epochs")
    assert result.stdout == ""


def test_an_unknown_recipe_is_answered_with_those_there_are(medcot):
    for command in ("train", "plan", "init-config"):
        refused(medcot(command, "--recipe", "lama"), "lama", "starter, reference-exact, llama-3.2-3b-medical-cot")


def test_missing_files_and_folders_are_named_together(medcot, tmp_path, runs_dir):
    raw = tiny_raw(tmp_path / "no-model", tmp_path / "no.jsonl")
    problems = refused(medcot("train", *[w for p in pairs(raw) for w in ("--set", p)], "--json"))
    assert [p.partition(":")[0] for p in problems] == ["model.id", "data.source"]
    refused(medcot("train", "--config", tmp_path / "none.toml"), "none.toml", "init-config")
    assert not runs_dir.exists()


def test_bad_records_are_named_by_number(medcot, tmp_path, tiny_model):
    rows = make_records(8)
    rows[2]["Response"] = ""
    rows[5] = {"Question": "q"}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    sets = [w for p in pairs(tiny_raw(tiny_model, path)) for w in ("--set", p)]
    first, second = refused(medcot("train", *sets, "--json"))
    assert first.startswith("rows.jsonl, record 3")
    assert second.startswith("rows.jsonl, record 6")


@pytest.mark.parametrize("name", ["../x", "a;touch y", "/abs", "x" * 300, ".hidden", "a\x1b[2Jb"])
def test_a_name_that_could_be_a_path_or_a_command_makes_nothing(medcot, runs_dir, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    result = medcot("train", "--set", f"name={name}")
    refused(result, "name")
    assert "\x1b[2J" not in result.stderr
    assert not runs_dir.exists()
    assert list(tmp_path.iterdir()) == []


def test_text_that_looks_like_markup_is_shown_as_it_is(medcot):
    refused(medcot("train", "--set", "model.dtype=[red]x[/red]"), "[red]x[/red]")
    refused(medcot("show", "[/]"), "'[/]'")


def test_a_gpu_recipe_without_a_gpu_says_what_to_use(medcot, monkeypatch, runs_dir):
    monkeypatch.setattr(preflight, "has_cuda", lambda: False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = medcot("train", "--recipe", "llama-3.2-3b-medical-cot")
    refused(result, "4bit needs a CUDA GPU", "--recipe starter", "cannot be reached")
    assert not runs_dir.exists()


def test_a_runs_folder_that_cannot_be_written_is_said_so(medcot, tmp_path, tiny_model, records):
    (tmp_path / "file").write_text("")
    sets = [w for p in pairs(tiny_raw(tiny_model, records)) for w in ("--set", p)]
    refused(medcot("train", *sets, "--runs-dir", tmp_path / "file"), "--runs-dir", "cannot be written")


@pytest.mark.parametrize(
    "command",
    [
        ["show"],
        ["show", "no-such"],
        ["stop"],
        ["evaluate", "../../etc"],
        ["train", "--resume", "no-such"],
        ["ask", "latest", "What is gout?"],
    ],
)
def test_a_run_that_is_not_there_is_said_so(medcot, command):
    (problem,) = refused(medcot(*command, "--json"), "there is no run")
    assert "medcot runs" in problem


def test_what_a_run_cannot_do_yet_is_said_so(medcot, runs_dir):
    run = RunStore(runs_dir).create(build({}))
    run.write_status("failed", failure=Failure(problems=[Problem("", "It broke.", "Mend it.")]))
    refused(medcot("evaluate", "latest"), "no adapter", "failed")
    refused(medcot("train", "--resume", "latest"), "no checkpoint")
    refused(medcot("stop"), "failed", "nothing to stop")
    refused(medcot("ask", "latest", " "), "question", "empty")
    assert not (run.path / "evaluation").exists()
    run.write_status("finished")
    refused(medcot("train", "--resume", "latest"), "is finished")


def test_only_evaluation_settings_can_be_changed_for_an_evaluation(medcot, runs_dir):
    RunStore(runs_dir).create(build({}))
    result = medcot("evaluate", "--set", "model.id=other", "--set", "evaluation.records=0", "--json")
    assert len(refused(result, "only evaluation.*", "evaluation.records")) == 2


def test_a_run_that_fits_twice_is_not_guessed(medcot, runs_dir):
    for name in ("heart-one", "heart-two"):
        RunStore(runs_dir).create(build({"name": name}))
    refused(medcot("show", "heart"), "fits 2 runs", "heart-one", "heart-two")


@pytest.mark.parametrize("tokens", ["0", "-5", "99999999"])
def test_a_budget_of_tokens_out_of_bounds_is_refused_before_a_model_is_loaded(medcot, runs_dir, tokens):
    RunStore(runs_dir).create(build({}))
    result = medcot("ask", "latest", "What is gout?", "--max-new-tokens", tokens)
    assert result.exit_code == 2
    assert "max-new-tokens" in result.stderr


def test_an_emergency_is_told_before_anything_is_looked_for(medcot):
    result = medcot("ask", "latest", "I have crushing chest pain and cannot breathe")
    said = " ".join(result.stderr.split())
    assert said.index("call 112, 911 or 999") < said.index("there is no run")
    assert "do not act on them" in said


def test_a_question_is_refused_by_its_length_before_anything_else(medcot):
    refused(medcot("ask", "none", "long " * 5000), "question: has 25000 characters, and 8000 is the most.")
    refused(medcot("ask", "none", "long " * 1000), "there is no run")


# ---- what works without a model


def test_lists_and_shows_without_any_run_and_with_one(medcot, runs_dir):
    assert json.loads(medcot("runs", "--json").stdout) == {"runs": []}
    assert "medcot quickstart" in medcot("runs").stdout
    run = RunStore(runs_dir).create(build({"name": "kidney", "training": {"max_steps": 3}}))
    run.write_status("failed", failure=Failure(problems=[Problem("", "It [b]broke[/b].", "Mend it.")]))
    (listed,) = json.loads(medcot("runs", "--json").stdout)["runs"]
    assert (listed["id"], listed["state"]) == (run.id, "failed")
    assert run.id in medcot("runs").stdout
    shown = json.loads(medcot("show", "kidney", "--json").stdout)
    assert {"id", "state", "settings", "metrics", "run_dir", "error", "hint"} <= shown.keys()
    assert (shown["state"], shown["error"], shown["hint"]) == ("failed", "It [b]broke[/b].", "Mend it.")
    assert shown["settings"]["training"]["max_steps"] == 3
    result = medcot("show", "kidney")
    assert "training.max_steps=3" in result.stdout
    assert "It [b]broke[/b]." in result.output


def test_init_config_prints_every_setting_of_the_recipe(medcot, tmp_path):
    result = medcot("init-config", "--recipe", "reference-exact", "--set", "training.max_steps=5")
    assert result.exit_code == 0
    written = tomllib.loads(result.stdout)
    assert written["training"]["max_steps"] == 5
    for path in fields():
        assert f"{path.rpartition('.')[2]} =" in result.stdout
    assert result.stderr == ""


def test_score_needs_two_files_that_fit(medcot, tmp_path, records):
    outputs = tmp_path / "outputs.jsonl"
    outputs.write_text("".join(json.dumps({"output": r["Response"]}) + "\n" for r in make_records(16)))
    found = json.loads(medcot("score", "--data", records, "--predictions", outputs, "--json").stdout)
    assert found["scores"]["answer_rouge_l"] == 1.0
    assert set(found["floors"]) == {"echo", "shuffled", "empty", "gold_reasoning"}
    for_people = medcot("score", "--data", records, "--predictions", outputs)
    assert "answer_rouge_l" in for_people.stdout
    assert "echo" in for_people.stdout
    refused(medcot("score", "--data", tmp_path / "none.jsonl", "--predictions", outputs), "none.jsonl")
    refused(medcot("score", "--data", records, "--predictions", tmp_path / "none.jsonl"), "none.jsonl")
    outputs.write_text('{"output": "x"}\n')
    refused(medcot("score", "--data", records, "--predictions", outputs), "1 outputs for 16 references")


def test_score_takes_other_columns_and_odd_file_names(medcot, tmp_path):
    folder = tmp_path / "it's = odd; name"
    folder.mkdir()
    references, outputs = folder / "42.jsonl", folder / "o.jsonl"
    references.write_text(json.dumps({"q": "Q", "Complex_CoT": "R", "Response": "A b"}) + "\n")
    outputs.write_text('{"output": "a B"}\n')
    arguments = ["--data", references, "--predictions", outputs, "--set", "data.question_column=q", "--json"]
    assert json.loads(medcot("score", *arguments).stdout)["scores"]["answer_rouge_l"] == 1.0


def test_version_and_help_say_what_this_is(medcot):
    assert medcot("--version").stdout.startswith("medcot ")
    text = medcot("--help").stdout
    for word in ("quickstart", "train", "evaluate", "ask", "no patient data"):
        assert word in text
    assert medcot("no-such-command").exit_code == 2


DEEP, DIGITS = "[" * 5000, "9" * 5000


@pytest.mark.parametrize("value", [DEEP, DIGITS, "{a=" * 3000, '{"a":' * 3000, "-" + DIGITS, "1e" + DIGITS, '"' * 5001])
@pytest.mark.parametrize("path", ["training.epochs", "lora.target_modules", "lora.alpha", "backend"])
def test_values_nested_without_end_and_numbers_of_thousands_of_digits_are_refused(medcot, runs_dir, path, value):
    result = medcot("plan", "--set", f"{path}={value}")
    refused(result, path)
    assert len(result.stderr) < 2000
    assert not runs_dir.exists()


@pytest.mark.parametrize(
    "text", [f"x = {DEEP}", f"x = {DIGITS}", f"[training]\nepochs = {DIGITS}", "a." * 5000 + "b = 1"]
)
def test_a_settings_file_nested_without_end_is_refused(medcot, tmp_path, text):
    file = tmp_path / "deep.toml"
    file.write_text(text)
    result = medcot("plan", "--config", file)
    refused(result)
    assert len(result.stderr) < 2000


def test_a_runs_folder_that_reads_like_markup_is_named_as_it_is(medcot, tmp_path):
    folder = tmp_path / "a[" / "b]"
    refused(medcot("show", "--runs-dir", folder), "a[/b]")


def test_a_setting_that_is_named_in_thousands_of_parts_is_refused(medcot):
    path = "training" + ".x" * 5000
    for pairs_ in ([path], [path, path], ["training=1", path]):
        result = medcot("plan", *[w for name in pairs_ for w in ("--set", f"{name}=1")])
        refused(result, "training")
        assert len(result.stderr) < 30000
