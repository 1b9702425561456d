"""Pieces of the page as HTML. Every text that comes from data, a model, a log or a person passes through `text`.

Plain strings of HTML and not gr.Markdown: Markdown deletes <think> and fetches images that a model's text names.
"""

import re
from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr

from medcot.errors import Problem
from medcot.jobdirs import JobDir, State, Status
from medcot.settings import STARTER, RunSettings
from medcot.terminal import duration
from medcot.ui.reading import Seen

STATE_WORDS: dict[State, str] = {
    "queued": "Queued",
    "running": "Running",
    "stopping": "Stopping",
    "stopped": "Stopped",
    "finished": "Finished",
    "failed": "Failed",
    "interrupted": "Interrupted",
}
RESEARCH_ONLY = "For research only, not for care. Enter no patient data."
DEMONSTRATION = (
    "Demonstration model: with 135 million parameters, its medical statements are often wrong. "
    "It shows how tuning changes form, not what is true."
)


# Characters that turn the direction of what follows, or that a screen cannot show, by their code points.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def text(value: object) -> str:
    """Somebody else's text as text: never markup, whatever it holds, and in the order in which it was written."""
    return escape(_UNSEEN.sub(lambda found: f"\u2039U+{ord(found[0]):04X}\u203a", str(value).replace("\r\n", "\n")))


def block(value: str = "", **kwargs: Any) -> gr.HTML:
    """An HTML block without gradio's own styles and scripts."""
    return gr.HTML(value, apply_default_css=False, js_on_load=None, **kwargs)


def header(device: str, has_gpu: bool) -> str:
    advice = (
        ""
        if has_gpu
        else '<p class="mc-advice">No GPU here. The starter recipe is chosen: a small real model that trains on this '
        "machine in minutes. The Llama recipes need a CUDA GPU.</p>"
    )
    return (
        '<header class="mc-head"><div><h1>medcot</h1>'
        "<p>Tune a small language model to reason about medicine step by step, measure whether it helped, "
        "and compare base and tuned.</p></div>"
        f'<p class="mc-device"><span>Runs on</span> {text(device)}</p></header>{advice}'
    )


def research_line() -> str:
    return f'<p class="mc-research" role="note">{RESEARCH_ONLY}</p>'


def badge(state: State) -> str:
    return f'<span class="mc-badge mc-{state}">{STATE_WORDS[state]}</span>'


def empty(title: str, *steps: str) -> str:
    """What to do first, where there is nothing to show yet."""
    items = "".join(f"<li>{step}</li>" for step in steps)
    return f'<div class="mc-empty"><h3>{title}</h3><ol>{items}</ol></div>'


def problems(found: Sequence[Problem | str]) -> str:
    """Everything that is wrong, in the words of the command line; empty where nothing is."""
    if not found:
        return ""
    items = "".join(
        f"<li><strong>{text(p.where)}</strong>: {text(p.what)} {text(p.fix)}</li>"
        if isinstance(p, Problem)
        else f"<li>{text(p)}</li>"
        for p in found
    )
    count = "One thing has" if len(found) == 1 else f"{len(found)} things have"
    return f'<div class="mc-problems" role="alert"><strong>{count} to be mended first</strong><ul>{items}</ul></div>'


def warnings(messages: Sequence[str]) -> str:
    items = "".join(f"<li>{text(m)}</li>" for m in messages)
    return f'<ul class="mc-warnings">{items}</ul>' if items else ""


def working(stage: str) -> str:
    """What is being done, where nobody knows how long it takes."""
    return f'<p class="mc-stage" role="status">{text(stage)}</p>' + bar(None)


def progress_bar(seen: Seen, status: Status, waiting_for: str = "") -> str:
    """How far the job is, in words and as a bar, with the time left where it is known."""
    if status.state == "queued":
        return f'<p class="mc-stage">Waiting for the device{text(waiting_for)}. It starts by itself.</p>' + bar(None)
    stage = seen.stage
    if stage is None:
        return '<p class="mc-stage">Starting</p>' + bar(None)
    count = f" · {stage.done} of {stage.total}" if stage.total else ""
    left = f" · about {duration(stage.eta_seconds)} left" if stage.eta_seconds is not None else ""
    share = stage.done / stage.total if stage.total else None
    return f'<p class="mc-stage">{text(stage.stage)}{count}{left}</p>' + bar(share)


def bar(share: float | None) -> str:
    """A progress bar; None is a share that is not known."""
    if share is None:
        return '<div class="mc-bar mc-unknown" role="progressbar" aria-label="Progress"><div></div></div>'
    percent = min(100.0, 100 * share)
    return (
        f'<div class="mc-bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent:.0f}"><div style="width:{percent:.1f}%"></div></div>'
    )


def ending(job: JobDir, status: Status, seen: Seen) -> str:
    """How a job that is over ended, and what to do about it."""
    if status.state == "finished" and seen.finished:
        memory = f", {seen.finished.peak_memory_gib:.1f} GiB at the peak" if seen.finished.peak_memory_gib else ""
        return f'<p class="mc-stage">Took {duration(seen.finished.seconds)}{memory}.</p>'
    if status.state == "stopped":
        return f'<p class="mc-stage">{text(status.error or "Stopped on request; the last checkpoint is kept.")}</p>'
    if status.state in ("failed", "interrupted"):
        return (
            f'<div class="mc-problems" role="alert"><strong>{text(status.error)}</strong>'
            f"<p>{text(status.hint)}</p></div>"
        )
    return ""


def figures(pairs: Sequence[tuple[str, str]]) -> str:
    """Headline figures: (name, value) pairs."""
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f'<dl class="mc-figures">{cells}</dl>'


def table(name: str, caption: str, headings: Sequence[str], rows: str) -> str:
    """A table with a caption; `rows` is HTML. It scrolls by itself where the screen is narrow."""
    head = "".join(f"<th scope=col>{heading}</th>" for heading in headings)
    return (
        f'<div class="mc-scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table class="mc-table" '
        f'id="{name}"><caption>{text(caption)}</caption><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def log(lines: str) -> str:
    return f'<pre class="mc-log" tabindex="0">{text(lines) or "Nothing was printed yet."}</pre>'


def command(line: str) -> str:
    return f'<pre class="mc-log mc-command" tabindex="0" aria-label="Command">{text(line)}</pre>'


def passage(value: str, placeholder: str = "") -> str:
    """A model's or a record's text, line breaks kept."""
    return f'<div class="mc-text" dir="auto">{text(value)}</div>' if value else f'<p class="mc-soft">{placeholder}</p>'


def demonstration(settings: RunSettings | None) -> str:
    """A warning wherever the starter model speaks of medicine; nothing for another model."""
    return starter_notice() if settings is not None and settings.model.id == STARTER else ""


def starter_notice() -> str:
    return f'<p class="mc-demonstration" role="note">{DEMONSTRATION}</p>'
