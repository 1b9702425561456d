"""The version of what the page shows: an open page asks for it, and has its cards read again only when it has moved.

A request waits for a while for the next version, so that a page at rest asks every ten seconds and still learns of a
change at once. All who wait share one look at the runs folder.
"""

import asyncio
import secrets
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from medcot.runs import comparisons
from medcot.ui.job_reader import Reader, mark, size_of
from medcot.ui.sources import Client

ROUTE = "/changes"
LOOK_SECONDS = 0.5  # between two looks at the folder, while anybody waits
HELD_SECONDS = 10.0  # for so long a request waits
MANY = 1000  # waiting requests; more are answered at once
_VERSIONS: WeakKeyDictionary[gr.Blocks, "Version"] = WeakKeyDictionary()


class Version:
    """A text that is another one whenever something has changed that a page shows."""

    def __init__(self, demo: gr.Blocks, reader: Reader, client: Client):
        _VERSIONS[demo] = self
        self._reader, self._client = reader, client
        self._shown: tuple[object, ...] = ()
        self._count, self._server = 0, secrets.token_hex(4)  # a restarted server counts anew

    @property
    def newest(self) -> str:
        """The version at the last look; there may be a newer one."""
        return f"{self._server}-{self._count}"

    def look(self) -> str:
        """The version now. For one thread at a time."""
        folder = self._reader.store.look(LOOK_SECONDS / 2)
        judged = [size_of(comparisons.path_of(run)) for run in folder.tuned]
        shown = (
            folder.version,
            [mark(job) for job, _ in folder.alive],
            judged,
            self._client.loaded,
            self._client.unloaded,
        )
        if shown != self._shown:
            self._shown, self._count = shown, self._count + 1
        return self.newest


class Changes:
    """ASGI middleware inside Gradio's app `app_of`: `GET /changes?seen=VERSION` answers as soon as it has another.

    It stands behind the gate and the login, like all that tells of runs.
    """

    def __init__(self, app: ASGIApp, app_of: Any, demo: gr.Blocks):
        self.app, self._app_of, self._version = app, app_of, _VERSIONS[demo]
        self._next: asyncio.Task[str] | None = None
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != ROUTE:
            await self.app(scope, receive, send)
            return
        try:
            now = await self._after(Request(scope).query_params.get("seen", ""))
        except asyncio.CancelledError:
            return  # the server ends, and has waited long enough
        await PlainTextResponse(now)(scope, receive, send)

    async def _after(self, seen: str) -> str:
        """The version as soon as it is not the seen one, or the same after a while."""
        self._waiting += 1
        try:
            deadline = asyncio.get_running_loop().time() + (HELD_SECONDS if self._waiting <= MANY else 0)
            now = await self._look(0)
            while now == seen and asyncio.get_running_loop().time() < deadline and not self._app_of.stop_event.is_set():
                now = await self._look(LOOK_SECONDS)
            return now
        finally:
            self._waiting -= 1

    async def _look(self, after: float) -> str:
        """The version at the next look, which all who wait share."""
        if self._next is None or self._next.done():
            self._next = asyncio.create_task(self._looked(after))
        return await asyncio.shield(self._next)

    async def _looked(self, after: float) -> str:
        await asyncio.sleep(after)
        return await run_in_threadpool(self._version.look)
