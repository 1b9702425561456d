"""The long-lived child behind Chat, `medcot ask` and `medcot plan`: messages in on stdin, messages out on stdout.

It writes no file, but for the compiler's own cache of kernels. It holds the device slot only while a model is loaded,
and gives both back when it has been idle or when a job waits.
"""

import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pydantic import BaseModel, ValidationError

from medcot.engine import without_broken_torchvision
from medcot.errors import IN_WORDS, Busy, Failure, WorkerFailed
from medcot.prompts.contract import PromptContract
from medcot.runs.events import AnyEvent, Progress, Report, Warned
from medcot.runs.store import RunStore
from medcot.workers import protocol as m
from medcot.workers.jobs import CHAT
from medcot.workers.slot import Slot, waiting_jobs

if TYPE_CHECKING:
    from medcot.engine.answer.chat import LocalPair, ServerPair
    from medcot.engine.gguf.chat import FilePair


IDLE_SECONDS = 300.0
JOB_WAITS = "a job waits for the device"


class Service:
    def __init__(self, store: RunStore, out: TextIO, idle_seconds: float):
        self.store, self.out, self.idle_seconds = store, out, idle_seconds
        self.requests: queue.Queue[m.Request | None] = queue.Queue()
        self.cancelled: set[str] = set()
        self.slot: Slot | None = None
        self.pair: LocalPair | FilePair | ServerPair | None = None
        self.last_load: m.LoadRequest | None = None  # what was loaded, perhaps given back since

    def send(self, reply: m.AnyReply) -> None:
        self.out.write(reply.model_dump_json() + "\n")
        self.out.flush()

    def fail(self, request_id: str, error: Exception) -> None:
        self.send(m.Failed(id=request_id, **dict(Failure.of(error))))

    def read(self, source: TextIO) -> None:
        """Run in a thread, so that a cancellation is seen while an answer is under way."""
        for line in source:
            try:
                request = m.REQUEST.validate_json(line)
            except ValidationError as error:
                self.fail("", WorkerFailed(f"Not a request: {error}"))
                continue
            if isinstance(request, m.CancelRequest):
                self.cancelled.add(request.id)
            else:
                self.requests.put(request)
        self.requests.put(None)

    def run(self) -> None:
        last_used = time.monotonic()
        while True:
            try:
                request = self.requests.get(timeout=1.0)
            except queue.Empty:
                if self.slot and waiting_jobs(self.store):
                    self.unload("", JOB_WAITS)
                elif self.pair and time.monotonic() - last_used > self.idle_seconds:
                    self.unload("", f"nobody asked for {self.idle_seconds:.0f} seconds")
                continue
            if request is None:
                return
            try:
                self.handle(request)
            except Exception as error:  # noqa: BLE001  # one failed request must not end the others
                if not isinstance(error, IN_WORDS):
                    traceback.print_exc()
                self.fail(request.id, error)
            self.cancelled.discard(request.id)
            last_used = time.monotonic()

    def handle(self, request: m.Request) -> None:
        warnings: list[str] = []

        def report(event: AnyEvent) -> None:
            if isinstance(event, Progress):
                self.send(m.Loading(id=request.id, stage=event.stage))
            elif isinstance(event, Warned):
                warnings.append(event.message)

        match request:
            case m.LoadRequest():
                self.load(request, report, warnings)
            case m.ConnectRequest():
                self.connect(request)
            case m.AskRequest():
                self.ask(request, report)
            case m.UnloadRequest():
                self.last_load = None
                self.unload(request.id, "on request")
            case _:
                self.send(m.Result(id=request.id, value=result_of(request, report).model_dump()))

    def require_no_job_waits(self) -> None:
        """Raise Busy if a job waits: between two questions it goes first."""
        if waiting_jobs(self.store):
            self.unload("", JOB_WAITS)
            raise Busy("A training or an evaluation has been waiting for the device and goes first. Ask again later.")

    def load(self, request: m.LoadRequest, report: Report, warnings: list[str]) -> None:
        """Load an adapter on its base; `warnings` are those that `report` has been given by the end."""
        self.require_no_job_waits()
        self.free()
        self.last_load = None
        slot = Slot(self.store.root)
        if not slot.try_acquire(CHAT):
            raise Busy(slot.busy())
        self.slot = slot
        try:
            self.send(m.Loading(id=request.id, stage="Loading the libraries"))
            without_broken_torchvision()
            from medcot.engine.answer.chat import LocalPair
            from medcot.engine.answer.load import open_decoder
            from medcot.engine.backends.peft import PeftBackend
            from medcot.engine.gguf.chat import FilePair

            adapter, backend = request.adapter, PeftBackend()
            decoder = open_decoder(adapter, backend, report, max_length=4096)
            if request.for_many:
                report(Progress(stage="Preparing the decode"))
                decoder.warm_up()
            if request.file:
                report(Progress(stage="Loading the exported file in llama.cpp"))
            self.pair = FilePair(decoder, request.file) if request.file else LocalPair(decoder)
            self.last_load = request
            named = {"run": adapter.name, "model": adapter.base.id, "device": backend.device()}
            named["file"] = request.file.name if request.file else ""
            follow_ups = decoder.contract.rules.follow_ups
            self.send(m.Loaded(id=request.id, **named, follow_ups=follow_ups, warnings=warnings))
        except BaseException:
            self.free()
            raise

    def connect(self, request: m.ConnectRequest) -> None:
        """Use a server in place of a model here: nothing is loaded, and the device stays free."""
        self.free()
        self.last_load = None
        self.send(m.Loading(id=request.id, stage=f"Asking {request.endpoint.url} for its models"))
        from medcot.engine.answer.chat import ServerPair

        contract = PromptContract(style=request.style, system=None, template_hash=None, eos_id=-1, eos_token="")
        self.pair = ServerPair(request.endpoint, contract)
        named = {"run": request.name, "model": f"{request.endpoint.base}, {request.endpoint.tuned}"}
        named["device"] = f"the server at {request.endpoint.url}"
        self.send(m.Loaded(id=request.id, **named, remote=True, follow_ups=contract.rules.follow_ups))

    def ask(self, request: m.AskRequest, report: Report) -> None:
        if self.pair is None and self.last_load:  # it was given back while the question was on its way
            self.load(self.last_load, report, [])
        elif self.slot:  # else a server answers, or nothing is loaded
            self.require_no_job_waits()
        if self.pair is None:
            raise WorkerFailed("No model is loaded. Choose a run first.")
        began = time.monotonic()

        try:
            answers = self.pair.answer(request, self.send, lambda: request.id in self.cancelled)
        except WorkerFailed:  # the next question loads anew
            self.unload("", "llama.cpp could not answer")
            raise
        self.send(m.Answered(id=request.id, **answers, seconds=time.monotonic() - began))

    def unload(self, request_id: str, reason: str) -> None:
        self.free()
        self.send(m.Unloaded(id=request_id, reason=reason))

    def free(self) -> None:
        """Release the memory and the slot."""
        if self.pair:
            self.pair.close()
        self.pair = None
        if self.slot:
            from medcot.engine.distributed import free_memory

            free_memory()
            self.slot.release()
            self.slot = None


def result_of(request: m.Request, report: Report) -> BaseModel:
    """The answer to a request that is answered by a Result."""
    without_broken_torchvision()
    match request:
        case m.PlanRequest():
            from medcot.engine.train.audit import plan

            return plan(request.settings, report)
        case m.TokensRequest():
            from medcot.engine.train.token_view import tokens

            return tokens(request.settings, request.record, report)
        case m.ExportRequest() if request.order.format == "merged":
            from medcot.engine.export import export

            return export(request, report)
        case m.ExportRequest():
            from medcot.engine.gguf.export import export as export_gguf

            return export_gguf(request, report)
        case m.AskFileRequest():
            from medcot.engine.gguf.arm import answer

            return answer(request, report)
        case m.CheckRequest():
            from medcot.engine.deployed import check

            return check(request, report)
        case _:
            from medcot.engine.models import torch_device

            return torch_device()


def main() -> int:
    # Libraries print what they like; the protocol keeps the real standard output for itself.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    idle = float(sys.argv[2]) if len(sys.argv) > 2 else IDLE_SECONDS
    service = Service(RunStore(Path(sys.argv[1])), out, idle)
    threading.Thread(target=service.read, args=(sys.stdin,), daemon=True).start()
    service.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
