"""The only place that imports torch, and only ever inside a worker process."""

import importlib.util
import sys

# Beside a CPU build of torch, the registry's torchvision cannot load, and transformers and trl then fail with it.
# Nothing here needs it, so where it is broken they are told that it is absent.
if importlib.util.find_spec("torchvision"):
    try:
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError):
        for _name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[_name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]
