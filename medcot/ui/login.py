"""Who is let in: this account on this machine, whoever knows the page's token, and beyond it a name and a password.

Loopback alone proves nothing: every account of a shared machine reaches it.
"""

import asyncio
import ipaddress
import logging
import math
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medcot.errors import BadInput
from medcot.ui.components import RESEARCH_ONLY, from_file
from medcot.ui.guard import on_space

LOOPBACK = ("localhost", "127.0.0.1", "::1")
AUTH_FILE, TOKEN = "MEDCOT_AUTH_FILE", "MEDCOT_TOKEN"
SHORTEST = 12  # characters of a password that others may try, and of a token
Login = tuple[str, str] | None
HANDED_ON = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")  # headers of proxies
ESTABLISHED = "01"  # as the kernel writes it
log = logging.getLogger(__name__)


def credentials(host: str, auth: str | None) -> Login:
    """USER:PASSWORD, else what the file of MEDCOT_AUTH_FILE holds, in two parts.

    Raises BadInput if a page that others can reach would have none, or one that is soon guessed.
    """
    where = "--auth"
    if auth is None and (file := os.environ.get(AUTH_FILE)):
        auth, where = _read(Path(file).expanduser()), AUTH_FILE
    is_private = host in LOOPBACK or on_space()
    if auth is None:
        if is_private:
            return None
        what = f"{host} lets others start trainings on this machine and read its runs."
        raise BadInput.of("--host", what, "Give a name and a password: --auth USER:PASSWORD")
    user, _, password = auth.partition(":")
    if not user or not password:
        raise BadInput.of(where, "is not USER:PASSWORD.", "Example: ada:a-long-password")
    if len(password) < SHORTEST and not is_private:
        what = f"the password has {len(password)} characters, and others can try theirs at {host}."
        raise BadInput.of(where, what, f"Choose one of {SHORTEST} or more.")
    return user, password


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise BadInput.of(
            AUTH_FILE, f"{file} cannot be read: {why}.", "Name a file that holds USER:PASSWORD."
        ) from None


def token_for(login: Login, wanted: bool = True) -> str | None:
    """The token of a page without a login: MEDCOT_TOKEN, else a new one; None where a login or a Space's gate stands.

    Raises BadInput for a token that is soon guessed or that no address can hold.
    """
    if login or on_space() or not wanted:
        return None
    chosen = os.environ.get(TOKEN)
    if chosen is None:
        return secrets.token_urlsafe(24)
    if not re.fullmatch(rf"[A-Za-z0-9._~-]{{{SHORTEST},}}", chosen):
        what = f"is not {SHORTEST} or more of the characters A-Z, a-z, 0-9 and -._~."
        raise BadInput.of(TOKEN, what, "Choose another, leave it out for a new one at each start, or use --no-token.")
    return chosen


@dataclass(frozen=True)
class Token:
    """The token of a page, in its address once and in a cookie from then on; programs send it as a header."""

    value: str
    cookie: str  # its name: a browser sends the cookies of one host to all its ports

    def answer(self, scope: Scope) -> Response | None:
        """What is answered instead of the page: the cookie, or where the token is to be found. None lets in."""
        request = HTTPConnection(scope)
        typed = request.query_params.get("token")
        if scope["path"] == "/" and typed and self._is(typed):
            rest = [(name, value) for name, value in request.query_params.multi_items() if name != "token"]
            welcome = RedirectResponse(f"./?{urlencode(rest)}" if rest else "./", 303)
            welcome.set_cookie(self.cookie, self.value, httponly=True, samesite="strict")
            return welcome
        header = request.headers.get("authorization", "").removeprefix("Bearer ")
        if any(given and self._is(given) for given in (typed, request.cookies.get(self.cookie), header)):
            return None
        if typed is None and is_own_account(request):
            return None
        if scope["path"] == "/":
            wrong = "That is not this page's token. " if typed else ""
            return HTMLResponse(from_file("token.html", wrong=wrong, research_only=RESEARCH_ONLY), 401)
        words = "This page asks for its token. The address that it printed when it was started holds it; programs send "
        return PlainTextResponse(f"{words}the header 'Authorization: Bearer TOKEN'.\n", 401)

    def _is(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.value.encode())


def is_own_account(request: HTTPConnection) -> bool:
    """Whether a program of this page's own account asks, on this machine and for itself.

    What a proxy or a tunnel hands on comes from this account too, and is somebody else's.
    """
    client, server = request.scope.get("client"), request.scope.get("server")
    is_handed_on = any(name in request.headers for name in HANDED_ON) or request.url.hostname not in LOOPBACK
    if is_handed_on or not client or not server:
        return False
    return account_of(tuple(client), tuple(server)) == os.getuid()


