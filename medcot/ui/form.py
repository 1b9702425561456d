"""The form of a run: one component a setting, made from the setting's own field, and the way back to RunSettings.

A filled form becomes the `path=value` pairs that the command line takes, so both are checked alike and refuse in the
same words. Numbers are plain text fields for that reason: a browser's number field drops what it cannot read.
"""

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import gradio as gr

from medcot.errors import Problem
from medcot.runs import job_dir
from medcot.settings import STARTER, DataSettings, FurtherSource, RunSettings, as_line, cautions, fields, recipes
from medcot.settings.build import value_at
from medcot.settings.recipes import changed_settings, compose
from medcot.ui.components import TEXTS, block, in_markdown, labelled, soft
from medcot.ui.guard import visitor_may
from medcot.ui.page import Update, Updates, still

RECIPE = "recipe"
NO_BREAK = "\u00a0"  # between a sign and its number
IN_VIEW: list[str] = TEXTS["form"]["in-view"]
USUAL: list[str] = TEXTS["form"]["usual"]
SECTION_TITLES: dict[str, str] = TEXTS["form"]["sections"]
COLUMNS: list[str] = TEXTS["form"]["columns"]
FIELDS = fields()
NAMES = tuple((name, name) for name in recipes.RECIPES)


def shown(value: Any) -> Any:
    """A setting's value as its component shows it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, tuple):
        return as_line(value) if value and isinstance(value[0], FurtherSource) else ", ".join(value)
    return "" if value is None else str(value)


class Form:
    """Made inside a gr.Blocks; `components` are in the order of `paths`, and what is folded opens for a problem."""

    def __init__(self, recipe: str, cards: Sequence[tuple[str, str]] = NAMES, off: Sequence[str] = ()):
        settings = compose(recipe)
        self._looks = ["mc-choices", "mc-cards", *off]  # of the cards
        shown_as: dict[str, Any] = {"label": FIELDS[RECIPE].title, "elem_classes": self._looks, "show_label": False}
        self.recipe: Any = gr.Radio(list(cards), value=recipe, **shown_as, elem_id=id_of(RECIPE))
        self._made: dict[str, Any] = {RECIPE: self.recipe}
        with gr.Row(elem_classes="mc-fields mc-data") as self.data_line:
            for path in IN_VIEW:
                self._make(path, settings)
        with gr.Row(elem_classes="mc-fields mc-thirds", visible=has_columns(settings.data.source)) as self.column_line:
            for path in COLUMNS:
                self._make(path, settings)
            self.guess = block(elem_classes="mc-wide", elem_id="columns-guessed")
        with gr.Accordion("Settings", open=False, elem_id="settings") as folded:
            self._row(USUAL, settings)
            self._folds: dict[str, list[gr.Accordion]] = {path: [folded] for path in USUAL}  # what a field is folded in
            for section, title in SECTION_TITLES.items():
                rest = [p for p in FIELDS if p.rpartition(".")[0] == section and p not in self._made]
                with gr.Accordion(title, open=False) as inner:
                    self._row(rest, settings)
                self._folds |= {path: [folded, inner] for path in rest}
        self.paths = list(self._made)
        self.components = list(self._made.values())
        self.outputs = [*self.components, *{fold: None for folds in self._folds.values() for fold in folds}]
        self.wrong: Any = gr.State(())  # the paths that are marked
        self.outputs += [self.wrong, self.column_line, self.guess]

    def _row(self, paths: Sequence[str], settings: RunSettings) -> None:
        with gr.Row(elem_classes="mc-fields"):
            for path in paths:
                self._make(path, settings)

    def _make(self, path: str, settings: RunSettings) -> None:
        field, value = FIELDS[path], shown(value_at(settings, path))
        common: dict[str, Any] = {"value": value, "label": field.title, "info": help_text(path), "min_width": 200}
        common["elem_id"] = id_of(path)
        if field.annotation is bool:
            self._made[path] = gr.Checkbox(**common)
        elif path in COLUMNS:
            self._made[path] = gr.Dropdown([value], allow_custom_value=True, **common)
        elif get_origin(field.annotation) is Literal:
            self._made[path] = gr.Dropdown(list(get_args(field.annotation)), filterable=False, **common)
        else:
            self._made[path] = gr.Textbox(max_lines=1, **common)

    def settings(self, values: Sequence[Any]) -> RunSettings:
        """Settings from the components' values. Raises BadInput with every problem, in the command line's words."""
        filled = dict(zip(self.paths, values, strict=True))
        recipe = str(filled.pop(RECIPE))
        return compose(recipe, None, [as_pair(path, value) for path, value in filled.items()])

    @visitor_may
    def filled_from(self, recipe: str) -> Updates:
        """Show a recipe's values and no problems; the choice itself is left alone."""
        updates = self.filled(compose(str(recipe)))
        return updates | {self.recipe: still(updates[self.recipe], recipe)}

    def filled(self, settings: RunSettings) -> Updates:
        """Show these settings and no problems."""
        return self.marked([], {path: value_at(settings, path) for path in self.paths})

    def marked(self, problems: Sequence[Problem], values: Mapping[str, Any] | None = None) -> Updates:
        """Show each problem beside its field, unfolded, and none beside the others, and the new `values`."""
        updates: Updates = {self.wrong: tuple(filter(None, (self.nearest(p.where) for p in problems)))}
        for path, component in self._made.items():
            wrong = [problem for problem in problems if self.nearest(problem.where) == path]
            updates |= dict.fromkeys(self._folds.get(path, ()), gr.update(open=True)) if wrong else {}
            updates[component] = self._look(path, wrong)
            if values and path in values:
                updates[component]["value"] = shown(values[path])
        return updates

    def with_columns(self, names: Sequence[str], data: DataSettings) -> Updates:
        """The data's columns to choose from, with the settings' own chosen, told to be a guess, and no problems."""
        chosen = data.model_dump(include={"source", "config", "revision", "question_column", "reasoning_column"})
        chosen |= data.model_dump(include={"answer_column", "context_column"})
        updates = self.marked([], {f"data.{name}": value for name, value in chosen.items()})
        for path in COLUMNS:
            updates[self._made[path]]["choices"] = [(name, name) for name in names]
        guess = soft(TEXTS["form"]["guess"]) if names else ""
        return {**updates, self.column_line: gr.update(visible=has_columns(data.source)), self.guess: guess}

    def at(self, source: object) -> Updates:
        """The lists of columns, for all data but the embedded."""
        shown = has_columns(str(source))
        return {self.column_line: gr.update(visible=shown), **({} if shown else {self.guess: ""})}

    def left(self, field: gr.blocks.Block | None, marked: Sequence[str], problems: Sequence[Problem]) -> Updates:
        """Mark the component that was left, if a problem belongs to it; gradio hands over a copy of it."""
        path = next((path for path, made in self._made.items() if field and made.elem_id == field.elem_id), None)
        wrong = [problem for problem in problems if path and self.nearest(problem.where) == path]
        if path is None or not wrong:
            return {}
        return {self._made[path]: self._look(path, wrong), self.wrong: tuple(dict.fromkeys([*marked, path]))}

    def _look(self, path: str, wrong: Sequence[Problem]) -> Update:
        """A field's help with what is wrong with it, and its classes."""
        told = [f"\n**{in_markdown(labelled(problem.in_page))}**" for problem in wrong]
        return gr.update(
            info="".join([self._help(path), *told]), elem_classes=["mc-wrong"] if wrong else self._usual(path)
        )

    def righted(self, changed: Collection[str], marked: Sequence[str], problems: Sequence[Problem]) -> Updates:
        """Unmark the components that were changed, unless a problem with one is left."""
        left = {self.nearest(problem.where) for problem in problems}
        right = [path for path in marked if path in changed and path not in left]
        if not right:
            return {}
        looks: Updates = {self._made[path]: self._look(path, []) for path in right}
        return {**looks, self.wrong: tuple(path for path in marked if path not in right)}

    def _usual(self, path: str) -> list[str]:
        """The classes of a field that is not marked."""
        return self._looks if path == RECIPE else []

    def _help(self, path: str) -> str:
        return "" if path == RECIPE else help_text(path)

    def field(self, path: str) -> Any:
        """The component of a setting."""
        return self._made[path]

    def ids(self, problems: Sequence[Problem]) -> dict[str, str]:
        """Where on the page each problem's field is, by the problem's place."""
        return {p.where: id_of(path) for p in problems if (path := self.nearest(p.where))}

    def nearest(self, where: str) -> str:
        """The setting that a problem's place belongs to, or "": `lora.target_modules.0` is `lora.target_modules`."""
        return next((p for p in self.paths if where == p or where.startswith(p + ".")), "")

    def command(self, values: Sequence[Any], runs_dir: Path) -> tuple[str, list[str]]:
        """The command that starts the same run, and warnings that forbid nothing. Raises BadInput."""
        settings = self.settings(values)
        changed = [word for pair in changed_settings(settings) for word in ("--set", pair)]
        words = shlex.join(["train", "--recipe", settings.recipe, *changed])
        return job_dir.command(words, runs_dir), cautions(settings)


def has_columns(source: str) -> bool:
    """Whether somebody may want to say which of the data's columns holds what."""
    return source.strip() != STARTER


def id_of(path: str) -> str:
    """What the page calls the component of a setting."""
    return f"set-{path.replace('.', '-')}"


def as_pair(path: str, value: Any) -> str:
    """`path=value` as the command line takes it; an empty field is none."""
    annotation = FIELDS[path].annotation
    if isinstance(value, bool):
        return f"{path}={json.dumps(value)}"
    entered = str(value or "").strip()
    if not entered:
        return f"{path}=none"
    if get_origin(annotation) is tuple and path != recipes.MORE:
        parts = [part.strip() for part in entered.split(",") if part.strip()]
        return f"{path}={json.dumps(parts, ensure_ascii=False)}"
    if annotation is str or str in get_args(annotation):
        return f"{path}={json.dumps(entered, ensure_ascii=False)}"
    return f"{path}={entered}"


def help_text(path: str) -> str:
    """The field's own description and bounds."""
    field = FIELDS[path]
    limits = ", ".join(recipes.bounds(field)).replace(">=", "≥").replace("<=", "≤").replace(" ", NO_BREAK)
    return (field.description or "") + (f" ({limits})" if limits else "")
