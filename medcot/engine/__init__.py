"""The only place that imports torch, and only ever inside a worker process.

Patches of other libraries' imports are here; those of transformers' layers are in decode/, and those of trl's loss and
peft's layers in train/fused.py.
"""

import functools
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock


def without_broken_torchvision() -> None:
    """Make a torchvision that cannot load look absent; call this where the model libraries are about to be imported.

    Beside a CPU build of torch, the registry's cannot load, and transformers and trl then fail with it
    (vllm-project/vllm#15372). Nothing here needs it. Trying it loads torch, which takes seconds.
    """
    if not importlib.util.find_spec("torchvision"):
        return
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]


def without_wandb() -> None:
    """Keep trl from importing wandb, which takes half a second and more (wandb/wandb#5440)."""
    sys.modules.setdefault("wandb", None)  # type: ignore[arg-type]


@contextmanager
def no_trainer_but_sft() -> Iterator[None]:
    """Inside, SFTTrainer is the only trainer of trl that can be imported, with what it inherits from.

    Unsloth rewrites each that it finds when it is imported itself, which took a third of its time.
    """
    spec = importlib.util.find_spec("trl")
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or []]
    files = (file.relative_to(folder) for folder in folders for file in folder.rglob("*_trainer.py"))
    names = (".".join(("trl", *file.with_suffix("").parts)) for file in files)
    hidden = [n for n in names if n not in sys.modules and not n.endswith((".sft_trainer", ".base_trainer"))]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def gguf_read_once() -> Any:
    """Parse a GGUF file once inside, and make its table of names once: transformers does the one on each access (until
    huggingface/transformers#48656), the other for each module."""
    import gguf

    kept = {name: functools.cache(getattr(gguf, name)) for name in ("GGUFReader", "get_tensor_name_map")}
    return mock.patch.dict(vars(gguf), kept)
