"""An adapter merged into its base, as a folder that any program for transformers models reads. A child does it."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medcot.adapters import Adapter
from medcot.errors import BadInput, Problem
from medcot.messages import ExportRequest, Loading, Problems, Result
from medcot.service import ServiceClient, new_id, refuse


def draft_of(target: Path) -> Path:
    """Where an export is written until it is whole and checked."""
    return target.with_name(f".{target.name}.part")


def export(runs_dir: Path, adapter: Adapter, target: Path, on_stage: Callable[[str], None]) -> dict[str, Any]:
    """Merge, check and write; returns {"path", "dtype", "bytes", "prompts", "tokens"}.

    The target appears whole and checked, or not at all. Raises BadInput where it is there already or cannot be written,
    WorkerFailed where the merged model does not say what base and adapter say.
    """
    target = target.expanduser().resolve()
    if target.exists():
        raise BadInput(Problem("--to", f"{target} is there already.", "Name a folder that is not."))
    client = ServiceClient(runs_dir)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for reply in client.request(ExportRequest(id=new_id(), adapter=adapter, target=target)):
            if isinstance(reply, Loading):
                on_stage(reply.stage)
            elif isinstance(reply, Problems):
                refuse(reply)
    except OSError as error:
        raise BadInput(Problem("--to", f"{target} cannot be written: {error.strerror}.", "Name another.")) from None
    finally:
        client.close()
        shutil.rmtree(draft_of(target), ignore_errors=True)
    assert isinstance(reply, Result)
    return reply.value
