"""What is kept for each open page: of so many at most, and nothing once the page is closed.

A page holds a request open, its heartbeat, and is closed when that ends. Gradio has events for this, but makes a
session of all components for whoever they concern, also for a stranger who opened nothing but a heartbeat: some hundred
of those that leave together would hold the server up for minutes.
"""

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

import gradio as gr
from gradio.utils import LRUCache
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from medcot.machine import give_memory_back

Kept = TypeVar("Kept")
Forget = Callable[[str], None]
MOST_SESSIONS = 500  # for which something is kept
UNSENT_STAYS = 15.0  # seconds after the end of a page: the streams that read it have ended by then
BETWEEN_TRIMS = 15.0  # seconds between two times at which the memory of closed pages is given back
HEARTBEAT = re.compile(r"/gradio_api/heartbeat/([^/]+)")
_FORGETS: WeakKeyDictionary[gr.Blocks, list[Forget]] = WeakKeyDictionary()


class Sessions(OrderedDict[str, Kept]):
    """What is kept for each page by its session: of the newest, in case pages go away without a sign."""

    def __setitem__(self, session: str, kept: Kept) -> None:
        super().__setitem__(session, kept)
        while len(self) > MOST_SESSIONS:
            self.popitem(last=False)


def when_closed(demo: gr.Blocks, forget: Forget) -> None:
    """Call `forget` with the session of each page that is closed, in the order in which such functions were named."""
    _FORGETS.setdefault(demo, []).append(forget)


class Heartbeats:
    """ASGI middleware inside Gradio's app: at the end of a heartbeat, what was kept for its session is forgotten.

    It stands behind the login, so that nobody without one can end the session of somebody else.
    """

    def __init__(self, app: ASGIApp, demo: gr.Blocks):
        self.app, self.demo, self._queue = app, demo, demo._queue
        self._gave_back = float("-inf")
        # As many as gradio keeps messages for: who sends events without a heartbeat never closes a page.
        self._queue.pending_event_ids_session = LRUCache(self._queue.pending_messages_per_session.max_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = HEARTBEAT.fullmatch(scope["path"]) if scope["type"] == "http" else None
        try:
            await self.app(scope, receive, send)
        finally:
            if found:
                await run_in_threadpool(self._forget, found[1])
                asyncio.get_running_loop().call_later(UNSENT_STAYS, self._leave_the_queue, found[1])

    def _leave_the_queue(self, session: str) -> None:
        """Forget what gradio's queue keeps of a session, once nothing of it is at work."""
        at_work = self._queue.pending_event_ids_session.get(session, set()) & self._queue.event_ids_to_events.keys()
        if at_work:
            asyncio.get_running_loop().call_later(UNSENT_STAYS, self._leave_the_queue, session)
            return
        self._queue.pending_messages_per_session.pop(session, None)
        self._queue.pending_event_ids_session.pop(session, None)
        if (now := time.monotonic()) > self._gave_back + BETWEEN_TRIMS:
            self._gave_back = now
            asyncio.get_running_loop().run_in_executor(None, give_memory_back)

    def _forget(self, session: str) -> None:
        for forget in _FORGETS.get(self.demo, []):
            forget(session)
        # The values of its components, with what was typed; gradio would keep them for an hour.
        self.demo.state_holder.session_data.pop(session, None)
        self.demo.state_holder.time_last_used.pop(session, None)
