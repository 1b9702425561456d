"""Waiting for what a real worker does, and reading what it said; disks that are really full."""

import subprocess
import time

import psutil
import pytest

from medcot.runs.job_dir import ALIVE

WAIT = 120


def until(condition, what):
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {WAIT} s for {what}")


def ended(job):
    until(lambda: job.status().state not in ALIVE, f"the end of {job.path.name}")
    return job.status()


def events(job, kind):
    return [e for e in job.events()[0] if isinstance(e, kind)]


def living(pids):
    """Those of the processes that are there and no zombies, which wait for a parent that may not care."""
    return [p.pid for p in psutil.process_iter(["status"]) if p.pid in pids and p.info["status"] != "zombie"]


def mounted(folder, options):
    """A disk of its own, for as long as the generator is held."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"only root may mount a disk of its own: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, leaving=0):
    """Fill a disk to its last byte, but for `leaving` bytes."""
    with (folder / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                break
        file.truncate(max(0, file.tell() - leaving))
