"""Publish: the chosen run's adapter to the Hub, from a panel. A child process pushes; the token is kept nowhere."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from medcot import publishing
from medcot.errors import BadInput, Problem, WorkerFailed
from medcot.ui import components as c
from medcot.ui import guard
from medcot.ui.page import QUIET, Page

TOKEN_NOTE = "Empty: your sign-in, HF_TOKEN or the Hub login. Kept nowhere."


class PublishPanel:
    def __init__(self, page: Page):
        self.page = page

    def dry_run(self, run_id: object, repo: object, about: object) -> str:
        try:
            return listing(self._files(run_id, repo, about), f"These would go to {repo}")
        except BadInput as bad:
            return c.problems(bad.problems)

    def publish(
        self, run_id: object, repo: object, about: object, public: object, token: object, request: gr.Request
    ) -> Iterator[list[Any]]:
        """Yields what the panel shows, and the emptied token field."""
        yield ['<p class="mc-stage" role="status">Pushing…</p>', ""]
        secret = str(token or "").strip() or guard.token_of(request) or ""
        try:
            run = self.page.reader.find(run_id)
            if run is None:
                raise BadInput(Problem("run", "none is chosen.", "Choose a finished one."))
            done = publishing.publish(
                run,
                str(repo or "").strip(),
                public=bool(public),
                about=str(about or ""),
                secrets={"HF_TOKEN": secret} if secret else None,
            )
        except BadInput as bad:
            yield [c.problems(bad.problems), ""]
            return
        except WorkerFailed as failed:
            yield [c.problems([str(failed)]), ""]
            return
        kind = "public" if done["public"] else "private"
        rows = [(f["path"], f["bytes"]) for f in done["files"]]
        yield [listing(rows, f"Published to {done['url']}, {kind}, commit {done['commit'][:12]}"), ""]

    def _files(self, run_id: object, repo: object, about: object) -> list[tuple[str, int]]:
        run = self.page.reader.find(run_id)
        if run is None:
            raise BadInput(Problem("run", "none is chosen.", "Choose a finished one."))
        files = publishing.collect(run, str(repo or "").strip(), str(about or ""))
        return [(f.path, f.size) for f in files]


def listing(files: list[tuple[str, int]], caption: str) -> str:
    rows = "".join(f"<tr><th scope=row>{c.text(path)}</th><td>{size:,}</td></tr>" for path, size in files)
    return c.table("published", caption, ("Bytes",), rows)


def build(page: Page, runs: gr.Dropdown) -> gr.Accordion:
    """The panel's components and events; `runs` is where the run is chosen. Shown once there is one."""
    panel = PublishPanel(page)
    whole = gr.Accordion("Publish to the Hugging Face Hub", open=False, visible=False, elem_id="publish")
    with whole:
        c.block(
            '<p class="mc-soft">Adapter, prompt contract, settings, evaluation and a model card that claims what was '
            "measured, in one commit. Private unless you say otherwise.</p>"
        )
        with gr.Row():
            repo = gr.Textbox(
                label="Repository",
                placeholder="OWNER/NAME",
                info="Made where it is not there.",
                elem_id="publish-repo",
                max_length=100,
            )
            token = gr.Textbox(label="Hub token", info=TOKEN_NOTE, type="password", elem_id="publish-token")
        about = gr.Textbox(label="Your own words for the card", lines=2, max_length=4000, elem_id="publish-about")
        public = gr.Checkbox(label="Public: everybody may read it", elem_id="publish-public")
        with gr.Row(elem_classes="mc-actions"):
            dry = gr.Button("List the files", elem_id="publish-dry")
            push = gr.Button("Publish", variant="primary", elem_id="publish-push")
        told = c.block(elem_id="publish-told")
    dry.click(panel.dry_run, [runs, repo, about], told, **QUIET)
    push.click(panel.publish, [runs, repo, about, public, token], [told, token], **QUIET)
    return whole
