"""A server that has imported the model libraries, which takes ten seconds, and forks the children that tests need.

`spawn` replaces `medcot.machine.spawn` in tests. A forked child has the command line, environment, folder, session and
streams that `python -m` would give it, and the test's process is its parent. A fresh Python is started instead on
machines with a GPU (CUDA does not survive a fork), on systems other than Linux, and when a variable that libraries
read at import differs from the server's.
"""

import atexit
import contextlib
import ctypes
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import traceback
import weakref
from pathlib import Path
from typing import Any, NoReturn

from medcot import machine

# On a model this small, threads only wait for each other; they would not survive a fork either.
os.environ.setdefault("OMP_NUM_THREADS", "1")
READ_AT_IMPORT = ("HF_", "LD_", "MKL_", "OMP_", "PYTHON", "TORCH", "TRANSFORMERS_")
MAY_DIFFER = ("HF_HUB_DISABLE_TELEMETRY", "HF_TOKEN", "PYTHONUNBUFFERED", "TORCHINDUCTOR_CACHE_DIR")
MAY_DIFFER += ("PYTHONIOENCODING",)  # workers get utf-8, which the server has anyway
# These may differ too: the server has these values, and `become` replaces them in what libraries derived from them.
PLACES = {"HF_HOME": "/nowhere/hub", "XDG_CACHE_HOME": "/nowhere/cache", "HF_ENDPOINT": "http://127.0.0.1:1"}
USUAL = {"HF_ENDPOINT": "https://huggingface.co"}
XET = "HF_HUB_DISABLE_XET"
LIBRARIES = ("accelerate", "datasets", "evaluate", "huggingface_hub", "peft", "transformers", "trl")
LOADED = (
    "wandb",  # before trl, as medcot.engine.tracking has it
    *(
        "medcot.engine.train.training",
        "medcot.engine.evaluate",
        "medcot.engine.answer.chat",
        "medcot.engine.answer.load",
    ),
    *("medcot.engine.train.audit", "medcot.engine.export", "medcot.engine.tracking"),
    *("rouge_score.rouge_scorer", "scipy.stats"),  # what an evaluation loads first when it counts
    *("medcot.cli", "medcot.adapters.push", "transformers.models.llama.modeling_llama", "torch.distributed.tensor"),
)
ROOT = Path(__file__).parents[1]
LONGEST_COMMAND = 4000
SET_CHILD_SUBREAPER = 36  # of prctl(2)

start = machine.spawn
_lock = threading.Lock()


def spawn(module: str, *arguments: str, **options: Any) -> subprocess.Popen:
    """Fork `python -m module`, or start it where a fork would differ."""
    given = options.get("env") or os.environ
    ours = module.partition(".")[0] in ("medcot", "tests")
    if ours and possible() and read_at_import(given) == read_at_import(ENVIRONMENT):
        return Forked([sys.executable, "-m", module, *arguments], **options)
    return start(module, *arguments, **options)


@functools.cache
def possible() -> bool:
    return sys.platform == "linux" and not machine.has_cuda()


def read_at_import(environment: Any) -> dict[str, str]:
    may_differ = (*MAY_DIFFER, *PLACES, XET)
    return {k: v for k, v in environment.items() if k.startswith(READ_AT_IMPORT) and k not in may_differ}


ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
ENVIRONMENT |= {"HF_HUB_DISABLE_TELEMETRY": "1", **PLACES}


def run(module: str, *arguments: object, fresh: bool = False, **options: Any) -> subprocess.CompletedProcess:
    """Run a module to its end like `subprocess.run`, its output captured as text; `fresh` always starts a Python."""
    piped = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with (start if fresh else machine.spawn)(module, *map(str, arguments), **{**piped, **options}) as child:
        try:
            said = child.communicate(timeout=200)
        except BaseException:
            child.kill()
            raise
    return subprocess.CompletedProcess(child.args, child.returncode, *said)


class Forked(subprocess.Popen):
    """A Popen whose process is forked: by the server or, within a forked process, by that process."""

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *rest):
        *_, in_read, in_write, out_read, out_write, err_read, err_write = rest[:9]
        new_session = rest[-2]
        streams = [n if given == -1 else given for n, given in enumerate((in_read, out_write, err_write))]
        environment = dict(os.environ if env is None else env)
        place, passed = str(cwd or Path.cwd()), list(pass_fds)
        self.pid = fork(list(map(str, args)), environment, place, [0, 1, 2, *passed], streams + passed, new_session)
        self._child_created = True
        self._close_pipe_fds(in_read, in_write, out_read, out_write, err_read, err_write)


