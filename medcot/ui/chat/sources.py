"""What Chat can ask: a finished run, an adapter folder, a Hub adapter, or the server that the page was started with."""

from dataclasses import dataclass
from typing import Literal, Protocol

from medcot import messages as m
from medcot.adapters import Adapter
from medcot.endpoints import EndpointSettings


class Source(Protocol):
    """A model that can be loaded; `name` is what the worker calls it once it is."""

    @property
    def name(self) -> str: ...

    def load_request(self, request_id: str) -> m.Request: ...


@dataclass(frozen=True)
class AdapterSource:
    adapter: Adapter

    @property
    def name(self) -> str:
        return self.adapter.name

    def load_request(self, request_id: str) -> m.Request:
        return m.LoadRequest(id=request_id, adapter=self.adapter, for_many=True)


@dataclass(frozen=True)
class ServerSource:
    """Named by whoever starts the page, never by who visits it: the server's key goes wherever the address says."""

    endpoint: EndpointSettings
    style: Literal["chat", "plain"] = "chat"

    @property
    def name(self) -> str:
        return f"{self.endpoint.tuned} and {self.endpoint.base} at {self.endpoint.url}"

    def load_request(self, request_id: str) -> m.Request:
        return m.ConnectRequest(id=request_id, name=self.name, endpoint=self.endpoint, style=self.style)
