"""Into how many processes a job is split, and whether this machine can have them."""

import os

from medcot.device import gpus
from medcot.errors import Problem

HOSTS = "PET_NNODES"  # torchrun's own variable for the number of hosts


def hosts() -> int:
    """Hosts that share a job's processes: one, or what torchrun is told."""
    told = os.environ.get(HOSTS, "1")
    return int(told) if told.isdigit() and int(told) else 1


def here(count: int) -> int:
    """How many of a job's processes this host has."""
    return max(1, count // hosts())


def visible_gpus(count: int) -> str:
    """CUDA_VISIBLE_DEVICES for a job: a GPU for each of its processes on this host and no more, since with several in
    sight of one process the Trainer would multiply the batch without a word."""
    known = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(here(count)))))
    return ",".join(known.split(",")[: here(count)])


def problems(count: int, where: str) -> list[Problem]:
    """Why a job cannot have that many processes here; `where` is the setting that says so."""
    found = []
    if count % hosts():
        found.append(Problem(where, f"{count} processes cannot be shared evenly by {hosts()} hosts ({HOSTS})."))
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = len(gpus()) if listed is None else min(len(gpus()), len(listed.split(",")))
    if there and here(count) > there:
        found.append(
            Problem(
                where,
                f"each process on this host takes a GPU of its own, {here(count)} in all, and there are {there}.",
                f"Set {where}={there * hosts()} or less.",
            )
        )
    return found
