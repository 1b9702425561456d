"""What `medcot doctor` says of a machine, and that the page says the same."""

from medcot import hub
from medcot.machine import Device, Gpu
from medcot.settings import recipes
from medcot.workers import doctor


class TorchSees:
    """A service worker that answers what torch sees."""

    def __init__(self, **value):
        self.value = value

    def __call__(self, runs_dir):
        return self

    def result(self, request, kind):
        return kind(**self.value)

    def close(self):
        pass


def test_a_gpu_that_is_busy_now_changes_no_recommendation_and_one_too_small_does(tmp_path, monkeypatch):
    def recommended(total, free, cuda=True):
        here = Device((Gpu("H", total, free),), 8, 64, 32)
        monkeypatch.setattr(doctor, "device", lambda: here)
        monkeypatch.setattr(
            doctor,
            "ServiceClient",
            TorchSees(cuda=cuda, cuda_version=None, gpus=1, compute_dtype="bfloat16", threads=1),
        )
        monkeypatch.setattr(hub, "unreachable", lambda: None)
        said = doctor.examine(tmp_path).recipe
        assert not cuda or said == recipes.recommended(here.gpus), "the page preselects the same"
        return said

    assert recommended(80, 1) == recommended(80, 79) == "llama-3.2-3b-medical-cot"
    assert recommended(4, 4) == recommended(80, 79, cuda=False) == "starter"
