"""The stream on which a page gets the answers of its events, closed so that no answer is lost.

Gradio's server ends a page's stream when nothing of the page is at work. An event that the page sends in that moment is
answered on a stream that the page still takes for open: the answer stays at the server until the next event opens
another. So an ended stream stays open until the page has noticed and hung up, and an event is confirmed after that.
(gradio 6; https://github.com/gradio-app/gradio/blob/main/gradio/routes.py, queue_data, and
client/js/src/utils/stream.ts, open_stream)
"""

import asyncio
import contextlib
import re
from collections.abc import MutableMapping
from urllib.parse import parse_qs
from weakref import WeakValueDictionary

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DATA, JOIN = "/gradio_api/queue/data", "/gradio_api/queue/join"
SESSION = re.compile(rb'"session_hash"\s*:\s*"([^"]+)"')
TAIL = 500  # bytes of an event in which its session stands: the last of its fields
NOTICE_SECONDS = 1.0  # for so long a page is waited for that does not hang up


class Streams:
    """ASGI middleware around Gradio's app: an event is confirmed when its page knows which stream it is answered on."""

    def __init__(self, app: ASGIApp):
        self.app = app
        self._ending: MutableMapping[str, asyncio.Event] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == DATA:
            await self._stream(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == JOIN:
            await self._event(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
        ended: asyncio.Event | None = None

        async def send_to_its_end(message: Message) -> None:
            nonlocal ended
            if b'"msg":"close_stream"' in message.get("body", b""):
                ended = self._ending[session] = asyncio.Event()
            elif ended and not message.get("more_body"):
                await _hung_up(receive)
            await send(message)

        try:
            await self.app(scope, receive, send_to_its_end)
        finally:
            if ended:
                ended.set()

    async def _event(self, scope: Scope, receive: Receive, send: Send) -> None:
        tail = b""

        async def receive_and_look() -> Message:
            nonlocal tail
            message = await receive()
            tail = (tail + message.get("body", b"")[-TAIL:])[-TAIL:]
            return message

        async def send_when_ended(message: Message) -> None:
            found = SESSION.search(tail) if message["type"] == "http.response.start" else None
            if found and (ended := self._ending.get(found[1].decode("latin-1"))):
                await ended.wait()
            await send(message)

        await self.app(scope, receive_and_look, send_when_ended)


async def _hung_up(receive: Receive) -> None:
    """Wait until the page has closed the connection, but not for ever."""

    async def disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(disconnect(), NOTICE_SECONDS)
