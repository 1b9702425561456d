"""Settings: every bound, all problems at once, conflicts, suggestions, and names that are safe."""

import pytest
from pydantic import ValidationError

from medcot.errors import BadInput
from medcot.runs.store import RunStore
from medcot.settings import FurtherSource, RunSettings, build, cautions, fields, is_local_data, needs_peft

LARGEST_SEED = 2**31 - 1
# path: (values at the edge of what is allowed, values just outside)
BOUNDS = {
    "model.id": (["m", "m" * 300], ["", "m" * 301]),
    "model.quantization": (["none", "4bit"], ["8bit", "", None]),
    "model.dtype": (["auto", "bfloat16", "float16", "float32"], ["float64", "bf16"]),
    "data.source": (["d", "d" * 1000], ["", "d" * 1001]),
    "data.split": (["t"], [""]),
    "data.question_column": (["q"], [""]),
    "data.reasoning_column": (["r"], [""]),
    "data.context_column": (["c", None], [""]),
    "data.answer_column": (["a"], [""]),
    "data.facts_column": (["f", None], [""]),
    "data.identifiers": (["warn", "refuse", "mask"], ["hide"]),
    "data.more": (
        [[], [FurtherSource(source="a.jsonl", weight=100)]],
        ["a.jsonl weight=0", "a.jsonl weigth=1", "a.jsonl split=", "a.jsonl 'b", 3],
    ),
    "data.system_messages": (["keep", "leave_out"], ["drop"]),
    "data.overlong": (["shorten", "leave_out", "cut"], ["split"]),
    "data.validation": (["1", "10000", "dev.jsonl", "o/n:dev", None], [0, 10_001, "a b/c"]),
    "data.test": (["1", "10000", "test.jsonl", "o/n@main:test[:5]", None], [0, 10_001, "a b/c"]),
    "data.held_out": ([1, 10_000], [0, -1, 10_001, 1.5, "many", None]),
    "data.empty_records": (["refuse", "skip"], ["keep"]),
    "data.held_out_from": (["first", "shuffled"], ["last"]),
    "data.shuffle_seed": ([0, LARGEST_SEED], [-1, LARGEST_SEED + 1]),
    "data.limit": ([1, None], [0]),
    "prompt.style": (["chat", "plain"], ["alpaca"]),
    "prompt.system": (["", "s" * 4000, None], ["s" * 4001]),
    "prompt.loss_on": (["completion", "all"], ["answer"]),
    "lora.rank": ([1, 512], [0, 513]),
    "lora.alpha": ([1, 2048], [0, 2049]),
    "lora.rslora": ([True, False], ["perhaps"]),
    "lora.dora": ([True, False], ["perhaps"]),
    "lora.loraplus_ratio": ([1, 1000, None], [0.5, 1001, float("nan")]),
    "lora.dropout": ([0, 0.999], [-0.1, 1.0]),
    "lora.bias": (["none"], ["all"]),
    "lora.target_modules": ([["q_proj"], ["all-linear"]], [[], "q_proj"]),
    "training.epochs": ([0.01, 100], [0, 100.5, float("nan"), float("inf")]),
    "training.max_steps": ([1, 10_000_000, None], [0, 10_000_001]),
    "training.arrangement": (["auto", "as-given"], ["fast"]),
    "training.micro_batch": ([1, 1024], [0, 1025]),
    "training.accumulation": ([1, 1024], [0, 1025]),
    "training.processes": ([1, 1024], [0, 1025]),
    "training.learning_rate": ([1e-9, 1], [0, -1e-4, 1.01, float("nan")]),
    "training.scheduler": (["linear", "cosine", "constant_with_warmup"], ["step"]),
    "training.warmup_steps": ([0, 1_000_000], [-1, 1_000_001, 0.1]),
    "training.weight_decay": ([0, 1], [-0.01, 1.01]),
    "training.max_grad_norm": ([0.001, 1000], [0, 1001]),
    "training.max_length": ([16, 131_072], [15, 131_073]),
    "training.gradient_checkpointing": ([True, False], ["perhaps"]),
    "training.sampling": (["shuffled", "grouped"], ["packed"]),
    "training.log_steps": ([1], [0]),
    "training.validate_steps": ([1], [0]),
    "training.sample_tokens": ([0, 4096], [-1, 4097]),
    "training.sample_base": ([True, False], ["yes please"]),
    "training.save_steps": ([1], [0]),
    "training.keep": (["newest", "best"], ["last"]),
    "training.patience": ([0, 10_000, None], [-1, 10_001]),
    "training.keep_checkpoints": ([1, 100], [0, 101]),
    "training.backup": (["ada/run-1", None], ["ada", "ada/b/c", "/tmp/x", "../x"]),
    "training.seed": ([0, LARGEST_SEED], [-1, LARGEST_SEED + 1]),
    "evaluation.records": ([1, None], [0]),
    "evaluation.max_new_tokens": ([1, 32_768], [0, 32_769]),
    "evaluation.choice_max_new_tokens": ([1, 32_768], [0, 32_769]),
    "evaluation.tell_base": ([True, False], ["perhaps"]),
    "evaluation.rouge": (["rougeL", "rougeLsum"], ["rouge1"]),
    "evaluation.stemmer": ([True, False], ["perhaps"]),
    "evaluation.batch_size": ([1, 1024], [0, 1025]),
    "evaluation.processes": ([1, 1024], [0, 1025]),
    "evaluation.temperature": ([0, 5], [-0.1, 5.1]),
    "evaluation.top_p": ([0.001, 1], [0, 1.01]),
    "evaluation.seed": ([0, LARGEST_SEED], [-1, LARGEST_SEED + 1]),
    "tracking.to": ([[], ["wandb"], ["tensorboard", "trackio"]], ["mlflow", ["wandb", "no"], 3]),
    "tracking.project": (["p", "p" * 128], ["", "p" * 129, "a/b", "a:b"]),
    "tracking.entity": (["e", None], ["", "e" * 129]),
    "tracking.run_name": (["r", None], ["", "r" * 129]),
    "backend": (["auto", "peft", "unsloth"], ["cuda"]),
    "name": (["n" * 60, "Ångström 2", None], ["n" * 61]),
}
UNBOUNDED = {"recipe", "model.revision", "data.config", "data.revision"}


