"""A tokenizer as llama.cpp has it: tokens with their kinds, merges or scores, and the name of how text is first split.

llama.cpp knows ways to split text by the names of models. Here the name is found by what the tokenizer does, never by
what a model is called; a way without a name is refused, because a guess would split some words otherwise.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gguf
from tokenizers import Tokenizer

from medcot.errors import BadInput
from medcot.prompts.contract import PromptContract, prompt_text

KIND = gguf.TokenType
ENDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
FIRST = r"[^\r\n\p{L}\p{N}]?"
LLAMA_3 = rf"{ENDS}|{FIRST}\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = rf"{FIRST}{UPPER}*{LOWER}+|{FIRST}{UPPER}+{LOWER}*|\p{{N}}|{TAIL}"
GPT_4O = rf"{FIRST}{UPPER}*{LOWER}+{ENDS}?|{FIRST}{UPPER}+{LOWER}*{ENDS}?|\p{{N}}{{1,3}}|{TAIL}"
# llama.cpp's names by (what text is split at, whether a word that is a token is taken whole); None: either.
SPLITS: dict[tuple[str, bool | None], str] = {
    ("bytes with GPT-2's words", False): "gpt-2",
    ("single digits, bytes with GPT-2's words", False): "smollm",
    (f"{LLAMA_3}, bytes", True): "llama-bpe",
    (f"{LLAMA_3}, bytes", False): "dbrx",
    (f"{QWEN_2}, bytes", False): "qwen2",
    (f"{TEKKEN}, bytes", None): "tekken",
    (f"{GPT_4O}, bytes", None): "gpt-4o",
}
# llama.cpp tells by these letters in a file's name of itself that special tokens take the blanks behind them.
PHI_3 = re.compile(r"phi-?3", re.IGNORECASE)
PHI_3_LEAVE = {"<unk>", "<s>", "<|endoftext|>"}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What llama.cpp reads of a tokenizer; `scores` or `merges`, as its kind has it."""

    model: str
    pre: str
    tokens: list[str]
    kinds: list[int]
    scores: list[float] | None
    merges: list[str] | None
    space_prefix: bool | None  # whether a space is put before a text; None where there is no such thing

    def add_to(self, writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.kinds)
        if self.scores is not None:
            writer.add_token_scores(self.scores)
        if self.merges is not None:
            writer.add_token_merges(self.merges)
        if self.space_prefix is not None:
            writer.add_add_space_prefix(self.space_prefix)


def vocabulary(tokenizer: Any, size: int) -> Vocabulary:
    """The tokenizer's vocabulary, filled up to `size` tokens. Raises BadInput for one that llama.cpp cannot do."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise unlike("has no tokenizer.json")
    made = json.loads(backend.to_str())
    model, kind = made["model"], made["model"].get("type")
    if kind != "BPE":
        raise unlike(f"is of the kind {kind}")
    ids: dict[str, int] = dict(model["vocab"])
    added = {token["content"]: token for token in made["added_tokens"]}
    ids |= {content: token["id"] for content, token in added.items()}
    if (longest := max(ids.values()) + 1) > size:
        raise unlike(f"has {longest} tokens, and the model {size}")
    texts = {number: text for text, number in ids.items()}
    tokens = [texts.get(i, f"[PAD{i}]") for i in range(size)]
    unknown = model.get("unk_token")
    kinds = [int(_kind(text, added.get(text), unknown, i in texts)) for i, text in enumerate(tokens)]
    merges = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"]]
    if model.get("byte_fallback") and not any(step["type"] == "ByteLevel" for step in _splits(made)):
        ranks: dict[str, int] = {}
        for rank, (one, other) in enumerate(merges):
            ranks.setdefault(one + other, rank)
        scores = [-float(ranks.get(text, len(merges))) for text in tokens]
        return Vocabulary("llama", "default", tokens, kinds, scores, None, _space_prefix(made))
    spelt = [" ".join(part.replace(" ", "Ġ") for part in merge) for merge in merges]
    return Vocabulary("gpt2", split_name(made), tokens, kinds, None, spelt, None)


def unlike(what: str) -> BadInput:
    fix = "It can be exported as --format merged, which transformers and vLLM read."
    return BadInput.of("tokenizer", f"this model's tokenizer {what}, which llama.cpp does not read so.", fix)


def _kind(text: str, added: Mapping[str, Any] | None, unknown: str | None, there: bool) -> gguf.TokenType:
    if not there:
        return KIND.UNUSED
    if text == unknown:
        return KIND.UNKNOWN
    if added:
        return KIND.CONTROL if added["special"] else KIND.USER_DEFINED
    is_byte = len(text) == 6 and text.startswith("<0x") and text.endswith(">")
    return KIND.BYTE if is_byte else KIND.NORMAL


def _parts(step: Mapping[str, Any] | None, name: str) -> list[Mapping[str, Any]]:
    """The steps of a tokenizer's part, one after the other."""
    if step is None:
        return []
    return list(step[name]) if step["type"] == "Sequence" else [step]


