"""A visitor of the page without a browser: the same requests that the page's own script sends when somebody asks."""

import json
import math
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import urlsplit

import httpx


@dataclass
class Asked:
    """One question's way: the notes that were shown, and both answers as they stood at the end, or what went wrong."""

    question: str
    began: float
    notes: list[str] = field(default_factory=list)
    answers: tuple[str, str] = ("", "")
    endings: tuple[str, str] = ("", "")
    first_piece: float | None = None  # when the model took it up
    ended: float = 0.0
    error: str = ""
    left: bool = False  # the visitor did not wait for the end


class Visitor:
    """One open page. `close` is the closing of its tab.

    `address` is what the page printed, with its token if it has one.
    """

    def __init__(self, address: str, run: str, new_tokens: int, temperature: float = 0.0):
        self.session = secrets.token_hex(6)
        parts = urlsplit(address)
        self._http = httpx.Client(base_url=f"{parts.scheme}://{parts.netloc}", timeout=httpx.Timeout(120))
        self._http.get(address, follow_redirects=True).raise_for_status()  # the token's cookie comes with it
        self._run, self.new_tokens, self._temperature = run, new_tokens, temperature
        self.latest = ""  # the note that is shown now
        config = self._http.get("/config").json()
        self._values = {part["id"]: part["props"].get("value") for part in config["components"]}
        self._names = {part["id"]: part["props"].get("elem_id") for part in config["components"]}
        self._ask = next(d for d in config["dependencies"] if self._is(d, "ask", "click"))
        self._open, self._line = threading.Event(), None
        self._alive = threading.Thread(target=self._stay, daemon=True)
        self._alive.start()
        self._open.wait(30)
        # A look at the run makes it the model that can be asked; what is not in its list cannot be chosen.
        self._looks = next(d for d in config["dependencies"] if self._is(d, "look", "click"))
        self._shown = [run if self._names[part] == "run" else self._values[part] for part in self._looks["inputs"]]
        self._look()

    def _look(self) -> str:
        """What has changed of what the page shows."""
        answer = self._http.post("/gradio_api/run/predict", json=self._body(self._looks, self._shown))
        return answer.raise_for_status().text

    def _join(self, dependency: dict[str, Any], data: list[Any]) -> None:
        self._http.post("/gradio_api/queue/join", json=self._body(dependency, data)).raise_for_status()

    def _body(self, dependency: dict[str, Any], data: list[Any]) -> dict[str, Any]:
        return {"data": data, "fn_index": dependency["id"], "session_hash": self.session, "event_data": None}

    def _is(self, dependency: dict[str, Any], name: str, event: str) -> bool:
        return any(self._names.get(part) == name and what == event for part, what in dependency["targets"])

    def _stay(self) -> None:
        try:
            with self._http.stream("GET", f"/gradio_api/heartbeat/{self.session}") as alive:
                self._line = alive.extensions["network_stream"].get_extra_info("socket")
                self._open.set()
                for _ in alive.iter_raw():
                    pass
        except (httpx.HTTPError, RuntimeError):
            pass  # the visitor has left

    def close(self) -> None:
        if self._line:
            with suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)  # closed alone, it would live until the thread has read again
        self._http.close()

    def upload(self, name: str, content: bytes) -> None:
        """Send a file, as the page does when somebody has chosen one. Raises httpx.HTTPError if it is refused."""
        self._http.post("/gradio_api/upload", files={"files": (name, content)}).raise_for_status()

    def ask(self, question: str, patience: float = math.inf) -> Asked:
        """Send a question and read to its end, or for so many seconds."""
        asked = Asked(question, time.monotonic())
        given = {
            "chat-model": self._run,
            "question": question,
            "decoding-max-new-tokens": self.new_tokens,
            "decoding-temperature": self._temperature,
        }
        data = [given.get(self._names[part], self._values[part]) for part in self._ask["inputs"]]
        try:
            self._join(self._ask, data)
            shown: list[Any] = []
            kinds: list[str] = []
            for message in self._messages():
                kinds.append(message["msg"])
                output = message.get("output") or {}
                if message["msg"] == "process_completed" and not message.get("success", True):
                    asked.error = str(output.get("error") or "refused")
                elif message["msg"] in ("process_generating", "process_completed") and output.get("data"):
                    shown = merged(shown, output["data"])
                    self._note(asked, shown)
                if time.monotonic() - asked.began > patience:
                    asked.left = True
                    break
            if not (shown or asked.error or asked.left):
                asked.error = f"nothing came but {kinds}"
        except (httpx.HTTPError, ValueError) as error:
            asked.error = f"{type(error).__name__}: {error}"
        asked.ended = time.monotonic()
        return asked

    def _messages(self) -> Iterator[dict[str, Any]]:
        with self._http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    if message["msg"] == "close_stream":
                        return
                    yield message
                    if message["msg"] == "process_completed":
                        return

    def _note(self, asked: Asked, shown: list[Any]) -> None:
        parts = {self._names[part]: value for part, value in zip(self._ask["outputs"], shown, strict=False)}
        note = self.latest = words(parts.get("chat-note"))
        if note and asked.notes[-1:] != [note]:
            asked.notes.append(note)
        if note.startswith("Answering") and asked.first_piece is None:
            asked.first_piece = time.monotonic()
        asked.answers = words(parts.get("left-answer")), words(parts.get("right-answer"))
        asked.endings = words(parts.get("left-ending")), words(parts.get("right-ending"))


def words(html: Any) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html)).strip() if isinstance(html, str) else ""


def merged(shown: list[Any], data: list[Any]) -> list[Any]:
    """What the page shows after a message: whole values the first time, and differences to them afterwards."""
    if not shown:
        return list(data)
    return [changed(old, new) for old, new in zip(shown, data, strict=True)]


def changed(old: Any, new: Any) -> Any:
    is_difference = isinstance(new, list) and all(isinstance(step, list) and len(step) == 3 for step in new)
    if not is_difference:
        return new
    for action, path, value in new:
        if path:
            continue  # parts of an update that are no text
        old = {"replace": value, "add": value, "append": f"{old}{value}" if isinstance(old, str) else value}.get(action)
    return old
