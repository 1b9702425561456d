"""The layer before Gradio: the names that the page answers to, the sites that may send to it, the page's token, the
routes that exist, and how long a request may be.

Gradio accepts any Host, lets every site send and read with the visitor's cookies, and serves routes that write a
session's words into files. This middleware ends that, for every route and before any function is reached.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medcot.data import uploads
from medcot.ui.components import from_file
from medcot.ui.login import LOOPBACK, Token
from medcot.ui.upload_route import ROUTE as UPLOAD

# What the page and gradio_client request; all other routes of Gradio answer 404.
ROUTES = re.compile(
    r"/|/changes|/(config|login|logout|theme\.css|robots\.txt|favicon\.ico)/?|/(static|assets|svelte)/.+|"
    r"/login/(huggingface|callback)|/take/[^/]+/[^/]+\.zip|"
    r"/gradio_api/("
    r"(user|login_check|token|app_id|info|startup-events|upload|upload_progress|cancel|reset|theme\.css)/?|"
    r"queue/(join|data|status)|(heartbeat|call|run|api|file)/.+|file=.+)"
)
ENTRANCES = ("/", "/login/huggingface", "/login/callback")  # where a link on another site may lead
# What does not tell anything of runs or of what was typed, and may stay in a browser's cache.
FIXED = re.compile(r"/(static|assets|svelte)/.+|/theme\.css|/gradio_api/theme\.css|/favicon\.ico")
MOST_BYTES = 1_000_000  # of a request that is no upload
AROUND_FILES = 2**20  # bytes of an upload that are not its files'
# Gradio's own preview calls the page Gradio wherever a link to it is shown.
PREVIEW = re.compile(rb'<meta\s+(property="og:|name="twitter:)[^>]*>\s*')
# The script has to stand before Gradio's own, which `head` does not.
OWN_HEAD = (from_file("preview.html") + f"<script>{from_file('clock.js')}</script>").encode()


def names_of(host: str, further: Iterable[str] = ()) -> frozenset[str]:
    """The names of a page bound to `host`; IP addresses are accepted without one, see `Gate`."""
    own = {host, *LOOPBACK}
    if host not in LOOPBACK:
        own |= {socket.gethostname(), socket.getfqdn()}
    return frozenset(name.strip().lower() for name in (*own, *further) if name.strip())


class Gate:
    """ASGI middleware around Gradio's app. `names` None accepts any Host, as a Space needs.

    An IP address as Host is always accepted: no other site's name can be one. `framed_by` are the origins, besides the
    page's own, that may show it in a frame. Without a `token`, whoever reaches the page is let in.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: frozenset[str] | None,
        framed_by: tuple[str, ...] = (),
        token: Token | None = None,
    ):
        self.app, self.names, self.token = app, names, token
        self._headers = {
            "Content-Security-Policy": " ".join(("frame-ancestors 'self'", *framed_by)),
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            **({} if framed_by else {"X-Frame-Options": "SAMEORIGIN"}),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # Gradio has none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        answer: ASGIApp = refusal or self.app
        if scope["path"] == "/" and not refusal:
            answer = previewed(answer)
        receive = at_most(most_bytes(scope["path"]), receive)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name in [n for n in headers if n.lower().startswith("access-control-")]:
                    del headers[name]
                headers.update(self._headers)
                if not FIXED.fullmatch(scope["path"]):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await answer(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if self.names is not None and not ((name := hostname(host)) in self.names or is_address(name)):
            words = f"This page does not answer to the name {name!r}. Start it with --allow-host {name} to allow it.\n"
            return PlainTextResponse(words, 403)
        if is_foreign(headers, host) and not is_entrance(scope, headers):
            return PlainTextResponse("This page takes nothing from another site.\n", 403)
        if self.token and (said := self.token.answer(scope)):
            return said
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > most_bytes(path):
            return PlainTextResponse(f"{too_long(most_bytes(path))}\n", 413)
        return None if ROUTES.fullmatch(path) else PlainTextResponse("Not found.\n", 404)


def hostname(host: str) -> str:
    """The name in a Host header or an origin's authority, without its port; empty if it is invalid."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_foreign(headers: Headers, host: str) -> bool:
    """True if a browser says that another origin sends this; programs send no such header."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "none":
        return site != "same-origin"
    return origin is not None and authority(origin) != authority(f"http://{host}")


def authority(origin: str) -> str:
    """host:port of an origin, without the scheme's default port, which Host leaves out too."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return ""
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.hostname}:{port}" if port and port != usual else str(parts.hostname)


def is_entrance(scope: Scope, headers: Headers) -> bool:
    """True if somebody follows a link to the page, or comes back from signing in."""
    is_link = scope["method"] in ("GET", "HEAD") and headers.get("sec-fetch-mode", "navigate") == "navigate"
    return is_link and scope["path"] in ENTRANCES


def most_bytes(path: str) -> int:
    return uploads.MOST_BYTES + AROUND_FILES if UPLOAD.fullmatch(path) else MOST_BYTES


def too_long(most: int) -> str:
    return f"A request may have {most:,} bytes here. For a larger file, name its path on the machine."


def at_most(most: int, receive: Receive) -> Receive:
    """Refuse the rest of a body that grows longer, whatever length it said it had."""
    taken = 0

    async def call() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise HTTPException(413, too_long(most))
        return message

    return call


def previewed(app: ASGIApp) -> ASGIApp:
    """Wrap the page so that previews of a link to it show this project's own words."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        sent: list[Message] = []
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]

        async def gather(message: Message) -> None:
            sent.append(message)

        await app({**scope, "headers": plain}, receive, gather)
        start, *parts = sent
        body = b"".join(part.get("body", b"") for part in parts)
        head, found, rest = PREVIEW.sub(b"", body).partition(b"</head>")
        body = head + OWN_HEAD + found + rest if found else body
        if scope["method"] != "HEAD":
            MutableHeaders(scope=start)["Content-Length"] = str(len(body))
        await send(start)
        await send({"type": "http.response.body", "body": body})

    return call
