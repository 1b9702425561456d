"""From the words of the command line to a served page, and what is said when it ends."""

import sys
from pathlib import Path

from gradio.route_utils import delete_files_created_by_app
from pydantic import ValidationError

from medcot.endpoints import EndpointSettings, given
from medcot.errors import BadInput, Problem
from medcot.jobdirs import ALIVE, command
from medcot.runs import RunStore
from medcot.service import ServiceClient
from medcot.ui import build_app, launch_arguments
from medcot.ui.chat.sources import ServerSource
from medcot.ui.guard import on_space

LOCAL = ("127.0.0.1", "localhost", "::1")


def credentials(host: str, auth: str | None) -> tuple[str, str] | None:
    """USER:PASSWORD in two. Raises BadInput where a page that others can reach would have none."""
    if auth is None:
        if host in LOCAL or on_space():
            return None
        raise BadInput(
            Problem(
                "--host",
                f"{host} lets others start trainings on this machine and read its runs.",
                "Give a name and a password: --auth USER:PASSWORD",
            )
        )
    user, _, password = auth.partition(":")
    if not user or not password:
        raise BadInput(Problem("--auth", "is not USER:PASSWORD.", "Example: --auth ada:a-long-password"))
    return user, password


def farewell(runs_dir: Path) -> str:
    """Which jobs go on without the page; empty where none does."""
    alive = [run.id for run in RunStore(runs_dir).list() if any(j.status().state in ALIVE for j in run.job_dirs())]
    if not alive:
        return ""
    return (
        f"Still at work, without this page: {', '.join(alive)}. "
        "Start the page again to see it, or stop it with: " + command(f"stop {alive[0]}", runs_dir)
    )


def server_of(url: str | None, base: str | None, tuned: str | None, style: str) -> ServerSource | None:
    """The model server that Chat may ask. Raises BadInput where it is named by halves or its address is none."""
    if (named := given(url, base, tuned)) is None:
        return None
    try:
        endpoint = EndpointSettings.model_validate(named)
    except ValidationError as error:
        wrong = [Problem("--endpoint", f"{e['msg'].removeprefix('Value error, ')}.") for e in error.errors()]
        raise BadInput(wrong) from None
    return ServerSource(endpoint, "plain" if style == "plain" else "chat")


def serve(
    host: str,
    port: int,
    runs_dir: Path,
    auth: str | None,
    endpoint: str | None = None,
    base_model: str | None = None,
    tuned_model: str | None = None,
    style: str = "chat",
) -> int:
    """Serve the page until Ctrl-C. Workers go on; the model behind Chat ends with the page."""
    try:
        runs_dir = RunStore(runs_dir).root
        login = credentials(host, auth)
        server = server_of(endpoint, base_model, tuned_model, style)
    except BadInput as bad:
        sys.stderr.write("".join(f"{problem}\n" for problem in bad.problems))
        return 2
    client = ServiceClient(runs_dir.resolve())
    app = build_app(runs_dir, client, server)
    try:
        app.launch(
            server_name=host,
            server_port=port,
            auth=login,
            prevent_thread_lock=True,
            quiet=True,
            **launch_arguments(),
        )
        sys.stdout.write(f"http://{host}:{port} shows the runs in {runs_dir}. Ctrl-C ends the page, and no job.\n")
        sys.stdout.flush()
        app.block_thread()
    except OSError as error:  # the port is taken, or the host is not this machine's
        sys.stderr.write(f"{host}:{port} cannot be served: {error}\nChoose another: --port PORT\n")
        return 1
    finally:
        client.close()
        delete_files_created_by_app(app, None)  # an open page keeps gradio from doing so
    if line := farewell(runs_dir):
        sys.stdout.write(line + "\n")
    return 0
