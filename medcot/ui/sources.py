"""What Chat can ask: a run, an adapter folder, a Hub adapter, or the server that the page was started with; and how."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from medcot.adapters.open import Adapter
from medcot.runs.export import Shipped
from medcot.settings import PromptStyle
from medcot.settings.evaluation import EndpointSettings
from medcot.workers import protocol as m


class Client(Protocol):
    """What Chat needs of the service worker's client."""

    loaded: m.Loaded | None
    unloaded: m.Unloaded | None

    def request(self, message: m.Request) -> Iterator[m.AnyReply]: ...

    def cancel(self, request_id: str) -> None: ...

    def close(self) -> None: ...


class Source(Protocol):
    """A model that can be loaded; `name` is what the worker calls it once it is."""

    @property
    def name(self) -> str: ...

    def load_request(self) -> m.Request: ...


@dataclass(frozen=True)
class AdapterSource:
    """A run here, or an adapter from a folder or the Hub; or in tuned's place the file that a run was exported to."""

    adapter: Adapter
    file: Shipped | None = None

    @property
    def name(self) -> str:
        return self.adapter.name

    def load_request(self) -> m.Request:
        return m.LoadRequest(adapter=self.adapter, for_many=True, file=self.file.path if self.file else None)


@dataclass(frozen=True)
class ServerSource:
    """Named by whoever starts the page, never by who visits it: the server's key goes wherever the address says."""

    endpoint: EndpointSettings
    style: PromptStyle = "chat"

    @property
    def name(self) -> str:
        return f"{self.endpoint.tuned} and {self.endpoint.base} at {self.endpoint.url}"

    def load_request(self) -> m.Request:
        return m.ConnectRequest(name=self.name, endpoint=self.endpoint, style=self.style)
