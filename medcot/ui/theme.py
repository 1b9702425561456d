"""The look: one palette in light and dark, and gradio's own variables tied to it.

Each pair in CONTRASTS is text on its ground and meets WCAG AA (4.5 to 1); a test measures them. Fonts are the
system's: nothing is fetched.
"""

import inspect
from pathlib import Path

import gradio as gr
from gradio.themes.utils import sizes

# name: (light, dark)
PALETTE = {
    "page": ("#f3f6f6", "#0d1619"),
    "card": ("#ffffff", "#152126"),
    "raised": ("#eef3f3", "#1d2c32"),
    "ink": ("#14252b", "#e7eff1"),
    "soft": ("#4a5d65", "#a9bbc2"),
    "line": ("#cfdadc", "#2f434b"),
    "edge": ("#7b8e95", "#6d848d"),
    "mark": ("#0a676e", "#63cdd4"),
    "mark-deep": ("#084f55", "#8adfe4"),
    "on-mark": ("#ffffff", "#06272a"),
    "mark-soft": ("#e0f0f0", "#12363a"),
    "base": ("#875300", "#e6b566"),
    "warn": ("#6a4400", "#f3d58f"),
    "warn-soft": ("#fdf1d8", "#3a2c0e"),
    "bad": ("#9c2226", "#ffa6a2"),
    "bad-soft": ("#fcebea", "#40191b"),
    "good": ("#17623a", "#8fdcab"),
    "good-soft": ("#e2f4e9", "#10331f"),
}
CONTRASTS = (
    *((ink, ground) for ink in ("ink", "soft", "mark", "base") for ground in ("page", "card", "raised")),
    *((name, f"{name}-soft") for name in ("mark", "warn", "bad", "good")),
    ("bad", "card"),
    ("ink", "mark-soft"),
    ("ink", "warn-soft"),
    ("ink", "bad-soft"),
    ("warn", "card"),
    ("on-mark", "mark"),
    ("on-mark", "mark-deep"),
)
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Noto Sans", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")

# Gradio's variable: the palette's name. Both modes follow, because the palette itself changes.
COLORS = {
    "body_text_color": "ink",
    "body_text_color_subdued": "soft",
    "background_fill_primary": "card",
    "background_fill_secondary": "raised",
    "border_color_primary": "line",
    "border_color_accent": "mark",
    "color_accent": "mark",
    "color_accent_soft": "mark-soft",
    "link_text_color": "mark",
    "link_text_color_hover": "mark-deep",
    "link_text_color_active": "mark-deep",
    "link_text_color_visited": "mark",
    "block_background_fill": "card",
    "block_border_color": "line",
    "block_info_text_color": "soft",
    "block_title_text_color": "ink",
    "block_label_text_color": "ink",
    "block_label_background_fill": "card",
    "accordion_text_color": "ink",
    "input_background_fill": "card",
    "input_background_fill_focus": "card",
    "input_border_color": "edge",
    "input_border_color_focus": "mark",
    "input_border_color_hover": "mark",
    "input_placeholder_color": "soft",
    "checkbox_background_color": "card",
    "checkbox_background_color_selected": "mark",
    "checkbox_border_color": "edge",
    "checkbox_border_color_selected": "mark",
    "checkbox_label_background_fill": "card",
    "checkbox_label_background_fill_hover": "raised",
    "checkbox_label_background_fill_selected": "mark-soft",
    "checkbox_label_border_color": "line",
    "checkbox_label_border_color_selected": "mark",
    "checkbox_label_text_color": "ink",
    "checkbox_label_text_color_selected": "ink",
    "error_background_fill": "bad-soft",
    "error_border_color": "bad",
    "error_text_color": "bad",
    "button_primary_background_fill": "mark",
    "button_primary_background_fill_hover": "mark-deep",
    "button_primary_border_color": "mark",
    "button_primary_text_color": "on-mark",
    "button_primary_text_color_hover": "on-mark",
    "button_secondary_background_fill": "card",
    "button_secondary_background_fill_hover": "raised",
    "button_secondary_border_color": "edge",
    "button_secondary_text_color": "ink",
    "button_secondary_text_color_hover": "ink",
    "button_cancel_background_fill": "card",
    "button_cancel_background_fill_hover": "bad-soft",
    "button_cancel_border_color": "bad",
    "button_cancel_text_color": "bad",
    "button_cancel_text_color_hover": "bad",
}
SHAPES = {
    "block_border_width": "0px",
    "block_padding": "0",
    "block_shadow": "none",
    "block_title_text_weight": "600",
    "block_label_text_weight": "600",
    "block_info_text_size": "*text_sm",
    "form_gap_width": "0px",
    "layout_gap": "16px",
    "input_border_width": "1px",
    "input_padding": "8px 10px",
    "input_shadow": "none",
    "input_shadow_focus": "0 0 0 2px var(--mc-mark)",
    "button_border_width": "1px",
    "button_large_padding": "10px 20px",
    "button_large_text_size": "*text_md",
    "button_large_text_weight": "600",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "button_transform_hover": "none",
    "checkbox_label_padding": "8px 12px",
    "checkbox_label_border_width": "1px",
    "checkbox_label_shadow": "none",
}


def theme() -> gr.themes.Base:
    """Gradio's theme with every colour tied to the palette."""
    base = gr.themes.Base(
        font=FONT, font_mono=MONO, radius_size=sizes.radius_md, spacing_size=sizes.spacing_md, text_size=sizes.text_md
    )
    known = inspect.signature(base.set).parameters
    values = {name: f"var(--mc-{color})" for name, color in COLORS.items()} | SHAPES
    values |= {f"{name}_dark": value for name, value in values.items() if f"{name}_dark" in known}
    # Written out: the page's ground is painted before any style sheet is there.
    values["body_background_fill"], values["body_background_fill_dark"] = PALETTE["page"]
    return base.set(**values)


def _variables(mode: int) -> str:
    return "".join(f"--mc-{name}:{pair[mode]};" for name, pair in PALETTE.items())


HERE = Path(__file__).parent
CSS = f":root{{{_variables(0)}}}\n:root.dark,:root .dark{{{_variables(1)}}}\n" + "".join(
    path.read_text(encoding="utf-8") for path in (HERE / "style.css", HERE.parent / "evaluating" / "plots.css")
)
