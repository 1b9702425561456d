"""Before a start: the data as conversations, the audit, the plan, and what one record teaches."""

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import gradio as gr

from medcot import prompts
from medcot.data import columns, identifiers, uploads
from medcot.data.examples import Example
from medcot.errors import BadInput, WorkerFailed
from medcot.runs.pace import Size
from medcot.runs.plan import Audit, Planned, TokenView
from medcot.settings import DataSettings, RunSettings
from medcot.ui import components as c
from medcot.ui.form import COLUMNS
from medcot.ui.guard import login_of, may_act, visitor_may
from medcot.ui.page import HIDE, LATEST, QUIET, SHOW, UNCHANGED, Page, Updates
from medcot.ui.train.open_run import Parts
from medcot.ui.train.start import Start
from medcot.workers import preflight, reading
from medcot.workers.client import ServiceClient
from medcot.workers.protocol import Loading, PlanRequest, Result, TokensRequest
from medcot.workers.reading import Preview

UNPLANNED, REFUSED = c.empty("plan"), c.empty("plan-refused")
LOOKED = c.from_file("train/result.js", result="plan-stage")
PLANNER_SECONDS = 120.0  # a second look soon after the first need not load the libraries again


class Plan:
    """What the form of `start` would train on, and how."""

    def __init__(self, page: Page, start: Start, parts: Parts):
        self.page, self.start, self.form, self.problems = page, start, start.form, start.problems
        self.parts = parts
        self.planner = ServiceClient(page.runs_dir.expanduser().resolve())
        self.planner.end_after = PLANNER_SECONDS
        self.stage = c.block(UNPLANNED, elem_id="plan-stage")
        self.plan, self.data = c.block(elem_id="plan"), c.block(elem_id="preview")
        self.audit, self.tokens = c.block(elem_id="audit"), c.block(elem_id="tokens")
        with gr.Row(elem_classes="mc-actions"):
            info = "Its number in the data."
            self.record = gr.Textbox(label="Another record", info=info, visible=False, elem_id="record")
            self.show = gr.Button("Show its tokens", visible=False, elem_id="show-tokens")

        fields = self.form.components
        pieces = [self.stage, self.plan, self.data, self.audit, self.tokens, self.record, self.show]
        looked = [self.problems, start.begin, *self.form.outputs, *pieces]
        start.check.click(parts.show_plan, None, parts.tabs, **QUIET)
        start.check.click(self.look, fields, looked, **QUIET).then(None, js=LOOKED)
        is_kept = self.is_kept = gr.State(False)  # whether the newest upload was not refused
        kept = start.upload.upload(
            self.keep_upload, start.upload, [is_kept, self.problems, *self.form.outputs], **QUIET
        )
        kept.then(self.look_at_kept, [is_kept, *fields], [parts.tabs, *looked], **QUIET)
        chosen = [self.problems, *self.form.outputs, self.data]
        gr.on([self.form.field(path).input for path in COLUMNS], self.preview, fields, chosen, **LATEST)
        self.show.click(self.show_tokens, [self.record, *fields], self.tokens, **QUIET)

    def look(self, *values: Any) -> Iterator[Updates]:
        """Show the data at once, then the audit and the plan as they come."""
        try:
            settings, told = preflight.prepare(lambda: self.form.settings(values))
        except BadInput as bad:
            yield self.start.refused(bad.problems) | self._empty(REFUSED)
            return
        guessed = {f"data.{part}_column": name for part, name in told.guessed.items()}
        # The data is in every update: a page draws only the last of those that come within one frame.
        always: Updates = {self.problems: "", self.data: preview(settings, told)}
        yield {**self.form.marked([], guessed), **self._empty(c.working("Loading the libraries")), **always}
        try:
            for reply in self.planner.replies(PlanRequest(settings=settings)):
                if isinstance(reply, Loading):
                    yield {**self._empty(c.working(reply.stage)), **always}
                elif isinstance(reply, Result):
                    found = Planned.model_validate(reply.value)
                    known = self.start.know(
                        values, Size(told.train, found.audit.lengths["whole"].mean, told.validation)
                    )
                    yield {**self._found(found, told.warnings), **always, **known}
        except (BadInput, WorkerFailed) as refused:
            yield {**self._empty(""), **always, self.problems: c.refused(refused)}

    def look_at_kept(self, is_kept: bool, *values: Any) -> Iterator[Updates]:
        """What `look` shows, of data that was uploaded just now; a refused upload leaves the page as it is."""
        if not is_kept:
            yield UNCHANGED
            return
        for answer in self.look(*values):
            yield {**answer, **self.parts.show_plan()}

    def _empty(self, stage: str) -> Updates:
        emptied: Updates = dict.fromkeys((self.plan, self.data, self.audit, self.tokens), "")
        return {self.stage: stage, **emptied, self.record: gr.update(value="", visible=False), self.show: HIDE}

    def _found(self, found: Planned, notes: Sequence[str]) -> Updates:
        return {
            self.stage: "",
            self.plan: plan(found, [*notes, *found.problems]),
            self.audit: audit(found.audit),
            self.tokens: tokens(found.tokens),
            self.record: gr.update(value="", visible=True),
            self.show: SHOW,
        }

    def show_tokens(self, record: str, *values: Any) -> str:
        """One record token by token, or why not."""
        try:
            settings, _ = preflight.prepare(lambda: self.form.settings(values))
            number = record.strip()
            if number and not number.isdecimal():
                raise BadInput.of("record", f"is a number; got {record!r:.40}.")
            request = TokensRequest(settings=settings, record=int(number) if number else None)
            return tokens(self.planner.result(request, TokenView))
        except (BadInput, WorkerFailed) as refused:
            return c.refused(refused)

    def keep_upload(self, file: str) -> Updates:
        """Keep an uploaded file, and fill in its path as the data."""
        sent = Path(file)
        try:
            kept = uploads.keep(self.page.runs_dir, sent)
        except BadInput as bad:
            return {self.is_kept: False, **self.start.refused(bad.problems)}
        finally:
            sent.unlink(missing_ok=True)  # the page's own copy
        data = DataSettings(source=str(kept))
        try:
            found = reading.columns(data)
            names, data = found.names, found.data
        except BadInput:  # Check, which follows, says what is wrong with the file
            names = []
        return {self.is_kept: True, self.problems: "", **self.form.with_columns(names, data)}

    @visitor_may
    def preview(self, request: gr.Request, *values: Any) -> Updates:
        """The data as conversations under the columns that were chosen just now; nothing for a Space's visitor."""
        if not may_act(login_of(request)):
            return UNCHANGED
        try:
            settings, told = preflight.prepare(lambda: self.form.settings(values))
        except BadInput as bad:
            return {**self.start.refused(bad.problems), self.data: ""}
        return {self.problems: "", **self.form.marked([]), self.data: preview(settings, told)}


