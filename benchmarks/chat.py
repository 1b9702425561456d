"""How much one decode of base and tuned saves against two generate calls: the same adapter, device and process.

    python benchmarks/chat.py [RUN] [--runs-dir runs] [--dtypes float32 bfloat16] [--tokens 96] [--rounds 3]

The peer is transformers' own `generate` on the same base and adapter as PEFT loads them: once with the adapter, once
with it switched off. Both sides answer the sample questions greedily and end no row before its budget. They take turns,
so that whatever else the machine does meanwhile meets both.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from medcot.adapters.open import Adapter, open_adapter
from medcot.data.starter import SAMPLE_QUESTIONS
from medcot.runs.store import RunStore

QUESTIONS = [question for _, question in SAMPLE_QUESTIONS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", default="latest")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    adapter = open_adapter(args.run, RunStore(args.runs_dir), checked=False)
    for dtype in args.dtypes:
        compare(adapter, dtype, args.tokens, args.rounds)


def compare(adapter: Adapter, dtype: str, tokens: int, rounds: int) -> None:
    """Print both times, their ratio, and whether the texts are the same."""
    import torch

    from medcot.evaluation.answers import Decoding

    decoder, peer = loaded(adapter, dtype)
    pair_seconds = peer_seconds = 0.0
    same = total = 0
    for number in range(rounds + 1):
        for question in QUESTIONS:
            rows = decoder.rows_for(question)
            began = time.perf_counter()
            decoder.decode(rows, Decoding(tokens))
            middle = time.perf_counter()
            found = [generated(peer, decoder.device, row.prompt, row.arm, tokens) for row in rows]
            ended = time.perf_counter()
            if number:  # the first round only warms up
                pair_seconds, peer_seconds = pair_seconds + middle - began, peer_seconds + ended - middle
                same += sum(row.tokens == other for row, other in zip(rows, found, strict=True))
                total += len(rows)
    count = total * tokens
    pace, peer_pace = count / pair_seconds, count / peer_seconds
    print(
        f"{dtype}, {decoder.device}, {torch.get_num_threads()} threads: pair {pace:.1f} tokens/s, two generate calls "
        f"{peer_pace:.1f} tokens/s, ratio {pace / peer_pace:.2f}; {same} of {total} texts the same",
        flush=True,
    )


def loaded(adapter: Adapter, dtype: str) -> tuple[Any, Any]:
    """(pair decoder, peer's model), each with a base of its own; neither ends a row by itself."""
    from medcot.engine.answer.load import open_decoder
    from medcot.engine.backends.peft import PeftBackend

    backend, quiet = PeftBackend(), lambda event: None
    wanted = adapter.model_copy(update={"base": adapter.base.model_copy(update={"dtype": dtype})})
    decoder = open_decoder(wanted, backend, quiet, max_length=4096)
    decoder._eos = set()
    from medcot.engine import models

    base = backend.load(models.resolve(wanted.base, quiet), wanted.base, max_length=4096)
    peer = backend.with_adapter(base, adapter.path)
    peer.generation_config.eos_token_id = None
    return decoder, peer


def generated(peer: Any, device: Any, prompt: list[int], arm: str, tokens: int) -> list[int]:
    """New token ids of one arm, by transformers."""
    import contextlib

    import torch

    ids = torch.tensor([prompt], device=device)
    asked = {"attention_mask": torch.ones_like(ids), "max_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}
    with torch.inference_mode(), peer.disable_adapter() if arm == "base" else contextlib.nullcontext():
        found = peer.generate(input_ids=ids, **asked)
    return [int(i) for i in found[0, len(prompt) :]]


if __name__ == "__main__":
    main()
