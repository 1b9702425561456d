"""The protocol between the page or the command line and the service worker: one JSON object a line, over a pipe.

Every request has an id, which its replies repeat, and by which it is cancelled. Nothing of this is written to a file.
"""

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from medcot.adapters.open import Adapter
from medcot.errors import Failure
from medcot.evaluation.answers import ARMS, Arm, Decoding, Ending, Reply
from medcot.prompts.contract import Exchange
from medcot.settings import PromptStyle, RunSettings
from medcot.settings.evaluation import EndpointSettings
from medcot.settings.export import MERGED, ExportOrder

_ids = itertools.count(1)


def new_id() -> str:
    """Unique within this process, which is all that one pipe needs."""
    return str(next(_ids))


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str = Field(default_factory=new_id)


class PlanRequest(Message):
    """Audit the data under the model's tokenizer and estimate the run. Answered by Result."""

    type: Literal["plan"] = "plan"
    settings: RunSettings


class TokensRequest(Message):
    """One record as the model sees it, by its number in the source; None is the first. Answered by Result."""

    type: Literal["tokens"] = "tokens"
    settings: RunSettings
    record: int | None = None


class DeviceRequest(Message):
    """What torch sees. Answered by Result."""

    type: Literal["device"] = "device"


class ExportRequest(Message):
    """Write an adapter to a new folder, merged into its base or as GGUF. Answered by Loading..., Result."""

    type: Literal["export"] = "export"
    adapter: Adapter
    target: Path
    order: ExportOrder = MERGED


class TorchDevice(BaseModel):
    """The answer to a DeviceRequest."""

    cuda: bool
    mps: bool = False  # Apple's GPU
    cuda_version: str | None
    gpus: int
    compute_dtype: str
    threads: int

    def __str__(self) -> str:
        return f"computes in {self.compute_dtype}{' on the Apple GPU (mps), without 4-bit' if self.mps else ''}"


class LoadRequest(Message):
    """Load an adapter on its base, in place of what was loaded. Answered by Loading..., then Loaded.

    `for_many`: compile now, because many questions will follow. `file` is a GGUF file of the adapter, which llama.cpp
    loads, and which answers in tuned's place.
    """

    type: Literal["load"] = "load"
    adapter: Adapter
    for_many: bool = False
    file: Path | None = None


class ConnectRequest(Message):
    """Ask a server in place of a model here. Answered by Loading..., then Loaded."""

    type: Literal["connect"] = "connect"
    name: str
    endpoint: EndpointSettings
    style: PromptStyle = "chat"


class AskRequest(Message):
    """One question to base and tuned, each after its history. Answered by Piece..., then Answered."""

    type: Literal["ask"] = "ask"
    question: str
    base_history: list[Exchange] = []
    tuned_history: list[Exchange] = []
    max_new_tokens: int = Field(512, ge=1, le=32_768)
    temperature: float = Field(0.0, ge=0, le=5)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = 42

    @property
    def histories(self) -> dict[Arm, list[Exchange]]:
        return {"base": self.base_history, "tuned": self.tuned_history}

    @property
    def decoding(self) -> Decoding:
        return Decoding(self.max_new_tokens, self.temperature, self.top_p, self.seed, end_loops=True)


class AskFileRequest(Message):
    """One question to a GGUF file, which llama.cpp loads for it. Answered by Loading..., Result."""

    type: Literal["ask_file"] = "ask_file"
    file: Path
    question: str
    max_new_tokens: int = Field(512, ge=1, le=32_768)

    @property
    def decoding(self) -> Decoding:
        return Decoding(self.max_new_tokens)


class CheckRequest(Message):
    """Ask a server that the adapter was deployed on its run's held-out questions. Answered by Loading..., Result."""

    type: Literal["check"] = "check"
    adapter: Adapter
    endpoint: EndpointSettings
    order: ExportOrder = MERGED


class CheckedServer(BaseModel):
    """The answer to a CheckRequest: a server's answers beside tuned's own, of the run's newest evaluation."""

    url: str
    model: str
    questions: int
    stopped: int  # answers that ended by themselves
    same_answers: int  # letter by letter tuned's
    same_begun: float  # the share of tuned's letters up to the first that differs
    tokens_per_second: float
    scores: dict[str, float] = {}
    tuned: dict[str, float] = {}
    notes: list[str] = []
    problem: str = ""  # why it is not what was measured


class CancelRequest(Message):
    """Stop the request of this id; it is answered with what was generated so far."""

    type: Literal["cancel"] = "cancel"


class UnloadRequest(Message):
    type: Literal["unload"] = "unload"


_ForResult = PlanRequest | TokensRequest | DeviceRequest | ExportRequest | AskFileRequest | CheckRequest
_OfChat = LoadRequest | ConnectRequest | AskRequest | CancelRequest | UnloadRequest
Request = Annotated[_ForResult | _OfChat, Field(discriminator="type")]
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


class Loading(Message):
    type: Literal["loading"] = "loading"
    stage: str


class Loaded(Message):
    type: Literal["loaded"] = "loaded"
    run: str  # the adapter's name: a run's id, a folder's name, OWNER/NAME@commit
    model: str
    device: str
    follow_ups: bool = True  # the plain contract has none
    remote: bool = False  # a server answers, and the device here is free
    file: str = ""  # the name of the GGUF file that answers in tuned's place
    warnings: list[str] = []


class Unloaded(Message):
    """Also sent without a request: after idle time, because a job waits for the device, or with llama.cpp's end."""

    type: Literal["unloaded"] = "unloaded"
    reason: str


class Piece(Message):
    """What is new of each arm's text since the last piece, with its tokens so far; the rate is of both together."""

    type: Literal["piece"] = "piece"
    base: str
    tuned: str
    tokens_per_second: float
    tokens: dict[Arm, int] = {}
    ended: dict[Arm, Ending] = {}  # of the arms that have ended


class Answered(Message):
    type: Literal["answered"] = "answered"
    base: Reply
    tuned: Reply
    seconds: float

    def arms(self) -> dict[str, object]:
        """Both, as `medcot ask --json` prints them."""
        return {arm: getattr(self, arm).whole() for arm in ARMS}


class Result(Message):
    type: Literal["result"] = "result"
    value: dict[str, Any]


class Failed(Message, Failure):
    """The request was refused or failed."""

    type: Literal["failed"] = "failed"


AnyReply = Annotated[Loading | Loaded | Unloaded | Piece | Answered | Result | Failed, Field(discriminator="type")]
REPLY: TypeAdapter[AnyReply] = TypeAdapter(AnyReply)
