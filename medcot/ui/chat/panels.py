"""The two panels, left and right: which arm stands where, and its reasoning and answer as they are written."""

import time
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from medcot import messages as m
from medcot.ui import components as c
from medcot.ui.chat.conversation import Turn, ending
from medcot.ui.page import QUIET

SIDES = ("left", "right")
TITLES = {"base": ("Base", "the model before tuning"), "tuned": ("Tuned", "base and adapter")}
LETTERS = {"left": "A", "right": "B"}
OPEN_ORDER = ("base", "tuned")
UNASKED = "Appears here as it is written."
# Reads what is shown, so that blinded text is copied as it stands; the second way is for pages without https.
COPY = """() => {
  const panel = document.querySelector('#panel-%(side)s');
  const part = (id) => (panel.querySelector(id + ' .mc-text') || {textContent: ''}).textContent;
  const text = panel.querySelector('h3').innerText + '\\n\\nReasoning:\\n' + part('#%(side)s-reasoning')
    + '\\n\\nAnswer:\\n' + part('#%(side)s-answer') + '\\n\\n%(notice)s';
  const older = () => {
    const box = document.createElement('textarea');
    box.value = text; document.body.append(box); box.select(); document.execCommand('copy'); box.remove();
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).catch(older); else older();
  return 'Copied, with the words “%(notice)s”';
}"""


@dataclass
class Panel:
    """One side's components."""

    side: str
    head: gr.HTML
    notice: gr.HTML
    earlier: gr.HTML
    fold: gr.Accordion
    reasoning: gr.HTML
    answer: gr.HTML
    ending: gr.HTML
    copied: gr.HTML

    @property
    def live(self) -> list[Any]:
        """What a turn changes, in the order of `shown`."""
        return [self.head, self.earlier, self.fold, self.reasoning, self.answer, self.ending, self.copied]


def heading(arm: str, side: str, blinded: bool) -> str:
    """The panel's name; blinded, it is a letter."""
    title, what = (LETTERS[side], "") if blinded else TITLES[arm]
    look = "blind" if blinded else arm
    return f'<h3 class="mc-head-{look}">{title} <span class="mc-soft">{what}</span></h3>'


def panel(side: str, arm: str) -> Panel:
    with gr.Column(elem_classes="mc-card mc-panel", elem_id=f"panel-{side}", min_width=300):
        head = c.block(heading(arm, side, False))
        notice, earlier = c.block(), c.block(elem_id=f"{side}-earlier")
        with gr.Accordion("Reasoning", open=True, elem_id=f"{side}-fold") as fold:
            reasoning = c.block(c.passage("", UNASKED), elem_id=f"{side}-reasoning")
        c.block("<h4>Answer</h4>")
        answer = c.block(c.passage("", UNASKED), elem_id=f"{side}-answer", elem_classes="mc-answer")
        end = c.block(elem_id=f"{side}-ending")
        with gr.Row(elem_classes="mc-copy-row"):
            copy = gr.Button("Copy", size="sm", elem_classes="mc-copy")
            copied = c.block(elem_id=f"{side}-copied", elem_classes="mc-copied")
    copy.click(None, None, copied, js=COPY % {"side": side, "notice": c.RESEARCH_ONLY}, **QUIET)
    return Panel(side, head, notice, earlier, fold, reasoning, answer, end, copied)


@dataclass
class Once:
    """A change that is sent for a moment and then left alone, so that the reader's own clicks are not undone.

    For a moment and not once: of updates that come within one frame, a page may draw only the last.
    """

    _begun: dict[str, float] = field(default_factory=dict)

    def due(self, what: str, seconds: float = 0.5) -> bool:
        return time.monotonic() - self._begun.setdefault(what, time.monotonic()) < seconds


@dataclass
class Showing:
    """What both panels show of one question, turn by turn."""

    order: tuple[str, str]
    blinded: bool
    said: list[tuple[str, m.Answered]]
    most: int  # new tokens
    once: Once = field(default_factory=Once)

    def outputs(self, turn: Turn) -> list[Any]:
        """Values for left.live and right.live. Reasoning is open while it is written; the answer folds it."""
        values = []
        for side, arm in zip(SIDES, self.order, strict=True):
            parts, final = turn.parts(arm), turn.final(arm)
            nothing = "…" if turn.going else "None was written." if turn.answered else UNASKED
            first = self.once.due("begin")
            values += [
                heading(arm, side, self.blinded),
                self._earlier(arm) if first else gr.skip(),
                self._fold(arm, bool(parts.reasoning and parts.answer)),
                c.passage(parts.reasoning, nothing),
                c.passage(parts.answer, nothing),
                self._ending(final, parts.problems),
                "" if first else gr.skip(),
            ]
        return values

    def _fold(self, arm: str, answering: bool) -> Any:
        if not answering:
            return gr.update(open=True) if self.once.due("begin") else gr.skip()
        # A busy browser draws late, and a fold that it missed would stay open.
        return gr.update(open=False) if self.once.due(f"fold {arm}", seconds=2.0) else gr.skip()

    def _ending(self, final: m.ArmAnswer | None, problems: tuple[str, ...]) -> str:
        # How well the tags are kept tells base from tuned: a blinded reader is not told.
        said = f"<br>Format: {c.text('; '.join(problems))}" if problems and not self.blinded else ""
        return f'<p class="mc-ending">{c.text(ending(final, self.most))}{said}</p>' if final else ""

    def _earlier(self, arm: str) -> str:
        return "".join(
            f'<section class="mc-earlier"><p class="mc-asked" dir="auto">{c.text(question)}</p>'
            f"<details><summary>Reasoning</summary>{c.passage(said.reasoning, 'None was written.')}</details>"
            f"{c.passage(said.answer, 'None was written.')}</section>"
            for question, answered in self.said
            for said in [answered.base if arm == "base" else answered.tuned]
        )
