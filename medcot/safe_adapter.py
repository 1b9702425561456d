"""What an adapter folder must be before anything opens it: LoRA, in safetensors, and finite. No model library needed.

A safetensors file begins with eight bytes of length and a JSON header that names each tensor with its type and place,
so all of this is read without making a tensor.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from medcot.errors import BadInput, Problem

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
# What the stock Trainer leaves beside an adapter. Nothing here opens it, so it is no reason to refuse the adapter.
TRAINER_STATE = re.compile(r"optimizer\.pt|scheduler\.pt|rng_state(_\d+)?\.pth|scaler\.pt|training_args\.bin")
# Floating-point types: as unsigned integers of the same size, and the bits of the exponent in these.
EXPONENTS = {
    "F64": ("<u8", 0x7FF0 << 48),
    "F32": ("<u4", 0x7F80 << 16),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
# Each changes more than the products of LoRA layers, or other layers than those that it names.
BEYOND_LORA = (
    "modules_to_save",
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "layer_replication",
    "target_parameters",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "arrow_config",
    "megatron_config",
    "monteclora_config",
)


def require_safe(folder: Path) -> dict[str, Any]:
    """The adapter's configuration. Raises BadInput for an adapter that is not LoRA in safetensors.

    A pickle could run code, so none is read; and base and tuned share one loaded model, so an adapter may hold nothing
    but LoRA layers.
    """
    pickles = sorted(p.name for p in folder.glob("*") if p.suffix in PICKLES and not TRAINER_STATE.fullmatch(p.name))
    if pickles:
        raise BadInput(
            Problem(
                str(folder),
                f"holds pickled files ({', '.join(pickles)}), which can run code.",
                "Use an adapter that is saved as safetensors.",
            )
        )
    config = _config(folder)
    if config.get("peft_type") != "LORA":
        raise BadInput(
            Problem(str(folder), f"is a {config.get('peft_type')} adapter, not LoRA.", "Use a LoRA adapter.")
        )
    beyond = [name for name in BEYOND_LORA if config.get(name)]
    beyond += [] if config.get("bias", "none") == "none" else ["bias"]
    beyond += ["embed_tokens"] if "embed_tokens" in str(config.get("target_modules")) else []
    tensors = header(folder / WEIGHTS)
    beyond += [name for name in tensors if not name.endswith((".lora_A.weight", ".lora_B.weight"))][:1]
    if beyond:
        raise BadInput(
            Problem(
                str(folder),
                f"changes more than LoRA layers ({', '.join(beyond)}), so base and tuned cannot share one model.",
                "Use a plain LoRA adapter, with bias none and no modules_to_save.",
            )
        )
    return config


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict):
        raise BadInput(Problem(str(folder), f"has no readable {CONFIG}.", "Name a PEFT adapter folder."))
    return config


def header(file: Path) -> dict[str, Any]:
    """Tensor names with dtype, shape and byte offsets. Raises BadInput for what is no whole safetensors file."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            found: dict[str, Any] = json.loads(stream.read(length)) if length <= LONGEST_HEADER else {}
        tensors = {name: t for name, t in found.items() if name != "__metadata__"}
        end = max(t["data_offsets"][1] for t in tensors.values())
        fitting = all(_fits(t) for t in tensors.values())
        whole = fitting and end > 0 and file.stat().st_size == 8 + length + end
    except FileNotFoundError:
        raise BadInput(
            Problem(str(file.parent), f"has no {file.name}.", "Use an adapter that is saved as safetensors.")
        ) from None
    except (OSError, ValueError, AttributeError, KeyError, TypeError, IndexError):
        whole = False
    if not whole:
        raise BadInput(Problem(str(file), "is not a whole safetensors file.", "Copy or download it again."))
    return tensors


def _fits(tensor: dict[str, Any]) -> bool:
    """Whether a tensor's place is as long as its type and shape say; types that no adapter has are not known here."""
    start, end = tensor["data_offsets"]
    width = np.dtype(EXPONENTS[tensor["dtype"]][0]).itemsize
    return bool(0 <= start <= end and end - start == width * math.prod(tensor["shape"]))


def require_finite(file: Path) -> None:
    """Raises BadInput where a weight is NaN or infinite, naming the tensor."""
    tensors = header(file)
    start = 8 + int.from_bytes(file.open("rb").read(8), "little")
    data = np.memmap(file, mode="r", dtype=np.uint8, offset=start)
    broken = [name for name, t in tensors.items() if not _finite(data[slice(*t["data_offsets"])], t["dtype"])]
    if broken:
        raise BadInput(
            Problem(
                str(file),
                f"{len(broken)} of {len(tensors)} tensors hold NaN or infinity, {broken[0]} first.",
                "Train again with a lower learning rate.",
            )
        )


def _finite(raw: "np.ndarray[Any, np.dtype[np.uint8]]", dtype: str) -> bool:
    """Whether floating-point numbers of a safetensors dtype are all finite: not every bit of an exponent is set."""
    unsigned, exponent = EXPONENTS[dtype]
    numbers = np.frombuffer(raw, dtype=unsigned)
    return not bool(((numbers & np.array(exponent, dtype=unsigned)) == exponent).any())


def parameters(file: Path) -> int:
    """How many numbers the adapter holds."""
    return sum(math.prod(t["shape"]) for t in header(file).values())
