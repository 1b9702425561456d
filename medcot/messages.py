"""What the page or the command line and the service worker say to each other: one JSON object a line, over a pipe.

Every request carries an id; every reply names the request it belongs to; a request is cancelled by its id. Nothing of
this is ever written to a file.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from medcot.adapters import Adapter
from medcot.endpoints import EndpointSettings
from medcot.events import Ending
from medcot.settings import RunSettings


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str


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
    """Merge an adapter into its base and write it to a folder that is not there yet. Answered by Loading..., Result."""

    type: Literal["export"] = "export"
    adapter: Adapter
    target: Path


class LoadRequest(Message):
    """Load an adapter on its base, in place of what was loaded. Answered by Loading..., then Loaded.

    `for_many` questions it is worth some time now to answer each of them faster.
    """

    type: Literal["load"] = "load"
    adapter: Adapter
    for_many: bool = False


class ConnectRequest(Message):
    """Ask a server in place of a model here. Answered by Loading..., then Loaded."""

    type: Literal["connect"] = "connect"
    name: str
    endpoint: EndpointSettings
    style: Literal["chat", "plain"] = "chat"


class Said(BaseModel):
    """A question asked before, and the whole text that one arm gave to it."""

    model_config = ConfigDict(extra="forbid")
    question: str
    output: str


class AskRequest(Message):
    """One question to base and tuned at once, each after its own history. Answered by Piece..., then Answered."""

    type: Literal["ask"] = "ask"
    question: str
    base_history: list[Said] = []
    tuned_history: list[Said] = []
    max_new_tokens: int = Field(512, ge=1, le=32_768)
    temperature: float = Field(0.0, ge=0, le=5)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = 42


class CancelRequest(Message):
    """Stop the request of this id; what was generated so far is answered."""

    type: Literal["cancel"] = "cancel"


class UnloadRequest(Message):
    type: Literal["unload"] = "unload"


Request = Annotated[
    PlanRequest
    | TokensRequest
    | DeviceRequest
    | ExportRequest
    | LoadRequest
    | ConnectRequest
    | AskRequest
    | CancelRequest
    | UnloadRequest,
    Field(discriminator="type"),
]
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
    warnings: list[str] = []


class Unloaded(Message):
    """Sent without having been asked too: after idle time, or because a job waits for the device."""

    type: Literal["unloaded"] = "unloaded"
    reason: str


class Piece(Message):
    """Text as it comes: what is new since the last piece, for each arm; rates in tokens per second, both arms."""

    type: Literal["piece"] = "piece"
    base: str
    tuned: str
    tokens_per_second: float


class ArmAnswer(BaseModel):
    text: str
    reasoning: str
    answer: str
    problems: list[str]
    tokens: int
    ended: Ending
    seconds: float = 0.0  # from the question to this arm's last token
    first_token_seconds: float = 0.0


class Answered(Message):
    type: Literal["answered"] = "answered"
    base: ArmAnswer
    tuned: ArmAnswer
    seconds: float


class Result(Message):
    type: Literal["result"] = "result"
    value: dict[str, Any]


class Problems(Message):
    """The request was refused or failed; the texts say why and what to do."""

    type: Literal["problems"] = "problems"
    kind: Literal["input", "busy", "crash"] = "crash"
    problems: list[str]


Reply = Annotated[Loading | Loaded | Unloaded | Piece | Answered | Result | Problems, Field(discriminator="type")]
REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)
