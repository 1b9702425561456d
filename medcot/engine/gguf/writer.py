"""A GGUF file of a merged model, or of an adapter alone: written aside a piece at a time, then renamed."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from medcot.engine.gguf.family import Family, describe, family_of
from medcot.engine.gguf.tensors import TYPE, Stored, rope_tensors, stored
from medcot.engine.gguf.vocabulary import Vocabulary, add_special, own_name, vocabulary
from medcot.prompts.contract import PromptContract
from medcot.prompts.pinned import pinned_template

CONTRACT_KEY = "medcot.prompt_contract"
FILE_TYPES = gguf.LlamaFileType
OnBytes = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Naming:
    """What the file says of itself."""

    name: str
    base: str
    licence: str


@dataclass(frozen=True, slots=True)
class Source:
    """A merged model in 16 bits that is to be written as GGUF; made only where llama.cpp can run it."""

    folder: Path
    config: Any
    tokenizer: Any
    contract: PromptContract
    naming: Naming
    family: Family
    words: Vocabulary

    @classmethod
    def of(cls, folder: Path, config: Any, tokenizer: Any, contract: PromptContract, naming: Naming) -> "Source":
        """Raises BadInput for a family or a tokenizer that is not written."""
        family = family_of(config)
        words = vocabulary(tokenizer, config.get_text_config().vocab_size)
        naming = replace(naming, name=own_name(naming.name, tokenizer))
        return cls(folder, config, tokenizer, contract, naming, family, words)

    def write(self, target: Path, quantization: str, told: OnBytes = lambda done, whole: None) -> None:
        """Write the file; `quantization` is one of those that need no tool. Raises BadInput, OSError."""
        wanted = TYPE[quantization.upper()]
        tensors = stored(self.folder, self.config, self.family, wanted)
        with written(target, self.family) as writer:
            describe_file(writer, self.naming, "model")
            writer.add_file_type(FILE_TYPES[f"MOSTLY_{quantization.upper()}"])
            writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
            describe(writer, self.config, self.family)
            self.words.add_to(writer)
            add_special(writer, self.tokenizer, self.contract)
            writer.add_chat_template(pinned_template(self.tokenizer, self.contract))
            writer.add_string(CONTRACT_KEY, self.contract.model_dump_json())
            write_tensors(writer, tensors, rope_tensors(self.config, self.family), told)


def describe_file(writer: gguf.GGUFWriter, naming: Naming, kind: str) -> None:
    writer.add_type(kind)
    writer.add_name(naming.name)
    writer.add_license(naming.licence)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, naming.base)


@contextmanager
def written(target: Path, family: Family) -> Iterator[gguf.GGUFWriter]:
    """A writer of a file that has its name only once it is whole and on the disk."""
    draft = target.with_name(f".{target.name}.part")
    writer = gguf.GGUFWriter(draft, gguf.MODEL_ARCH_NAMES[family.arch])
    try:
        yield writer
        writer.flush()
        for file in writer.fout or []:
            os.fsync(file.fileno())
        writer.close()
        draft.replace(target)
    finally:
        writer.close()
        draft.unlink(missing_ok=True)


def write_tensors(
    writer: gguf.GGUFWriter, tensors: list[Stored], small: dict[str, np.ndarray[Any, Any]], told: OnBytes
) -> None:
    """Write head and tensors. The head comes first, so every size is known before a number is read."""
    for name, array in small.items():
        writer.add_tensor_info(name, array.shape, array.dtype, array.nbytes)
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.bytes, tensor.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    assert writer.fout
    (file,) = writer.fout
    done, whole = 0, sum(tensor.bytes for tensor in tensors)
    writer.write_padding(file, file.tell())
    for array in small.values():
        file.write(array.tobytes())
        writer.write_padding(file, file.tell())
    for tensor in tensors:
        for piece in tensor.pieces():
            file.write(piece.tobytes())
            done += piece.nbytes
            told(done, whole)
        writer.write_padding(file, file.tell())
