"""Recipes to the letter, the TOML file, and `--set`."""

import pytest

from medcot.errors import BadInput
from medcot.settings import recipes
from medcot.settings.recipes import RECIPES, changed_settings, compose, override, to_toml

SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def problems_of(*arguments, **named) -> dict[str, str]:
    with pytest.raises(BadInput) as refused:
        compose(*arguments, **named)
    return {p.where: f"{p.what} {p.fix}" for p in refused.value.problems}


@pytest.mark.parametrize("recipe", ["reference-exact", "llama-3.2-3b-medical-cot"])
def test_the_reference_values_are_kept_to_the_letter(recipe):
    s = compose(recipe)
    assert s.model.id == "unsloth/Llama-3.2-3B-Instruct"
    assert s.model.quantization == "4bit"
    assert s.data.source == "FreedomIntelligence/medical-o1-reasoning-SFT"
    assert s.data.config == "en"
    assert s.data.split == "train"
    assert (s.data.question_column, s.data.reasoning_column, s.data.answer_column) == (
        "Question",
        "Complex_CoT",
        "Response",
    )
    assert s.data.held_out == 100
    assert s.data.limit is None
    assert s.prompt.system is None
    assert s.lora.rank == 16
    assert s.lora.alpha == 16
    assert s.lora.dropout == 0
    assert s.lora.bias == "none"
    assert s.lora.target_modules == SEVEN
    assert s.training.epochs == 1
    assert s.training.max_steps is None
    assert s.training.micro_batch == 2
    assert s.training.accumulation == 8
    assert s.training.learning_rate == 5e-4
    assert s.training.scheduler == "linear"
    assert s.training.weight_decay == 0.01
    assert s.training.max_length == 2048
    assert s.training.warmup_steps == 25
    assert s.training.gradient_checkpointing is True
    assert s.training.log_steps == 25
    assert s.training.validate_steps == 500
    assert s.training.save_steps == 1000
    assert s.training.keep_checkpoints == 1


def test_reference_exact_holds_out_and_learns_as_the_notebook_did():
    s = compose("reference-exact")
    assert s.data.held_out_from == "shuffled"
    assert s.data.shuffle_seed == 42
    assert s.data.revision is None
    assert s.prompt.style == "plain"
    assert s.prompt.loss_on == "all"


def test_the_llama_recipe_holds_out_the_first_hundred_of_a_pinned_revision_and_learns_the_answer_alone():
    s = compose("llama-3.2-3b-medical-cot")
    assert s.data.held_out_from == "first"
    assert len(s.data.revision) == 40
    assert s.prompt.style == "chat"
    assert s.prompt.loss_on == "completion"
    assert s.evaluation.max_new_tokens >= 1280


def test_the_starter_recipe_needs_no_gpu_and_no_account():
    s = compose()
    assert s.recipe == s.model.id == s.data.source == "starter"
    assert s.model.quantization == "none"
    assert s.backend == "auto"


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_printed_file_gives_the_same_settings_again(tmp_path, recipe):
    changed = [
        'name=A "quoted" näme',
        "training.max_steps=7",
        "prompt.system=Be brief.\tAnd\\kind, 贫血.",
        "data.limit=9",
    ]
    if recipe == "reference-exact":  # the plain contract has no system text
        del changed[2]
    settings = compose(recipe, None, changed)
    file = tmp_path / "run.toml"
    file.write_text(to_toml(settings), encoding="utf-8")
    assert compose(None, file) == settings


def test_the_printed_file_explains_every_setting_with_its_bounds():
    text = to_toml(compose("starter", None, ["name=贫血"]))
    assert 'name = "贫血"' in text
    assert "# LoRA" not in text.splitlines()[0]
    for name in ("max_steps", "learning_rate", "question_column", "batch_size", "system"):
        assert f"{name} =" in text
    assert "(>= 1, <= 512)" in text
    assert "(> 0, <= 1)" in text


