"""How much faster an evaluation answers in pairs than one `generate` call after the other, on this machine's CPU.

    python benchmarks/eval_speed.py --run RUN_DIRECTORY [--questions 16] [--tokens 128] [--rounds 2]

Each round answers the run's first held-out questions both ways, base and tuned, greedy, in float32; the ways take turns
within one process, so that whatever else the machine does meets both. The texts have to be the same.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import medcot.engine  # noqa: F401  # isort: skip  # before transformers

import torch
from peft import PeftModel

from medcot import data
from medcot.adapters.open import of_run
from medcot.engine import models
from medcot.engine.answer.batch import Asking
from medcot.engine.answer.load import open_decoder
from medcot.engine.backends.peft import PeftBackend
from medcot.engine.decode.decoder import PairDecoder
from medcot.evaluation.answers import Answer, Decoding, Question
from medcot.runs.run import Run

ARMS = ("base", "tuned")


def one_at_a_time(model: Any, decoder: PairDecoder, questions: list[Question], tokens: int) -> dict[Any, str]:
    """Every question and arm by a `generate` call of its own, as most evaluations do it."""
    texts = {}
    for question in questions:
        for row in decoder.rows_for(question.text):
            ids = torch.tensor([row.prompt])
            options = {"attention_mask": torch.ones_like(ids), "max_new_tokens": tokens, "do_sample": False}
            if row.arm == "base":
                with model.disable_adapter():
                    out = model.generate(input_ids=ids, **options)
            else:
                out = model.generate(input_ids=ids, **options)
            row.tokens = out[0, len(row.prompt) :].tolist()
            texts[question.number, row.arm] = decoder.text(row)
    return texts


def in_pairs(decoder: PairDecoder, questions: list[Question], tokens: int, rows: int) -> dict[Any, str]:
    """As an evaluation does it."""
    found: list[Answer] = []
    Asking(questions, Decoding(tokens), rows, (), found.append, lambda event: None).here(decoder, ARMS)
    return {(a.number, a.arm): a.output for a in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=48, help="evaluation.batch_size")
    args = parser.parse_args()
    run = Run(args.run)
    adapter, backend = of_run(run), PeftBackend()
    adapter = adapter.model_copy(update={"base": adapter.base.model_copy(update={"dtype": "float32"})})
    held_out = data.load(run.settings().data).held_out[: args.questions]
    questions = [Question(kind="record", number=i, text=e.question) for i, e in enumerate(held_out)]
    decoder = open_decoder(adapter, backend, print, max_length=2048)
    base = backend.load(models.resolve(adapter.base, print), adapter.base, max_length=2048)
    single = PeftModel.from_pretrained(base, adapter.path).eval()  # without the hooks that pairs need
    ratios = []
    for number in range(args.rounds):
        started = time.monotonic()
        alone = one_at_a_time(single, decoder, questions, args.tokens)
        between = time.monotonic()
        paired = in_pairs(decoder, questions, args.tokens, args.rows)
        ended = time.monotonic()
        slow, fast = between - started, ended - between
        ratios.append(slow / fast)
        same = sum(alone[key] == paired[key] for key in alone)
        print(
            f"round {number + 1}: one at a time {len(questions) / slow:.3f} records/s, in pairs "
            f"{len(questions) / fast:.3f} records/s, {ratios[-1]:.2f} times; {same} of {len(alone)} texts the same"
        )
    print(f"median {statistics.median(ratios):.2f} times")


if __name__ == "__main__":
    main()