def ask(*request: Any) -> int:
    """Ask the server for a child of this process; returns its pid."""
    *words, streams, new_session = request
    with _lock:
        socket.send_fds(server(), [json.dumps([*words, new_session]).encode()], streams)
        return int(server().recv(64))


fork = ask


@functools.cache
def server() -> socket.socket:
    # The server forks twice, so that its child is an orphan at once and falls to the nearest subreaper: this process.
    ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-c", "from tests import forkserver; forkserver.serve()", "-" * LONGEST_COMMAND]
    with theirs:
        subprocess.Popen(command, stdin=theirs, env=ENVIRONMENT, cwd=ROOT, start_new_session=True)
    return ours


# ---- in the server and its children


def serve() -> NoReturn:
    """Fork a child for each request on the socket that is the standard input, until the other end is closed."""
    link = socket.socket(fileno=os.dup(0))
    load()
    while True:
        data, streams, *_ = socket.recv_fds(link, 2**18, 8)
        if not data:
            os._exit(0)
        *words, new_session = json.loads(data)
        known, tell = os.pipe()
        between = os.fork()
        if not between:
            os.write(tell, str(fork_here(*words, streams, new_session)).encode())
            os._exit(0)
        os.waitpid(between, 0)
        link.send(os.read(known, 64))
        for each in (known, tell, *streams):
            os.close(each)


def load() -> None:
    """Import what children need."""
    for name in LOADED:
        importlib.import_module(name)
    global fork
    fork = fork_here
    machine.spawn = spawn
    places()  # cached before any child changes them
    gc.collect()
    gc.freeze()


@functools.cache
def places() -> list[tuple[dict[str, Any], str, Any]]:
    """(a module's namespace, a name in it, its value) for each value that libraries derived from PLACES."""
    modules = [vars(m) for name, m in list(sys.modules.items()) if m and name.partition(".")[0] in LIBRARIES]
    modules.append(vars(sys.modules["huggingface_hub.hf_api"].api))
    return [
        (names, name, value)
        for names in modules
        for name, value in list(names.items())
        if isinstance(value, str | Path) and str(value).startswith(tuple(PLACES.values()))
    ]


def fork_here(
    command: list[str], environment: dict[str, str], folder: str, numbers: list[int], streams: list[int], session: bool
) -> int:
    """Fork this process; returns the child's pid once the process table shows its command line."""
    shown, ready = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            become(command, environment, folder, dict(zip(numbers, streams, strict=True)), session)
            code = execute(command)
        except BaseException:  # noqa: BLE001  # nothing here may go on as the process that was forked
            traceback.print_exc()
            code = 1
        finish(code)
    os.close(ready)
    os.read(shown, 1)  # until the child closes its end, in `become`
    os.close(shown)
    return pid


def become(
    command: list[str], environment: dict[str, str], folder: str, streams: dict[int, int], session: bool
) -> None:
    """Give a forked process what a fresh one would have; `streams` are its open files by their numbers."""
    show(command)
    # Else the temporary folders of the process that was forked would be removed at the end of this one.
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]
    if session:
        os.setsid()
    os.chdir(folder)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    above = max(streams) + 1
    kept = {number: fcntl.fcntl(stream, fcntl.F_DUPFD, above) for number, stream in streams.items()}
    os.closerange(3, above)
    for number, stream in kept.items():
        os.dup2(stream, number)
    os.closerange(above, 2**16)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    # Not the server's own, which remember of what kind its files were.
    sys.stdout, sys.stderr = (os.fdopen(n, "w", 1, encoding="utf-8", closefd=False) for n in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    for names, name, value in places():
        text = str(value)
        for variable, place in PLACES.items():
            text = text.replace(place, environment.get(variable, USUAL.get(variable, place)).rstrip("/"))
        names[name] = type(value)(text)
    sys.modules["huggingface_hub.constants"].HF_HUB_DISABLE_XET = environment.get(XET) == "1"


def show(command: list[str]) -> None:
    """Overwrite this process's command line in the process table, by which a job's worker is recognised."""
    first, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    words = b"".join(os.fsencode(word) + b"\0" for word in command)
    assert len(words) < end - first, "LONGEST_COMMAND is too short"
    ctypes.memset(first, 0, end - first)
    ctypes.memmove(first, words, len(words))


def execute(command: list[str]) -> int:
    """Run `python -m module arguments`; returns the exit code."""
    sys.argv = command[2:]
    try:
        runpy.run_module(command[2], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)  # noqa: T201
        return int(bool(end.code)) if not isinstance(end.code, int) else end.code
    return 0


def finish(code: int) -> NoReturn:
    """Exit as the interpreter does, without unwinding the frames of the process that was forked."""
    with contextlib.suppress(Exception):
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
