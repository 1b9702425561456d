"""The form is the settings' own fields, and refuses in the words of the command line."""

import os
import re
from pathlib import Path

import gradio as gr
import pytest

from medcot.errors import BadInput, Problem
from medcot.settings import fields, recipes
from medcot.settings.recipes import compose
from medcot.ui.form import FIELDS, Form, as_pair, help_text
from medcot.ui.train.cards import CARDS


@pytest.fixture
def form():
    with gr.Blocks():
        return Form("starter")


def values(form, **changed):
    """What the untouched form holds, with some fields changed; `__` stands for the dot of a path."""
    new = {name.replace("__", "."): value for name, value in changed.items()}
    return [new.get(path, component.value) for path, component in zip(form.paths, form.components, strict=True)]


def test_every_setting_is_in_the_form_once_under_its_own_words(form):
    assert sorted(form.paths) == sorted(fields())
    for path, component in zip(form.paths, form.components, strict=True):
        assert component.label == FIELDS[path].title
        assert path == "recipe" or FIELDS[path].description in component.info


def test_every_recipe_can_be_chosen_and_an_untouched_form_is_the_recipe(form):
    assert set(CARDS) == set(recipes.RECIPES)
    for name in recipes.RECIPES:
        updates = form.filled_from(name)
        filled = [updates[component].get("value", name) for component in form.components]
        assert form.settings(filled) == compose(name)


def test_bounds_are_shown():
    assert help_text("training.epochs").replace("\u00a0", " ").endswith("(> 0, ≤ 100)")
    assert help_text("lora.dropout").replace("\u00a0", " ").endswith("(≥ 0, < 1)")


def test_problems_are_those_of_the_command_line_and_stand_beside_their_fields(form):
    with pytest.raises(BadInput) as told:
        form.settings(values(form, training__epochs="-1", lora__rank="many", model__id=" "))
    with pytest.raises(BadInput) as printed:
        compose("starter", None, ["training.epochs=-1", "lora.rank=many", "model.id=none"])
    assert {str(p) for p in told.value.problems} == {str(p) for p in printed.value.problems}
    updates = form.marked(told.value.problems)
    assert {"training.epochs", "lora.rank"} <= set(updates[form.wrong])
    marked = {path: updates[component] for path, component in zip(form.paths, form.components, strict=True)}
    assert "got -1" in marked["training.epochs"]["info"]
    assert marked["training.epochs"]["elem_classes"] == ["mc-wrong"]
    assert marked["training.seed"]["info"] == help_text("training.seed")


def test_a_problem_with_one_item_of_a_list_belongs_to_the_list(form):
    assert form.nearest("lora.target_modules.0") == "lora.target_modules"
    assert form.nearest("records.jsonl, record 3") == ""


@pytest.mark.parametrize(
    ("path", "value", "pair"),
    [
        ("data.limit", "", "data.limit=none"),
        ("data.source", "no", 'data.source="no"'),
        ("name", "12", 'name="12"'),
        ("lora.target_modules", "q_proj, v_proj", 'lora.target_modules=["q_proj", "v_proj"]'),
        ("training.gradient_checkpointing", True, "training.gradient_checkpointing=true"),
        ("training.learning_rate", "1e-4", "training.learning_rate=1e-4"),
    ],
)
def test_a_filled_field_is_a_pair_as_the_command_line_takes_it(path, value, pair):
    assert as_pair(path, value) == pair
    compose("starter", None, [pair])


def test_the_command_says_what_differs_from_the_recipe_quoted_for_a_shell(form):
    changed = values(form, lora__rank="8", name="it's mine")
    command, _ = form.command(changed, Path("my runs"))
    assert command == (
        """medcot train --recipe starter --set 'name=it'"'"'s mine' --set lora.rank=8 --runs-dir 'my runs'"""
    )
    with pytest.raises(BadInput):
        form.command(values(form, lora__rank="x"), Path("runs"))


def test_the_command_names_the_runs_folder_unless_the_command_line_takes_it_by_itself(form, monkeypatch):
    assert "--runs-dir" not in form.command(values(form), Path(os.environ["MEDCOT_RUNS_DIR"]))[0]
    assert form.command(values(form), Path("runs"))[0].endswith(" --runs-dir runs")
    monkeypatch.delenv("MEDCOT_RUNS_DIR")
    assert "--runs-dir" not in form.command(values(form), Path("runs"))[0]


@pytest.mark.parametrize(
    "text", ["[x](http://192.0.2.1/a)", "![x](//192.0.2.1)", "http://192.0.2.1", "www.x.test", "**x**", "<b>"]
)
def test_a_value_in_a_fields_own_words_is_no_markup(form, text):
    updates = form.marked([Problem("model.id", f"there is no folder {text}.", "Check it.")])
    told = updates[form._made["model.id"]]["info"]
    assert text not in told
    assert text in re.sub(r"\\(.)", r"\1", told)
