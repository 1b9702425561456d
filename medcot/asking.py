"""One question to an adapter and its base, through a service worker of its own."""

from collections.abc import Callable
from pathlib import Path

from medcot.adapters import Adapter
from medcot.messages import Answered, AskRequest, Loading, LoadRequest, Piece, Problems, Reply
from medcot.service import ServiceClient, new_id, refuse


def ask_once(
    runs_dir: Path, adapter: Adapter, question: str, max_new_tokens: int, on_stage: Callable[[str], None]
) -> Answered:
    """Load, ask, unload. Raises BadInput, Busy or WorkerFailed with the worker's words."""
    client = ServiceClient(runs_dir)

    def told(reply: Reply) -> None:
        if isinstance(reply, Problems):
            refuse(reply)
        if isinstance(reply, Loading):
            on_stage(reply.stage)
        elif isinstance(reply, Piece):
            on_stage(f"Answering, {reply.tokens_per_second:.0f} tokens/s")

    try:
        for reply in client.request(LoadRequest(id=new_id(), adapter=adapter)):
            told(reply)
        for reply in client.request(AskRequest(id=new_id(), question=question, max_new_tokens=max_new_tokens)):
            told(reply)
    finally:
        client.close()
    assert isinstance(reply, Answered)
    return reply
