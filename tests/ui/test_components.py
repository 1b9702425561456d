"""Words: what the page says is in its own labels, whoever found it."""

import pytest

from medcot.errors import Problem
from medcot.runs.job_dir import Status
from medcot.settings import fields
from medcot.ui import components as c
from medcot.ui import progress


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("Set model.dtype=auto.", "Set “Number format” = auto."),
        ("Name the right one: --set data.answer_column=NAME", "Name the right one: “Answer column” = NAME"),
        ('Its own: --set \'lora.target_modules=["q", "v"]\'', 'Its own: “Target modules” = ["q", "v"]'),
        ("Set backend=auto or backend=peft.", "Set “Backend” = auto or “Backend” = peft."),
        ("Name it: --base starter.", "Name it: “Base” starter."),
        ("Remove data.revision.", "Remove “Data, Revision”."),
    ],
)
def test_a_setting_or_an_option_is_called_by_its_label(words, said):
    assert c.labelled(words) == said


@pytest.mark.parametrize(
    "words",
    [
        "Stop it first: medcot stop RUN --runs-dir runs --resume",
        "(`medcot evaluate --adapter` does without)",
        "There is no /records/training.seed.jsonl.",
        "The name of a recipe, or a backend.",
        "1.5 is above 1.",
    ],
)
def test_commands_paths_and_plain_words_stay_as_they_are(words):
    assert c.labelled(words) == words


@pytest.mark.parametrize(
    ("where", "called"),
    [
        ("lora.target_modules.0", "Target modules"),
        ("name", "Name"),
        ("name.csv", "name.csv"),
        ("recipe.toml", "recipe.toml"),
        ("data.jsonl, record 3", "data.jsonl, record 3"),
        ("--base", "“Base”"),
    ],
)
def test_the_place_of_a_problem_is_a_field_of_the_page_or_what_it_is(where, called):
    assert c.place(where).strip("“”") == called.strip("“”")


def test_no_setting_is_shown_by_its_path_and_no_two_are_called_alike():
    assert len({c.LABELS[path] for path in fields()}) == len(fields())
    for path in fields():
        shown = c.problems([Problem(path, "is wrong.", f"Use --set {path}=1.")])
        shown += c.warnings([f"{path}=1 is much."])
        assert "." not in path or path not in shown
        assert "--set" not in shown


def test_what_a_worker_died_of_is_in_the_pages_labels_too(page):
    status = Status(state="failed", job="train", started=0, updated=0, error="Too much.", hint="Lower training.epochs.")
    assert "Lower “Epochs”." in progress.ending(page.store, status, None)
