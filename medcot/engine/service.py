"""The long-lived child behind Chat, `medcot ask` and `medcot plan`: messages in on stdin, messages out on stdout.

It writes no file, but for the compiler's own cache of kernels. It holds the device slot only while a model is loaded,
and gives both back when it has been idle or when a job waits.
"""

import gc
import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pydantic import ValidationError

from medcot import messages as m
from medcot.engine.worker import explain
from medcot.errors import BadInput, Busy, WorkerFailed
from medcot.events import AnyEvent, Progress, Warned
from medcot.jobs import CHAT, Slot, waiting_jobs
from medcot.prompts import PromptContract
from medcot.runs import RunStore

if TYPE_CHECKING:
    from medcot.engine.replying import Pair

IDLE_SECONDS = 300.0


class Service:
    def __init__(self, store: RunStore, out: TextIO, idle_seconds: float):
        self.store, self.out, self.idle_seconds = store, out, idle_seconds
        self.requests: queue.Queue[m.Request | None] = queue.Queue()
        self.cancelled: set[str] = set()
        self.slot: Slot | None = None
        self.pair: Pair | None = None

    def send(self, reply: m.Reply) -> None:
        self.out.write(reply.model_dump_json() + "\n")
        self.out.flush()

    def read(self, source: TextIO) -> None:
        """In a thread of its own, so that a cancellation is seen while an answer is under way."""
        for line in source:
            try:
                request = m.REQUEST.validate_json(line)
            except ValidationError as error:
                self.send(m.Problems(id="", problems=[f"Not a request: {error}"]))
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
                idle = time.monotonic() - last_used
                if self.slot and waiting_jobs(self.store):
                    self.unload("", "a job waits for the device")
                elif self.pair and idle > self.idle_seconds:
                    self.unload("", f"nobody asked for {self.idle_seconds:.0f} seconds")
                continue
            if request is None:
                return
            try:
                self.handle(request)
            except BadInput as bad:
                self.send(m.Problems(id=request.id, kind="input", problems=[str(p) for p in bad.problems]))
            except Busy as busy:
                self.send(m.Problems(id=request.id, kind="busy", problems=[str(busy)]))
            except WorkerFailed as failed:
                self.send(m.Problems(id=request.id, problems=[str(failed)]))
            except Exception as error:  # noqa: BLE001  # one failed request must not end the others
                traceback.print_exc()
                self.send(m.Problems(id=request.id, problems=[explain(error)[0]]))
            self.cancelled.discard(request.id)
            last_used = time.monotonic()

    def handle(self, request: m.Request) -> None:
        if isinstance(request, m.LoadRequest):
            self.load(request)
        elif isinstance(request, m.ConnectRequest):
            self.connect(request)
        elif isinstance(request, m.AskRequest):
            self.ask(request)
        elif isinstance(request, m.UnloadRequest):
            self.unload(request.id, "on request")
        elif isinstance(request, m.PlanRequest):
            from medcot.engine.planning import plan

            self.send(m.Result(id=request.id, value=plan(request.settings, StageReport(self, request.id))))
        elif isinstance(request, m.TokensRequest):
            from medcot.engine.auditing import tokens

            found = tokens(request.settings, request.record, StageReport(self, request.id))
            self.send(m.Result(id=request.id, value=found))
        elif isinstance(request, m.ExportRequest):
            from medcot.engine.export import export

            made = export(request.adapter, request.target, StageReport(self, request.id))
            self.send(m.Result(id=request.id, value=made))
        elif isinstance(request, m.DeviceRequest):
            self.send(m.Result(id=request.id, value=torch_device()))

    def load(self, request: m.LoadRequest) -> None:
        adapter = request.adapter
        self.free()
        slot = Slot(self.store.root)
        if not slot.try_acquire(CHAT):
            raise Busy(slot.busy())
        self.slot = slot
        try:
            self.send(m.Loading(id=request.id, stage="Loading the libraries"))
            from medcot.engine import backends
            from medcot.engine.opening import open_decoder
            from medcot.engine.replying import LocalPair

            backend = backends.for_generation()
            report = StageReport(self, request.id)
            decoder = open_decoder(adapter, backend, report, max_length=4096)
            if request.for_many:
                report(Progress(stage="Preparing the decode"))
                decoder.warm_up()
            self.pair = LocalPair(decoder)
            self.send(
                m.Loaded(
                    id=request.id,
                    run=adapter.name,
                    model=adapter.base.id,
                    device=backend.device(),
                    follow_ups=decoder.contract.style == "chat",
                    warnings=report.warnings,
                )
            )
        except BaseException:
            self.free()
            raise

    def connect(self, request: m.ConnectRequest) -> None:
        """A server answers in place of a model here: nothing is loaded, and the device stays free."""
        self.free()
        self.send(m.Loading(id=request.id, stage=f"Asking {request.endpoint.url} for its models"))
        from medcot.engine.replying import ServerPair

        contract = PromptContract(style=request.style, system=None, template_hash=None, eos_id=-1, eos_token="")
        self.pair = ServerPair(request.endpoint, contract)
        self.send(
            m.Loaded(
                id=request.id,
                run=request.name,
                model=f"{request.endpoint.base}, {request.endpoint.tuned}",
                device=f"the server at {request.endpoint.url}",
                remote=True,
                follow_ups=request.style == "chat",
            )
        )

    def ask(self, request: m.AskRequest) -> None:
        if self.pair is None:
            self.send(m.Problems(id=request.id, problems=["No model is loaded. Choose a run first."]))
            return
        began = time.monotonic()

        def send(base: str, tuned: str, rate: float) -> None:
            self.send(m.Piece(id=request.id, base=base, tuned=tuned, tokens_per_second=rate))

        answers = self.pair.answer(request, send, lambda: request.id in self.cancelled)
        self.send(m.Answered(id=request.id, **answers, seconds=time.monotonic() - began))

    def unload(self, request_id: str, reason: str) -> None:
        self.free()
        self.send(m.Unloaded(id=request_id, reason=reason))

    def free(self) -> None:
        """Give the memory and the slot back."""
        if self.pair:
            self.pair.close()
        self.pair = None
        if self.slot:
            import torch

            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.slot.release()
            self.slot = None


class StageReport:
    """Passes stages on to whoever asked, and gathers warnings."""

    def __init__(self, service: Service, request_id: str):
        self._service, self._id = service, request_id
        self.warnings: list[str] = []

    def __call__(self, event: AnyEvent) -> None:
        if isinstance(event, Progress):
            self._service.send(m.Loading(id=self._id, stage=event.stage))
        elif isinstance(event, Warned):
            self.warnings.append(event.message)


def torch_device() -> dict[str, object]:
    """What torch sees, for `medcot doctor`."""
    import torch

    from medcot.engine.backends.peft import compute_dtype

    cuda = torch.cuda.is_available()
    return {
        "cuda": cuda,
        "cuda_version": torch.version.cuda,
        "gpus": torch.cuda.device_count() if cuda else 0,
        "compute_dtype": str(compute_dtype("auto")).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


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