def raw_with(path: str, value: object) -> dict:
    section, _, name = path.rpartition(".")
    return {section: {name: value}} if section else {name: value}


def value_of(settings: RunSettings, path: str) -> object:
    for part in path.split("."):
        settings = getattr(settings, part)
    return settings


def problems_of(raw: dict) -> list:
    with pytest.raises(BadInput) as refused:
        build(raw)
    return refused.value.problems


def test_the_table_of_bounds_names_every_setting():
    assert set(BOUNDS) | UNBOUNDED == set(fields())


@pytest.mark.parametrize("path", BOUNDS)
def test_bound(path):
    allowed, refused = BOUNDS[path]
    for value in allowed:
        raw = raw_with(path, value)
        if path == "evaluation.top_p":
            raw["evaluation"]["temperature"] = 1.0
        if path == "training.processes":
            raw["training"]["micro_batch"] = 1024
        got = value_of(build(raw), path)
        assert got == (tuple(value) if isinstance(value, list) else value)
    for value in refused:
        (problem,) = problems_of(raw_with(path, value))
        assert problem.where.startswith(path)
        assert "got" in problem.what


@pytest.mark.parametrize("lora", [{"dora": True}, {"loraplus_ratio": 16}])
def test_what_unsloth_was_not_tried_with_is_for_peft_alone(lora):
    (problem,) = problems_of({"backend": "unsloth", "lora": lora})
    assert [problem.where] == [f"lora.{name}" for name in lora] == needs_peft(build({"lora": lora}).lora)


def test_all_linear_is_a_word_by_itself():
    assert build({"lora": {"target_modules": "all-linear"}}).lora.target_modules == ("all-linear",)
    (problem,) = problems_of({"lora": {"target_modules": ["all-linear", "q_proj"]}})
    assert problem.where == "lora.target_modules"


def test_all_problems_are_reported_at_once_with_conflicts_among_them():
    found = problems_of(
        {
            "model": {"quantization": "4bit", "dtype": "float32"},
            "prompt": {"style": "plain", "system": "Be brief."},
            "data": {"answer_column": "Question", "config": "en"},
            "training": {"epochs": 0, "max_length": 8, "lerning_rate": 1e-4},
            "evaluation": {"top_p": 0.5, "temperature": "hot"},
        }
    )
    # temperature is wrong, so its default, 0, is what top_p is checked against
    assert {p.where for p in found} == {
        "training.epochs",
        "training.max_length",
        "training.lerning_rate",
        "evaluation.temperature",
        "model.quantization",
        "prompt.system",
        "data.question_column",
        "data.config",
        "evaluation.top_p",
    }


def test_a_conflict_is_refused_by_itself_and_says_what_to_do():
    for raw, where in (
        ({"model": {"quantization": "4bit", "dtype": "float32"}}, "model.quantization"),
        ({"prompt": {"style": "plain", "system": "x"}}, "prompt.system"),
        ({"evaluation": {"top_p": 0.9}}, "evaluation.top_p"),
        ({"data": {"question_column": "Response"}}, "data.question_column"),
        ({"data": {"source": "mine.jsonl", "revision": "main"}}, "data.config"),
        ({"model": {"revision": "main"}}, "model.revision"),
    ):
        (problem,) = problems_of(raw)
        assert problem.where == where
        assert problem.fix


