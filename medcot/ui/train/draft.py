"""The form as somebody left it, kept in his own browser, so that a reload brings it back: no key, no question.

The values are as they were typed, also wrong ones: whoever reloads goes on where he was.
"""

import json
from collections.abc import Mapping
from typing import Literal, get_args, get_origin

import gradio as gr

from medcot.settings.recipes import RECIPES
from medcot.settings.sources import MOST_LINE
from medcot.ui.form import FIELDS, RECIPE, Form
from medcot.ui.guard import visitor_may
from medcot.ui.page import QUIET, UNCHANGED, Page, Updates

MOST = MOST_LINE  # characters of a field, no field takes more; what is longer was not typed here
READ = "() => { try { return localStorage.getItem('medcot-form') || ''; } catch { return ''; } }"
KEEP = """(...values) => {
  const form = Object.fromEntries(%s.map((path, i) => [path, values[i]]));
  try { localStorage.setItem('medcot-form', JSON.stringify(form)); } catch { /* a browser that keeps nothing */ }
  // Once for all fields that change together: one by one, a recipe took ten seconds of the browser's time.
  clearTimeout(window.medcot.describing);
  window.medcot.describing = setTimeout(() => document.getElementById('describe').click(), 50);
}"""


class Draft:
    """Keeps `form` with each change and has it described, and restores it when the page is loaded."""

    def __init__(self, page: Page, form: Form):
        self.form = form
        kept = gr.Textbox(visible=False)
        page.demo.load(self.restore, kept, form.outputs, js=READ, **QUIET)
        changed = [field.change for field in form.components]
        gr.on(changed, None, form.components, None, js=KEEP % json.dumps(form.paths), **QUIET)

    @visitor_may
    def restore(self, kept: object) -> Updates:
        """The form as it was kept; what is no value of a field any more is left out."""
        known = as_values(kept)
        values = {path: known[path] for path in self.form.paths if fits(path, known.get(path))}
        return self.form.marked([], values) if values else UNCHANGED


def as_values(kept: object) -> Mapping[str, object]:
    """Values by path from a text that came from a browser; empty if it is of another form."""
    try:
        found = json.loads(str(kept or ""))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def fits(path: str, value: object) -> bool:
    """Whether a field can show a value."""
    annotation = FIELDS[path].annotation
    if annotation is bool:
        return isinstance(value, bool)
    if not isinstance(value, str) or len(value) > MOST:
        return False
    if path == RECIPE:
        return value in RECIPES
    return get_origin(annotation) is not Literal or value in get_args(annotation)
