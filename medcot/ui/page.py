"""What every tab is handed: the runs, the model's process, the device."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import gradio as gr

from medcot import messages as m
from medcot.device import Device
from medcot.jobdirs import JobDir
from medcot.runs import Run, RunStore
from medcot.ui.reading import Reader

if TYPE_CHECKING:
    from medcot.ui.chat.sources import ServerSource

TICK_SECONDS = 1.0


class Client(Protocol):
    """What Chat needs of the service worker's client."""

    loaded: m.Loaded | None
    unloaded: m.Unloaded | None

    def request(self, message: m.Request) -> Iterator[m.Reply]: ...

    def cancel(self, request_id: str) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Look:
    """What one tab does on a tick."""

    see: Callable[..., Any]
    inputs: list[Any]
    outputs: list[Any]


@dataclass(frozen=True)
class Page:
    demo: gr.Blocks
    timer: gr.Timer
    store: RunStore
    runs_dir: Path
    reader: Reader
    client: Client
    device: Device
    server: "ServerSource | None" = None

    looks: list[Look] = field(default_factory=list)

    def refresh(self, see: Callable[..., Any], inputs: list[Any], outputs: list[Any]) -> None:
        """Run `see` on each tick, quietly; it returns gr.skip() where nothing has changed."""
        self.looks.append(Look(see, inputs, outputs))

    def watch(self) -> None:
        """One request a tick for all tabs together; called once, when all of them are built."""

        def look(*values: Any) -> list[Any]:
            sent, shown = iter(values), []
            for each in self.looks:
                found = each.see(*(next(sent) for _ in each.inputs))
                shown += found if isinstance(found, list) else [found] * len(each.outputs)
            return shown

        inputs = [component for each in self.looks for component in each.inputs]
        outputs = [component for each in self.looks for component in each.outputs]
        # As the page has them: a choice that has just left its list is the looks' business, and no reason to refuse.
        self.timer.tick(look, inputs, outputs, **QUIET, preprocess=False, concurrency_limit=None)


# For every event: not an endpoint that others are invited to call, and no veil over what is being read. Neither is a
# guard: whatever a handler is sent, it checks itself.
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
# For what is chosen: of several choices while one is under way the last is heard, where gradio would drop them.
LATEST: dict[str, Any] = {**QUIET, "trigger_mode": "always_last"}


def still(update: dict[str, Any], chosen: object) -> dict[str, Any]:
    """A list's update, silent of a choice that stands: it may have become another while the look was under way."""
    return {k: v for k, v in update.items() if k != "value" or v != chosen}


def mark(job: JobDir | None) -> str:
    """Changes whenever a job's state or files do; the same mark means that there is nothing new to show."""
    if job is None:
        return ""
    status = job.status()
    sizes = [_size(job.path / name) for name in ("events.jsonl", "worker.log", "summary.json")]
    return f"{job.path.name} {status.state} {status.updated} {sizes}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def choice_of(runs: list[Run], wanted: object) -> str | None:
    """The wanted run where it is one of these, else the first."""
    ids = [run.id for run in runs]
    return str(wanted) if wanted in ids else next(iter(ids), None)
