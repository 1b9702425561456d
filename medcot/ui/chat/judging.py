"""The blinded comparison: the order of A and B is drawn by chance, a reader judges, the run's folder keeps it."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medcot.data.starter import MORE_QUESTIONS, SAMPLE_QUESTIONS
from medcot.errors import BadInput, Problem
from medcot.evaluation.answers import ARMS, Arm
from medcot.runs import comparisons as k
from medcot.runs.run import Run
from medcot.settings import EvaluationSettings
from medcot.ui import components as c
from medcot.ui.chat.panels import LETTERS, OPEN_ORDER, SIDES, TITLES
from medcot.ui.chat.question import NAMES, PRIVATE
from medcot.ui.page import HIDE, QUIET, Page, Updates
from medcot.ui.sessions import Sessions
from medcot.workers import protocol as m

OWN = "own questions"
TEXTS = c.TEXTS["comparison"]
CHOICES: list[str] = TEXTS["choices"]
LABELS: dict[str, str] = TEXTS["labels"]
DEMO_REFUSED = Problem(
    "comparison",
    "is off for the demonstration model, whose medicine is often wrong for base and tuned alike.",
    "Tick “Also with the demonstration model” to compare it all the same.",
)
NOT_A_RUN = Problem(
    "comparison", "is kept in a run's folder.", "Choose a finished run, or switch the blinded comparison off."
)
NOT_TUNED = Problem("comparison", c.TEXTS["beside"]["not-judged"], c.TEXTS["beside"]["judge-tuned"])
COMMENT_LENGTH = 4000
# A spreadsheet needs the byte order mark.
DOWNLOAD = c.from_file("download.js", name="comparisons.csv", kind="text/csv", start="\\ufeff")


@dataclass
class Trial:
    """A question whose answers are shown as A and B, to be judged."""

    run: Run
    question: str
    order: tuple[Arm, Arm]
    decoding: EvaluationSettings
    model: str
    answered: m.Answered | None = None
    ended: float = 0.0  # when reading began

    def arm(self, letter: str) -> Any:
        """The arm shown as A or B; "equal" for anything else."""
        return dict(zip(LETTERS.values(), self.order, strict=True)).get(letter, "equal")


def drawn_order() -> tuple[Arm, Arm]:
    """Which arm is A, by chance."""
    return random.SystemRandom().choice((OPEN_ORDER, OPEN_ORDER[::-1]))


class Trials(Sessions[Trial]):
    """Open trials by session, in memory only."""

    def save(self, session: str, values: Sequence[Any]) -> Trial:
        """Save a judgement and close its trial. Raises BadInput if there is none or something is missing."""
        trial = self.get(session)
        if trial is None or trial.answered is None:
            raise BadInput.of("comparison", "there is nothing to judge.", "Ask a question first.")
        k.append(trial.run, comparison(trial, judgement(trial, values)))
        del self[session]
        return trial


def judgement(trial: Trial, values: Sequence[Any]) -> k.Judgement:
    """The form's values as arms. Raises BadInput if a preference is missing or the comment is too long."""
    *chosen, harm_a, harm_b, comment = values
    aspects = dict(zip(k.ASPECTS, chosen, strict=True))
    missing = [
        Problem(LABELS[name], "is not judged.", "Choose A, About equal or B.")
        for name in ("reasoning", "answer")
        if aspects[name] not in CHOICES
    ]
    comment = str(comment or "").strip()
    if len(comment) > COMMENT_LENGTH:
        what = f"has {len(comment)} characters, and {COMMENT_LENGTH} is the most."
        missing.append(Problem("Comment", what, "Shorten it."))
    if missing:
        raise BadInput(missing)
    judged = {name: trial.arm(str(value)) if value in CHOICES else None for name, value in aspects.items()}
    harmful = tuple(trial.arm(letter) for letter, harm in zip(LETTERS.values(), (harm_a, harm_b), strict=True) if harm)
    return k.Judgement(**judged, harm=harmful, comment=comment)


def comparison(trial: Trial, judged: k.Judgement) -> k.Comparison:
    assert trial.answered is not None
    return k.Comparison(
        run=trial.run.id,
        model=trial.model,
        question=trial.question,
        group=next((group for group, text in (*SAMPLE_QUESTIONS, *MORE_QUESTIONS) if text == trial.question), OWN),
        a=trial.arm("A"),
        base=trial.answered.base,
        tuned=trial.answered.tuned,
        decoding={name: getattr(trial.decoding, name) for name in NAMES},
        reading_seconds=time.monotonic() - trial.ended,
        judgement=judged,
    )


