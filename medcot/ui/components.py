"""Pieces of the page as HTML. Every text that comes from data, a model, a log or a person passes through `text`.

Plain strings of HTML and not gr.Markdown: Markdown deletes <think> and fetches images that a model's text names.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import gradio as gr

from medcot.errors import BadInput, Failure, Problem, WorkerFailed
from medcot.prompts.contract import STYLES
from medcot.runs.job_dir import State
from medcot.runs.run import Run
from medcot.safety.foreign import visible
from medcot.settings import RunSettings, fields


def from_file(name: str, /, **values: str) -> str:
    """A file of this folder, with its $names filled in."""
    return Template((Path(__file__).parent / name).read_text(encoding="utf-8")).substitute(values).strip()


TEXTS = tomllib.loads(from_file("texts.toml"))
EVERYWHERE: dict[str, str] = TEXTS["everywhere"]
RESEARCH_ONLY = EVERYWHERE["research-only"]
_TITLES = {path: field.title or path for path, field in fields().items()}
_TWICE = {title for title, times in Counter(_TITLES.values()).items() if times > 1}
# What each setting and option is called in the page; a title that two sections have, with its section.
LABELS: dict[str, str] = TEXTS["labels"] | {
    path: f"{TEXTS['form']['sections'][path.partition('.')[0]]}, {title}" if title in _TWICE else title
    for path, title in _TITLES.items()
}
_NAMED = "|".join(
    re.escape(name) + ("" if re.search("[.-]", name) else "(?==)") for name in sorted(LABELS, reverse=True)
)
_SET = re.compile("--set ('?)([^' ]+=(?:[^']*(?=')|[^ ]*))\\1")


def text(value: object) -> str:
    """Escape text from elsewhere: never markup, and shown in the order in which it was written."""
    return escape(visible(value))


_MARKDOWN = re.compile(r"[\\`*_\[\]<>!&~|:@]|(?<=www)\.", re.IGNORECASE)


def in_markdown(value: object) -> str:
    """The same where gradio takes Markdown, as beside a field: no link, image or emphasis comes of it."""
    return _MARKDOWN.sub(r"\\\g<0>", visible(value))


def block(value: str = "", script: str | None = None, **kwargs: Any) -> gr.HTML:
    """An HTML block without gradio's own styles and scripts; `script` has the block as `element`, and `trigger`."""
    return gr.HTML(value, apply_default_css=False, js_on_load=script, **kwargs)


def small_button(label: str, style: str = "mc-copy", **kwargs: Any) -> gr.Button:
    return gr.Button(label, size="sm", elem_classes=style, **kwargs)


def header(device: str) -> str:
    return from_file("header.html", device=text(device))


# clicks.js copies what stands before it.
COPY_ID = '<button type="button" class="mc-copy-id" title="Copy the id" aria-label="Copy the id">Copy</button>'


def titled(name: str, state: State | None = None, job_id: str = "") -> str:
    """A job's name as a heading, with its state, and its id small where that is another."""
    small = f"<small>{text(job_id)} {COPY_ID}</small>" if job_id and job_id != name else ""
    return f'<div class="mc-title"><h3>{text(name)}</h3>{badge(state) if state else ""}{small}</div>'


def badge(state: State) -> str:
    return f'<span class="mc-badge mc-{state}">{state.capitalize()}</span>'


def empty(name: str) -> str:
    """The first steps, shown while there is nothing else to show."""
    title, items = TEXTS["empty"][name]["title"], "".join(f"<li>{step}</li>" for step in TEXTS["empty"][name]["steps"])
    return f'<div class="mc-empty"><h3>{title}</h3><ol>{items}</ol></div>'


def problems(found: Sequence[Problem], heading: str = "", fields: Mapping[str, str] | None = None) -> str:
    """A list of everything that is wrong, in the page's own labels; empty without problems.

    `fields` are the ids of the fields that a click on a problem leads to, by their settings.
    """
    if not found:
        return ""
    places = [_named(p.where, (fields or {}).get(p.where, "")) if p.where else "" for p in found]
    said = [text(labelled(p.in_page)) for p in found]
    items = "".join(f"<li>{where}{words}</li>" for where, words in zip(places, said, strict=True))
    count = "One thing has" if len(found) == 1 else f"{len(found)} things have"
    heading = heading or f"{count} to be fixed first"
    return f'<div class="mc-problems" role="alert"><strong>{heading}</strong><ul>{items}</ul></div>'


def _named(where: str, field: str) -> str:
    """The name of a problem's place, to click on if it is a field of the form."""
    name = text(place(where))
    return (
        f'<button type="button" class="mc-goto" data-field="{field}">{name}</button>: '
        if field
        else f"<strong>{name}</strong>: "
    )


def refused(error: BadInput | WorkerFailed) -> str:
    """The problems of something that was refused, or could not be done."""
    return problems(Failure.of(error).problems)


