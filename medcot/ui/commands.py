"""The same on the command line: what a button of Evaluate does, as a command to copy."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from medcot.errors import BadInput
from medcot.runs import job_dir
from medcot.runs.run import Run
from medcot.settings import STARTER
from medcot.settings.evaluation import EvaluationOrder
from medcot.settings.export import ExportOrder
from medcot.ui import components as c
from medcot.ui.guard import visitor_may
from medcot.ui.page import LATEST

WRONG = "# Something has to be fixed first: the button says what."


class SameCommand:
    """A folded command that follows `fields`; `words` makes it of their values and raises BadInput if it cannot."""

    def __init__(self, name: str, words: Callable[..., str], fields: Sequence[Any]):
        self.words = words
        with gr.Accordion("The same on the command line", open=False, elem_classes="mc-more"):
            self.shown = c.block(c.command(WRONG), elem_id=f"{name}-command")
            copy = c.small_button("Copy the command", elem_id=f"copy-{name}")
        copy.click(None, js=c.from_file("copy.js", button=f"copy-{name}", text=f"{name}-command"))
        gr.on([field.change for field in fields], self.written, list(fields), self.shown, **LATEST)

    @visitor_may
    def written(self, *values: object) -> str:
        try:
            return c.command(self.words(*values))
        except BadInput:
            return c.command(WRONG)


def evaluating(run: Run, order: EvaluationOrder) -> str:
    """The command that evaluates a run as ordered; a file that was uploaded is called by its name."""
    own, changed = run.settings().evaluation.model_dump(), order.model_dump()
    words = ["evaluate", run.id]
    for name, value in own.items():
        if changed[name] != value:
            words += ["--set", f"evaluation.{name}={'none' if changed[name] is None else json.dumps(changed[name])}"]
    if order.questions:
        words += ["--questions", order.questions if order.questions == STARTER else Path(order.questions).name]
    words += [word for arm in order.adapters for word in ("--arm", arm)]
    return job_dir.command(shlex.join(words), run.path.parent)


def exporting(run: Run, order: ExportOrder) -> str:
    """The command that writes the same export into a folder of one's own."""
    words = ["export", run.id, "--to", f"{run.id}-{order.format}"]
    words += ["--format", order.format] if order.format != "merged" else []
    words += ["--quantize", ",".join(order.quantize)] if order.quantize else []
    return job_dir.command(shlex.join(words), run.path.parent)


def publishing(run: Run, repo: str, about: str, public: bool) -> str:
    """The command that pushes a run's adapter; the token comes from the environment."""
    words = ["publish", run.id, "--repo", repo or "OWNER/NAME"]
    words += ["--about", about] if about else []
    words += ["--public"] if public else []
    return job_dir.command(shlex.join(words), run.path.parent)
