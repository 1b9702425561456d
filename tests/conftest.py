"""What every test stands on: isolated state, a tiny real model, small records, and settings that use them."""

import gc
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from medcot import machine
from medcot.settings import RunSettings, build
from tests import forkserver, tiny

machine.spawn = forkserver.spawn
HIDDEN = (
    "HF_HUB_OFFLINE",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "HF_ASSETS_CACHE",
    "WANDB_API_KEY",
    "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests first: a file goes to one process, and at the end none should wait for another."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


_frozen = 0  # modules that were loaded at the last gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Spare the garbage collector the libraries: walking through them is half of what a tiny training takes."""
    global _frozen
    if len(sys.modules) > _frozen + 200:
        _frozen = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the developer's runs, caches, tokens or accounts; children inherit this."""
    state = tmp_path_factory.mktemp("state")
    for name in ("MEDCOT_RUNS_DIR", "MEDCOT_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(state / name.lower()))
    for name in HIDDEN:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _started(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start fresh Python processes in tests that are marked `real_spawn`."""
    if request.node.get_closest_marker("real_spawn"):
        monkeypatch.setattr(machine, "spawn", forkserver.start)


@pytest.fixture
def runs_dir() -> Path:
    """Where `medcot` keeps runs during this test; not made yet."""
    return Path(os.environ["MEDCOT_RUNS_DIR"])


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random two-layer Llama with a real tokenizer; built once, also under pytest-xdist. Read only."""
    shared = tmp_path_factory.getbasetemp()
    if shared.name.startswith("popen-"):  # one process of several
        shared = shared.parent
    folder = shared / "tiny-model"
    with FileLock(shared / "tiny-model.lock"):
        if not (folder / "model.safetensors").is_file():
            tiny.build(folder)
    return folder


_TOPICS = ("anaemia", "asthma", "gout", "migraine", "sepsis", "stroke", "croup", "malaria", "eczema", "angina")


def at_once(count: int, do: Callable[[], object]) -> list:
    """What a function returns in each of so many threads that begin in one moment."""
    ready = threading.Barrier(count)

    def begin(_: int) -> object:
        ready.wait()
        return do()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def make_records(n: int) -> list[dict[str, str]]:
    """Small valid records, each its own."""
    return [
        {
            "Question": f"Case {i}: what suggests {_TOPICS[i % len(_TOPICS)]}?",
            "Complex_CoT": f"Think of {_TOPICS[i % len(_TOPICS)]} first. Sign {i} fits it.",
            "Response": f"Sign {i} suggests {_TOPICS[i % len(_TOPICS)]}.",
        }
        for i in range(1, n + 1)
    ]


def write_records(path: Path, n: int = 16) -> Path:
    """Write `make_records(n)` as JSON lines."""
    path.write_text("".join(json.dumps(r) + "\n" for r in make_records(n)), encoding="utf-8")
    return path


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """A file of 16 small valid records."""
    return write_records(tmp_path / "records.jsonl", 16)


@pytest.fixture
def tiny_settings(tiny_model: Path, records: Path) -> RunSettings:
    """A run of four steps that takes seconds on any machine."""
    return build(tiny_raw(tiny_model, records))


def tiny_raw(model: Path | str, data: Path | str) -> dict:
    """The plain values behind `tiny_settings`, to change before `medcot.settings.build`."""
    return {
        "model": {"id": str(model), "dtype": "float32"},
        "data": {"source": str(data), "held_out": 4},
        "lora": {"rank": 4, "alpha": 8},
        "training": {
            "max_steps": 4,
            "micro_batch": 2,
            "accumulation": 1,
            "learning_rate": 1e-2,
            "warmup_steps": 0,
            "max_length": 256,
            "validate_steps": 2,
            "save_steps": 2,
        },
        "evaluation": {"max_new_tokens": 16, "batch_size": 8},
    }


def pairs(raw: dict) -> list[str]:
    """Nested plain values as the arguments of `--set`."""
    return [
        f"{section}.{name}={value if isinstance(value, str) else json.dumps(value)}"
        for section, values in raw.items()
        for name, value in values.items()
    ]
