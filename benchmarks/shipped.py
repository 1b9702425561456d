"""How fast one question is answered: by torch with the adapter, and by llama.cpp from each GGUF file of an export.

    python benchmarks/shipped.py RUN_FOLDER EXPORT_FOLDER [--tokens 96] [--rounds 3]

In turns, so that a busy machine is busy for all; the median of the rounds is shown. Tokens a second of one answer,
prompt and loading left out, as a reader waits for them.
"""

import argparse
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import medcot.engine  # noqa: F401  # isort: skip  # before transformers

from medcot import prompts
from medcot.adapters.open import of_run
from medcot.data import starter
from medcot.engine.answer.load import open_decoder
from medcot.engine.backends.peft import PeftBackend
from medcot.engine.decode.decoder import DecodedSequence
from medcot.engine.gguf.llama import LlamaServer
from medcot.evaluation.answers import Decoding
from medcot.runs.run import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("export", type=Path)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    decoding = Decoding(asked.tokens)
    decoder = open_decoder(of_run(Run(asked.run)), PeftBackend(), print, max_length=2048)
    question = starter.SAMPLE_QUESTIONS[0][1]
    prompt = prompts.encode_prompt(decoder.tokenizer, decoder.contract, question)

    def by_torch(*arms: str) -> float:
        rows, times = [DecodedSequence(arm, prompt) for arm in arms], list[float]()
        decoder.decode(rows, decoding, on_step=lambda: times.append(time.monotonic()))
        return len(arms) * (len(times) - 1) / (times[-1] - times[0])

    def by_llama(server: LlamaServer) -> float:
        done = server.complete(prompt, decoding)
        return len(done.tokens) / done.seconds

    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        files = sorted(asked.export.glob("*.gguf"))
        servers = {f.stem: stack.enter_context(LlamaServer(f, context=2048, slots=1)) for f in files}
        for _ in range(asked.rounds):
            found.setdefault("torch, tuned alone", []).append(by_torch("tuned"))
            found.setdefault("torch, base and tuned", []).append(by_torch("base", "tuned"))
            for name, server in servers.items():
                found.setdefault(name, []).append(by_llama(server))
    for name, rates in found.items():
        print(f"{name:50} {statistics.median(rates):7.1f} tokens/s  ({min(rates):.1f} to {max(rates):.1f})")


if __name__ == "__main__":
    main()
