"""The blinded comparison: which arm is A is drawn by chance, a reader judges, the run's folder keeps the judgement."""

import random
import time
from dataclasses import dataclass
from typing import Any

import gradio as gr

from medcot import comparisons as k
from medcot import messages as m
from medcot.errors import BadInput, Problem
from medcot.runs import Run
from medcot.settings import EvaluationSettings
from medcot.starter import MORE_QUESTIONS, SAMPLE_QUESTIONS
from medcot.ui import components as c
from medcot.ui.chat.panels import LETTERS, OPEN_ORDER, SIDES, TITLES

OWN = "own questions"
CHOICES = ("A", "About equal", "B")
LABELS = {
    "reasoning": "Better reasoning",
    "answer": "Better answer",
    "correct": "More correct",
    "complete": "More complete",
    "safe": "Safer",
    "clear": "Clearer",
}
HARM = ("A could harm, if somebody followed it", "B could harm, if somebody followed it")
TOLD = (
    "When it is on, the two panels are A and B in an order drawn by chance for each question. Once you have read both, "
    "you judge them. When you press Save judgement, and not before, the run's folder on this machine keeps "
    f"{k.STORED}, in {k.FILE}. Your name is not asked for. Nothing is sent anywhere."
)
DEMO_REFUSED = (
    "comparison: is off for the demonstration model, whose medicine is often wrong for base and tuned alike. Tick "
    "“Also with the demonstration model” to compare it all the same."
)
NOT_A_RUN = "comparison: is kept in a run's folder. Choose a finished run, or switch the blinded comparison off."


@dataclass
class Trial:
    """A question whose answers stand there as A and B, to be judged."""

    run: Run
    question: str
    order: tuple[str, str]
    decoding: EvaluationSettings
    model: str
    answered: m.Answered | None = None
    ended: float = 0.0

    def end(self, answered: m.Answered) -> None:
        """Both answers stand there whole, and the reading begins."""
        self.answered, self.ended = answered, time.monotonic()

    def arm(self, letter: str) -> Any:
        """The arm behind A or B; equal behind anything else."""
        return dict(zip(LETTERS.values(), self.order, strict=True)).get(letter, "equal")


class Trials:
    """Open trials by session, in memory alone."""

    def __init__(self) -> None:
        self._open: dict[str, Trial] = {}
        self._chance = random.SystemRandom()

    def order(self) -> tuple[str, str]:
        return OPEN_ORDER if self._chance.random() < 0.5 else OPEN_ORDER[::-1]

    def begin(self, session: str, trial: Trial) -> None:
        self._open[session] = trial

    def forget(self, session: str) -> None:
        self._open.pop(session, None)

    def save(self, session: str, values: tuple[Any, ...]) -> Trial:
        """Keep a judgement, and close its trial. Raises BadInput where there is none or something is missing."""
        trial = self._open.get(session)
        if trial is None or trial.answered is None:
            raise BadInput(Problem("comparison", "there is nothing to judge.", "Ask a question first."))
        k.append(trial.run, comparison(trial, judgement(trial, values)))
        del self._open[session]
        return trial


def judgement(trial: Trial, values: tuple[Any, ...]) -> k.Judgement:
    """The form's values as arms. Raises BadInput where a preference is missing or the comment is too long."""
    *chosen, harm_a, harm_b, comment = values
    aspects = dict(zip(k.ASPECTS, chosen, strict=True))
    missing = [
        Problem(LABELS[name], "is not judged.", "Choose A, About equal or B.")
        for name in ("reasoning", "answer")
        if aspects[name] not in CHOICES
    ]
    comment = str(comment or "").strip()
    if len(comment) > 4000:
        missing.append(Problem("Comment", f"has {len(comment)} characters, and 4000 is the most.", "Shorten it."))
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
        base=output(trial.answered.base),
        tuned=output(trial.answered.tuned),
        decoding={name: getattr(trial.decoding, name) for name in ("max_new_tokens", "temperature", "top_p", "seed")},
        reading_seconds=time.monotonic() - trial.ended,
        judgement=judged,
    )


def output(final: m.ArmAnswer) -> k.Output:
    return k.Output(
        text=final.text,
        ended=final.ended,
        tokens=final.tokens,
        first_token_seconds=final.first_token_seconds,
        seconds=final.seconds,
    )


@dataclass
class Switch:
    on: gr.Checkbox
    demo_too: gr.Checkbox
    results: gr.HTML
    export: gr.Button
    csv: gr.Textbox


def switch() -> Switch:
    """Off until somebody has read what is stored and switches it on; and what was stored so far."""
    with gr.Accordion("Blinded comparison", open=False, elem_id="comparison"):
        c.block(f'<p class="mc-soft">{TOLD}</p>')
        on = gr.Checkbox(False, label="Compare blinded, and store what I judge", elem_id="comparison-on")
        demo_too = gr.Checkbox(
            False, label="Also with the demonstration model", visible=False, elem_id="comparison-demo"
        )
        results = c.block(elem_id="comparison-results")
        export = gr.Button(
            "Export as CSV", size="sm", visible=False, elem_id="comparison-export", elem_classes="mc-small"
        )
        csv = gr.Textbox(visible=False)
    return Switch(on, demo_too, results, export, csv)


@dataclass
class Form:
    card: gr.Column
    problems: gr.HTML
    fields: list[Any]
    save: gr.Button


def form() -> Form:
    """Which is better, on a short rubric; shown when both answers stand there."""
    with gr.Column(visible=False, elem_classes="mc-card", elem_id="judgement") as card:
        c.block("<h2>Which is better?</h2>")
        c.block('<p class="mc-soft">The first two are needed; the others are about the answer and may stay open.</p>')
        with gr.Row(elem_classes="mc-fields"):
            fields: list[Any] = [
                gr.Radio(list(CHOICES), label=LABELS[name], elem_id=f"judge-{name}", min_width=240)
                for name in k.ASPECTS
            ]
        with gr.Row():
            fields += [gr.Checkbox(False, label=label) for label in HARM]
        fields.append(
            gr.Textbox(
                label="Comment",
                lines=2,
                max_length=4000,
                elem_id="judge-comment",
                html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
            )
        )
        problems = c.block(elem_id="judge-problems")
        with gr.Row(elem_classes="mc-actions"):
            save = gr.Button("Save judgement", variant="primary", elem_id="judge-save")
    return Form(card, problems, fields, save)


def revealed(trial: Trial) -> str:
    """What is said once a judgement is kept."""
    told = " ".join(f"{LETTERS[side]} was {TITLES[arm][0]}." for side, arm in zip(SIDES, trial.order, strict=True))
    return f'<p class="mc-note" role="status">Saved. {told}</p>'
