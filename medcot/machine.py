"""This machine: GPUs, cores, memory, disk, and starting a child process on it; without torch."""

import ctypes
import errno
import functools
import hashlib
import io
import os
import resource
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psutil

from medcot.errors import BadInput, Problem

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory_gib: float
    free_gib: float


@dataclass(frozen=True, slots=True)
class Device:
    gpus: tuple[Gpu, ...]
    cores: int
    memory_gib: float
    free_memory_gib: float

    @property
    def name(self) -> str:
        """The GPUs, or the CPU's cores and memory."""
        if self.gpus:
            return ", ".join(f"{g.name} ({g.memory_gib:.0f} GiB)" for g in self.gpus)
        return f"CPU, {self.cores} cores, {self.memory_gib:.0f} GiB of memory, no GPU"


def gpus() -> tuple[Gpu, ...]:
    """CUDA GPUs as nvidia-smi lists them; none where it is absent, or CUDA_VISIBLE_DEVICES hides them."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1") or not shutil.which("nvidia-smi"):
        return ()
    query = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [line.rsplit(",", 2) for line in lines if line.count(",") >= 2]
    return tuple(Gpu(name.strip(), _gib(total), _gib(free)) for name, total, free in rows)


def _gib(mebibytes: str) -> float:
    # Cards that share the host's memory answer [N/A].
    return float(mebibytes) / 1024 if mebibytes.strip().replace(".", "").isdigit() else 0.0


def device() -> Device:
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _container_limit()
    total = min(memory.total, limit or memory.total)
    return Device(gpus(), cores, total / 2**30, free_memory() / 2**30)


def free_memory() -> int:
    """Bytes that new processes may take here."""
    available = int(psutil.virtual_memory().available)
    return min(available, _container_limit() or available)


@functools.cache
def computes_bfloat16() -> bool:
    """Whether this CPU has bfloat16 arithmetic, as Linux lists it."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(flags)


def _container_limit() -> int | None:
    """The memory limit of this container, in bytes, where cgroups set one."""
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


@functools.cache
def has_cuda() -> bool:
    return bool(gpus())


def no_core_dumps() -> None:
    """Let neither this process nor its children leave a core file: it would hold what was typed, keys too."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


M_ARENA_MAX = -8  # of mallopt(3)


def few_heaps() -> None:
    """Let all threads of this process share one heap, where its C library is glibc.

    By default each of many threads gets another, whose free parts no other thread uses: the more threads have ever
    worked at once, the more memory stays.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def give_memory_back() -> None:
    """Give what is free within the heap back to the system; glibc does so by itself only at the heap's end."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def open_files(most: int = 65_536) -> int:
    """Raise this process's limit of open files and connections as far as it may, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return most if soft == resource.RLIM_INFINITY else soft
    with suppress(OSError, ValueError):  # macOS names a limit that it does not grant
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def spawn(module: str, *arguments: str, **options: Any) -> "subprocess.Popen[Any]":
    """Start `python -m module` as a child process; `options` are Popen's. All children of medcot start here.

    Raises BadInput if this machine can start none.
    """
    no_core_dumps()
    try:
        child = subprocess.Popen([sys.executable, "-m", module, *arguments], **options)
    except OSError as error:
        raise _exhausted(error.strerror or str(error)) from None
    # Reaps it when it ends, whoever started it: what is not waited for stays as a zombie of this process.
    attend(child, subprocess.Popen.wait)
    return child


def attend(child: "subprocess.Popen[Any]", *tasks: Callable[["subprocess.Popen[Any]"], object]) -> None:
    """Start a thread over a child for each task. Raises BadInput, and ends the child, where no thread is left."""
    try:
        for task in tasks:
            threading.Thread(target=task, args=(child,), daemon=True).start()
    except RuntimeError as error:
        child.kill()
        raise _exhausted(str(error)) from None


def _exhausted(reason: str) -> BadInput:
    what = f"No further process can be started on this machine: {reason}."
    return BadInput.of("", what, "End other programs, or try again later.")


def escape_unknown_letters() -> None:
    """Write as \\u2192 what a console's encoding does not have, where an answer would be lost to an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def disk_in_words(where: str, what: str, fix: str = "", page: str | None = None) -> Iterator[None]:
    """Turn an OSError inside (a full disk, missing rights) into BadInput."""
    try:
        yield
    except OSError as error:
        raise BadInput.of(where, f"{what}: {error.strerror or error}.", fix, page) from None


def is_full_disk(error: BaseException) -> bool:
    """Whether a write failed for want of space. safetensors and tokenizers only say so in the text of another error."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(f"(os error {number})" in str(error) for number in (errno.ENOSPC, errno.EDQUOT))


