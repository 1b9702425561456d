"""The two panels, left and right: each shows one arm's reasoning and answer as they are written."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from medcot.evaluation.answers import ARMS, Arm, Ending, Reply
from medcot.runs.export import Shipped
from medcot.ui import components as c
from medcot.ui.chat.question import emergency
from medcot.ui.conversation import Turn, counted
from medcot.ui.markup import answer
from medcot.ui.page import QUIET, Updates
from medcot.workers import protocol as m

SIDES = ("left", "right")
Titles = Mapping[str, tuple[str, str]]
TITLES: Titles = {"base": ("Base", "the model before tuning"), "tuned": ("Tuned", "base and adapter")}
LETTERS = {"left": "A", "right": "B"}
OPEN_ORDER = ARMS
UNASKED = "Appears here as it is written."
NONE = "None was written."
STATES: dict[str, str] = c.TEXTS["chat"]["state"]


class Panel:
    """One side; `arm` is shown there until a blinded comparison draws another order."""

    def __init__(self, side: str, arm: str):
        self.side = side
        with gr.Column(elem_classes="mc-card mc-panel", elem_id=f"panel-{side}", min_width=300):
            self.head = c.block(heading(arm, side, False))
            with gr.Accordion("Reasoning", open=True, elem_id=f"{side}-fold") as self.fold:
                self.reasoning = c.block(c.passage("", UNASKED), elem_id=f"{side}-reasoning")
            c.block('<h3 class="mc-minor">Answer</h3>')
            self.answer = c.block(answer("", UNASKED), elem_id=f"{side}-answer", elem_classes="mc-answer")
            self.ending = c.block(elem_id=f"{side}-ending")
            with gr.Row(elem_classes="mc-copy-row"):
                copy = c.small_button("Copy")
                self.copied = c.block(elem_id=f"{side}-copied", elem_classes="mc-copied")
        script = c.from_file("chat/copy_panel.js", side=side, notice=c.RESEARCH_ONLY)
        copy.click(None, None, self.copied, js=script, **QUIET)
        # What a question changes.
        self.outputs = [self.head, self.fold, self.reasoning, self.answer, self.ending, self.copied]


class Pair:
    """The question, what was said before it, and under them both panels; a phone shows one, with a switch."""

    def __init__(self) -> None:
        with gr.Column(elem_id="conversation"):
            self.earlier, self.asked = c.block(elem_id="earlier"), c.block(elem_id="asked")
            self.emergency = c.block(elem_id="emergency")
            chosen: dict[str, Any] = {"choices": sides(OPEN_ORDER, False), "value": SIDES[0], "interactive": True}
            chosen |= {"label": "Shown", "show_label": False, "elem_id": "side", "elem_classes": "mc-switch"}
            self.switch = gr.Radio(**chosen)
            with gr.Row(elem_classes="mc-columns"):
                self.panels = [Panel(side, arm) for side, arm in zip(SIDES, OPEN_ORDER, strict=True)]
        panels = [part for panel in self.panels for part in panel.outputs]
        self.outputs = [self.earlier, self.asked, self.emergency, self.switch, *panels]

    def revealed(self, order: tuple[Arm, Arm]) -> Updates:
        """The arms' names in place of the letters."""
        heads: Updates = {
            panel.head: heading(arm, panel.side, False) for panel, arm in zip(self.panels, order, strict=True)
        }
        return {**heads, self.switch: gr.update(choices=sides(order, False))}


def titles_of(file: Shipped | None) -> Titles:
    """What the arms are called, where a file answers in tuned's place."""
    if file is None:
        return TITLES
    title, what = c.TEXTS["beside"]["head"]
    return {**TITLES, "tuned": (title, what.format(kind=file.title))}


def heading(arm: str, side: str, blinded: bool, state: str = "", titles: Titles = TITLES) -> str:
    """The panel's title: the arm, or a letter if it is blinded; and what it is doing."""
    title, what = (LETTERS[side], "") if blinded else titles[arm]
    look = "blind" if blinded else arm
    name = f'<h2 class="mc-head-{look}">{title} <span class="mc-soft">{what}</span></h2>'
    return f'<div class="mc-title">{name}<span class="mc-state">{state}</span></div>' if state else name


def sides(order: tuple[Arm, Arm], blinded: bool, titles: Titles = TITLES) -> list[tuple[str, str]]:
    """The names of the panels on the switch, each with its side."""
    return [(LETTERS[side] if blinded else titles[arm][0], side) for side, arm in zip(SIDES, order, strict=True)]


