"""From the words of the command line to a served page, and what is said when it ends."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from gradio.route_utils import delete_files_created_by_app
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from medcot import machine
from medcot.errors import BadInput, Problem
from medcot.runs.job_dir import ALIVE, command
from medcot.runs.store import RunStore
from medcot.settings import PromptStyle, message_of
from medcot.settings.evaluation import KEY_VARIABLE, EndpointSettings, given
from medcot.ui import build_app, mount
from medcot.ui.changes import Changes
from medcot.ui.download_route import Downloads
from medcot.ui.gate import Gate, names_of
from medcot.ui.guard import on_space
from medcot.ui.login import Login, LoginFirst, Token, credentials, token_for
from medcot.ui.sessions import Heartbeats
from medcot.ui.sources import ServerSource
from medcot.ui.streams import Streams
from medcot.ui.thrift import InTurn
from medcot.ui.upload_route import Uploads, own_folder
from medcot.workers.client import ServiceClient

ALLOW_HOST = "MEDCOT_ALLOW_HOST"  # further names that the page answers to, comma-separated
Names = Sequence[str]
MOST_CONNECTIONS = 2000  # at once; beyond, the page says that it is busy instead of running out of open files
# What uvicorn would replace by other packages where these are installed: the page is one everywhere.
STANDARD: dict[str, Any] = {"loop": "asyncio", "http": "h11", "ws": "none"}
STARTING_SECONDS, GRACE_SECONDS, ENDING_SECONDS = 60.0, 2, 5.0
END_SECONDS = 0.25  # how often the server looks whether it shall end; uvicorn's tenth of a second is felt at rest


class Server(uvicorn.Server):
    """uvicorn's, at rest for longer."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            await asyncio.sleep(END_SECONDS)


