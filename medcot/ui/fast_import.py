"""The first import of gradio, without the stub files that it writes beside its components at every import.

Parsing its own sources for those stubs, which only editors read, takes more than half of gradio's import time. Gradio
skips components without a source file, so `inspect.getfile` raises during the import. The garbage collector is off
meanwhile, since an import makes no garbage. (gradio 6; `gradio.component_meta.create_or_modify_pyi`,
https://github.com/gradio-app/gradio/blob/main/gradio/component_meta.py)
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
