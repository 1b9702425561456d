"""The records of an evaluation, page by page: each one's answers beside the reference, the shared words marked."""

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from medcot.evaluation.answers import TITLES, TUNED, Example, Shown, title
from medcot.evaluation.drawing import marked, signed
from medcot.runs.run import Evaluation, Run
from medcot.safety.foreign import visible
from medcot.settings import STARTER
from medcot.ui import components as c
from medcot.ui.guard import visitor_may
from medcot.ui.page import LATEST, Page, Updates, choice_of

PAGE = 20  # records on a page of the list
UNFOLDED = {"Answer": 700, "Reasoning": 320}  # characters that stand there without being unfolded
LOSS = "Largest loss first"
ORDERS: dict[str, Callable[[Example], float]] = {
    LOSS: lambda row: row.gain,
    "Largest gain first": lambda row: -row.gain,
    "In the order of the file": lambda row: row.record,
}
FILTERS: dict[str, Callable[[Example], bool]] = {
    "Cut at the limit": lambda row: any(shown.truncated for shown in row.arms.values()),
    "Format wrong": lambda row: bool(row.arms[TUNED].problems),
    "Tuned worse": lambda row: row.gain < 0,
    "In the training data": lambda row: row.in_training is not None,
    "Forbidden statement": lambda row: any(shown.found.forbidden for shown in row.arms.values() if shown.found),
}
CHOOSE = c.from_file("evaluate/choose.js")  # tells which record or page was clicked
REVEAL = c.from_file("evaluate/reveal.js")


class RecordList:
    """The list. `evaluations` is the list in which one is chosen; a bar of `plots` opens its record here."""

    def __init__(self, page: Page, evaluations: gr.Dropdown, plots: gr.HTML):
        self.page = page
        with gr.Row(elem_classes="mc-fields mc-sorting", visible=False) as self.sorting:
            order = gr.Dropdown(list(ORDERS), value=LOSS, label="Questions", filterable=False, elem_id="sort")
            self.filters = gr.CheckboxGroup(list(FILTERS), label="Only those", elem_id="filters")
        self.shown = c.block(elem_id="examples", script=CHOOSE)
        self.how: list[Any] = [order, self.filters]
        read = [page.run, evaluations, *self.how]
        for field in self.how:
            field.input(self.sort, read, self.shown, **LATEST)
        self.shown.click(self.turn, read, self.shown, **LATEST).then(None, js=REVEAL)
        plots.click(self.open, read, [self.shown, self.filters], **LATEST).then(None, js=REVEAL)

    @visitor_may
    def sort(self, run_id: object, evaluation: object, order: object, filters: object) -> str:
        return self._listed(run_id, evaluation, Wanted(order, filters))

    @visitor_may
    def turn(self, clicked: gr.EventData, run_id: object, evaluation: object, order: object, filters: object) -> str:
        """Another page of the list."""
        return self._listed(run_id, evaluation, Wanted(order, filters, page=number(clicked, "page")))

    @visitor_may
    def open(self, clicked: gr.EventData, *chosen: object) -> Updates:
        """The page with the record that was clicked, which is open; a filter that hides it is taken off."""
        run_id, evaluation, order, filters = chosen
        record = number(clicked, "record")
        if found := self._listed(run_id, evaluation, Wanted(order, filters, record=record)):
            return {self.shown: found}
        return {self.shown: self._listed(run_id, evaluation, Wanted(order, None, record=record)), self.filters: []}

    def _listed(self, run_id: object, evaluation: object, wanted: "Wanted") -> str:
        run = self.page.tuned(run_id)
        chosen = evaluation_of(run, evaluation)
        return self.listing(run, chosen, wanted) if run and chosen else ""

    def listing(self, run: Run, evaluation: Evaluation, wanted: "Wanted") -> str:
        """The wanted page below a notice on the model; empty if there is none, or the wanted record is not in it."""
        settings = self.page.reader.settings(run)
        notice = c.demonstration() if settings and settings.model.id == STARTER else ""
        return listing(evaluation.examples(), notice, wanted)


def number(clicked: gr.EventData, name: str) -> int:
    """The number that a click brought; 0 if it brought none."""
    sent = str((clicked._data or {}).get(name, ""))
    return int(sent) if sent.isascii() and sent.isdigit() and len(sent) < 10 else 0


def evaluation_of(run: Run | None, evaluation: object) -> Evaluation | None:
    """The run's evaluation of exactly this id, else the newest."""
    return choice_of(run.evaluations(), evaluation) if run else None


class Wanted:
    """In which order, only which, and which page: a number, or the one with a record, which is then open."""

    def __init__(self, order: object = None, filters: object = None, page: int = 0, record: int | None = None):
        self.key = ORDERS.get(str(order), ORDERS[LOSS])
        self.filters = [FILTERS[name] for name in filters if name in FILTERS] if isinstance(filters, list) else []
        self.page, self.record = page, record


