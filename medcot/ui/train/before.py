"""Before a start: the data as conversations, the audit, the plan, and what one record teaches."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from medcot import columns, preflight, uploads
from medcot.errors import BadInput, Problem, WorkerFailed
from medcot.messages import Loading
from medcot.planner import Planner
from medcot.settings import RunSettings
from medcot.ui import components as c
from medcot.ui.form import Form
from medcot.ui.page import Page
from medcot.ui.train import pictures

UNPLANNED = c.empty(
    "Not looked at yet",
    "Press <b>Check data and plan</b>. Nothing is started.",
    "You see the records as conversations, their lengths, what would be cut, and what the run needs.",
)


@dataclass(frozen=True)
class PlanColumn:
    stage: gr.HTML
    data: gr.HTML
    plan: gr.HTML
    audit: gr.HTML
    record: gr.Textbox
    show: gr.Button
    tokens: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        return [self.stage, self.plan, self.data, self.audit, self.tokens, self.record, self.show]


def plan_column() -> PlanColumn:
    stage = c.block(UNPLANNED, elem_id="plan-stage")
    plan, data = c.block(elem_id="plan"), c.block(elem_id="preview")
    audit, tokens = c.block(elem_id="audit"), c.block(elem_id="tokens")
    with gr.Row(elem_classes="mc-actions"):
        record = gr.Textbox(label="Another record", info="Its number in the data.", visible=False, elem_id="record")
        show = gr.Button("Show its tokens", visible=False, elem_id="show-tokens")
    return PlanColumn(stage, data, plan, audit, record, show, tokens)


class Before:
    def __init__(self, page: Page, form: Form):
        self.page, self.form = page, form
        self.planner = Planner(page.runs_dir.expanduser().resolve())

    def look(self, *values: Any) -> Iterator[list[Any]]:
        """Problems, the form's fields, then the outputs of PlanColumn: the data at once, the rest as it comes."""
        try:
            settings, split = preflight.prepare(lambda: self.form.settings(values))
        except BadInput as bad:
            yield [c.problems(bad.problems), *self.form.marked(bad.problems), *self._shown(UNPLANNED)]
            return
        fields = self.form.marked([], {f"data.{part}_column": name for part, name in split.guessed.items()})
        data = pictures.preview(settings, split)
        yield ["", *fields, *self._shown(stage("Loading the libraries"), data=data)]
        same = [gr.skip()] * len(fields)
        try:
            for reply in self.planner.plan(settings):
                if isinstance(reply, Loading):
                    yield ["", *same, *self._shown(stage(reply.stage), data=data)]
                    continue
                found = reply.value
                note = columns.in_words(split.guessed)
                found["problems"] = [*([note] if note else []), *found["problems"]]
                yield ["", *same, *self._shown("", found, data)]
        except (BadInput, WorkerFailed) as refused:
            yield [c.problems(words(refused)), *same, *self._shown("", data=data)]

    def _shown(self, stage: str, found: dict[str, Any] | None = None, data: str = "") -> list[Any]:
        record = gr.update(visible=found is not None, value="")
        button = gr.update(visible=found is not None)
        if found is None:
            return [stage, "", data, "", "", record, button]
        pieces = (pictures.plan(found), data, pictures.audit(found["audit"]), pictures.tokens(found["tokens"]))
        return [stage, *pieces, record, button]

    def tokens(self, record: str, *values: Any) -> str:
        """One record token by token, or why not."""
        try:
            settings: RunSettings = preflight.prepare(lambda: self.form.settings(values))[0]
            if record.strip() and not record.strip().isdecimal():
                raise BadInput(Problem("record", f"is a number; got {record!r:.40}."))
            return pictures.tokens(self.planner.tokens(settings, int(record) if record.strip() else None))
        except (BadInput, WorkerFailed) as refused:
            return c.problems(words(refused))

    def upload(self, file: str) -> list[Any]:
        """Problems, then the fields: the file is kept, and the data is that file."""
        sent = Path(file)
        try:
            kept = uploads.keep(self.page.runs_dir, sent)
        except BadInput as bad:
            return [c.problems(bad.problems), *self.form.marked(bad.problems)]
        finally:
            sent.unlink(missing_ok=True)  # the page's own copy
        return ["", *self.form.marked([], {"data.source": str(kept), "data.config": "", "data.revision": ""})]


def words(refused: BadInput | WorkerFailed) -> list[Problem | str]:
    return list(refused.problems) if isinstance(refused, BadInput) else [str(refused)]


def stage(what: str) -> str:
    return f'<p class="mc-stage">{c.text(what)}</p>{c.bar(None)}'
