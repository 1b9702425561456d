"""`python -m tests.faults.killed SETTINGS ROOT MOMENT...`: trains a run for each moment, which is killed then.

Each is a process of its own, ended by SIGKILL, so that nothing can be tidied up: at one of MOMENTS, by itself while it
saves its second checkpoint; for a number, again and again at times drawn with that seed, until it has finished.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from medcot.engine.train import checkpoints
from medcot.runs.run import Run
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from tests.engine_tools import train

MOMENTS = ("half of a file", "before the manifest", "before it is in place")
MOMENTS += ("before the old one is gone", "half of the old one is gone")


def arm(moment: str) -> None:
    """Replace the call at which this process is to end."""
    import torch

    if moment == MOMENTS[0]:
        dies_at(torch, "save", lambda _, path: Path(path).name == "optimizer.pt" and "checkpoint-4" in path, half)
    elif moment == MOMENTS[1]:
        dies_at(checkpoints, "write_atomically", lambda path, _: "checkpoint-4" in str(path))
    elif moment == MOMENTS[2]:
        dies_at(Path, "rename", lambda path, _: path.name == "checkpoint-4")
    elif moment == MOMENTS[3]:
        dies_at(Path, "rename", lambda path, _: path.name == "checkpoint-2" and path.parent.name == "checkpoints")
    elif moment == MOMENTS[4]:
        first = lambda path: next(Path(path).glob("*.safetensors")).unlink()  # noqa: E731
        dies_at(shutil, "rmtree", lambda path, **_: "checkpoint-2" in Path(path).name and Path(path).exists(), first)


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


def trained(root: Path, settings: RunSettings, moment: str = "", run: Run | None = None) -> int:
    """The pid of a new process that trains."""
    if not (child := os.fork()):
        arm(moment)
        train(root, settings, run=run)
        os._exit(0)
    return child


def kill_until_finished(root: Path, settings: RunSettings, seed: int, seconds: float) -> int:
    """How often a run was killed, each time within `seconds` of its start, and had whole checkpoints or none."""
    chance, run = random.Random(seed), RunStore(root).create(settings)
    for kills in range(1000):
        run.end_half_line()  # as a worker does
        child = trained(root, settings, run=run)
        time.sleep(chance.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert status == 0, f"it failed after {kills} kills"
            return kills
        damage = [checkpoints.Checkpoint(path).damage() for path in run.checkpoints()]
        assert not any(damage), damage
    raise AssertionError("it never finished")


def main() -> None:
    settings, root = RunSettings.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    from medcot.engine.train import training  # noqa: F401  # loaded once; the children have it

    began = time.monotonic()
    _, status = os.waitpid(trained(root / "whole", settings), 0)
    assert status == 0, status
    seconds = time.monotonic() - began
    kills = 0
    for moment in sys.argv[3:]:
        if moment.isdecimal():
            kills += kill_until_finished(root / moment, settings, int(moment), seconds)
        else:
            _, status = os.waitpid(trained(root / moment, settings, moment), 0)
            assert os.WTERMSIG(status) == signal.SIGKILL, (moment, status)
    print(kills)  # noqa: T201


if __name__ == "__main__":
    main()
