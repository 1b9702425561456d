"""What an export can be: formats and quantizations, named once for the page, the command line and the engine."""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Literal, get_args

from pydantic import Field

from medcot.errors import BadInput, Problem
from medcot.settings.sources import Section

Format = Literal["merged", "gguf", "lora-gguf"]
FORMATS: dict[Format, str] = {
    "merged": "Base and adapter as one model in 16 bits: a folder for transformers and vLLM.",
    "gguf": "One file for llama.cpp and Ollama, with a Modelfile.",
    "lora-gguf": "The adapter alone as a small GGUF file, to be loaded on its base's.",
}


@dataclass(frozen=True, slots=True)
class Quantization:
    """How weights are stored in a GGUF file; `tool`: llama.cpp's own program has to make it from the f16 file."""

    about: str
    bits: float  # a weight, about
    tool: bool = False


# Vocabulary and output layer of the small ones stay in 8 bits.
QUANTIZATIONS: dict[str, Quantization] = {
    "f16": Quantization("16 bits, as the merged model", 16),
    "bf16": Quantization("16 bits with the range of 32", 16),
    "q8_0": Quantization("8 bits, hardly to be told from 16", 8.5),
    "q5_1": Quantization("5 bits, two numbers a block", 6),
    "q5_0": Quantization("5 bits", 5.5),
    "q4_1": Quantization("4 bits, two numbers a block", 5),
    "q4_0": Quantization("4 bits, the smallest that is made here", 4.5),
    "q6_k": Quantization("6 bits", 6.6, tool=True),
    "q5_k_m": Quantization("5 bits, mixed", 5.7, tool=True),
    "q4_k_m": Quantization("4 bits, mixed", 4.9, tool=True),
    "q3_k_m": Quantization("3 bits, mixed", 3.9, tool=True),
}
DEFAULT_QUANTIZATIONS = ("q8_0",)
QUANTIZE_TOOL = "llama-quantize"


class ExportOrder(Section):
    """What is written, and how many held-out questions the file is asked."""

    format: Format = "merged"
    quantize: tuple[str, ...] = ()
    questions: Annotated[int, Field(ge=0, le=10_000)] = 24
    max_new_tokens: Annotated[int, Field(ge=1, le=32_768)] | None = None


MERGED = ExportOrder()


def export_order(
    format: str, quantize: Iterable[str] = (), *, questions: int = 24, max_new_tokens: int | None = None
) -> ExportOrder:
    """Check what a person asked for. Raises BadInput with every unknown name."""
    names, problems = list(dict.fromkeys(name.strip().lower() for name in quantize)), []
    if format not in get_args(Format):
        problems.append(Problem("--format", f"{format!r} is none.", f"Choose one of {', '.join(FORMATS)}."))
    for name in names:
        if name not in QUANTIZATIONS:
            problems.append(Problem("--quantize", f"{name!r} is none.", f"Choose of {', '.join(QUANTIZATIONS)}."))
    if names and format != "gguf":
        problems.append(Problem("--quantize", "belongs to --format gguf.", "Leave it out, or add --format gguf."))
    if questions < 0 or questions > 10_000:
        problems.append(Problem("--questions", "is none of 0 to 10,000.", "0 asks nothing."))
    if problems:
        raise BadInput(problems)
    chosen = tuple(names) or (DEFAULT_QUANTIZATIONS if format == "gguf" else ())
    return ExportOrder.model_validate(
        {"format": format, "quantize": chosen, "questions": questions, "max_new_tokens": max_new_tokens}
    )


def is_file(name: str) -> bool:
    """Whether the name of a further arm, or of what is asked, means a GGUF file."""
    return name.lower().endswith(".gguf")


def can_run_files() -> bool:
    """Whether llama.cpp can be asked here: the optional package is there."""
    return find_spec("xllamacpp") is not None
