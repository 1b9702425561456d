"""The launcher of a job's processes, and the files that pass stop and outcome between it and them; without torch."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from medcot import machine
from medcot.engine.outcome import Outcome, StopSignal
from medcot.errors import Failure, Problem
from medcot.runs.job_dir import JobDir

RANK_MODULE = "medcot.engine.rank"
WATCHED = "MEDCOT_WORKER_AT_STDIN"  # set where the standard input is the worker's pipe
POLL_SECONDS = 0.2


class Channel:
    """The files that pass stop and outcome between the worker and the processes; the stop signal of these."""

    def __init__(self, job: JobDir):
        self._folder = job.path / ".together"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The worker's end: nothing is there before, and nothing stays."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        try:
            yield
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def write_outcome(self, outcome: Outcome) -> None:
        """Keep only the first outcome; later ones are its consequences."""
        with suppress(OSError), (self._folder / "outcome").open("x", encoding="utf-8") as file:
            file.write(outcome.model_dump_json())

    def outcome(self) -> Outcome | None:
        """Read when all have ended; None if no process wrote it, or it was cut off."""
        try:
            return Outcome.model_validate_json((self._folder / "outcome").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    @property
    def requested(self) -> bool:
        return (self._folder / "stop").exists()

    @contextmanager
    def graceful(self) -> Iterator[None]:
        """From here on a stop waits for the end of the step under way; before, it ends the processes at once."""
        (self._folder / "graceful").touch()
        yield

    def stop(self) -> bool:
        """Ask the processes to stop; False if they cannot be asked yet."""
        if not (self._folder / "graceful").exists():
            return False
        (self._folder / "stop").touch()
        return True


def run(job: JobDir, count: int, stop: StopSignal) -> Outcome:
    """Run a job in `count` processes to its end; it fails if one of them does or is killed."""
    channel = Channel(job)
    children: list[subprocess.Popen[bytes]] = []
    with channel.opened():
        try:
            children.extend(_start(job.path, count))
            while None in (codes := [child.poll() for child in children]) and not any(codes):
                if stop.requested and not channel.stop():
                    return Outcome(stopped_at=0)
                time.sleep(POLL_SECONDS)
        finally:
            _end(children)
        killed = f"One of the {count} processes ended without a word: it was killed, as when memory runs out."
        look = "The end of worker.log may say more. Continue it with --resume when that is fixed."
        return channel.outcome() or Outcome(failure=Failure(problems=[Problem("", killed, look)]))


def _start(folder: Path, count: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Start this host's processes. On several hosts torchrun does, which takes the rest from PET_* variables."""
    here = machine.here(count)
    rank = [RANK_MODULE, str(folder.resolve())]
    threads = str(max(1, machine.device().cores // here))  # else each would take all cores, or torchrun one
    shared = {"OMP_NUM_THREADS": threads, **os.environ, WATCHED: "1"}
    starts = [(["torch.distributed.run", "--nproc-per-node", str(here), "-m", *rank], shared)]
    if machine.hosts() == 1:
        with socket.create_server(("localhost", 0)) as free:
            shared |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(free.getsockname()[1])}
        shared |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        starts = [(rank, {**shared, "RANK": str(number), "LOCAL_RANK": str(number)}) for number in range(count)]
    for command, environment in starts:
        yield machine.spawn(*command, stdin=subprocess.PIPE, env=environment, start_new_session=True)


def _end(children: "list[subprocess.Popen[bytes]]") -> None:
    """Kill the processes on this host and what they started; when this returns, none is left."""
    family: list[psutil.Process] = []
    for child in children:
        with suppress(psutil.Error):
            family += psutil.Process(child.pid).children(recursive=True) if child.poll() is None else []
        assert child.stdin is not None
        child.stdin.close()
        child.kill()
        child.wait()
    for process in family:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(family, timeout=10)