TITLES: dict[str, str] = c.TEXTS["plan"]["parts"]
KINDS: dict[str, str] = c.TEXTS["plan"]["tokens"]


def preview(settings: RunSettings, told: Preview) -> str:
    """The first training records, as the conversation that the model sees."""
    named = ", ".join(f"{part} from {column!r}" for part, column in columns.named(settings.data).items())
    counts = f"{told.train} records to train on, {told.held_out} held out. Columns: {named}."
    if told.validation is not None:
        parts = f"{told.train} records to train on, {told.validation} to validate with, {told.held_out} to test with"
        counts = f"{parts}. Columns: {named}."
    counts += f" Beside the data is learned: {'; '.join(told.shares)}." if told.shares else ""
    counts += f" Not used, though they hold text: {', '.join(map(repr, told.unused))}." if told.unused else ""
    shown = "".join(_conversation(settings, e, i == 0) for i, e in enumerate(told.first))
    return f"<h3>The data</h3>{c.soft(counts)}{c.warnings(told.warnings)}{shown}"


def _conversation(settings: RunSettings, example: Example, is_open: bool) -> str:
    style = prompts.STYLES[settings.prompt.style]
    system = example.system or settings.prompt.system
    turns = [("System", "system", system)] if system else []
    for turn in example.turns:
        turns.append((style.heading, "user", style.shown(turn.question)))
        who = "Assistant" if turn.reasoning else "Assistant (read, not learned)"
        turns.append((who, "assistant", turn.output))
    said = "".join(
        f'<div class="mc-turn mc-turn-{role}"><b>{who}</b><div class="mc-text">{c.text(text)}</div></div>'
        for who, role, text in turns
    )
    summary = f"Record {example.record}: {c.text(example.question[:100])}"
    return c.fold(summary, f'<div class="mc-turns">{said}</div>', is_open)


