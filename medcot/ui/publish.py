"""Publish: the chosen run's adapter to the Hub, from a panel. A child process pushes; the token is kept nowhere."""

from collections.abc import Iterator
from typing import Any

import gradio as gr

from medcot.adapters import publish as publishing
from medcot.errors import BadInput, WorkerFailed
from medcot.runs.run import Run, size
from medcot.ui import commands, guard
from medcot.ui import components as c
from medcot.ui.commands import SameCommand
from medcot.ui.components import stripped
from medcot.ui.page import QUIET, Page, Updates


class PublishPanel:
    """`whole` is hidden until a run is chosen that has an adapter."""

    def __init__(self, page: Page):
        self.page, runs = page, page.run
        else_by = "your sign-in" if guard.on_space() else "HF_TOKEN or the Hub login"
        title = "Publish to the Hugging Face Hub"
        with gr.Accordion(title, open=False, visible=False, elem_id="publish") as self.whole:
            c.block(c.soft(c.TEXTS["publish"]["claim"]))
            with gr.Row():
                where: dict[str, Any] = {"placeholder": "OWNER/NAME", "info": "Created if it does not exist."}
                repo = gr.Textbox(label="Repository", elem_id="publish-repo", max_length=100, **where)
                note = f"Empty: {else_by}. Kept nowhere."
                self.token = gr.Textbox(label="Hub token", info=note, type="password", elem_id="publish-token")
            about = gr.Textbox(label="Your own words for the card", lines=2, max_length=4000, elem_id="publish-about")
            public = gr.Checkbox(label="Public: everybody may read it", elem_id="publish-public")
            with gr.Row(elem_classes="mc-actions"):
                dry_run = gr.Button("Preview", elem_id="publish-dry")
                push = gr.Button("Publish", variant="primary", elem_id="publish-push")
            self.result = c.block(elem_id="publish-told")
            SameCommand("publish", self.command, [runs, repo, about, public])
        dry_run.click(self.dry_run, [runs, repo, about], self.result, **QUIET)
        push.click(self.publish, [runs, repo, about, public, self.token], [self.result, self.token], **QUIET)

    def dry_run(self, run_id: object, repo: object, about: object) -> str:
        try:
            files = publishing.collect(self._run(run_id), stripped(repo), str(about or ""))
            table = listing([(f.path, f.size) for f in files], f"These would go to {repo}")
            return table + "".join(card(file) for file in files if file.path == "README.md")
        except BadInput as bad:
            return c.refused(bad)

    def publish(
        self, run_id: object, repo: object, about: object, public: object, token: object, request: gr.Request
    ) -> Iterator[Updates]:
        """Push the run; the token's field is emptied at once."""
        yield {self.result: c.announced("Pushing…"), self.token: ""}
        secret = stripped(token) or guard.token_of(request) or ""
        try:
            shown = self._push(self._run(run_id), stripped(repo), str(about or ""), bool(public), secret)
        except (BadInput, WorkerFailed) as error:
            shown = c.refused(error)
        yield {self.result: shown, self.token: ""}

    def _push(self, run: Run, repo: str, about: str, public: bool, secret: str) -> str:
        if guard.on_space() and not secret:  # the Space's own HF_TOKEN is its owner's, whoever is let in here
            raise BadInput.of("Hub token", "is empty, and nobody is signed in.", "Sign in, or type a token.")
        secrets = {"HF_TOKEN": secret} if secret else None
        done = publishing.publish(run, repo, public=public, about=about, secrets=secrets)
        kind = "public" if done.public else "private"
        rows = [(file.path, file.bytes) for file in done.files]
        return listing(rows, f"Published to {done.url}, {kind}, commit {done.commit[:12]}")

    def command(self, run_id: object, repo: object, about: object, public: object) -> str:
        return commands.publishing(self._run(run_id), stripped(repo), stripped(about), bool(public))

    def _run(self, run_id: object) -> Run:
        run = self.page.reader.find(run_id)
        if run is None:
            raise BadInput.of("run", "none is chosen.", "Choose a finished one.")
        return run


def listing(files: list[tuple[str, int]], caption: str) -> str:
    rows = "".join(c.row(c.text(path), [size(count)]) for path, count in files)
    return c.table("published", caption, ("Size",), rows)


def card(file: publishing.Published) -> str:
    """The model card as it would be pushed, unfolded: it is what others read first."""
    said = file.content.decode() if isinstance(file.content, bytes) else file.content.read_text(encoding="utf-8")
    shown = f'<pre class="mc-log mc-card-text" tabindex="0">{c.text(said)}</pre>'
    return f'<div id="publish-card">{c.fold("The model card, as it would be pushed", shown, True)}</div>'
