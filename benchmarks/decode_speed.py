"""How fast base and tuned answer: captured pair decode against Hugging Face generate, and against Unsloth's inference.

    python benchmarks/decode_speed.py --model FOLDER --data FILE [--quantization none|4bit] [--peer unsloth]

The adapter is a fresh one with random numbers in it, so that it computes what a trained one does. No row ends before
its budget. The peers run first, on the model as PEFT makes it; the hooks that let both arms share a batch come after.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

from benchmarks import measuring
from medcot import data, prompts
from medcot.settings.recipes import compose


def main() -> None:
    parser = measuring.parser(__doc__ or "", 180)
    parser.add_argument("--quantization", default="none", choices=["none", "4bit"])
    parser.add_argument("--peer", choices=["hf", "unsloth", "none"], default="hf")
    parser.add_argument("--chat-only", action="store_true")
    parser.add_argument("--keep-packed", action="store_true", help="do not hold 4-bit weights wide")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    rows = measuring.Rows(args.out, args.seconds)
    pairs = [f"model.id={args.model}", f"data.source={args.data}", f"model.quantization={args.quantization}"]
    settings = compose("llama-3.2-3b-medical-cot", None, pairs)
    examples = data.load(settings.data.model_copy(update={"held_out": 1})).train
    questions = [e.question for e in examples]
    questions = (questions * 4)[: 4 if args.tiny else 100]
    if args.peer == "unsloth":
        unsloth_inference(settings, questions, rows, args)
        return
    model, tokenizer, contract = opened(settings, keep_packed=args.keep_packed)
    label = {"quantization": args.quantization, "held_wide": args.quantization == "4bit" and not args.keep_packed}
    if args.peer == "hf":
        hugging_face(model, tokenizer, contract, questions, rows, label, args)
    captured(model, tokenizer, contract, questions, rows, label, args)


def opened(settings: Any, *, keep_packed: bool) -> tuple[Any, Any, Any]:
    """A PEFT model for generation with a random adapter, its tokenizer, and the prompt contract."""
    import torch

    from medcot.engine import models
    from medcot.engine.backends import peft

    backend = peft.PeftBackend()
    local = models.resolve(settings.model, lambda event: None)
    base, tokenizer = backend.load(local, settings.model, max_length=4096), models.load_tokenizer(local.path)
    contract = prompts.make_contract(settings.prompt, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        made = backend.attach(base, settings.lora, seed=1, checkpointing=False)
        torch.manual_seed(1)
        for name, parameter in made.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.01)
        made.save_pretrained(folder)
        base = made.unload()
        if keep_packed:
            peft.ROOM_TO_WIDEN = 0
        return backend.with_adapter(base, Path(folder)), tokenizer, contract


def hugging_face(
    model: Any, tokenizer: Any, contract: Any, questions: list[str], rows: measuring.Rows, label: Any, args: Any
) -> None:
    """Two generate calls, one an arm: for one question, and for all at once."""
    import torch

    few, many = (4, 4) if args.tiny else (48, 128)

    def generate(asked: list[str], tokens: int) -> None:
        encoded = [prompts.encode_prompt(tokenizer, contract, q) for q in asked]
        width = max(map(len, encoded))
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(e)) + e for e in encoded], device=model.device)
        mask = torch.tensor([[0] * (width - len(e)) + [1] * len(e) for e in encoded], device=model.device)
        fixed = {"min_new_tokens": tokens, "max_new_tokens": tokens, "do_sample": False}
        model.generate(input_ids=ids, attention_mask=mask, pad_token_id=tokenizer.pad_token_id, **fixed)

    def both(asked: list[str], tokens: int) -> None:
        generate(asked, tokens)
        with model.disable_adapter():
            generate(asked, tokens)

    with torch.inference_mode():
        both(questions[:1], 4)
        for turn in range(1 if args.tiny else 2):
            seconds = timed(lambda: both(questions[:1], few))
            rows.add(what="hf pair", turn=turn, new_tokens=few, tokens_per_second=2 * few / seconds, **label)
        if not args.chat_only and rows.left() > 45:
            seconds = timed(lambda: both(questions, many))
            rate = 2 * many * len(questions) / seconds
            rows.add(what="hf many", batch=len(questions), new_tokens=many, tokens_per_second=rate, **label)


def captured(
    model: Any, tokenizer: Any, contract: Any, questions: list[str], rows: measuring.Rows, label: Any, args: Any
) -> None:
    from medcot.engine.decode.decoder import PairDecoder
    from medcot.engine.decode.eager import EagerRunner
    from medcot.engine.decode.reference import Reference
    from medcot.evaluation.answers import Decoding

    def note(event: Any) -> None:
        rows.add(what="note", message=event.message)

    reference = Reference.of(tokenizer, contract)
    with model.disable_adapter():
        reference.take_base(model)
    decoder = PairDecoder(model, tokenizer, contract, reference, note)
    decoder._eos = set()  # no row ends early
    rows.add(what="warm-up", seconds=timed(decoder.warm_up), **label)
    fused = getattr(decoder.runner, "_fused", None) is not None
    rows.add(what="steps", kind=type(decoder.runner).__name__, compiled_pair=fused, **label)

    def decode(asked: list[str], tokens: int) -> list[list[int]]:
        made = [row for q in asked for row in decoder.rows_for(q)]
        decoder.decode(made, Decoding(max_new_tokens=tokens))
        return [row.tokens for row in made]

    chat, many, long = (6, 4, 8) if args.tiny else (256, 128, 700)
    seconds = timed(lambda: decode(questions[:1], chat))
    rows.add(what="pair, first", new_tokens=chat, tokens_per_second=2 * chat / seconds, seconds=seconds, **label)
    for turn in range(3):
        with measuring.fresh_memory() as memory:
            seconds = timed(lambda: decode(questions[:1], chat))
        rate = 2 * chat / seconds
        figures = {"tokens_per_second": rate, "peak_gib": memory.peak_gib, **label}
        rows.add(what="pair", turn=turn, new_tokens=chat, **figures)
    for number in (3, 7, 11):  # each of another length
        seconds = timed(lambda n=number: decode(questions[n : n + 1], 1))
        rows.add(what="pair, first token", seconds=seconds, **label)
    same_tokens(decoder, questions[:4], decode, EagerRunner, rows, label)
    if args.profile:
        profile_steps(decoder, questions[:1], rows, label)
    if args.chat_only:
        return
    for tokens in (many, many, long, long):
        if rows.left() < 10:
            return
        with measuring.fresh_memory() as memory:
            seconds = timed(lambda n=tokens: decode(questions, n))
        rate = 2 * tokens * len(questions) / seconds
        figures = {"tokens_per_second": rate, "seconds": seconds, "peak_gib": memory.peak_gib, **label}
        rows.add(what="many", rows=2 * len(questions), new_tokens=tokens, **figures)


def same_tokens(decoder: Any, asked: list[str], decode: Any, growing: Any, rows: measuring.Rows, label: Any) -> None:
    """Whether captured and ordinary steps choose the same tokens; half precision may part them at a near tie."""
    fast = decode(asked, 32)
    kept = decoder.runner
    decoder.runner = growing(decoder.model, kept._arms)
    started = time.perf_counter()
    slow = decode(asked, 32)
    seconds = time.perf_counter() - started
    decoder.runner = kept
    same = sum(a == b for a, b in zip(fast, slow, strict=True))
    agree = sum(x == y for a, b in zip(fast, slow, strict=True) for x, y in zip(a, b, strict=True))
    figures = {"rows_equal": same, "rows": len(fast), "tokens_equal": agree, "tokens": 32 * len(fast)}
    rows.add(what="captured and growing", growing_tokens_per_second=32 * len(fast) / seconds, **figures, **label)


def profile_steps(decoder: Any, asked: list[str], rows: measuring.Rows, label: Any) -> None:
    """Ten steps of the pair under the profiler."""
    import torch

    made = [row for q in asked for row in decoder.rows_for(q)]
    with torch.inference_mode():
        logits = decoder._start(made, 200)
        for _ in range(3):
            logits = decoder.runner.step(logits.argmax(-1))
        measuring.synchronize()
        started = time.perf_counter()
        for _ in range(10):
            logits = decoder.runner.step(logits.argmax(-1))
        measuring.synchronize()
        wall = (time.perf_counter() - started) / 10
        if getattr(decoder.runner, "_fused", None):
            torch.compiler.set_stance("fail_on_recompile")
        with measuring.profiler() as profiled:
            for _ in range(10):
                logits = decoder.runner.step(logits.argmax(-1))
            measuring.synchronize()
    figures = measuring.summary_of(profiled, wall * 10)
    rows.add(what="profile", step="ten of a pair", unprofiled_step_ms=wall * 1e3, **figures, **label)


def unsloth_inference(settings: Any, questions: list[str], rows: measuring.Rows, args: argparse.Namespace) -> None:
    """Unsloth's own: one tuned answer at a time."""
    import torch

    from medcot.engine.backends.unsloth import UnslothBackend

    backend = UnslothBackend()
    from medcot.engine import models

    local = models.resolve(settings.model, lambda event: None)
    base, tokenizer = backend.load(local, settings.model, max_length=4096), models.load_tokenizer(local.path)
    contract = prompts.make_contract(settings.prompt, tokenizer)
    model = backend.attach(base, settings.lora, seed=1, checkpointing=False)
    from unsloth import FastLanguageModel

    FastLanguageModel.for_inference(model)
    ids = torch.tensor([prompts.encode_prompt(tokenizer, contract, questions[0])], device=model.device)
    few = 96
    with torch.inference_mode():
        for turn in range(3):
            fixed = {"min_new_tokens": few, "max_new_tokens": few, "do_sample": False}
            seconds = timed(
                lambda fixed=fixed: model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    pad_token_id=tokenizer.pad_token_id,
                    **fixed,
                )
            )
            rows.add(
                what="unsloth, one arm", turn=turn, tokens_per_second=few / seconds, quantization=args.quantization
            )


def timed(work: Callable[[], Any]) -> float:
    measuring.synchronize()
    started = time.perf_counter()
    work()
    measuring.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
