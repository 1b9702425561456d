"""A safetensors file, checked before a library opens it: a header of a sane size that fits the bytes, finite numbers.

Loads no model library.
"""

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open

from medcot.errors import BadInput
from medcot.safety.foreign import named_once, parse_json, require_plain

# Floating-point types: as unsigned integers of the same size, and the bits of the exponent in these. numpy has no BF16.
EXPONENTS = {
    **{"F64": ("<u8", 0x7FF << 52), "F32": ("<u4", 0xFF << 23)},
    **{"F16": ("<u2", 0x1F << 10), "BF16": ("<u2", 0xFF << 7)},
}
LONGEST_HEADER = 10_000_000  # bytes, some 80,000 tensors; the format's own limit is ten times that
MOST_FIELDS = 500_000  # in it; a tensor has four
MOST_DIMENSIONS, LONGEST_SIDE = 5, 2**31
Shape = tuple[int, ...]


def header(file: Path) -> dict[str, Shape]:
    """Each tensor's shape. Raises BadInput for anything but a whole safetensors file of floats."""
    try:
        require_plain(file)
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            text = opened.read(min(length, LONGEST_HEADER + 1)).decode("utf-8")
        if len(text) > LONGEST_HEADER or max(text.count(":"), text.count(",")) > MOST_FIELDS:
            raise ValueError("a header of that size is none")
        described = parse_json(text, object_pairs_hook=named_once)
        shapes = _shapes(described, file.stat().st_size - 8 - length)
        with safe_open(file, "np"):  # the library's own checks, now that they cannot cost much
            return shapes
    except FileNotFoundError:
        again = "Use an adapter that is saved as safetensors."
        raise BadInput.of(str(file.parent), f"has no {file.name}.", again) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error, SafetensorError):
        raise BadInput.of(str(file), "is not a whole safetensors file.", "Copy or download it again.") from None


def _shapes(described: Any, size: int) -> dict[str, Shape]:
    """The shapes by name. Raises ValueError or what comes of wrong types unless the tensors fill `size` bytes."""
    described.pop("__metadata__", None)
    shapes, places = {}, []
    for name, tensor in described.items():
        shape, (start, end) = tuple(tensor["shape"]), tensor["data_offsets"]
        if len(tensor) != 3:  # beside the two and the type
            raise ValueError("no tensor")
        width = np.dtype(EXPONENTS[tensor["dtype"]][0]).itemsize
        if any(type(n) is not int or not 0 <= n < LONGEST_SIDE for n in shape) or len(shape) > MOST_DIMENSIONS:
            raise ValueError("no shape")
        if type(start) is not int or type(end) is not int or not 0 < math.prod(shape) * width == end - start:
            raise ValueError("no place for it")
        shapes[name] = shape
        places.append((start, end))
    reached = 0
    for start, end in sorted(places):
        if start != reached:
            raise ValueError("tensors overlap, or leave a gap")
        reached = end
    if not shapes or reached != size:
        raise ValueError("the tensors do not end with the file")
    return shapes


def require_finite(file: Path) -> None:
    """Check all weights. Raises BadInput naming the first tensor that holds NaN or infinity."""
    names = header(file)
    raw = {name: (tensor["data"], tensor["dtype"]) for name, tensor in deserialize(file.read_bytes())}
    broken = [name for name in names if not _finite(*raw[name])]
    if broken:
        what = f"{len(broken)} of {len(names)} tensors hold NaN or infinity, {broken[0]} first."
        raise BadInput.of(str(file), what, "Train again with a lower learning rate.")


def _finite(raw: bytes, dtype: str) -> bool:
    """Whether all numbers are finite: in NaN and infinity every bit of the exponent is set."""
    unsigned, exponent = EXPONENTS[dtype]
    numbers = np.frombuffer(raw, dtype=unsigned)
    return not bool(((numbers & np.array(exponent, dtype=unsigned)) == exponent).any())
