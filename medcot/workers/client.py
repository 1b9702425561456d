"""Talking to the service worker: start it when needed, ask, cancel, and notice when it dies."""

import contextlib
import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from medcot import machine
from medcot.adapters.open import Adapter
from medcot.errors import DEBUG, BadInput, Problem
from medcot.evaluation.answers import ARMS
from medcot.hub import SETTINGS
from medcot.machine import child_environment
from medcot.runs.export import ELSEWHERE, Exported, clear, ended_in_order, remember
from medcot.settings.evaluation import KEY_VARIABLE, EndpointSettings
from medcot.settings.export import MERGED, ExportOrder
from medcot.workers import protocol as m

OnStage = Callable[[str], None]
Value = TypeVar("Value", bound=BaseModel)
SERVICE_MODULE = "medcot.engine.service"
_LAST = (m.Loaded, m.Unloaded, m.Answered, m.Result, m.Failed)
# Seconds for which the worker may be silent over a request, and after its cancellation.
WORKING, EXPORTING, READING = (600.0, 60.0), (3600.0, 60.0), (180.0, 10.0)
ANSWERING = 60.0  # once both arms have begun: beside an exported file, base reads the question after the file's answer
WATCH_SECONDS = 0.5


class _Waiting:
    """A request that has not been answered in full, and how long the worker may still be silent over it."""

    def __init__(self, message: m.Request):
        special = {m.AskRequest: READING, m.ExportRequest: EXPORTING, m.CheckRequest: EXPORTING}
        self.patience, self._when_cancelled = special.get(type(message), WORKING)
        self.since, self.cancelled = time.monotonic(), False
        self.replies: queue.Queue[m.AnyReply] = queue.Queue()

    def put(self, reply: m.AnyReply) -> None:
        self.since = time.monotonic()
        if isinstance(reply, m.Piece) and all(map(reply.tokens.get, ARMS)):
            self.patience = min(self.patience, ANSWERING)
        self.replies.put(reply)

    def cancel(self) -> None:
        self.since, self.patience, self.cancelled = time.monotonic(), self._when_cancelled, True

    @property
    def is_late(self) -> bool:
        return time.monotonic() - self.since > self.patience


