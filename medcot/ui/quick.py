"""Imports gradio without the stub files that it writes beside each of its components at every import.

Parsing its own sources for them is more than half of gradio's import time, and they serve editors alone. It passes over
a component whose file cannot be told, and that is what it is told here, for as long as the import takes. Nothing an
import makes is garbage, so the collector rests meanwhile.
"""

import gc
import inspect
from typing import Any
from unittest import mock

_getfile = inspect.getfile


def _no_file_for_components(thing: Any) -> str:
    if isinstance(thing, type) and thing.__module__.startswith("gradio."):
        raise OSError("no stub file is wanted")
    return _getfile(thing)


gc.disable()
with mock.patch.object(inspect, "getfile", _no_file_for_components):
    import gradio  # noqa: F401
gc.enable()
