"""llama.cpp's own server over one GGUF file, in a process of its own: `python -m medcot.engine.gguf.server`.

It reads what to serve as one line of JSON, answers with one line, serves until its standard input ends, and imports no
model library: whatever a damaged file does to llama.cpp, it does to this process alone.
"""

import os
import sys
from pathlib import Path

from pydantic import BaseModel


class Order(BaseModel):
    """What to serve, and how."""

    file: Path
    adapter: Path | None = None
    key: str
    context: int
    slots: int
    threads: int


class Started(BaseModel):
    """What came of it: an address, or why there is none."""

    address: str = ""
    problem: str = ""


def serve(order: Order) -> object:
    """The running server. Raises RuntimeError or ValueError if llama.cpp refuses the file."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(order.file)
    if order.adapter:
        lora = xllamacpp.CommonAdapterLoraInfo()
        lora.path, lora.scale = str(order.adapter), 1.0
        params.lora_adapters = [lora]
    params.api_keys = [order.key]
    params.n_ctx, params.n_parallel = order.context * order.slots, order.slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = order.threads
    # The text as the model wrote it, whatever a template promises of reasoning.
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    params.force_pure_content_parser = True
    params.use_jinja, params.ui, params.warmup, params.verbosity = True, False, False, 1
    return xllamacpp.Server(params)


def main() -> int:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the library prints what it likes
    order = Order.model_validate_json(sys.stdin.readline())
    running: object = None
    try:
        running = serve(order)
        said = Started(address=str(running.listening_address))  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001  # whatever it was, the starter is told
        said = Started(problem=str(error) or type(error).__name__)
    out.write(said.model_dump_json() + "\n")
    out.flush()
    if running:
        sys.stdin.read()
    return 0 if running else 1


if __name__ == "__main__":
    os._exit(main())  # the library's own end waits for answers under way, which nobody reads any more
