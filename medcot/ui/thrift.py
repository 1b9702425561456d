"""Habits of Gradio that cost a page more than all that it does, each switched off for one gr.Blocks or its server.

Of an event's outputs Gradio builds each component anew, also those that a handler has left alone: about a millisecond
for each of some forty. Its queue looks for something to do 1,100 times a second, a twentieth of a core for an idle
server: here 50 times while somebody does something, else 8. The browser tells each output of every event at each piece
of an answer how far it is, where no progress is shown too: on a busy machine a chat lags seconds behind its model. And
twenty visitors who come at once have their pages built at once, in 50 MiB more than one after the other takes. (gradio
6; https://github.com/gradio-app/gradio/blob/main/gradio/blocks.py, postprocess_data, queueing.py, start_processing,
routes.py, main, and js/core/src/dependency.ts, update_loading_stati_state)
"""

import asyncio
import copy
import time
from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.queueing import Queue
from gradio.state_holder import SessionState
from starlette.types import ASGIApp, Message, Receive, Scope, Send

EVENT_SECONDS = 0.02  # an event may wait so long before it is begun
RESTING_SECONDS = 0.12  # and so long once there was none for AWAKE_SECONDS
AWAKE_SECONDS = 10.0
PAGES = ("/", "/config")
PAGES_AT_ONCE = 2  # that are built
KNOWN_EVENTS = 100  # of which Gradio remembers when each was sent and by whom; 10,000 by itself
PROGRESS_SECONDS = 1.0  # no event here reports progress to Gradio


def be_thrifty(demo: gr.Blocks) -> None:
    """Let answers cost what they change, a hidden progress nothing, and an idle queue next to nothing."""
    demo._queue.__class__, demo._queue.progress_update_sleep_when_free = RestingQueue, PROGRESS_SECONDS
    demo._queue.ANALYTICS_MAX_EVENTS = KNOWN_EVENTS
    for event in demo.fns.values():
        if event.show_progress == "hidden":
            event.show_progress_on = []
    process_all = demo.postprocess_data

    async def process_changed(block_fn: Any, predictions: Any, state: SessionState | None) -> list[Any]:
        places = changed(block_fn.outputs, predictions)
        if places is None:
            return await process_all(block_fn, predictions, state)
        answer: list[Any] = [None if block.stateful else gr.skip() for block in block_fn.outputs]
        if places:
            fewer = copy.copy(block_fn)
            fewer.outputs = [block_fn.outputs[place] for place in places]
            values = [predictions[key] for key in sorted(predictions, key=lambda key: at(block_fn.outputs, key))]
            found = await process_all(fewer, values if len(values) > 1 else values[0], state)
            for place, value in zip(places, found, strict=True):
                answer[place] = value
        return answer

    demo.postprocess_data = process_changed  # type: ignore[method-assign]


class RestingQueue(Queue):
    """A queue that looks for an event less often once there was none for a while."""

    _awake_until = 0.0

    @property
    def sleep_when_free(self) -> float:  # type: ignore[override]  # gradio's is set once
        """Seconds until it looks again, asked for each time that nothing is in line."""
        now = time.monotonic()
        if any(self.active_jobs):
            self._awake_until = now + AWAKE_SECONDS
        return EVENT_SECONDS if now < self._awake_until else RESTING_SECONDS


class InTurn:
    """ASGI middleware before Gradio's app: of many pages that are asked for at once, few are built at a time."""

    def __init__(self, app: ASGIApp):
        self.app, self._turns = app, asyncio.Semaphore(PAGES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in PAGES:
            await self.app(scope, receive, send)
            return
        await self._turns.acquire()
        is_built = False

        def give_the_turn_on() -> None:
            nonlocal is_built
            if not is_built:
                is_built = True
                self._turns.release()

        async def send_built(message: Message) -> None:
            give_the_turn_on()  # a viewer who reads slowly holds nobody up
            await send(message)

        try:
            await self.app(scope, receive, send_built)
        finally:
            give_the_turn_on()


def changed(outputs: Sequence[Any], predictions: Any) -> list[int] | None:
    """The places of the outputs that a handler's answer names; None for an answer of another kind."""
    if not isinstance(predictions, dict) or len(outputs) < 2:
        return None
    if predictions == gr.skip():
        return []
    places = [at(outputs, key) for key in predictions]
    return sorted(places) if places and min(places) >= 0 and len(set(places)) == len(places) else None


def at(outputs: Sequence[Any], key: object) -> int:
    """A component's place among the outputs; -1 if it is none of them."""
    return next((place for place, block in enumerate(outputs) if block._id == getattr(key, "_id", None)), -1)