class Served:
    """A page served by a thread of this process until `close`. Raises OSError if host and port cannot be had.

    Port 0 takes any that is free; `url` names it, and `address` holds the token too.
    """

    def __init__(
        self,
        app: gr.Blocks,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        auth: Login = None,
        allow_hosts: Names = (),
        token: str | None = None,
    ):
        self._app = app
        self._socket = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        port = self._socket.getsockname()[1]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self.address = f"{self.url}/?token={token}" if token else self.url
        gate: dict[str, Any] = {"names": names_of(host, allow_hosts)}
        if on_space():  # it has whatever name its owner gives it, and is shown in a frame of huggingface.co
            gate = {"names": None, "framed_by": ("https://huggingface.co",)}
        if token:
            gate["token"] = Token(token, f"medcot-token-{port}")
        web: Any = Starlette(middleware=[Middleware(GZipMiddleware, minimum_size=1000), Middleware(Gate, **gate)])
        mount(web, app, server_name=host, server_port=port, auth=auth)
        self._gradio = web.routes[-1].app
        # At the end of the list: inside the layer that knows a Space's sign-in, and the login before the others.
        if auth:
            self._gradio.user_middleware.append(Middleware(LoginFirst, app_of=self._gradio))
        self._gradio.user_middleware.append(Middleware(Heartbeats, demo=app))
        self._gradio.user_middleware.append(Middleware(Streams))
        self._gradio.user_middleware.append(Middleware(InTurn))
        self._gradio.user_middleware.append(Middleware(Changes, app_of=self._gradio, demo=app))
        self._gradio.user_middleware.append(Middleware(Downloads, runs_dir=vars(app)["runs_dir"]))
        self._gradio.user_middleware.append(Middleware(Uploads, folder=self._gradio.uploaded_file_dir))
        limits: dict[str, Any] = {
            "limit_concurrency": min(MOST_CONNECTIONS, machine.open_files() // 2),
            "timeout_graceful_shutdown": GRACE_SECONDS,
        }
        self._server = Server(uvicorn.Config(web, log_level="warning", **STANDARD, **limits))
        # Joining the thread would not do: where Ctrl-C interrupts that, Python 3.11 takes a thread that runs for ended.
        # (https://github.com/python/cpython/issues/90882)
        self._ended = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()
        deadline = time.monotonic() + STARTING_SECONDS
        while not self._server.started:
            if self._ended.is_set() or time.monotonic() > deadline:
                raise OSError("the server did not start")
            time.sleep(0.01)

    def _serve(self) -> None:
        try:
            self._server.run([self._socket])
        finally:
            self._ended.set()

    def wait(self) -> None:
        """Wait until the server ends, or Ctrl-C raises KeyboardInterrupt."""
        while not self._ended.wait(0.5):
            pass

    def close(self) -> None:
        """End the page, and remove what was uploaded to it."""
        self._gradio.stop_event.set()  # ends the streams that open pages listen to
        self._server.should_exit = True
        if self._ended.wait(ENDING_SECONDS):
            self._socket.close()  # under a server that still uses it, it would end that in a traceback
        # An open page keeps gradio from doing so; an upload that ends just now would change the sets meanwhile.
        self._app.temp_file_sets = [set(files) for files in self._app.temp_file_sets]
        delete_files_created_by_app(self._app, None)


def farewell(runs_dir: Path) -> str:
    """Which jobs go on without the page; empty if none does."""
    alive = [run.id for run in RunStore(runs_dir).list() if any(j.status().state in ALIVE for j in run.job_dirs())]
    if not alive:
        return ""
    how = f"Start the page again to see it, or stop it with: {command(f'stop {alive[0]}', runs_dir)}"
    return f"Still at work, without this page: {', '.join(alive)}. {how}"


def server_of(url: str | None, base: str | None, tuned: str | None, style: PromptStyle) -> ServerSource | None:
    """The model server that Chat may ask. Raises BadInput if only a part of it is named or its address is none."""
    if (named := given(url, base, tuned)) is None:
        return None
    try:
        endpoint = EndpointSettings.model_validate(named)
    except ValidationError as error:
        raise BadInput([Problem("--endpoint", f"{message_of(e)}.") for e in error.errors()]) from None
    return ServerSource(endpoint, style)


@dataclass(frozen=True)
class Options:
    """The options of app.py."""

    host: str
    port: int
    runs_dir: Path
    auth: str | None
    endpoint: str | None = None
    base_model: str | None = None
    tuned_model: str | None = None
    style: PromptStyle = "chat"
    allow_hosts: Names = ()
    token: bool = True


def serve(options: Options) -> int:
    """Serve the page until Ctrl-C and return the exit code. Workers go on; the model behind Chat ends with the page."""
    machine.escape_unknown_letters()
    machine.no_core_dumps()
    machine.few_heaps()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what a container's end sends is a Ctrl-C too
    try:
        runs_dir = RunStore(options.runs_dir).root
        login = credentials(options.host, options.auth)
        access = {"auth": login, "token": token_for(login, options.token)}
        server = server_of(options.endpoint, options.base_model, options.tuned_model, options.style)
        with own_folder():
            return _serve(options, runs_dir, server, access)
    except BadInput as bad:
        sys.stderr.write("".join(f"{problem}\n" for problem in bad.problems))
        return 2


def _serve(options: Options, runs_dir: Path, server: ServerSource | None, access: Mapping[str, Any]) -> int:
    host, port = options.host, options.port
    client = ServiceClient(runs_dir.resolve(), secrets=machine.own(KEY_VARIABLE) if server else None)
    served: Served | None = None
    try:
        names = [*options.allow_hosts, *os.environ.get(ALLOW_HOST, "").split(",")]
        served = Served(build_app(runs_dir, client, server), host, port, allow_hosts=names, **access)
        sys.stdout.write(f"{served.address} shows the runs in {runs_dir}. Ctrl-C ends the page, and no job.\n")
        sys.stdout.flush()
        served.wait()
    except OSError as error:  # the port is taken, or the host is another machine's
        sys.stderr.write(f"{host}:{port} cannot be served: {error}\nChoose another: --port PORT\n")
        return 1
    except KeyboardInterrupt:
        pass
    finally:
        client.close()
        if served:
            served.close()
    if line := farewell(runs_dir):
        sys.stdout.write(line + "\n")
    return 0
