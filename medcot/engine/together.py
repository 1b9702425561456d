"""The worker's side of a job of several processes: torchrun starts them, and this sees them to their end.

The worker keeps what it has in any job: the slot, the status, the last event. The processes (rank.py) share the work,
and the first of them writes the rest of the folder. They speak through files in `.together`: how it ended, that
training is under way, and the wish to stop. The worker's death ends their standard input, and with it them.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import psutil
from pydantic import BaseModel

from medcot import processes
from medcot.device import device
from medcot.jobdirs import JobDir

RANK_MODULE = "medcot.engine.rank"
WATCHED = "MEDCOT_WORKER_AT_STDIN"  # set where the standard input is the worker's pipe
POLL_SECONDS = 0.2


class Outcome(BaseModel):
    """How the processes ended; `stopped_at` is the step after which they were stopped."""

    stopped_at: int | None = None
    peak_memory_gib: float = 0.0
    error: str = ""
    hint: str = ""
    bad_input: bool = False


class ProcessFailed(Exception):
    """One of the processes failed, and with it all; says what that one said."""

    def __init__(self, outcome: Outcome):
        super().__init__(outcome.error)
        self.hint, self.bad_input = outcome.hint, outcome.bad_input


class Wish(Protocol):
    requested: bool


class Together:
    """The files through which the worker and the processes of a job speak."""

    def __init__(self, job: JobDir):
        self._folder = job.path / ".together"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The worker's: nothing is there before, and nothing stays."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        try:
            yield
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def say(self, outcome: Outcome) -> None:
        """The first word counts: what another process says after it is only the consequence."""
        with suppress(OSError), (self._folder / "outcome").open("x", encoding="utf-8") as file:
            file.write(outcome.model_dump_json())

    def outcome(self) -> Outcome | None:
        """Read when all have ended; None where none had a word to say, or it was cut off."""
        try:
            return Outcome.model_validate_json((self._folder / "outcome").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    @property
    def requested(self) -> bool:
        """The wish to stop, as the processes see it."""
        return (self._folder / "stop").exists()

    @contextmanager
    def graceful(self) -> Iterator["Together"]:
        """From here on a stop waits for the end of the step under way; before, it ends the processes at once."""
        (self._folder / "graceful").touch()
        yield self

    def stop(self) -> bool:
        """Ask them to; False where they cannot be asked yet."""
        if not (self._folder / "graceful").exists():
            return False
        (self._folder / "stop").touch()
        return True


def run(job: JobDir, count: int, wish: Wish) -> Outcome:
    """Run a job in `count` processes to its end. Raises ProcessFailed where one of them failed or was killed."""
    together = Together(job)
    with together.opened():
        agent = subprocess.Popen(
            command(job.path, count), stdin=subprocess.PIPE, env=environment(count), start_new_session=True
        )
        asked = False
        try:
            while agent.poll() is None:
                if wish.requested and not asked:
                    asked = together.stop()
                    if not asked:
                        return Outcome(stopped_at=0)
                time.sleep(POLL_SECONDS)
        finally:
            _end(agent)
        outcome = together.outcome() or Outcome(
            error=f"One of the {count} processes ended without a word: it was killed, as when memory runs out.",
            hint="The end of worker.log may say more. Continue it with --resume when that is mended.",
        )
    if outcome.error:
        raise ProcessFailed(outcome)
    return outcome


def command(folder: Path, count: int) -> list[str]:
    """torchrun for this host's share of the processes; for several hosts it takes the rest from PET_* variables."""
    alone = ["--standalone", "--local-addr", "localhost"] if processes.hosts() == 1 else []
    share = ["--nproc-per-node", str(processes.here(count))]
    return [sys.executable, "-m", "torch.distributed.run", *alone, *share, "-m", RANK_MODULE, str(folder.resolve())]


def environment(count: int) -> dict[str, str]:
    threads = str(max(1, device().cores // processes.here(count)))  # else each would take all cores, or torchrun one
    return {"OMP_NUM_THREADS": threads, **os.environ, WATCHED: "1"}


def _end(agent: subprocess.Popen[bytes]) -> None:
    """When this returns, none of them is left on this host."""
    assert agent.stdin is not None
    left = []
    with suppress(psutil.Error):
        left = psutil.Process(agent.pid).children(recursive=True)
    agent.stdin.close()
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    agent.kill()
    agent.wait()
    psutil.wait_procs(left, timeout=10)
