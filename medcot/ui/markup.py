"""Bold, lists and headings in a model's text, and nothing else: no link, no image, no markup of its own.

The text is escaped before it is looked at, and what is recognised becomes one of the few elements below, without
attributes but for a list's first number. Each pattern reads a line once, however hostile it is.
"""

import re
from collections.abc import Iterator
from itertools import groupby

from medcot.ui import components as c

_BOLD = re.compile(r"\*\*(?![\s*])([^*\n]*[^*\s])\*\*")
_HEADING = re.compile(r" {0,3}#{1,6} +(\S.*)")
_BULLET = re.compile(r" {0,12}[-*•] +(\S.*)")
_NUMBER = re.compile(r" {0,12}(\d{1,3})[.)] +(\S.*)")


def answer(value: str, placeholder: str = "") -> str:
    """A model's answer as HTML."""
    return f'<div class="mc-text" dir="auto">{drawn(c.text(value))}</div>' if value else c.soft(placeholder)


def drawn(escaped: str) -> str:
    """HTML for text that is escaped already."""
    return "".join(_parts(escaped.split("\n")))


def _parts(lines: list[str]) -> Iterator[str]:
    for kind, group in groupby(lines, _kind):
        members = list(group)
        if kind == "heading":
            yield from (f"<h5>{_bold(_inside(_HEADING, line))}</h5>" for line in members)
        elif kind == "ul":
            yield f"<ul>{_items(_BULLET, members)}</ul>"
        elif kind == "ol":
            first = _NUMBER.fullmatch(members[0])
            yield f'<ol start="{int(first[1]) if first else 1}">{_items(_NUMBER, members)}</ol>'
        elif text := "\n".join(members).strip("\n"):
            yield f"<p>{_bold(text)}</p>"


def _kind(line: str) -> str:
    """What a line is drawn as; a line that is none of these is text."""
    patterns = {"heading": _HEADING, "ul": _BULLET, "ol": _NUMBER}
    return next((kind for kind, pattern in patterns.items() if pattern.fullmatch(line)), "text")


def _items(pattern: re.Pattern[str], lines: list[str]) -> str:
    return "".join(f"<li>{_bold(_inside(pattern, line))}</li>" for line in lines)


def _inside(pattern: re.Pattern[str], line: str) -> str:
    """A line without the signs that its pattern found before it."""
    found = pattern.fullmatch(line)
    return found[found.re.groups] if found else line


def _bold(text: str) -> str:
    return _BOLD.sub(r"<strong>\1</strong>", text)