def listing(rows: Sequence[Example], notice: str, wanted: Wanted) -> str:
    kept = sorted((row for row in rows if all(fits(row) for fits in wanted.filters)), key=wanted.key)
    pages, page = -(-len(kept) // PAGE) or 1, wanted.page
    if wanted.record is not None:
        place = next((i for i, row in enumerate(kept) if row.record == wanted.record), None)
        if place is None:
            return ""
        page = place // PAGE
    page = min(page, pages - 1)
    if not rows:
        return ""
    count = f"{len(kept)} of {len(rows)} questions" if wanted.filters else f"{len(rows)} questions"
    marks = "" if rows[0].options else f" {c.TEXTS['evaluate']['marked']}"
    listed = "".join(example(row, row.record == wanted.record) for row in kept[page * PAGE : (page + 1) * PAGE])
    return (
        f'<p class="mc-soft" role="status">{count}. The figure is tuned less base.{marks}</p>'
        f'<div class="mc-held-out">{notice}</div>{listed}{pager(page, pages)}'
    )


def pager(page: int, pages: int) -> str:
    """Buttons to the pages before and after; empty if there is one page."""
    if pages == 1:
        return ""

    def button(label: str, to: int) -> str:
        return f'<button type="button" data-page="{to}"{"" if 0 <= to < pages else " disabled"}>{label}</button>'

    sides = button("← Previous", page - 1), button("Next →", page + 1)
    return f'<nav class="mc-pager" aria-label="Pages">{sides[0]}<span>Page {page + 1} of {pages}</span>{sides[1]}</nav>'


def example(row: Example, is_open: bool = False) -> str:
    """A record: base, tuned and the reference side by side, then further arms."""
    reference = (
        '<section class="mc-arm"><h4>Reference</h4>' + parts(row.reference.reasoning, str(row.reference)) + "</section>"
    )
    sections = [arm(row, name, shown) for name, shown in row.arms.items()]
    sections.insert(len([name for name in row.arms if name in ("base", TUNED)]), reference)
    options = "".join(f"<li>{c.text(f'{letter}. {text}')}</li>" for letter, text in row.options.items())
    listed = f'<ul class="mc-options">{options}</ul>' if options else ""
    seen = _note(str(row.in_training or ""))
    gain = f'<span class="mc-gain">{signed(f"{row.gain:{row.gain_form}}")}</span>'
    return (
        f'<details class="mc-example" id="record-{row.record}"{" open" if is_open else ""}>'
        f"<summary>{gain}<span>{c.text(row.question)}</span></summary>{seen}{listed}"
        f'<div class="mc-three">{"".join(sections)}</div></details>'
    )


def arm(row: Example, name: str, shown: Shown) -> str:
    right = row.reference
    references = ("", "") if right.letter else (right.reasoning or "", right.answer)
    format_wrong = f"Format: {'; '.join(shown.problems)}" if shown.problems else ""
    return (
        f'<section class="mc-arm mc-arm-{name if name in TITLES else "further"}"><h4>{c.text(title(name))}</h4>'
        f"{_note(row.note(name))}{_judged(shown)}{parts(shown.reasoning, shown.answer, *references)}"
        f"{_note(format_wrong)}</section>"
    )


def _judged(shown: Shown) -> str:
    """The judge's words, folded."""
    lines = "".join(f"<li>{c.text(line)}</li>" for line in shown.judged)
    return c.fold("The judge's words", f"<ul>{lines}</ul>") if lines else ""


def _note(words: str) -> str:
    return f'<p class="mc-format">{c.text(words)}</p>' if words else ""


def parts(reasoning: str | None, answer: str, right_reasoning: str = "", right_answer: str = "") -> str:
    """Answer and reasoning, which is None where there can be none, with the words that the right ones have too."""
    found = f"<h5>Answer</h5>{folded('Answer', answer, right_answer)}"
    return found if reasoning is None else f"{found}<h5>Reasoning</h5>{folded('Reasoning', reasoning, right_reasoning)}"


def folded(part: str, said: str, reference: str) -> str:
    """A text whose end is folded if it is long."""
    if not said:
        return c.soft("None was written.")
    said, most = visible(said), UNFOLDED[part]
    cut = len(said) if len(said) < most * 1.3 else said.rfind(" ", 0, most) + 1 or most
    rest = said[cut:]
    more = f"Show the rest, {len(rest.split()):,} words" if rest else ""
    fold = f'<details class="mc-rest"><summary>{more}</summary><div>{marked(said, reference, cut)}</div></details>'
    return f'<div class="mc-text" dir="auto">{marked(said, reference, 0, cut)}{fold if rest else ""}</div>'