def _splits(made: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _parts(made["pre_tokenizer"], "pretokenizers")


def split_name(made: Mapping[str, Any]) -> str:
    """llama.cpp's name for how a byte-level tokenizer splits text. Raises BadInput where it has none."""
    normal = [step["type"] for step in _parts(made["normalizer"], "normalizers")]
    if set(normal) - {"NFC"}:  # which typed text nearly always is
        raise unlike(f"changes text by {', '.join(normal)} before it splits it")
    said = ", ".join(map(_said, _splits(made)))
    whole = bool(made["model"].get("ignore_merges"))
    name = SPLITS.get((said, whole)) or SPLITS.get((said, None))
    if name is None and (said, not whole) in SPLITS and is_reached_by_merges(made):
        name = SPLITS[said, not whole]
    if name is None:
        raise unlike(f"splits text in a way that has no name there ({said or 'not at all'})")
    return name


def is_reached_by_merges(made: Mapping[str, Any]) -> bool:
    """Whether merging makes each token of its letters, so that it is the same to take a word that is a token whole."""
    model = {**made["model"], "ignore_merges": False}
    plain = {**made, "model": model, "added_tokens": []}
    plain |= dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding"))
    own = {token["content"] for token in made["added_tokens"]}
    words = [text for text in model["vocab"] if text not in own]
    return all(len(found.ids) == 1 for found in Tokenizer.from_str(json.dumps(plain)).encode_batch(words))


def _said(step: Mapping[str, Any]) -> str:
    match step["type"]:
        case "ByteLevel" if not step["add_prefix_space"]:
            return "bytes with GPT-2's words" if step["use_regex"] else "bytes"
        case "Digits" if step["individual_digits"]:
            return "single digits"
        case "Split" if step["behavior"] == "Isolated" and not step["invert"] and "Regex" in step["pattern"]:
            return str(step["pattern"]["Regex"])
    return json.dumps(step)


def _space_prefix(made: Mapping[str, Any]) -> bool:
    """Whether each piece of text begins with a space of its own. Raises BadInput for another change of text."""
    prefix = False
    for step in _parts(made["normalizer"], "normalizers"):
        match step:
            case {"type": "Prepend", "prepend": "▁"}:
                prefix = True
            case {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}:
                pass
            case _:
                raise unlike(f"changes text by {step['type']}")
    for step in _splits(made):
        match step:
            case {"type": "Metaspace", "replacement": "▁", "prepend_scheme": str(scheme)} if not step.get("split"):
                prefix = prefix or scheme == "always"  # "first" meets no prompt, which begins with a special token
            case {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}:
                pass  # Gemma's: after the spaces have been replaced there is none
            case _:
                raise unlike(f"splits text by {step['type']}")
    return prefix


def own_name(name: str, tokenizer: Any) -> str:
    """The name that a file may have: with Phi-3's letters exactly if its special tokens take the blanks behind them.

    Raises BadInput if only some other tokens do.
    """
    added = tokenizer.added_tokens_decoder.values()
    taking = {str(token) for token in added if token.rstrip}
    if any(token.lstrip for token in added):
        raise unlike("has tokens that take the blanks before them")
    if not taking:
        return PHI_3.sub("Phi", name)
    known = {str(token) for token in added}
    if not known >= PHI_3_LEAVE | {"</s>"} or taking != {str(t) for t in added if t.special} - PHI_3_LEAVE:
        raise unlike("has some tokens that take the blanks behind them")
    return name if PHI_3.search(name) else f"phi-3 {name}"


def adds_bos(tokenizer: Any, contract: PromptContract) -> bool:
    """Whether llama.cpp and Ollama are to begin a text with the beginning's token.

    The prompt has to begin with it, which is up to the chat template, whatever the tokenizer does with other texts.
    llama.cpp takes away the one that the template wrote.
    """
    if contract.rules.text:
        return tokenizer.bos_token_id is not None
    return begins_text(tokenizer) and prompt_text(tokenizer, contract, "a").startswith(tokenizer.bos_token)


def begins_text(tokenizer: Any) -> bool:
    """Whether the tokenizer puts the beginning's token before any text."""
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and ids[0] == tokenizer.bos_token_id is not None


def add_special(writer: gguf.GGUFWriter, tokenizer: Any, contract: PromptContract) -> None:
    """Write which tokens begin, end and fill: the contract's end token ends a turn, whatever else does."""
    writer.add_eos_token_id(contract.eos_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id)
    writer.add_eot_token_id(contract.eos_id)
    for number, write in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if number is not None:
            write(number)
    writer.add_add_bos_token(adds_bos(tokenizer, contract))
    writer.add_add_eos_token(False)