def write_atomically(path: Path, text: str) -> None:
    """Replace a file: readers see the old text or the new one, whole, also after a power cut."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    # Readable like any new file, where mkstemp's is its owner's alone: runs are shared by the folder's rights.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


# What a child inherits: the settings of the system and the libraries, and medcot's own, by name or by its beginning.
INHERITED = """
    PATH HOME USER LOGNAME SHELL TERM TZ LANG LANGUAGE TMPDIR TMP TEMP VIRTUAL_ENV NETRC
    LD_LIBRARY_PATH LD_PRELOAD LIBRARY_PATH CPATH C_INCLUDE_PATH CC CXX CFLAGS LDFLAGS MASTER_ADDR MASTER_PORT
    HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY REQUESTS_CA_BUNDLE CURL_CA_BUNDLE TRACKIO_DIR
"""
BEGINNINGS = """
    LC_ XDG_ DYLD_ SSL_ PYTHON PIP_ UV_ CONDA_ MEDCOT_ HF_ HUGGINGFACE_ TRANSFORMERS_ DATASETS_ TOKENIZERS_
    SAFETENSORS_ ACCELERATE_ TORCH PYTORCH_ UNSLOTH_ TRITON_ BNB_ BITSANDBYTES_ XFORMERS_ WANDB_ NLTK_ ARROW_
    CUDA NVIDIA_ NCCL_ GLOO_ PET_ SLURM_ ROCR_ ROCM_ HIP_ HSA_ OMP_ MKL_ KMP_ GOMP_ OPENBLAS_ NUMEXPR_ MALLOC_
"""
# The page's own, and keys that few jobs need: those are given them by `own`.
WITHHELD = ("MEDCOT_AUTH", "MEDCOT_AUTH_FILE", "MEDCOT_TOKEN", "MEDCOT_ENDPOINT_KEY", "WANDB_API_KEY")


def is_inherited(name: str) -> bool:
    """Whether every child gets this variable of the environment."""
    return name not in WITHHELD and (name.upper() in INHERITED.split() or name.startswith(tuple(BEGINNINGS.split())))


def own(*names: str) -> dict[str, str]:
    """Those of the named variables that this process has: a job's secrets that no other child gets."""
    return {name: os.environ[name] for name in names if name in os.environ}


def child_environment(secrets: Mapping[str, str] | None = None, count: int = 1) -> dict[str, str]:
    """For any worker: no telemetry, output at once, a GPU for each of its `count` processes, and this job's secrets.

    Of this process's environment it gets what it may need, and nothing else: an adapter or a model from elsewhere is
    loaded there.
    """
    quiet = dict.fromkeys(("PYTHONUNBUFFERED", "HF_HUB_DISABLE_TELEMETRY", "UNSLOTH_DISABLE_STATISTICS"), "1")
    quiet |= {"TOKENIZERS_PARALLELISM": "false", "PYTHONIOENCODING": "utf-8"}  # whatever the console here writes
    # With more visible GPUs than processes, the Trainer silently multiplies the batch of one process.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(here(count))))).split(",")[: here(count)]
    inherited = {name: value for name, value in os.environ.items() if is_inherited(name)}
    return {**inherited, **quiet, "CUDA_VISIBLE_DEVICES": ",".join(visible), **(secrets or {})}


HOSTS = "PET_NNODES"  # torchrun's own variable for the number of hosts


def hosts() -> int:
    """Hosts that share a job's processes: PET_NNODES, else one."""
    return max(1, int(count)) if (count := os.environ.get(HOSTS, "1")).isdigit() else 1


def here(count: int) -> int:
    """How many of a job's processes this host has."""
    return max(1, count // hosts())


def problems(count: int, where: str) -> list[Problem]:
    """Why a job cannot have that many processes here; `where` is the setting that says so."""
    found = []
    if count % hosts():
        found.append(Problem(where, f"{count} processes cannot be shared evenly by {hosts()} hosts ({HOSTS})."))
    if here(count) == 1:  # always fits, the page asks often, and to count the GPUs starts nvidia-smi
        return found
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = len(gpus()) if listed is None else min(len(gpus()), len(listed.split(",")))
    if there and here(count) > there:
        what = f"each process on this host takes a GPU of its own, {here(count)} in all, and there are {there}."
        found.append(Problem(where, what, f"Set {where}={there * hosts()} or less."))
    return found


def in_thread(do: Callable[P, T], *args: P.args, **named: P.kwargs) -> "Future[T]":
    """What a daemon thread computes: unlike an executor's, it holds up no process that ends."""
    found: Future[T] = Future()

    def run() -> None:
        try:
            found.set_result(do(*args, **named))
        except BaseException as error:  # noqa: BLE001  # whoever asks for the result is told
            found.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return found


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
