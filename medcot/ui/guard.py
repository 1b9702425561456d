"""Who may do what on a Space: visitors read and chat; whoever changes anything is its owner, or on the allow-list.

Every event's function is guarded unless it is named here as one that only reads, so one that is added and forgotten is
closed, not open. The check is in the function that the queue calls: a request that does not come from the page meets it
too. Off a Space the page is one person's own, or behind --auth.
"""

import functools
import inspect
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gradio as gr
from gradio.context import LocalContext

READING = frozenset(
    {
        "page.Page.watch.<locals>.look",
        "train.running.Running.newest",
        "train.running.Running.open",
        "form.Form.filled_from",
        "train._wire_form.<locals>.as_command",
        "train._wire_form.<locals>.as_toml",
        "train._wire_plan.<locals>.turn",
        "train._wire_run.<locals>.turn",
        "train.history.History.compare",
        "train.manage.Manage.fill",
        "train.manage.Manage.reuse",
        "evaluate.build.<locals>.<lambda>",
        "evaluate.tab.EvaluateTab.newest",
        "evaluate.tab.EvaluateTab.open",
        "evaluate.tab.EvaluateTab.open_run",
        "evaluate.tab.EvaluateTab.sort",
        "chat.question.samples.<locals>.<lambda>",
        "chat.choosing.Choosing.first",
        "chat.choosing.Choosing.chosen",
        "chat.tab.ChatTab.ask",
        "chat.tab.ChatTab.follow",
        "chat.tab.ChatTab.stop",  # of the visitor's own answer, like the next two
        "chat.tab.ChatTab.clear",
        "chat.tab.ChatTab.forget",
        "chat.choosing.Choosing.decoding_state",
        "chat.choosing.Choosing.same_as_evaluation",
        "api.Api.runs",
        "api.Api.summary",
        "api.Api.ask",
        "api.Api.forget",
        "gradio.components.login_button.LoginButton._check_login_status",
    }
)
ALLOW = "MEDCOT_ALLOW"  # user names, comma-separated; * lets everybody who can open the Space


def on_space() -> bool:
    """A Hugging Face Space has its own gate, and serves every interface of its container."""
    return "SPACE_ID" in os.environ


def name_of(fn: Callable[..., Any]) -> str:
    """How READING names an event's function."""
    return f"{fn.__module__.removeprefix('medcot.ui.')}.{fn.__qualname__}"


def guard(demo: gr.Blocks) -> None:
    """Guard every event of the page that is not named as reading; called once, when all are registered."""
    for event in demo.fns.values():
        if event.fn is not None and name_of(event.fn) not in READING:
            event.fn = guarded(event.fn)


def guarded(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function, refused with words to whoever may not act."""
    if inspect.isgeneratorfunction(fn):

        @functools.wraps(fn)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            require_right(LocalContext.request.get(None))
            yield from fn(*args, **kwargs)

        return stream

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        require_right(LocalContext.request.get(None))
        return fn(*args, **kwargs)

    return call


def require_right(request: Any) -> None:
    """Raises gr.Error on a Space, unless the request is of its owner or of somebody on the allow-list."""
    if not may_act(login_of(request)):
        raise gr.Error(refusal(), duration=None, title="Not allowed", print_exception=False)


def refusal() -> str:
    """Why a visitor may not, and what its owner can do about it."""
    if "OAUTH_CLIENT_ID" not in os.environ:
        return f"Nobody can sign in here, so nobody may change anything. Set hf_oauth in README.md, or {ALLOW}."
    return f"Only the owner of this Space may do this. Sign in as the owner, or be named in its {ALLOW}."


def login_of(request: Any) -> Mapping[str, Any]:
    """The signed-in user's OAuth entry of a request; empty for a visitor, or where the login has expired."""
    underlying = getattr(request, "request", None) or request
    scope = getattr(underlying, "scope", None)
    session = scope.get("session", {}) if isinstance(scope, dict) else {}
    found: Mapping[str, Any] = session.get("oauth_info") or {}
    return found if found.get("expires_at", 0) > time.time() else {}


def may_act(login: Mapping[str, Any]) -> bool:
    """Off a Space everybody; on one its owner, whoever writes to the organization that owns it, and the allow-list."""
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
    """The signed-in user's own Hub token, where the Space asked for one."""
    token = login_of(request).get("access_token")
    return str(token) if token else None