def test_values_that_only_look_like_conflicts_are_allowed():
    build({"model": {"quantization": "4bit", "dtype": "bfloat16"}})
    build({"prompt": {"style": "chat", "system": "Be brief."}})
    build({"evaluation": {"top_p": 0.9, "temperature": 0.7}})
    build({"model": {"id": "a/b", "revision": "main"}, "data": {"source": "a/b", "config": "en", "revision": "main"}})


@pytest.mark.parametrize(
    ("raw", "suggestion"),
    [
        ({"training": {"lerning_rate": 1}}, "training.learning_rate"),
        ({"training": {"max_len": 1}}, "training.max_length"),
        ({"learning_rate": 1}, "training.learning_rate"),
        ({"model": {"rank": 1}}, "lora.rank"),
        ({"modle": {"id": "x"}}, "model"),
        ({"quantization": "4bit"}, "model.quantization"),
    ],
)
def test_an_unknown_name_gets_the_nearest_known_one(raw, suggestion):
    (problem,) = problems_of(raw)
    assert problem.what == "no such setting."
    assert f"Did you mean {suggestion}" in problem.fix


def test_an_unknown_name_that_resembles_nothing_points_to_the_list():
    (problem,) = problems_of({"training": {"zzzz": 1}})
    assert "init-config" in problem.fix


def test_a_section_that_is_no_section_is_refused_in_words():
    assert [p.where for p in problems_of({"training": 5})] == ["training"]


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(ValidationError):
        build({}).training.learning_rate = 1.0


def test_settings_survive_their_own_json(tiny_settings):
    assert RunSettings.model_validate_json(tiny_settings.model_dump_json()) == tiny_settings


@pytest.mark.parametrize(
    "name",
    ["../x", "a/b", "a\\b", "a;touch y", "a\0b", "a\nb", "/abs", ".hidden", "..", "", "  ", "x" * 300, "\x1b[2J"],
)
def test_a_run_name_that_could_be_a_path_or_a_command_is_refused(name):
    (problem,) = problems_of({"name": name})
    assert problem.where == "name"


@pytest.mark.parametrize("name", ["$(touch y)", "`id`", "a b|c", "-rf", "%2e%2e", "贫血", "n" * 60])
def test_any_other_run_name_becomes_one_plain_folder_of_the_store(tmp_path, name):
    run = RunStore(tmp_path / "runs").create(build({"name": name}))
    assert run.path.parent == tmp_path / "runs"
    assert run.path.is_dir()
    assert all(c.isascii() and (c.isalnum() or c == "-") for c in run.id)
    assert run.settings().name == name


def test_long_or_strange_sources_are_told_from_files_without_a_stack_trace(tmp_path):
    assert is_local_data("starter")
    assert is_local_data("some/where.JSONL")
    assert is_local_data(str(tmp_path))
    assert not is_local_data("owner/name")
    assert not is_local_data("n" * 999)
    assert not is_local_data("a\0b")


@pytest.mark.parametrize(
    ("training", "steps", "said"),
    [
        ({"warmup_steps": 5, "max_steps": 5}, None, "does not end within the run's 5 steps"),
        ({"warmup_steps": 5, "max_steps": 1}, None, "at most 0 of"),
        ({"warmup_steps": 60}, 50, "Set training.warmup_steps=5,"),
        ({"warmup_steps": 60, "learning_rate": 0.1}, 50, "does not end"),  # and not that the rate is high
        ({"warmup_steps": 60, "learning_rate": 0.1}, 61, "500 times"),
        ({"warmup_steps": 0, "max_steps": 1}, None, None),
        ({"warmup_steps": 60}, None, None),  # nobody knows yet how long the run is
    ],
)
def test_a_warm_up_is_held_against_the_steps_of_the_run(training, steps, said):
    found = cautions(build({"model": {"id": "owner/name"}, "training": training}), steps)
    assert len(found) == bool(said)
    assert not said or said in found[0]


@pytest.mark.parametrize(
    ("section", "field", "value", "words"),
    [
        ("training", "learning_rate", "fast", "must be a number; got 'fast'."),
        ("training", "epochs", [1], "must be a number; got [1]."),
        ("lora", "rank", "many", "must be a whole number; got 'many'."),
        ("lora", "rank", 1.5, "must be a whole number; got 1.5."),
        ("lora", "rank", 0, "must be greater than or equal to 1; got 0."),
        ("training", "gradient_checkpointing", "maybe", "must be true or false; got 'maybe'."),
        ("data", "source", 3, "must be a string; got 3."),
        ("data", "source", "", "must have at least 1 character; got ''."),
        ("model", "dtype", "float8", "must be 'auto', "),
    ],
)
def test_a_wrong_value_is_told_in_words_for_whoever_typed_it(section, field, value, words):
    with pytest.raises(BadInput) as told:
        build({section: {field: value}})
    [problem] = told.value.problems
    assert problem.what.startswith(words)
