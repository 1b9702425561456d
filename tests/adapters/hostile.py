"""Adapter folders of a few bytes, sound or hostile, made without a model library."""

import json
import struct
from pathlib import Path

NAME = "base_model.model.model.layers.0.self_attn.{}.lora_{}.weight"
CONFIG = {
    "peft_type": "LORA",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj", "v_proj"],
    "base_model_name_or_path": "someone/tiny-instruct",
    "init_lora_weights": True,
    "bias": "none",
}


def tensors(**shapes: tuple[int, ...]) -> dict[str, dict]:
    """A header's entries, one after another, of `q_proj_A=(2, 4)` and such."""
    found, place = {}, 0
    for name, shape in shapes.items():
        size = 4 * shape[0] * shape[1]
        layer, _, side = name.rpartition("_")
        found[NAME.format(layer, side)] = {"dtype": "F32", "shape": [*shape], "data_offsets": [place, place + size]}
        place += size
    return found


SOUND = tensors(q_proj_A=(2, 4), q_proj_B=(4, 2), v_proj_A=(2, 4), v_proj_B=(4, 2))


def weights(header: dict | bytes = SOUND, size: int = 128) -> bytes:
    """A safetensors file with this header and as many bytes of zeros."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + b"\0" * size


def folder(path: Path, header: dict | bytes = SOUND, *, size: int = 128, **config) -> Path:
    """An adapter's folder with these values in its configuration."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    (path / "adapter_model.safetensors").write_bytes(weights(header, size))
    return path
