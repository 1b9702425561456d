"""What comes from elsewhere: run within limits, read if it is small and plain."""

import contextlib
import os
import resource
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from medcot.safety import foreign


@pytest.mark.parametrize(
    "work",
    [
        lambda: b"x" * 10**10,
        lambda: bytes(str(9 ** (9**9)), "ascii"),
        lambda: time.sleep(60) or b"x",
        lambda: os.kill(os.getpid(), signal.SIGKILL) or b"x",
        lambda: 1 / 0,
        lambda: sys.exit(1),
    ],
    ids=["memory", "computation in C", "sleep", "killed", "error", "exit"],
)
def test_what_takes_too_much_in_a_copy_gives_nothing_and_leaves_nothing(work):
    before = psutil.Process().children()
    assert foreign.in_a_copy(work, seconds=1.0, more_bytes=2**28) is None
    assert set(psutil.Process().children()) <= set(before)


def test_what_a_copy_makes_comes_back_whole_and_changes_nothing_here():
    made = []
    answer = foreign.in_a_copy(lambda: made.append(1) or b"x" * 10**6, seconds=20.0, more_bytes=2**28)
    assert (answer, made) == (b"x" * 10**6, [])


@pytest.mark.parametrize("content", ["[" * 100_000, "9" * 5000, "{", "", '{"a":' * 100_000])
def test_a_small_file_that_is_no_json_is_a_value_error(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r".+"):
        foreign.read_json(file)


def test_what_is_no_small_plain_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b" " * (foreign.MOST_SMALL + 1))
    for name in ("pipe", "long", ".", "nothing"):
        with pytest.raises(OSError, match=r".+"):
            foreign.read_small(tmp_path / name)
    with pytest.raises(OSError, match="no plain file"):
        foreign.require_plain(Path("/dev/zero"))


def test_what_takes_too_long_within_this_process_is_ended_even_if_it_holds_on():
    def work():
        with foreign.within(0.2):
            with contextlib.suppress(foreign.Late):
                9 ** (9**9)
            time.sleep(60)

    with pytest.raises(foreign.Late, match="more than 0 seconds"):
        work()
    with foreign.within(0.2):
        pass
    time.sleep(0.4)  # no alarm is left


def test_in_another_thread_there_is_no_alarm():
    def work():
        with foreign.within(0.1):
            time.sleep(0.3)
        return "done"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == "done"


def test_a_limit_that_the_system_has_set_already_is_kept():
    def work():
        most = psutil.Process().memory_info().vms + 2**28
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        foreign.limit_memory(2**40)
        return str(resource.getrlimit(resource.RLIMIT_AS)[0] == most).encode()

    assert foreign.in_a_copy(work, seconds=20.0, more_bytes=2**30) == b"True"
