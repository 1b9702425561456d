"""What this machine has, from what nvidia-smi says."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

from medcot import machine

SMI = """#!/bin/sh
cat <<'END'
{lines}
END
exit {code}
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    def says(lines: str, code: int = 0) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(SMI.format(lines=lines, code=code))
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return says


def test_gpus_are_listed_with_their_memory(smi):
    smi("NVIDIA H200, 143771, 143000\nNVIDIA A10, rev, B, 23028, 512")
    found = machine.gpus()
    assert [g.name for g in found] == ["NVIDIA H200", "NVIDIA A10, rev, B"]
    assert found[0].memory_gib == pytest.approx(140.4, abs=0.1)
    assert found[1].free_gib == 0.5
    assert machine.device().name == "NVIDIA H200 (140 GiB), NVIDIA A10, rev, B (22 GiB)"


def test_a_card_that_shares_the_hosts_memory_does_no_harm(smi):
    smi("NVIDIA GB10, [N/A], [N/A]")
    assert machine.gpus()[0].memory_gib == 0.0


def test_a_driver_that_does_not_answer_is_no_gpu(smi):
    smi("NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.", code=9)
    assert machine.gpus() == ()
    smi("No devices were found")
    assert machine.gpus() == ()


def test_each_process_needs_a_gpu_where_there_are_gpus_and_one_process_always_has_its_own(smi, monkeypatch):
    smi("NVIDIA H200, 143771, 143000")
    (told,) = machine.problems(2, "training.processes")
    assert "2 in all, and there are 1" in str(told)
    assert machine.problems(1, "training.processes") == []
    monkeypatch.setenv(machine.HOSTS, "2")
    assert machine.problems(2, "training.processes") == []
    (told,) = machine.problems(3, "training.processes")
    assert "cannot be shared evenly" in str(told)
    smi("", code=9)
    assert machine.problems(4, "training.processes") == []


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_none(smi, monkeypatch, hidden):
    smi("NVIDIA H200, 143771, 143000")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert machine.gpus() == ()


def test_without_nvidia_smi_the_cpu_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = machine.device()
    assert found.gpus == ()
    assert found.name.startswith("CPU, ")
    assert 0 < found.free_memory_gib <= found.memory_gib
    assert found.cores >= 1


@pytest.mark.real_spawn
def test_a_child_that_has_ended_leaves_no_zombie_though_nobody_waits_for_it():
    pids = [machine.spawn("json.tool", "--help", stdout=subprocess.DEVNULL).pid for _ in range(3)]
    killed = machine.spawn("http.server", "0", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    killed.kill()
    deadline = time.monotonic() + 30
    while any(map(psutil.pid_exists, [*pids, killed.pid])):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert killed.wait(timeout=5) == -signal.SIGKILL, "its code is kept for whoever asks"


@pytest.mark.real_spawn
def test_a_child_can_be_asked_and_ended_while_it_is_waited_for():
    child = machine.spawn("http.server", "0", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert child.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(timeout=0.1)
    child.terminate()
    assert child.wait(timeout=30) == -signal.SIGTERM


CANARY = "canary"
KEPT_BACK = (
    *("MEDCOT_AUTH", "MEDCOT_AUTH_FILE", "MEDCOT_TOKEN", "MEDCOT_ENDPOINT_KEY", "WANDB_API_KEY"),
    *("OAUTH_CLIENT_SECRET", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DATABASE_URL", "MY_PASSWORD"),
)
PASSED_ON = (
    *("PATH", "HOME", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "https_proxy", "NO_PROXY", "SSL_CERT_FILE", "CC"),
    *("HF_HOME", "HF_TOKEN", "HF_ENDPOINT", "TRANSFORMERS_CACHE", "TORCHINDUCTOR_CACHE_DIR", "CUDA_HOME"),
    *("NCCL_DEBUG", "OMP_NUM_THREADS", "PYTHONPATH", "PIP_INDEX_URL", "WANDB_MODE", "MEDCOT_CACHE", "PET_NNODES"),
)


@pytest.mark.parametrize("name", KEPT_BACK)
def test_a_child_inherits_no_secret_that_it_does_not_need(monkeypatch, name):
    monkeypatch.setenv(name, CANARY)
    assert CANARY not in machine.child_environment().values()
    assert machine.child_environment(machine.own(name))[name] == CANARY, "whoever needs it is given it"


@pytest.mark.parametrize("name", PASSED_ON)
def test_a_child_inherits_what_libraries_are_set_by(monkeypatch, name):
    monkeypatch.setenv(name, CANARY)
    assert machine.child_environment()[name] == CANARY


def test_no_process_leaves_a_core_file_with_keys_in_it():
    import resource

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    told = "import resource; print(resource.getrlimit(resource.RLIMIT_CORE)[0])"
    with machine.spawn("timeit", "-n1", "-r1", told, stdout=subprocess.PIPE, text=True) as child:
        assert child.communicate(timeout=60)[0].splitlines()[0] == "0"


_HEAPS = """
import threading, psutil
from medcot import machine
{before}
started = threading.Barrier(12)
lists = [[] for _ in range(12)]
def work(kept):
    held = [bytearray(700) for _ in range(10_000)]
    started.wait()
    kept.append(held.pop())
threads = [threading.Thread(target=work, args=(kept,)) for kept in lists]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
{after}
print(psutil.Process().memory_info().rss // 2**20)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's heaps")
def test_memory_that_many_threads_have_used_goes_back_to_the_system():
    def left(before, after):
        done = subprocess.run(
            [sys.executable, "-c", _HEAPS.format(before=before, after=after)],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(done.stdout)

    kept, given_back = left("", ""), left("machine.few_heaps()", "machine.give_memory_back()")
    assert given_back + 20 < kept
