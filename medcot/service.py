"""Talking to the service worker: start it when needed, ask, cancel, and notice when it dies."""

import itertools
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from medcot import messages as m
from medcot.errors import BadInput, Busy, Problem, WorkerFailed
from medcot.jobs import child_environment

SERVICE_MODULE = "medcot.engine.service"
_LAST = (m.Loaded, m.Unloaded, m.Answered, m.Result, m.Problems)
_ids = itertools.count(1)


def new_id() -> str:
    """Unique within this process, which is all that one pipe needs."""
    return str(next(_ids))


def refuse(reply: m.Problems) -> NoReturn:
    """Raise what the worker's words mean: BadInput, Busy, or WorkerFailed."""
    if reply.kind == "input":
        raise BadInput([Problem(*text.partition(": ")[::2]) for text in reply.problems])
    raise (Busy if reply.kind == "busy" else WorkerFailed)(" ".join(reply.problems))


class ServiceClient:
    """One service worker and any number of threads that ask it. The worker answers one request after the other."""

    def __init__(self, runs_dir: Path, *, idle_seconds: float = 300.0, secrets: Mapping[str, str] | None = None):
        self._command = [sys.executable, "-m", SERVICE_MODULE, str(runs_dir), str(idle_seconds)]
        self._secrets = secrets
        self._child: subprocess.Popen[str] | None = None
        self._waiting: dict[str, queue.Queue[m.Reply]] = {}
        self._lock = threading.Lock()
        self._newest_load = ""  # its request's id
        self.loaded: m.Loaded | None = None
        self.unloaded: m.Unloaded | None = None

    def request(self, message: m.Request) -> Iterator[m.Reply]:
        """Send a request and yield its replies; the last is Loaded, Unloaded, Answered, Result or Problems."""
        replies: queue.Queue[m.Reply] = queue.Queue()
        with self._lock:
            self._waiting[message.id] = replies
            self._ensure_child()
            if isinstance(message, m.LoadRequest | m.ConnectRequest):
                # The worker gives up what it has before it loads another, which may fail.
                self.loaded, self._newest_load = None, message.id
            self._write(message)
        try:
            while True:
                reply = replies.get()
                yield reply
                if isinstance(reply, _LAST):
                    return
        finally:
            self._waiting.pop(message.id, None)

    def cancel(self, request_id: str) -> None:
        with self._lock:
            if self._child and self._child.poll() is None:
                self._write(m.CancelRequest(id=request_id))

    def close(self) -> None:
        """End the worker; what it held is given back."""
        with self._lock:
            child, self._child, self.loaded = self._child, None, None
        if child:
            if child.stdin:
                child.stdin.close()
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _ensure_child(self) -> None:
        if self._child and self._child.poll() is None:
            return
        self.loaded = None
        # What libraries print goes nowhere: it might hold what somebody typed.
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(self._secrets),
            text=True,
            encoding="utf-8",
        )
        threading.Thread(target=self._read, args=(self._child,), daemon=True).start()

    def _write(self, message: m.Request) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(message.model_dump_json() + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # the reading thread sees the end and answers for it

    def _read(self, child: "subprocess.Popen[str]") -> None:
        assert child.stdout is not None
        for line in child.stdout:
            try:
                reply = m.REPLY.validate_json(line)
            except ValidationError:
                continue
            if isinstance(reply, m.Loaded) and reply.id == self._newest_load:
                self.loaded, self.unloaded = reply, None
            elif isinstance(reply, m.Unloaded):
                self.loaded, self.unloaded = None, reply
            if waiting := self._waiting.get(reply.id):
                waiting.put(reply)
        child.wait()  # its output ends a moment before it does, and a request in between must not be sent to the dead
        if child is self._child:
            self.loaded = None
        ended = "The model's process ended unexpectedly, perhaps for want of memory. Ask again to start it anew."
        for request_id, waiting in list(self._waiting.items()):
            waiting.put(m.Problems(id=request_id, problems=[ended]))
