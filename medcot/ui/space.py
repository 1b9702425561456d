"""What only a Hugging Face Space shows: who may do what, the sign-in, and a warning where runs will vanish."""

import os
from pathlib import Path

import gradio as gr

from medcot.ui import components as c

VISITORS = "Visitors read results and chat. Training, evaluating, publishing and deleting are the owner's."
VANISHING = (
    "<strong>What is trained here is lost when this Space restarts.</strong> Attach storage, set MEDCOT_RUNS_DIR to a "
    "folder on it, or publish what you want to keep."
)


def build(runs_dir: Path) -> None:
    with gr.Row(elem_id="space"):
        c.block(f'<p class="mc-soft">{VISITORS}</p>', min_width=260)
        if "OAUTH_CLIENT_ID" in os.environ:
            gr.LoginButton(size="sm", scale=0, min_width=260, elem_id="sign-in")
    if vanishes(runs_dir):
        c.block(f'<p class="mc-advice" role="note">{VANISHING}</p>')


def vanishes(runs_dir: Path) -> bool:
    """Whether runs lie on the container's own disk, which a restart empties."""
    folder = runs_dir.expanduser().resolve()
    while not folder.exists():
        folder = folder.parent
    return folder.stat().st_dev == Path("/").stat().st_dev