def test_overrides_go_over_the_file_and_the_file_over_the_recipe(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('recipe = "llama-3.2-3b-medical-cot"\n[training]\nlearning_rate = 1e-4\nmicro_batch = 4\n')
    settings = compose(None, file, ["training.micro_batch=1"])
    assert settings.model.id == "unsloth/Llama-3.2-3B-Instruct"
    assert (settings.training.learning_rate, settings.training.micro_batch) == (1e-4, 1)
    assert settings.training.warmup_steps == 25


@pytest.mark.parametrize(
    ("pair", "path", "value"),
    [
        ("training.learning_rate=1e-4", "training.learning_rate", 1e-4),
        ("training.epochs=3", "training.epochs", 3.0),
        ("training.gradient_checkpointing=true", "training.gradient_checkpointing", True),
        ("training.max_steps=none", "training.max_steps", None),
        ("data.limit=", "data.limit", None),
        ('lora.target_modules=["q_proj", "v_proj"]', "lora.target_modules", ("q_proj", "v_proj")),
        ("model.id=owner/name", "model.id", "owner/name"),
        ('prompt.system="42"', "prompt.system", "42"),
        ("prompt.system=a=b; c", "prompt.system", "a=b; c"),
        (" training.seed =7", "training.seed", 7),
        ("model.quantization=none", "model.quantization", "none"),
        ("lora.bias=none", "lora.bias", "none"),
        ("model.id=12", "model.id", "12"),
        ("name=2026", "name", "2026"),
        ("name=2026-11-22", "name", "2026-11-22"),
        ("data.source=C:\\data\\mine.csv", "data.source", "C:\\data\\mine.csv"),
        ("prompt.system=x\ny = 1", "prompt.system", "x\ny = 1"),
    ],
)
def test_set_reads_numbers_lists_and_plain_text(pair, path, value):
    settings = compose("starter", None, [pair])
    for part in path.split("."):
        settings = getattr(settings, part)
    assert settings == value


@pytest.mark.parametrize("pair", ["training.epochs", "=3", "  =3", "--", ""])
def test_what_is_no_pair_is_named(pair):
    found = problems_of("starter", None, [pair])
    assert list(found) == [f"--set {pair}"]
    assert "path=value" in found[f"--set {pair}"]


def test_problems_of_recipe_file_and_pairs_come_together(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('[training]\nepochs = 0\n[lora]\nrnk = 4\n[model]\nquantization = "4bit"\ndtype = "float32"\n')
    found = problems_of("llama", file, ["nonsense", "data.held_out=0", "training.max_len=5"])
    assert set(found) == {
        "recipe",
        "--set nonsense",
        "training.epochs",
        "lora.rnk",
        "data.held_out",
        "training.max_len",
        "model.quantization",
    }
    assert "starter, reference-exact, llama-3.2-3b-medical-cot" in found["recipe"]
    assert "lora.rank" in found["lora.rnk"]


def test_a_pair_below_something_that_is_no_section_is_refused_in_words():
    assert problems_of("starter", None, ["training.epochs.more=1"])
    assert problems_of("starter", None, ["training=1"])


def test_a_file_that_is_missing_or_broken_is_named_beside_the_other_problems(tmp_path):
    missing = tmp_path / "none.toml"
    found = problems_of("starter", missing, ["training.epochs=0"])
    assert "No such file" in found[str(missing)]
    assert "training.epochs" in found
    broken = tmp_path / "broken.toml"
    broken.write_text("epochs = = 1")
    assert "is not TOML" in problems_of("starter", broken)[str(broken)]
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "is not TOML" in problems_of("starter", binary)[str(binary)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_file_that_windows_wrote_is_read(tmp_path, encoding, end):
    path = tmp_path / "run.toml"
    path.write_bytes(f'# made elsewhere{end}name = "fïrst"{end}[training]{end}max_steps = 2{end}'.encode(encoding))
    settings = compose(config=path)
    assert (settings.name, settings.training.max_steps) == ("fïrst", 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('name = "fïrst"'.encode("cp1252"), "is not utf-8"),
        ('name = "名"'.encode("gbk"), "is not utf-8"),
        (b"a = " + b"[" * 100_000, "is not TOML"),
        (b"a = " + b"9" * 10_000, "is not TOML"),
        (b"\0", "is not TOML"),
    ],
)
def test_a_file_that_is_not_toml_is_told_in_words(tmp_path, content, words):
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    assert words in problems_of("starter", path)[str(path)]


def test_only_evaluation_can_be_changed_for_a_run_that_is_there():
    settings = compose()
    assert override(settings, ["evaluation.records=3"]).evaluation.records == 3
    with pytest.raises(BadInput, match="Start a new run"):
        override(settings, ["training.epochs=2"])
    with pytest.raises(BadInput) as refused:
        override(settings, ["training.epochs=2", "evaluation.records=0", "x"])
    where = [p.where for p in refused.value.problems]
    assert "--set training.epochs=2" in where
    assert "evaluation.records" in where
    assert "--set x" in where


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_equivalent_command_gives_the_same_settings(recipe):
    changed = ["lora.target_modules=['q_proj']", "training.max_steps=5", "model.revision=v2", "evaluation.records=2"]
    changed += ["model.id=own/model", "prompt.system=none", "name=a name", "training.gradient_checkpointing=false"]
    settings = compose(recipe, None, changed)
    assert compose(recipe, None, changed_settings(settings)) == settings


def test_the_equivalent_command_keeps_text_that_looks_like_something_else():
    settings = compose("starter", None, ['prompt.system="42"', 'name="none"', 'data.split="true"'])
    assert compose("starter", None, changed_settings(settings)) == settings


def test_the_equivalent_command_reads_as_a_person_would_write_it():
    changed = ["model.id=own/model", "lora.target_modules=['q_proj']", "training.max_steps=5", "name=none such"]
    assert sorted(changed_settings(compose("starter", None, changed))) == [
        'lora.target_modules=["q_proj"]',
        "model.id=own/model",
        "name=none such",
        "training.max_steps=5",
    ]
    unpinned = compose("llama-3.2-3b-medical-cot", None, ["data.revision=none"])
    assert unpinned.data.revision is None
    assert changed_settings(unpinned) == ["data.revision=none"]


def test_an_unchanged_recipe_needs_no_pairs():
    for recipe in recipes.RECIPES:
        assert changed_settings(compose(recipe)) == []


def test_a_recipe_and_a_file_that_disagree_are_told(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('recipe = "starter"\n')
    with pytest.raises(BadInput, match="Give one, or make them agree"):
        compose("reference-exact", file)
    with pytest.raises(BadInput, match="only names a recipe"):
        compose("starter", None, ["recipe=reference-exact"])


def test_other_data_does_not_keep_the_recipes_configuration_and_revision(tmp_path):
    data = compose("llama-3.2-3b-medical-cot", None, ["data.source=own.jsonl"]).data
    assert (data.source, data.config, data.revision, data.held_out) == ("own.jsonl", None, None, 100)
    kept = compose("llama-3.2-3b-medical-cot", None, ["data.source=some/other", "data.config=zh"]).data
    assert (kept.config, kept.revision) == ("zh", None)


@pytest.mark.parametrize("form", ["{{{}a=1}}", "1\n{}a=1", '"x"\n{}a=1', "[1]\n{}a=1", "[{{{}a=1}}]"])
def test_a_value_that_is_a_text_of_its_own_costs_no_time(form):
    value = form.format("a." * 100_000)  # read as TOML, it would take minutes
    said = problems_of(overrides=[f"training.max_steps={value}"])
    assert said["training.max_steps"].startswith("must be a whole number")
