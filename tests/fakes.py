"""Stand-ins that follow a script, so that a state of the page needs no model and no luck."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file

from medcot.errors import Failure, Problem
from medcot.evaluation.answers import Arm, Ending, Reply
from medcot.prompts.contract import PromptContract
from medcot.runs.events import AnyEvent, PlanMade
from medcot.runs.export import AskedFile, Exported, GgufFile, remember
from medcot.runs.job_dir import State
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.settings.export import export_order
from medcot.workers import protocol as m

CONTRACT = PromptContract(style="chat", system=None, template_hash="0", eos_id=2, eos_token="<|im_end|>")


class FakeClient:
    """A service client that answers with the given texts, a few characters a piece, and notes what it was sent.

    `hold` keeps each answer open until it is cancelled or the event is set.
    """

    def __init__(self, base: str = "", tuned: str = "", problems: tuple[str, ...] = (), step: int = 5):
        self.loaded: m.Loaded | None = None
        self.unloaded: m.Unloaded | None = None
        self.base, self.tuned, self.problems, self.step = base, tuned, problems, step
        self.requests: list[m.Request] = []
        self.cancelled: list[str] = []
        self.kind: Literal["input", "busy", "crash"] = "crash"  # of the problems
        self.hold: threading.Event | None = None
        self.before_piece: Callable[[], None] = lambda: None

    def request(self, message: m.Request) -> Iterator[m.AnyReply]:
        self.requests.append(message)
        if isinstance(message, m.LoadRequest | m.ConnectRequest):
            self.loaded = None
        if self.problems:
            yield m.Failed(id=message.id, kind=self.kind, problems=[Problem("", p) for p in self.problems])
        elif isinstance(message, m.LoadRequest | m.ConnectRequest):
            yield m.Loading(id=message.id, stage="Loading the model")
            name = message.name if isinstance(message, m.ConnectRequest) else message.adapter.name
            file = message.file.name if isinstance(message, m.LoadRequest) and message.file else ""
            self.loaded = m.Loaded(id=message.id, run=name, model="tiny", device="CPU", file=file)
            yield self.loaded
        elif isinstance(message, m.AskRequest):
            yield from self._answer(message)

    def _answer(self, message: m.AskRequest) -> Iterator[m.AnyReply]:
        sent = 0
        while sent < max(len(self.base), len(self.tuned)) and message.id not in self.cancelled:
            self.before_piece()
            base, tuned = (text[sent : sent + self.step] for text in (self.base, self.tuned))
            sent += self.step
            yield self._piece(message, base, tuned, sent)
        while self.hold and not self.hold.wait(0.1) and message.id not in self.cancelled:
            yield self._piece(message, "", "", sent)
        ended: Ending = "stopped" if message.id in self.cancelled else "finished"
        base, tuned = (
            Reply(text=text[:sent], tokens=10, ended=ended, seconds=2.0, first_token_seconds=0.1)
            for text in (self.base, self.tuned)
        )
        yield m.Answered(id=message.id, base=base, tuned=tuned, seconds=2.0)

    def _piece(self, message: m.AskRequest, base: str, tuned: str, sent: int) -> m.Piece:
        """An arm whose text is all sent has ended, if the other's text is longer."""
        whole: dict[Arm, str] = {"base": self.base, "tuned": self.tuned}
        longest = max(map(len, whole.values()))
        ended: dict[Arm, Ending] = {
            arm: "finished" for arm, text in whole.items() if len(text) <= sent and len(text) < longest
        }
        tokens: dict[Arm, int] = {arm: min(sent, len(text)) for arm, text in whole.items()}
        return m.Piece(id=message.id, base=base, tuned=tuned, tokens_per_second=12.0, tokens=tokens, ended=ended)

    def cancel(self, request_id: str) -> None:
        self.cancelled.append(request_id)

    def close(self) -> None:
        self.loaded = None


def write_run(
    store: RunStore,
    settings: RunSettings,
    state: State,
    events: list[AnyEvent] | None = None,
    *,
    adapter: bool = False,
    pid: int | None = None,
    error: str = "",
    hint: str = "",
    log: str = "",
) -> Run:
    """A run directory as a worker would have left it; `adapter` puts an empty one there."""
    time.sleep(0.002)  # ids sort by time, to the millisecond
    run = store.create(settings)
    for event in events or []:
        run.append(event)
    if adapter:
        run.adapter_dir.mkdir()
        (run.adapter_dir / "adapter_model.safetensors").touch()
        (run.adapter_dir / "prompt_contract.json").write_text(CONTRACT.model_dump_json(), encoding="utf-8")
    run.log_path.write_text(log, encoding="utf-8")
    run.write_status(state, pid=pid, failure=Failure(problems=[Problem("", error, hint)]))
    return run


def plan_made(**changes: Any) -> PlanMade:
    """The plan of a small run, with these values in place of its own."""
    counts = {"records": 10, "held_out": 2, "truncated": 0, "total_steps": 10}
    parameters = {"trainable_parameters": 1, "total_parameters": 2}
    return PlanMade(**{**counts, **parameters, "fingerprint": "f", "model": "m", **changes})


def write_adapter(folder: Path, base: str = "owner/model") -> Path:
    """An adapter as others leave one, which can be opened and not be loaded."""
    folder.mkdir(parents=True)
    pair = {f"layer.lora_{half}.weight": np.zeros((1, 1), np.float32) for half in "AB"}
    save_file(pair, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 1, "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


ASKED = AskedFile(
    **{"questions": 2, "same_prompts": 2, "tokens": 9, "same_tokens": 9, "same_answers": 2, "stopped": 2},
    **{"running_on": 0, "tokens_per_second": 1.0},
)


def made_in(folder: Path, *kinds: str, checked: bool = True, **values: Any) -> Exported:
    """What an export says of files of these quantizations, which lie in the folder and hold nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for kind in kinds:
        (folder / f"a-{kind}.gguf").write_bytes(b"GGUF")
        usual = {"name": f"a-{kind}.gguf", "quantization": kind, "bytes": 4, "asked": ASKED if checked else None}
        files.append(GgufFile(**{**usual, **values}))
    counts = {"bytes": 4, "prompts": 3, "tokens": 9, "same_tokens": 9}
    return Exported(path=str(folder), dtype="float16", **counts, files=files)


def write_shipped(run: Run, folder: Path, *kinds: str, **values: Any) -> None:
    """An export of a run that the command line wrote into a folder."""
    remember(run.path, export_order("gguf"), made_in(folder, *kinds, **values))
