"""`python -m tests.faults.killed SETTINGS ROOT MOMENT...`: trains a run for each moment, which kills itself then.

Each is a process of its own, ended by SIGKILL while it saves its second checkpoint: nothing can be tidied up.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from medcot.settings import RunSettings
from tests.engine_tools import train

MOMENTS = ("half of a file", "before the manifest", "before it is in place", "before the old one is gone")


def arm(moment: str) -> None:
    """Replace the call at which this process is to end."""
    import torch

    from medcot.engine import checkpoints

    if moment == MOMENTS[0]:
        dies_at(torch, "save", lambda _, path: Path(path).name == "optimizer.pt" and "checkpoint-4" in path, half)
    elif moment == MOMENTS[1]:
        dies_at(checkpoints, "write_atomically", lambda path, _: "checkpoint-4" in str(path))
    elif moment == MOMENTS[2]:
        dies_at(Path, "rename", lambda path, _: path.name == "checkpoint-4")
    elif moment == MOMENTS[3]:
        dies_at(shutil, "rmtree", lambda path, **_: Path(path).name == "checkpoint-2" and Path(path).exists())


def dies_at(owner: object, name: str, when: Callable, first: Callable = lambda *_: None) -> None:
    original = getattr(owner, name)

    def replaced(*arguments, **named):
        if when(*arguments, **named):
            first(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **named)

    setattr(owner, name, replaced)


def half(_value: object, path: str) -> None:
    Path(path).write_bytes(b"PK" + bytes(1000))


def main() -> None:
    settings = RunSettings.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))
    from medcot.engine import training  # noqa: F401  # loaded once; the children have it

    for moment in sys.argv[3:]:
        child = os.fork()
        if not child:
            arm(moment)
            train(Path(sys.argv[2]) / moment, settings)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, (moment, status)


if __name__ == "__main__":
    main()
