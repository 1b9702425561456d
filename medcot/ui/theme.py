"""The look: one palette in light and dark, and gradio's own variables tied to it; theme.toml holds the values.

Each pair in CONTRASTS is text on its background and meets WCAG AA (4.5 to 1), as a test measures. Fonts are the
system's: nothing is fetched.
"""

import inspect
import tomllib
from pathlib import Path

import gradio as gr
from gradio.themes.utils import sizes

from medcot.ui.components import RESEARCH_ONLY, from_file

HERE = Path(__file__).parent
LOOK = tomllib.loads(from_file("theme.toml"))
PALETTE: dict[str, tuple[str, str]] = {name: (light, dark) for name, (light, dark) in LOOK["palette"].items()}
CONTRASTS = (
    *((ink, ground) for ink in ("ink", "soft", "mark", "base") for ground in ("page", "card", "raised")),
    *((name, f"{name}-soft") for name in ("mark", "warn", "bad", "good")),
    *(("ink", f"{name}-soft") for name in ("mark", "warn", "bad")),
    *((name, "card") for name in ("bad", "warn")),
    *(("on-mark", ground) for ground in ("mark", "mark-deep")),
)
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


def theme() -> gr.themes.Base:
    """Gradio's theme with every colour tied to the palette."""
    base = gr.themes.Base(
        font=FONT, font_mono=MONO, radius_size=sizes.radius_md, spacing_size=sizes.spacing_md, text_size=sizes.text_md
    )
    known = inspect.signature(base.set).parameters
    values = _values(0) | {f"{name}_dark": v for name, v in _values(1).items() if f"{name}_dark" in known}
    # As colours, because the page's background is painted before any style sheet has arrived.
    values["body_background_fill"], values["body_background_fill_dark"] = PALETTE["page"]
    return base.set(**values)


def _values(mode: int) -> dict[str, str]:
    """Gradio's variables. A colour is the palette's variable, with its value for the login page: it has no CSS."""
    colors: dict[str, str] = {
        variable: f"var(--mc-{name}, {PALETTE[name][mode]})"
        for name, variables in LOOK["variables"].items()
        for variable in variables.split()
    }
    return {**colors, **LOOK["shapes"]}


def login_message() -> str:
    """The text above the login page's fields, with its styles: that page is served without the style sheet."""
    return from_file("login.html", css=from_file("login.css"), research_only=RESEARCH_ONLY)


def _variables(mode: int) -> str:
    return "".join(f"--mc-{name}:{pair[mode]};" for name, pair in PALETTE.items())


CSS = f":root{{{_variables(0)}}}\n:root.dark,:root .dark{{{_variables(1)}}}\n" + "".join(
    path.read_text(encoding="utf-8") for path in (HERE / "style.css", HERE.parent / "evaluation" / "plots.css")
)
