"""Files on their way out of the page: a run's adapter and its exports, each as one zip, made while it is sent."""

import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote, unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from medcot.adapters.publish import Published, portable
from medcot.errors import BadInput
from medcot.runs.export import exports_of
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.ui import guard

ADAPTER = "adapter"
ROUTE = re.compile(r"/take/([^/]+)/([^/]+)\.zip")
CHUNK = 2**20
# A zip has no dates before 1980; the same content makes the same file.
DATE = (1980, 1, 1, 0, 0, 0)


def link(run: Run, what: str = ADAPTER) -> str:
    """Where a run's adapter, or the export of that id, is to be had; relative to the page."""
    return f"take/{quote(run.id)}/{quote(what)}.zip"


class Downloads:
    """ASGI middleware inside Gradio's app, where sign-in and login are known. Only who may act may take."""

    def __init__(self, app: ASGIApp, runs_dir: Path):
        self.app, self.store = app, RunStore(runs_dir)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = ROUTE.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if not found or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
        elif not guard.may_act(guard.login_of(HTTPConnection(scope))):
            await PlainTextResponse(f"{guard.refusal()}\n", 403)(scope, receive, send)
        else:
            # All weights are read to see that they are whole, and meanwhile others are answered.
            answer = await run_in_threadpool(self.answer, *map(unquote, found.groups()))
            await answer(scope, receive, send)

    def answer(self, run_id: str, what: str) -> Response:
        """The zip, or why there is none. What a browser sends never becomes a path."""
        listed = self.store.look().find(run_id)
        try:
            files = content(listed.run, what) if listed else []
        except BadInput as bad:
            return PlainTextResponse("".join(f"{problem}\n" for problem in bad.problems), 409)
        if not files:
            return PlainTextResponse("There is no such file.\n", 404)
        folder = f"{run_id}-{what}"
        # A length is not known before, and what is sent is not compressed again on the way.
        headers = {"Content-Disposition": attachment(f"{folder}.zip"), "Content-Encoding": "identity"}
        return StreamingResponse(zipped(files, folder), media_type="application/zip", headers=headers)


def attachment(name: str) -> str:
    """The Content-Disposition of a file; beside a name that is not plain ASCII stands one that is (RFC 6266)."""
    plain = re.sub(r"[^\w .,+()-]", "_", name, flags=re.ASCII)
    return f'attachment; filename="{plain}"' + (f"; filename*=UTF-8''{quote(name, safe='')}" if plain != name else "")


def content(run: Run, what: str) -> list[Published]:
    """The files of the adapter or of a finished export; empty if there is none. Raises BadInput."""
    if what == ADAPTER:
        return portable(run)
    export = next((one for one in exports_of(run.path) if one.id == what), None)
    if export is None or export.status().state != "finished":
        return []
    return [Published(path.relative_to(export.target).as_posix(), path) for path in export.files()]


class _Sent:
    """A file that is only written to, and emptied again and again; zipfile sees that it cannot seek."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None: ...

    def taken(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


def zipped(files: Sequence[Published], folder: str) -> Iterator[bytes]:
    """The zip in pieces, so that neither memory nor disk has to hold it. Weights do not get smaller, and are stored."""
    out = _Sent()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]  # only written to
        for file in files:
            info = zipfile.ZipInfo(f"{folder}/{file.path}", DATE)
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=file.size > 2**31) as entry:
                for piece in pieces(file):
                    entry.write(piece)
                    yield out.taken()
    yield out.taken()


def pieces(file: Published) -> Iterator[bytes]:
    if isinstance(file.content, bytes):
        yield file.content
        return
    with file.content.open("rb") as stream:
        while piece := stream.read(CHUNK):
            yield piece