class ServiceClient:
    """One service worker and any number of threads that ask it. The worker answers one request after the other.

    It unloads its model after `idle_seconds`, and ends when `end_after` is set and it was unused for as long. One that
    hangs over a request is ended, and the next request starts another.
    """

    end_after: float | None = None

    def __init__(self, runs_dir: Path, *, idle_seconds: float = 300.0, secrets: Mapping[str, str] | None = None):
        self._arguments = (str(runs_dir), str(idle_seconds))
        self._secrets = secrets
        self._child: subprocess.Popen[str] | None = None
        self._waiting: dict[str, _Waiting] = {}  # in the order in which they are answered
        self._lock = threading.RLock()
        self._answered = 0
        self._hung: dict[int, str] = {}  # what befell a worker that was ended
        self._newest_load = ""  # its request's id
        self.loaded: m.Loaded | None = None
        self.unloaded: m.Unloaded | None = None

    def request(self, message: m.Request) -> Iterator[m.AnyReply]:
        """Send a request and yield its replies; the last is Loaded, Unloaded, Answered, Result or Failed."""
        waiting = _Waiting(message)
        try:
            with self._lock:
                # Before the worker is looked for: one that ends from here on answers for this request too.
                self._waiting[message.id] = waiting
                self._ensure_child()
                if isinstance(message, m.LoadRequest | m.ConnectRequest):
                    # The worker gives up what it has before it loads another, which may fail.
                    self.loaded, self._newest_load = None, message.id
                self._write(message)
            while True:
                reply = waiting.replies.get()
                yield reply
                if isinstance(reply, _LAST):
                    return
        finally:
            with self._lock:
                self._waiting.pop(message.id, None)
                self._answered += 1
            if self.end_after is not None:
                timer = threading.Timer(self.end_after, self._end_if_unused, (self._answered,))
                timer.daemon = True
                timer.start()

    def _end_if_unused(self, answered: int) -> None:
        with self._lock:
            if not self._waiting and self._answered == answered:
                self.close()

    def replies(self, message: m.Request) -> Iterator[m.AnyReply]:
        """The same, but for a Failed, which is raised: BadInput, Busy or WorkerFailed."""
        for reply in self.request(message):
            if isinstance(reply, m.Failed):
                raise reply.exception()
            yield reply

    def call(self, message: m.Request, on_stage: OnStage | None = None) -> m.AnyReply:
        """The last reply. Raises BadInput, Busy or WorkerFailed in the worker's words."""
        for reply in self.replies(message):
            if on_stage and isinstance(reply, m.Loading):
                on_stage(reply.stage)
            elif on_stage and isinstance(reply, m.Piece):
                on_stage(f"Answering, {reply.tokens_per_second:.0f} tokens/s")
        return reply

    def result(self, message: m.Request, kind: type[Value], on_stage: OnStage | None = None) -> Value:
        """The value of that kind of a request that is answered by a Result."""
        reply = self.call(message, on_stage)
        assert isinstance(reply, m.Result)
        return kind.model_validate(reply.value)

    def cancel(self, request_id: str) -> None:
        """Ask for the end of a request; a worker that does not heed it is ended."""
        if waiting := self._waiting.get(request_id):
            waiting.cancel()  # without the lock, which a request holds that does not get into a full pipe
        with self._lock:
            if self._child and self._child.poll() is None:
                self._write(m.CancelRequest(id=request_id))

    def close(self) -> None:
        """End the worker; what it held is given back."""
        with self._lock:
            child, self._child, self.loaded = self._child, None, None
        if child:
            if child.stdin:
                with contextlib.suppress(BrokenPipeError):  # what it has not read is lost with it
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
        # What libraries print goes nowhere, unless it is asked for: it might hold what somebody typed.
        printed = None if os.environ.get(DEBUG) else subprocess.DEVNULL
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": printed, "encoding": "utf-8"}
        environment = child_environment(self._secrets)
        self._child = machine.spawn(SERVICE_MODULE, *self._arguments, **pipes, env=environment)
        machine.attend(self._child, self._read, self._watch)

    def _write(self, message: m.Request) -> None:
        assert self._child is not None
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the reading thread sees the end and answers for it
            self._child.stdin.write(message.model_dump_json() + "\n")
            self._child.stdin.flush()

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
                if isinstance(reply, _LAST):
                    self._answered_in_full(reply.id)
                waiting.put(reply)
        child.wait()  # its output ends slightly before it does, and a request in between would go to a dying child
        if child is self._child:
            self.loaded = None
        lost = "The model's process ended unexpectedly, perhaps for want of memory. Ask again to start it anew."
        ended = self._hung.pop(child.pid, lost)
        for request_id, waiting in list(self._waiting.items()):
            waiting.put(m.Failed(id=request_id, problems=[Problem("", ended)]))

    def _answered_in_full(self, request_id: str) -> None:
        """The next request's turn comes now, and so does the time that it may take."""
        self._waiting.pop(request_id, None)
        if following := next(iter(list(self._waiting.values())), None):
            following.since = time.monotonic()

    def _watch(self, child: "subprocess.Popen[str]") -> None:
        """End a worker that hangs; the pipe's end then answers for it."""
        while child.poll() is None:
            time.sleep(WATCH_SECONDS)
            first = next(iter(list(self._waiting.values())), None)
            if first and first.is_late:
                how = f"{'did not stop' if first.cancelled else 'gave no sign'} for {first.patience:.0f} seconds"
                self._hung[child.pid] = f"The model's process {how} and was ended. Ask again to start it anew."
                child.kill()


def check(
    runs_dir: Path, adapter: Adapter, endpoint: EndpointSettings, on_stage: OnStage, order: ExportOrder = MERGED
) -> m.CheckedServer:
    """Ask a server that an adapter was deployed on. Raises BadInput if it cannot be asked."""
    request = m.CheckRequest(adapter=adapter, endpoint=endpoint, order=order)
    with contextlib.closing(ServiceClient(runs_dir, secrets=machine.own(KEY_VARIABLE))) as client:
        return client.result(request, m.CheckedServer, on_stage)


def export(runs_dir: Path, adapter: Adapter, target: Path, on_stage: OnStage, order: ExportOrder = MERGED) -> Exported:
    """Merge an adapter into its base, or write it as GGUF.

    The target appears whole and checked, or not at all. Raises BadInput if it exists or cannot be written, WorkerFailed
    if what was written does not say what base and adapter say.
    """
    request = m.ExportRequest(adapter=adapter, target=target.expanduser().resolve(), order=order)
    with machine.disk_in_words("--to", f"{request.target} cannot be written", ELSEWHERE):
        if request.target.exists():
            raise BadInput.of("--to", f"{request.target} is there already.", "Name a folder that is not.")
    with ended_in_order():
        try:
            with contextlib.closing(ServiceClient(runs_dir)) as client:
                made = client.result(request, Exported, on_stage)
        finally:
            clear(request.target)  # had its process no time to
    with contextlib.suppress(OSError):  # it is there all the same
        _remember(adapter, order, made)
    return made


def _remember(adapter: Adapter, order: ExportOrder, made: Exported) -> None:
    """Note the GGUF files of a run's adapter in the run's folder, from which Chat knows them."""
    run = adapter.path.parent
    if order.format == "gguf" and adapter.origin is None and (run / SETTINGS).is_file():
        remember(run, order, made)