def plan(found: Planned, problems: Sequence[str]) -> str:
    """The plan of the run on this device."""
    figures, audit = found.plan, found.audit
    factors = [figures.micro_batch, figures.accumulation]
    factors += [figures.processes] if figures.processes > 1 else []
    kept = "with" if figures.gradient_checkpointing else "without"
    long = f"{audit.beyond[:1].upper()}{audit.beyond[1:]}."
    how = f"{long} Each step {kept} gradient checkpointing, records {figures.sampling}: {figures.why}."
    pairs = [
        ("Steps", f"{figures.steps:,}"),
        ("Sequences a step", f"{math.prod(factors)} = {' × '.join(map(str, factors))}"),
        ("Trained parameters", f"{figures.trainable_parameters:,}"),
        ("Peak memory, estimated", f"{figures.peak_memory_gib:.1f} GiB"),
        *([("An epoch", "; ".join(map(str, audit.sources)))] if audit.sources else []),
        ("All is kept at", f"{audit.keeps_all:,} tokens"),
    ]
    return f"<h3>The plan</h3>{c.figures(pairs)}{c.soft(how)}{c.warnings(problems)}"


def audit(found: Audit) -> str:
    """Histograms of lengths, and repeated questions."""
    drawn = "".join(_histogram(name, found) for name in TITLES)
    same = found.duplicate_records
    repeats = [f"Record {d.record} asks the same as record {d.same_as}: {d.question:.200}" for d in same]
    near = [
        f"Held-out {p.held_out_record}: {p.held_out_question:.200}\nTraining {p.train_record}: {p.train_question:.200}"
        for p in found.near_duplicate_pairs
    ]
    left_out = [
        f"{one.part.capitalize()} record {one.record} repeats {one.of} record {one.same_as}: {one.question:.200}"
        for one in found.repeated_records
    ]
    held = {kind: (one.count, one.records) for kind, one in found.identifiers.items()}
    personal = [identifiers.in_words({kind: places}) for kind, places in held.items()]
    return (
        f'<h3>Lengths in tokens</h3><div class="mc-small-plots" id="histograms">{drawn}</div>'
        + _listed("Repeated questions", found.duplicates, repeats)
        + _listed(
            f"Kinds of what could identify a person{' (masked)' if found.masked else ''}", len(personal), personal
        )
        + _listed("Held-out questions that nearly repeat a training question", found.near_duplicates, near)
        + _listed("Records left out, since they repeat one of another part", sum(found.repeated.values()), left_out)
    )


def _histogram(name: str, audit: Audit) -> str:
    figures, width, counts = audit.lengths[name], audit.histograms[name].width, audit.histograms[name].counts
    reach, limit = width * len(counts), audit.max_length if name == "whole" else math.inf
    bars = "".join(
        f'<i class="{"mc-over" if i * width >= limit else ""}" '
        f'style="height:{100 * count / max(counts):.1f}%" title="{i * width} to {(i + 1) * width - 1}: {count}"></i>'
        for i, count in enumerate(counts)
    )
    line = ""
    if limit < reach:
        place = f'style="left:{100 * limit / reach:.2f}%"'
        line = f'<span class="mc-limit" {place} title="Longest sequence: {limit}"></span>'
    words = f"mean {figures.mean:.0f}, median {figures.p50}, 95% {figures.p95}, longest {figures.max}"
    return (
        f'<figure class="mc-plot mc-plot-small mc-histogram" role="img" aria-label="{TITLES[name]}: {words} tokens">'
        f"<figcaption><b>{TITLES[name]}</b></figcaption>"
        f'<div class="mc-bars">{bars}{line}</div><p class="mc-ends"><span>0</span><span>{reach}</span></p>'
        f'<p class="mc-axis">{words}</p></figure>'
    )


def _listed(title: str, count: int, lines: Sequence[str]) -> str:
    if not count:
        return c.soft(f"{title}: none.")
    more = f"<li>and {count - len(lines)} more</li>" if count > len(lines) else ""
    items = "".join(f'<li class="mc-text">{c.text(line)}</li>' for line in lines)
    return c.fold(f"{title}: {count}", f'<ul class="mc-list">{items}{more}</ul>')


def tokens(found: TokenView) -> str:
    """One record token by token; learned tokens differ by heading, line and colour."""
    where = " (held out: never trained on)" if found.held_out else ""
    cut = f", {found.cut} left off: raise the longest sequence" if found.cut else ""
    counts = f"{found.prompt} tokens read, {found.trained} learned{cut}."
    blocks = "".join(
        f'<div class="mc-tokens mc-tokens-{kind}"><b>{KINDS[kind]}</b>'
        f"<p>{''.join(_token(text) for text, _ in pieces)}</p></div>"
        for kind, pieces in groupby(found.pieces, key=lambda piece: piece[1])
    )
    return (
        f"<h3>What the model learns from: record {found.record}{where}</h3>"
        f'{c.soft(counts)}<div id="token-blocks">{blocks}</div>'
    )


def _token(text: str) -> str:
    return f"<span>{c.text(text).replace(chr(10), '<em>↵</em>' + chr(10))}</span>"
