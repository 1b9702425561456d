"""What this machine has, from what nvidia-smi says."""

import pytest

from medcot import device

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
    found = device.gpus()
    assert [g.name for g in found] == ["NVIDIA H200", "NVIDIA A10, rev, B"]
    assert found[0].memory_gib == pytest.approx(140.4, abs=0.1)
    assert found[1].free_gib == 0.5
    assert device.device().name == "NVIDIA H200 (140 GiB), NVIDIA A10, rev, B (22 GiB)"


def test_a_card_that_shares_the_hosts_memory_does_no_harm(smi):
    smi("NVIDIA GB10, [N/A], [N/A]")
    assert device.gpus()[0].memory_gib == 0.0


def test_a_driver_that_does_not_answer_is_no_gpu(smi):
    smi("NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.", code=9)
    assert device.gpus() == ()
    smi("No devices were found")
    assert device.gpus() == ()


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_none(smi, monkeypatch, hidden):
    smi("NVIDIA H200, 143771, 143000")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert device.gpus() == ()


def test_without_nvidia_smi_the_cpu_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = device.device()
    assert found.gpus == ()
    assert found.name.startswith("CPU, ")
    assert 0 < found.free_memory_gib <= found.memory_gib
    assert found.cores >= 1
