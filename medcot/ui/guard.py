"""The boundary of every handler: on a Hugging Face Space its permission, and everywhere words for whatever it raises.

Visitors of a Space read and chat, its owner and the allow-list do everything else. A handler is closed to visitors
unless it is marked with `@visitor_may`, so one that nobody thought about is closed. The check is in the function that
the queue calls, so a request that does not come from the page meets it too. Off a Space, the page belongs to one person
or is behind --auth.
"""

import functools
import inspect
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from gradio.context import LocalContext

from medcot.errors import Failure
from medcot.ui import components as c

Handler = TypeVar("Handler", bound=Callable[..., Any])
ALLOW = "MEDCOT_ALLOW"  # user names, comma-separated; * lets everybody who can open the Space


def visitor_may(handler: Handler) -> Handler:
    """Mark a handler as open to visitors: it only reads, or concerns the visitor's own page."""
    handler.visitor_may = True  # type: ignore[attr-defined]
    return handler


def is_open(handler: Callable[..., Any]) -> bool:
    return getattr(handler, "visitor_may", False)


def on_space() -> bool:
    """True on a Hugging Face Space, which has its own gate and serves every interface of its container."""
    return "SPACE_ID" in os.environ


def build_notices(runs_dir: Path) -> None:
    """Build what only a Space shows: who may do what, the sign-in, and a warning if runs will vanish."""
    with gr.Row(elem_id="space"):
        c.block(c.soft(c.EVERYWHERE["visitors"]), min_width=260)
        if "OAUTH_CLIENT_ID" in os.environ:
            visitor_may(gr.LoginButton._check_login_status)
            gr.LoginButton(size="sm", scale=0, min_width=260, elem_id="sign-in")
    if is_vanishing(runs_dir):
        c.block(f'<p class="mc-advice" role="note">{c.EVERYWHERE["vanishing"]}</p>')


def is_vanishing(runs_dir: Path) -> bool:
    """True if the runs are on the container's own disk, which a restart empties."""
    folder = runs_dir.expanduser().resolve()
    while not folder.exists():
        folder = folder.parent
    return folder.stat().st_dev == Path("/").stat().st_dev


def guard(demo: gr.Blocks) -> None:
    """Give every handler of the page its boundary. Called once, when all are registered."""
    for event in demo.fns.values():
        if event.fn is not None:
            event.fn = bounded(event, event.fn)


def bounded(event: Any, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an event's handler: it refuses whoever may not act, and whatever it raises is told in words."""
    open_to_all = is_open(fn)

    @contextmanager
    def boundary() -> Iterator[list[Any]]:
        instead: list[Any] = []
        try:
            if not open_to_all:
                require_right(LocalContext.request.get(None))
            yield instead
        except gr.Error:
            raise
        except Exception as error:  # noqa: BLE001  # the last place that can say it in the page
            traceback.print_exception(error)
            words = unexpected(error)
            if event.api_visibility == "public":
                raise gr.Error(words, print_exception=False) from None
            # Not raised: gradio would write "Error" over all that the handler might have changed.
            gr.Warning(words, duration=None)
            instead.append(gr.skip() if event.outputs else None)

    if inspect.isgeneratorfunction(fn):

        @functools.wraps(fn)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with boundary() as instead:
                yield from fn(*args, **kwargs)
            yield from instead

        return stream

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        with boundary() as instead:
            return fn(*args, **kwargs)
        return instead[0]

    return call


def unexpected(error: Exception) -> str:
    """What a handler raised, and where to look; on a Space without its text, which may quote another visitor's."""
    what = type(error).__name__ if on_space() else Failure.of(error).error
    return f"Something unexpected: {what}. The terminal that runs this page has the traceback."


def require_right(request: Any) -> None:
    """Raise gr.Error on a Space, unless the request is its owner's or from somebody on the allow-list."""
    if not may_act(login_of(request)):
        raise gr.Error(refusal(), duration=None, title="Not allowed", print_exception=False)


def is_visitor() -> bool:
    """Whether the request under way is that of somebody who may only read and chat."""
    return not may_act(login_of(LocalContext.request.get(None)))


def refusal() -> str:
    """Why a visitor may not do this, and what the owner can do about it."""
    if "OAUTH_CLIENT_ID" not in os.environ:
        return f"Nobody can sign in here, so nobody may change anything. Set hf_oauth in README.md, or {ALLOW}."
    return f"Only the owner of this Space may do this. Sign in as the owner, or be named in its {ALLOW}."


def login_of(request: Any) -> Mapping[str, Any]:
    """The signed-in user's OAuth entry of a request; empty for a visitor, or if the login has expired."""
    underlying = getattr(request, "request", None) or request
    scope = getattr(underlying, "scope", None)
    session = scope.get("session", {}) if isinstance(scope, dict) else {}
    login: Mapping[str, Any] = session.get("oauth_info") or {}
    return login if login.get("expires_at", 0) > time.time() else {}


def may_act(login: Mapping[str, Any]) -> bool:
    """Off a Space: everybody. On one: its owner, members who may write to the owning organization, the allow-list."""
    if not on_space():
        return True
    allowed = {name.strip().lower() for name in os.environ.get(ALLOW, "").split(",") if name.strip()}
    if "*" in allowed:
        return True
    allowed.add(os.environ["SPACE_ID"].partition("/")[0].lower())
    user = login.get("userinfo") or {}
    writes = [o.get("preferred_username") for o in user.get("orgs") or [] if o.get("roleInOrg") in ("admin", "write")]
    return bool(allowed & {str(name).lower() for name in [user.get("preferred_username"), *writes] if name})


def token_of(request: Any) -> str | None:
    """The signed-in user's own Hub token, if the Space asked for one."""
    token = login_of(request).get("access_token")
    return str(token) if token else None
