"""Files on their way into the page: who may send them, how much, and where they lie until a run keeps a copy."""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medcot.data.uploads import MOST_BYTES
from medcot.errors import BadInput
from medcot.ui import guard

PLACE = "GRADIO_TEMP_DIR"
PREFIX, LOCK = "medcot-page-", ".lock"
NEW = 60.0  # seconds in which a page may have made its folder and not locked it yet
MOST_FILES = 20  # of one request
MOST_IN_ALL = 4 * MOST_BYTES  # bytes in the folder; what no run keeps leaves it after a while
KEPT_FREE = 2**28  # bytes of the disk that uploads leave to trainings
ROUTE = re.compile(r"/gradio_api/upload/?")


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder of this page alone for what is uploaded; it goes with the page, or at the next start if that was killed.

    Raises BadInput if it cannot be made.
    """
    given = os.environ.get(PLACE)
    place = Path(given or tempfile.gettempdir())
    try:
        place.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    except OSError as error:
        what = f"{place}, where uploads lie, cannot be written: {error.strerror}."
        raise BadInput.of(PLACE, what, "Free some space, or name another folder.") from None
    with FileLock(folder / LOCK):
        _sweep(place)
        os.environ[PLACE] = str(folder)
        try:
            yield folder
        finally:
            os.environ.pop(PLACE)
            if given is not None:
                os.environ[PLACE] = given
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Remove the folders of pages that are no more: nobody holds their locks."""
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError, Timeout):
            if time.time() - folder.stat().st_mtime > NEW:
                with FileLock(folder / LOCK, timeout=0):
                    shutil.rmtree(folder)


class Uploads:
    """ASGI middleware inside Gradio's app, where a Space's sign-in is known, before the route that takes uploads.

    It asks for the right to act, takes so many files and bytes, and leaves nothing of an upload that was cut off.
    """

    def __init__(self, app: ASGIApp, folder: str):
        self.app, self.folder = app, Path(folder)
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or not ROUTE.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        refusal = self._refusal(scope, int(length) if length.isdigit() else MOST_BYTES)
        if refusal:
            await refusal(scope, receive, send)
            return
        self._under_way += 1
        try:
            with suppress(ClientDisconnect):  # its end is no error of this page
                await self.app(scope, few_files(receive, headers.get(b"content-type", b"")), send)
        finally:
            self._under_way -= 1
            self._clean()

    def _refusal(self, scope: Scope, length: int) -> PlainTextResponse | None:
        if not guard.may_act(guard.login_of(HTTPConnection(scope))):
            return PlainTextResponse(f"{guard.refusal()}\n", 403)
        there = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        if there + length > MOST_IN_ALL:
            return PlainTextResponse("Too much has been uploaded. Wait for an hour, or restart the page.\n", 507)
        disk = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
        if shutil.disk_usage(disk).free < length + KEPT_FREE:
            return PlainTextResponse(f"The disk that holds {self.folder} is nearly full. Free some space.\n", 507)
        return None

    def _clean(self) -> None:
        """Remove what Gradio began to write and did not finish, once nobody is writing any more."""
        if not self._under_way:
            for draft in self.folder.glob("tmp*"):
                draft.unlink(missing_ok=True)


def few_files(receive: Receive, content_type: bytes) -> Receive:
    """Refuse a body of more than MOST_FILES parts, which Gradio would write into as many files."""
    found = re.search(rb'boundary="?([^";]+)', content_type)
    mark, seen, rest = b"--" + (found[1] if found else b""), 0, b""

    async def call() -> Message:
        nonlocal seen, rest
        message = await receive()
        text = rest + message.get("body", b"")
        seen, rest = seen + text.count(mark), text[1 - len(mark) :]  # too short to hold a whole mark
        if seen > MOST_FILES + 1:
            raise HTTPException(413, f"An upload may have {MOST_FILES} files.")
        return message

    return call