def ending(final: Reply, most: int) -> str:
    """Why an arm's answer ended, when its first token came, and how fast the others."""
    reason = c.TEXTS["chat"]["ended"][final.ended].format(most=most)
    rate = final.tokens / final.seconds if final.seconds else 0.0
    speed = f" · first token after {final.first_token_seconds:.1f} s · {counted(round(rate), 'token')} per second"
    return f"{reason} · {counted(final.tokens, 'token')}" + (speed if final.seconds else "")


@dataclass
class Once:
    """Send an update for 0.5 s only, so that it does not undo the reader's own clicks.

    Not just once: of updates that come within one frame, a page may draw only the last.
    """

    _begun: dict[str, float] = field(default_factory=dict)

    def due(self, what: str, seconds: float = 0.5) -> bool:
        return time.monotonic() - self._begun.setdefault(what, time.monotonic()) < seconds


@dataclass
class Showing:
    """What both panels show of one question, and above them what was said before it."""

    pair: Pair
    order: tuple[Arm, Arm]
    blinded: bool = False
    question: str = ""
    said: list[tuple[str, m.Answered]] = field(default_factory=list)
    anew: bool = False  # something was said before, and this question does not follow it
    most: int = 0  # new tokens
    titles: Titles = field(default_factory=lambda: TITLES)
    once: Once = field(default_factory=Once)

    def updates(self, turn: Turn) -> Updates:
        """Both panels' components. Reasoning is open while it is written; the answer folds it."""
        updates: Updates = {}
        for panel, arm in zip(self.pair.panels, self.order, strict=True):
            parts, final = turn.parts(arm), turn.final(arm)
            ended = final.ended if final else turn.ended.get(arm)
            nothing = NONE if ended else "…" if turn.going else UNASKED
            updates |= {
                panel.head: heading(arm, panel.side, self.blinded, self._state(turn, arm, ended), self.titles),
                panel.reasoning: c.passage(parts.reasoning, NONE if parts.answer else nothing),
                panel.answer: answer(parts.answer, nothing),
                panel.ending: self._ending(final, parts.problems),
                **self._fold(panel, arm, bool(parts.answer)),
            }
        return updates | (self._above() if self.once.due("begin") else {})

    def _above(self) -> Updates:
        """What stays while the answers are written."""
        question = f'<p class="mc-asked" dir="auto">{c.text(self.question)}</p>' if self.question else ""
        return {
            self.pair.asked: question + (c.soft(c.TEXTS["chat"]["anew"]) if self.anew else ""),
            self.pair.earlier: "".join(earlier(question, answered, self.titles) for question, answered in self.said),
            self.pair.emergency: emergency(self.question),
            self.pair.switch: gr.update(choices=sides(self.order, self.blinded, self.titles)),
            **{panel.copied: "" for panel in self.pair.panels},
        }

    def _state(self, turn: Turn, arm: Arm, ended: Ending | None) -> str:
        """What an arm is doing. For a blinded reader not whether it thinks: base mostly does not."""
        if not ended and not turn.going:
            return ""
        parts = turn.parts(arm)
        said = "answering" if parts.answer else "thinking" if parts.reasoning else "waiting"
        what = ended or ("writing" if self.blinded and said != "waiting" else said)
        final = turn.final(arm)
        tokens = final.tokens if final else turn.tokens.get(arm, 0)
        return STATES[what] + (f" · {counted(tokens, 'token')}" if tokens else "")

    def _fold(self, panel: Panel, arm: str, answering: bool) -> Updates:
        # The answer folds for longer: a busy browser draws late, and a fold that it missed would stay open.
        folds = answering and not self.blinded  # there both stay open, since only one of them may have any reasoning
        due = self.once.due(f"fold {arm}", seconds=2.0) if folds else self.once.due("begin")
        return {panel.fold: gr.update(open=not folds)} if due else {}

    def _ending(self, final: Reply | None, problems: tuple[str, ...]) -> str:
        # Not for a blinded reader: how well the tags are kept tells base from tuned.
        said = f"<br>Format: {c.text('; '.join(problems))}" if problems and not self.blinded else ""
        return f'<p class="mc-ending">{c.text(ending(final, self.most))}{said}</p>' if final else ""


def earlier(question: str, answered: m.Answered, titles: Titles) -> str:
    """A question of before, with both answers under it."""
    arms = "".join(
        f'<div class="mc-arm mc-arm-{arm}"><b>{titles[arm][0]}</b>'
        f"<details><summary>Reasoning</summary>{c.passage(said.reasoning, NONE)}</details>"
        f"{answer(said.answer, NONE)}</div>"
        for arm, said in zip(ARMS, (answered.base, answered.tuned), strict=True)
    )
    asked = f'<p class="mc-asked" dir="auto">{c.text(question)}</p>'
    return f'<section class="mc-earlier">{asked}<div class="mc-pair">{arms}</div></section>'