class Blinded:
    """The switch, off until somebody has read what is stored."""

    def __init__(self) -> None:
        with gr.Accordion("Blinded comparison", open=False, elem_id="comparison"):
            c.block(c.soft(TEXTS["consent"].format(stored=k.STORED, file=k.FILE)))
            self.on = gr.Checkbox(False, label="Compare blinded, and store what I judge", elem_id="comparison-on")
            label = "Also with the demonstration model"
            self.demo_too = gr.Checkbox(False, label=label, visible=False, elem_id="comparison-demo")


class Judged:
    """What was judged of the chosen model so far, if it is a run."""

    def __init__(self, page: Page, models: gr.Dropdown):
        self.page = page
        hidden: dict[str, Any] = {"open": False, "visible": False, "elem_id": "judged"}
        with gr.Accordion("Judged so far", **hidden) as self.fold:
            self.results = c.block(elem_id="comparison-results")
            export = c.small_button("Export as CSV", "mc-small", elem_id="comparison-export")
            csv = gr.Textbox(visible=False)
        self.outputs = [self.fold, self.results]
        export.click(self.csv, models, csv, **QUIET).then(None, csv, csv, js=DOWNLOAD, **QUIET)

    def shown(self, run: Run | None, **fold: Any) -> Updates:
        """The results of a run, behind a fold that is there if there are any."""
        found = k.read(run) if run else []
        return {self.results: results(found), self.fold: gr.update(visible=bool(found), **fold)}

    def csv(self, name: object) -> str:
        run = self.page.reader.find(name)
        return k.to_csv(k.read(run)) if run else ""


class JudgementForm:
    """Which is better, on a short rubric; shown when both answers are complete."""

    def __init__(self) -> None:
        with gr.Column(visible=False, elem_classes="mc-card", elem_id="judgement") as self.card:
            c.block("<h2>Which is better?</h2>")
            c.block(c.soft("The first two are needed; the others are about the answer and may stay open."))
            with gr.Row(elem_classes="mc-fields"):
                self.aspects: list[Any] = [
                    gr.Radio(CHOICES, label=LABELS[name], elem_id=f"judge-{name}", min_width=240) for name in k.ASPECTS
                ]
            with gr.Row():
                self.harm = [gr.Checkbox(False, label=label) for label in TEXTS["harm"]]
            self.comment = gr.Textbox(label="Comment", lines=2, html_attributes=PRIVATE, elem_id="judge-comment")
            self.problems = c.block(elem_id="judge-problems")
            with gr.Row(elem_classes="mc-actions"):
                self.save = gr.Button("Save judgement", variant="primary", elem_id="judge-save")
        self.fields = [*self.aspects, *self.harm, self.comment]

    def emptied(self) -> Updates:
        values: Updates = dict.fromkeys(self.aspects)
        return {**values, **dict.fromkeys(self.harm, False), self.comment: "", self.problems: "", self.card: HIDE}


def revealed(trial: Trial) -> str:
    """The note after a judgement was saved: which arm was A, and which B."""
    arms = " ".join(f"{LETTERS[side]} was {TITLES[arm][0]}." for side, arm in zip(SIDES, trial.order, strict=True))
    return f'<p class="mc-note" role="status">Saved. {arms}</p>'


def results(found: list[k.Comparison]) -> str:
    """Preference shares with their intervals, by group of question and by criterion."""
    if not found:
        return ""
    by_group = {**k.groups(found), **({"all": found} if len(k.groups(found)) > 1 else {})}
    groups = "".join(_group_row(name, members) for name, members in by_group.items())
    shares = {LABELS[name]: k.share(found, name) for name in k.ASPECTS}
    rubric = "".join(c.row(label, [s.tuned, s.equal, s.base, _share(s)]) for label, s in shares.items())
    return (
        c.soft(TEXTS["shares"])
        + c.table("comparison-groups", "Blinded preferences by group of question", TEXTS["group-heads"], groups)
        + c.table("comparison-rubric", "All questions, by criterion", TEXTS["rubric-heads"], rubric)
    )


def _group_row(name: str, members: list[k.Comparison]) -> str:
    shares = [_share(k.share(members, aspect)) for aspect in ("answer", "reasoning")]
    harmful = [sum(arm in member.judgement.harm for member in members) for arm in ARMS]
    return c.row(c.text(name).capitalize(), [len(members), *shares, *harmful])


def _share(share: k.Share) -> str:
    if share.share is None:
        return f"none of {share.equal} decided" if share.equal else "not judged"
    low, high = share.interval
    return f"{share.share:.0%} <small>({low:.0%} to {high:.0%}, of {share.decided})</small>"
