"""Asking for an audit, a plan, or one record's tokens: of a worker of its own, which ends when unused."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medcot.messages import Loading, PlanRequest, Problems, Request, Result, TokensRequest
from medcot.service import ServiceClient, new_id, refuse
from medcot.settings import RunSettings

IDLE_SECONDS = 120.0  # a second look soon after the first need not load the libraries again


class Planner:
    """Never the worker behind Chat: a plan waits for no answer, and takes no device."""

    def __init__(self, runs_dir: Path, idle_seconds: float = IDLE_SECONDS):
        self._client, self._idle = ServiceClient(runs_dir), idle_seconds
        self._lock = threading.Lock()
        self._asking = 0
        self._timer: threading.Timer | None = None

    def plan(self, settings: RunSettings) -> Iterator[Loading | Result]:
        """Stages, then {"problems", "audit", "plan", "tokens"}. Raises BadInput or WorkerFailed, in words."""
        return self._ask(PlanRequest(id=new_id(), settings=settings))

    def tokens(self, settings: RunSettings, record: int | None) -> dict[str, Any]:
        """One record as the model sees it. Raises BadInput where there is none of that number."""
        *_, last = self._ask(TokensRequest(id=new_id(), settings=settings, record=record))
        assert isinstance(last, Result)
        return last.value

    def close(self) -> None:
        self._client.close()

    def _ask(self, request: Request) -> Iterator[Loading | Result]:
        with self._lock:
            self._asking += 1
            if self._timer:
                self._timer.cancel()
        try:
            for reply in self._client.request(request):
                if isinstance(reply, Problems):
                    refuse(reply)
                if isinstance(reply, Loading | Result):
                    yield reply
        finally:
            self._rest()

    def _rest(self) -> None:
        with self._lock:
            self._asking -= 1
            if not self._asking:
                self._timer = threading.Timer(self._idle, self._end_if_idle)
                self._timer.daemon = True
                self._timer.start()

    def _end_if_idle(self) -> None:
        with self._lock:
            if not self._asking:
                self._client.close()
