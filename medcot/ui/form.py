"""The form of a run: one component a setting, made from the setting's own field, and the way back to RunSettings.

A filled form becomes the `path=value` pairs that the command line takes, so both are checked alike and refuse in the
same words. Numbers are plain text fields for that reason: a browser's number field swallows what it cannot read.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic.fields import FieldInfo

from medcot import recipes
from medcot.errors import BadInput, Problem
from medcot.settings import RunSettings, cautions, field_paths, value_at
from medcot.ui.page import still

RECIPE = "recipe"
NO_BREAK = "\u00a0"  # a sign stays with its number
ESSENTIAL = (
    "model.id",
    "data.source",
    "training.epochs",
    "training.learning_rate",
    "training.micro_batch",
    "training.accumulation",
    "training.max_length",
    "lora.rank",
    "data.held_out",
    "name",
)
RECIPE_CHOICES = {
    "starter": "starter: a 135M model, runs anywhere in minutes",
    "llama-3.2-3b-medical-cot": "llama-3.2-3b-medical-cot: Llama 3.2 3B, one CUDA GPU",
    "reference-exact": "reference-exact: as the reference notebook has it, one CUDA GPU",
}
SECTION_TITLES = {
    "": "Run",
    "model": "Model",
    "data": "Data",
    "prompt": "Prompt",
    "lora": "LoRA",
    "training": "Training",
    "evaluation": "Evaluation",
    "tracking": "Weights & Biases",
}


def field_of(path: str) -> FieldInfo:
    section, _, name = path.rpartition(".")
    model: Any = RunSettings.model_fields[section].annotation if section else RunSettings
    found: FieldInfo = model.model_fields[name]
    return found


def shown(value: Any) -> Any:
    """A setting's value as its component shows it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return ", ".join(value)
    return "" if value is None else str(value)


class Form:
    """Builds its components when made, inside a gr.Blocks; `components` are in the order of `paths`."""

    def __init__(self, recipe: str):
        settings = recipes.compose(recipe)
        self._made: dict[str, Any] = {RECIPE: self._recipe(recipe)}
        with gr.Row(elem_classes="mc-fields"):
            for path in ESSENTIAL:
                self._make(path, settings)
        with gr.Accordion("All other settings", open=False, elem_classes="mc-more"):
            for section, title in SECTION_TITLES.items():
                self._section(section, title, settings)
        self.paths = list(self._made)
        self.components = list(self._made.values())

    def _recipe(self, recipe: str) -> gr.Radio:
        field = field_of(RECIPE)
        return gr.Radio(
            [(label, name) for name, label in RECIPE_CHOICES.items()],
            value=recipe,
            label=field.title,
            info=help_text(RECIPE),
            elem_classes="mc-choices",
        )

    def _section(self, section: str, title: str, settings: RunSettings) -> None:
        rest = [p for p in field_paths() if p.rpartition(".")[0] == section and p not in (*ESSENTIAL, RECIPE)]
        with gr.Accordion(title, open=False), gr.Row(elem_classes="mc-fields"):
            for path in rest:
                self._make(path, settings)

    def _make(self, path: str, settings: RunSettings) -> None:
        field = field_of(path)
        value = shown(value_at(settings, path))
        common: dict[str, Any] = {"value": value, "label": field.title, "info": help_text(path), "min_width": 200}
        if field.annotation is bool:
            self._made[path] = gr.Checkbox(**common)
        elif get_origin(field.annotation) is Literal:
            self._made[path] = gr.Dropdown(list(get_args(field.annotation)), filterable=False, **common)
        else:
            self._made[path] = gr.Textbox(max_lines=1, elem_id=f"set-{path.replace('.', '-')}", **common)

    @property
    def recipe(self) -> Any:
        return self._made[RECIPE]

    def settings(self, values: Sequence[Any]) -> RunSettings:
        """Raises BadInput with every problem at once, in the words of the command line."""
        filled = dict(zip(self.paths, values, strict=True))
        recipe = str(filled.pop(RECIPE))
        return recipes.compose(recipe, None, [as_pair(path, value) for path, value in filled.items()])

    def filled_from(self, recipe: str) -> list[Any]:
        """Updates that show a recipe's values and no problems, silent of the choice itself where it stands."""
        choice, *fields = self.filled(recipes.compose(str(recipe)))
        return [still(choice, recipe), *fields]

    def filled(self, settings: RunSettings) -> list[Any]:
        """Updates that show these settings and no problems."""
        return self.marked([], {path: value_at(settings, path) for path in self.paths})

    def marked(self, problems: Sequence[Problem], values: Mapping[str, Any] | None = None) -> list[Any]:
        """Updates that put each problem beside its field, clear the others, and show new values where there are any."""
        new = {path: {"value": shown(value)} for path, value in (values or {}).items()}
        by_path: dict[str, list[Problem]] = {}
        for problem in problems:
            by_path.setdefault(self.nearest(problem.where), []).append(problem)
        return [
            gr.update(
                info=help_text(path) + "".join(f"\n**{f'{p.what} {p.fix}'.strip()}**" for p in found),
                elem_classes=["mc-wrong"],
                **new.get(path, {}),
            )
            if (found := by_path.get(path))
            else gr.update(
                info=help_text(path), elem_classes=["mc-choices"] if path == RECIPE else [], **new.get(path, {})
            )
            for path in self.paths
        ]

    def nearest(self, where: str) -> str:
        """The setting that a problem's place belongs to, or none: `lora.target_modules.0` is `lora.target_modules`."""
        return next((p for p in self.paths if where == p or where.startswith(p + ".")), "")

    def command(self, values: Sequence[Any], runs_dir: Path) -> str:
        """What does the same on the command line."""
        try:
            settings = self.settings(values)
        except BadInput:
            return "# A setting has to be mended first: Start says which."
        return command(settings, runs_dir)

    def cautions(self, values: Sequence[Any]) -> list[str]:
        """What should be known before a start, and forbids nothing; none while a setting has to be mended."""
        try:
            return cautions(self.settings(values))
        except BadInput:
            return []


def command(settings: RunSettings, runs_dir: Path) -> str:
    words = ["medcot", "train", "--recipe", settings.recipe]
    for pair in recipes.changed_settings(settings):
        words += ["--set", pair]
    if runs_dir != Path("runs"):
        words += ["--runs-dir", str(runs_dir)]
    return shlex.join(words)


def as_pair(path: str, value: Any) -> str:
    """`path=value` as the command line takes it; an empty field is none."""
    annotation = field_of(path).annotation
    if isinstance(value, bool):
        return f"{path}={json.dumps(value)}"
    entered = str(value or "").strip()
    if not entered:
        return f"{path}=none"
    if get_origin(annotation) is tuple:
        parts = [part.strip() for part in entered.split(",") if part.strip()]
        return f"{path}={json.dumps(parts, ensure_ascii=False)}"
    if annotation is str or str in get_args(annotation):
        return f"{path}={json.dumps(entered, ensure_ascii=False)}"
    return f"{path}={entered}"


def help_text(path: str) -> str:
    """The field's own description and bounds."""
    field = field_of(path)
    limits = ", ".join(recipes.bounds(field)).replace(">=", "≥").replace("<=", "≤").replace(" ", NO_BREAK)
    return (field.description or "") + (f" ({limits})" if limits else "")