def attempt(action: Callable[[], object]) -> str:
    """Run an action and return its problems as HTML; empty if it succeeded."""
    try:
        action()
    except BadInput as bad:
        return refused(bad)
    return ""


def labelled(words: str) -> str:
    """Words of the command line as the page says them: settings and options by their labels, but for whole commands."""
    said = re.split("(`[^`]*`|medcot .*)", _SET.sub(r"\2", words))
    for i in range(0, len(said), 2):
        said[i] = re.sub(rf"(?<![\w./-])({_NAMED})(?![\w-])(=)?", _as_label, said[i])
    return "".join(said)


def _as_label(found: re.Match[str]) -> str:
    return f"“{LABELS[found[1]]}”" + (" = " if found[2] else "")


def place(where: str) -> str:
    """What a problem's place is called in the page."""
    setting = next((path for path in LABELS if where == path or ("." in path and where.startswith(path + "."))), None)
    return LABELS[setting] if setting else labelled(where)


def warnings(messages: Sequence[str]) -> str:
    items = "".join(f"<li>{text(labelled(m))}</li>" for m in messages)
    return f'<ul class="mc-warnings">{items}</ul>' if items else ""


def soft(words: object) -> str:
    return f'<p class="mc-soft">{text(words)}</p>'


def stage(words: object) -> str:
    return f'<p class="mc-stage">{text(words)}</p>'


def working(words: object) -> str:
    """A stage with a bar that promises no end."""
    return stage(words) + bar(None)


def announced(words: object) -> str:
    """A stage that screen readers say aloud."""
    return f'<p class="mc-stage" role="status">{text(words)}</p>'


def fold(summary: str, body: str, is_open: bool = False) -> str:
    """A part that can be unfolded; summary and body are HTML."""
    return f'<details class="mc-example"{" open" if is_open else ""}><summary>{summary}</summary>{body}</details>'


def bar(share: float | None) -> str:
    """A progress bar; None is an unknown share."""
    if share is None:
        return '<div class="mc-bar mc-unknown" role="progressbar" aria-label="Progress"><div></div></div>'
    percent = min(100.0, 100 * share)
    return (
        f'<div class="mc-bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent:.0f}"><div style="width:{percent:.1f}%"></div></div>'
    )


def figures(pairs: Sequence[tuple[str, str]]) -> str:
    """Headline figures from (name, value) pairs."""
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in pairs)
    return f'<dl class="mc-figures">{cells}</dl>'


def row(heading: str, cells: Iterable[object], *, grey: bool = False) -> str:
    """A table's row; heading and cells are HTML."""
    found = "".join(f"<td>{cell}</td>" for cell in cells)
    return f"<tr{' class=mc-soft' if grey else ''}><th scope=row>{heading}</th>{found}</tr>"


def table(name: str, caption: str, headings: Sequence[str], rows: str) -> str:
    """A table with a caption; headings and rows are HTML. It scrolls by itself on a narrow screen."""
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
    """A model's or a record's text with its line breaks."""
    return f'<div class="mc-text" dir="auto">{text(value)}</div>' if value else f'<p class="mc-soft">{placeholder}</p>'


def demonstration() -> str:
    """The warning above medical text by the starter model."""
    return f'<p class="mc-demonstration" role="note">{EVERYWHERE["demonstration"]}</p>'


ITS_OWN = "its own"


def adapter_fields(prefix: str) -> list[Any]:
    """Name, prompt contract and base of an adapter, like the options of `medcot ask`."""
    where = "A folder on this machine, or OWNER/NAME[@revision] on the Hub."
    stored = "Its own is stored with it. Without one: chat is the base's template, plain the reference's text."
    only_if = "Only if the adapter's files name none: OWNER/NAME, a folder, or starter."
    styles: dict[str, Any] = {"choices": [ITS_OWN, *STYLES], "value": ITS_OWN}
    return [
        gr.Textbox(label="Adapter", info=where, elem_id=f"{prefix}-name"),
        gr.Radio(**styles, label="Prompt contract", info=stored, elem_id=f"{prefix}-style"),
        gr.Textbox(label="Base", info=only_if, elem_id=f"{prefix}-base"),
    ]


def style_of(chosen: object) -> str | None:
    return None if chosen == ITS_OWN else str(chosen)


def stripped(typed: object) -> str:
    """What was typed into a field, without the blanks around it."""
    return str(typed or "").strip()


def from_elsewhere(run: Run, settings: RunSettings | None) -> str:
    """The adapter that a folder measures, and on what; empty for a run trained here."""
    if (adapter := run.origin()) is None:
        return ""
    how = ""
    if settings:
        asked = settings.data.source.rpartition("/")[2]
        how = f" Base: {settings.model.id}. Prompt contract: {settings.prompt.style}. Records: {asked}."
    return f'<p class="mc-soft mc-told">Tuned is {text(adapter)}, not trained here.{text(how)}</p>'