def account_of(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """The number of the account on this machine whose program made a connection; None where the system does not tell.

    Linux lists each end of a connection with its account (proc(5), /proc/net/tcp). An end that is being closed is
    listed without its own, so only an established one counts.
    """
    try:
        wanted = [_as_listed(*client), _as_listed(*server)]
        lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()]
    except (OSError, ValueError):
        return None
    return next((int(line[7]) for line in lines if line[1:4] == [*wanted, ESTABLISHED]), None)


def _as_listed(address: str, port: int) -> str:
    """An address as the kernel lists it: hexadecimal, each four bytes from the last to the first."""
    packed = ipaddress.ip_address(address).packed
    words = (packed[i : i + 4][::-1] for i in range(0, len(packed), 4))
    return f"{b''.join(words).hex()}:{port:04x}".upper()


class Attempts:
    """When the next password may be tried, by one client and by all together.

    Each counts as failed from its beginning, so that many at once wait for one another; a success takes it back.
    """

    LIMITS = ((5, 60.0), (50, 1.0))  # of a client, of all: failures without a delay, and the longest delay in seconds
    PATIENCE, MEMORY, MOST = 10.0, 900.0, 1000  # seconds to wait for, seconds until forgotten, clients remembered

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._failed: dict[str, tuple[int, float]] = {}  # failures, and when the next attempt may be

    def begin(self, client: str) -> float:
        """How many seconds this attempt has to wait; one that would wait for more than PATIENCE is refused."""
        now = self._clock()
        self._failed = {key: seen for key, seen in self._failed.items() if seen[1] > now - self.MEMORY}
        keys = (client, "")
        seen = [self._failed.get(key, (0, now)) for key in keys]
        wait = max(0.0, *(free_at - now for _, free_at in seen))
        if wait > self.PATIENCE:
            return wait
        for key, (count, free_at), (free, longest) in zip(keys, seen, self.LIMITS, strict=True):
            delay = min(longest, 2.0 ** min(count - free, 10)) if count >= free else 0.0
            self._failed.pop(key, None)  # the newest stands last
            self._failed[key] = (count + 1, max(free_at, now) + delay)
        for key in list(self._failed)[: -self.MOST]:
            del self._failed[key]
        return wait

    def succeed(self, client: str) -> None:
        """Take back the attempt that has just begun, and all earlier ones of this client."""
        self._failed.pop(client, None)
        count, free_at = self._failed.get("", (1, 0.0))
        self._failed[""] = (count - 1, free_at)

    def failures(self, client: str) -> int:
        return self._failed.get(client, (0, 0.0))[0]


class LoginFirst:
    """ASGI middleware inside Gradio's app `app_of`: no fast guessing, and a login before what Gradio does not guard."""

    LEFT_OPEN = re.compile(r"/changes|/gradio_api/(heartbeat/.*|cancel/?|reset/?)|/take/.*")

    def __init__(self, app: ASGIApp, app_of: Any):
        self.app, self.app_of, self.attempts = app, app_of, Attempts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and self.LEFT_OPEN.fullmatch(path) and not self._is_signed_in(scope):
            await PlainTextResponse("Sign in first.\n", 401)(scope, receive, send)
        elif scope["type"] == "http" and path.rstrip("/") == "/login" and scope["method"] == "POST":
            await self._log_in(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _is_signed_in(self, scope: Scope) -> bool:
        cookies, name = HTTPConnection(scope).cookies, self.app_of.cookie_id
        tokens = (cookies.get(f"access-token-{name}"), cookies.get(f"access-token-unsecure-{name}"))
        return any(token in self.app_of.tokens for token in tokens if token)

    async def _log_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = (scope.get("client") or ("somewhere",))[0]
        wait = self.attempts.begin(client)
        if wait > self.attempts.PATIENCE:
            log.warning("A login from %s was refused: too many failed before it.", client)
            after = {"Retry-After": str(math.ceil(wait))}
            words = f"Too many logins failed. Try again in {math.ceil(wait)} seconds.\n"
            await PlainTextResponse(words, 429, after)(scope, receive, send)
            return
        await asyncio.sleep(wait)

        async def heard(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] < 400:
                    self.attempts.succeed(client)
                else:
                    log.warning("A login from %s failed, its number %d.", client, self.attempts.failures(client))
            await send(message)

        await self.app(scope, receive, heard)
