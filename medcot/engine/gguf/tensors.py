"""A model's tensors as llama.cpp has them: its names, its layout, its number formats, a piece in memory at a time."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors import safe_open

from medcot.engine.gguf.family import Family, refused
from medcot.engine.models import key_heads
from medcot.errors import BadInput

TYPE = gguf.GGMLQuantizationType
FINE = TYPE.Q8_0  # vocabulary and output layer, where the rest has fewer bits
PIECE = 2**24  # numbers
VISION = re.compile(r"(^|\.)(vision_tower|multi_modal_projector|vision_model)\.")
INSIDE = re.compile(r"^(model\.)?language_model\.(model\.)?")  # how a text model is named within one that sees
ROTATED = re.compile(r"\.(q_proj|k_proj)\.(weight|bias|lora_B\.weight)$")


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a safetensors file, and how it is to be written."""

    name: str  # llama.cpp's
    file: Path
    key: str  # in the file
    shape: tuple[int, ...]
    type: gguf.GGMLQuantizationType
    heads: int = 0  # by which its rows are put into llama.cpp's order; 0: they stay
    added: float = 0.0  # to each number

    @property
    def bytes(self) -> int:
        blocks, size = gguf.GGML_QUANT_SIZES[self.type]
        return math.prod(self.shape) // int(blocks) * int(size)

    def pieces(self) -> Iterator[np.ndarray[Any, Any]]:
        """The bytes in order, some rows at a time. Raises BadInput for a number that the type does not hold."""
        with safe_open(self.file, "pt") as opened:
            if self.heads or len(self.shape) < 2:
                whole = opened.get_tensor(self.key)
                yield self._encoded(in_neighbours(whole, self.heads) if self.heads else whole)
                return
            rows = opened.get_slice(self.key)
            step = max(1, PIECE // self.shape[1])
            for start in range(0, self.shape[0], step):
                yield self._encoded(rows[start : start + step])

    def _encoded(self, tensor: torch.Tensor) -> np.ndarray[Any, Any]:
        numbers = (tensor.float() + self.added).numpy()
        with np.errstate(over="ignore"):
            encoded: np.ndarray[Any, Any] = gguf.quants.quantize(numbers, self.type)
        if self.type is TYPE.F16 and not np.isfinite(encoded).all():
            what = f"{self.name} holds numbers that 16 bits of this kind do not reach."
            raise BadInput.of("--quantize", what, "Use bf16 for f16.")
        return encoded


def in_neighbours(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows whose halves are rotated against each other, put so that neighbours are."""
    rows, rest = tensor.shape[0], tensor.shape[1:]
    return tensor.reshape(heads, 2, rows // heads // 2, *rest).swapaxes(1, 2).reshape(rows, *rest)


def plain_name(key: str) -> str:
    """A tensor's name in the text model alone."""
    return INSIDE.sub("model.", key).replace("model.lm_head", "lm_head")


def heads_of(name: str, config: Any, family: Family) -> int:
    """By how many heads a tensor's rows are reordered, by its name in transformers; 0 for none."""
    if not family.permuted or not (found := ROTATED.search(name)):
        return 0
    text = config.get_text_config()
    return int(text.num_attention_heads if found[1] == "q_proj" else key_heads(text))


def type_of(name: str, shape: tuple[int, ...], wanted: gguf.GGMLQuantizationType) -> gguf.GGMLQuantizationType:
    """The number format of a tensor: vectors stay in 32 bits, a row that is no whole number of blocks in 16."""
    if len(shape) < 2:
        return TYPE.F32
    if wanted not in (TYPE.F16, TYPE.BF16) and name in ("token_embd.weight", "output.weight"):
        wanted = FINE
    blocks, _ = gguf.GGML_QUANT_SIZES[wanted]
    return TYPE.F16 if shape[-1] % blocks else wanted


def stored(folder: Path, config: Any, family: Family, wanted: gguf.GGMLQuantizationType) -> list[Stored]:
    """Every tensor of a model folder, in the order of its files. Raises BadInput for one without a name there."""
    text = config.get_text_config()
    names = gguf.get_tensor_name_map(family.arch, text.num_hidden_layers)
    found: dict[str, Stored] = {}
    unknown = []
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            for key in opened.keys():  # noqa: SIM118  # no mapping
                if VISION.search(key):
                    continue
                plain, shape = plain_name(key), tuple(opened.get_slice(key).get_shape())
                name = names.get_name(plain, try_suffixes=(".weight", ".bias"))
                if name is None:
                    unknown.append(key)
                    continue
                heads = heads_of(plain, config, family)
                added = 1.0 if family.one_plus and name.endswith("norm.weight") else 0.0
                kind = type_of(name, shape, wanted)
                found[name] = Stored(name, file, key, shape, kind, heads, added)
    if unknown:
        raise refused(config, f"llama.cpp has no name for {len(unknown)} tensors of this model, {unknown[0]} first")
    if getattr(text, "tie_word_embeddings", False):
        found.pop("output.weight", None)  # llama.cpp takes the vocabulary's again
    return list(found.values())


def rope_tensors(config: Any, family: Family) -> dict[str, np.ndarray[Any, Any]]:
    """The tensors by which llama.cpp stretches positions as Llama 3 and Phi-3 do; none for other ways."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    text = config.get_text_config()
    rope = getattr(text, "rope_parameters", None) or {}
    kind = rope.get("rope_type")
    if kind == "llama3":
        scaled = ROPE_INIT_FUNCTIONS[kind](text, "cpu")[0].double()
        size = 2 * len(scaled)
        own = 1.0 / rope["rope_theta"] ** (torch.arange(0, size, 2, dtype=torch.float64) / size)
        return {"rope_freqs.weight": (own / scaled).float().numpy()}
    if kind == "longrope":
        return {
            f"rope_factors_{which}.weight": np.asarray(rope[f"{which}_factor"], dtype=np.float32)
            for which in ("long", "short")
        }
    return {}


def parameters(folder: Path) -> int:
    """How many numbers the safetensors files of a folder hold, by their headers."""
    count = 0
    for file in folder.glob("*.safetensors"):
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        header.pop("__metadata__", None)
        count += sum(int(np.prod(tensor["shape"])) for tensor in header.values())
    return count
