"""The planner's estimate of peak memory against what was allocated, arrangement by arrangement.

    python benchmarks/memory_model.py --model FOLDER --data FILE [--backend unsloth|peft]

Two steps each, grouped by length, so that the first holds the longest records. Then what the planner proposes where
only 16 or 24 GiB are free is run under that cap: it must not run out.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

from benchmarks import measuring
from medcot.engine import backends
from medcot.runs.events import Arrangement

WAYS = [(16, False), (8, False), (2, False), (16, True), (2, True), (4, False), (4, True)]
CAPS_GIB = (16, 24)


def main() -> None:
    from benchmarks.train_speed import settings_for

    parser = measuring.parser(__doc__ or "", 120)
    parser.add_argument("--backend", choices=["unsloth", "peft"], default="unsloth")
    parser.add_argument("--quantization", nargs="*", default=["4bit", "none"])
    args = parser.parse_args()
    rows = measuring.Rows(args.out, args.seconds)
    share = args.seconds / len(args.quantization)
    for n, quantization in enumerate(args.quantization):
        settings = settings_for(args, quantization)
        bench = measuring.Workbench(settings, backends.for_training(settings))
        peaks(bench, rows, quantization, args.seconds - share * (n + 1), tiny=args.tiny)
        del bench


def peaks(bench: measuring.Workbench, rows: measuring.Rows, quantization: str, until: float, *, tiny: bool) -> None:
    """Rows of estimate and measure, until so many seconds are left."""
    for n, (micro, checkpointing) in enumerate(WAYS):
        if n == len(WAYS) - 2:
            under_caps(bench, rows, quantization, until)
        if rows.left() < until:
            return
        way = Arrangement(
            micro_batch=micro, accumulation=16 // micro, gradient_checkpointing=checkpointing, sampling="grouped"
        )
        estimate = bench.estimate(way)
        steps = 2 if micro >= 8 and not tiny else 1
        try:
            done = bench.train(way, steps)
        except (RuntimeError, MemoryError) as error:
            rows.add(what="memory", quantization=quantization, way=str(way), error=str(error)[:200])
            continue
        rows.add(
            what="memory",
            backend=bench.backend.name,
            quantization=quantization,
            micro_batch=micro,
            checkpointing=checkpointing,
            estimate_gib=estimate,
            measured_gib=done.peak_gib,
            off=estimate / done.peak_gib - 1 if done.peak_gib else None,
            reserved_gib=done.reserved_gib,
            warnings=done.warnings,
        )


def under_caps(bench: measuring.Workbench, rows: measuring.Rows, quantization: str, until: float) -> None:
    import torch

    if not torch.cuda.is_available():
        return
    whole = torch.cuda.mem_get_info()[1] / 2**30
    for cap in CAPS_GIB:
        if rows.left() < until or cap > whole:
            return
        plan = bench.planned(cap)
        torch.cuda.set_per_process_memory_fraction(cap / whole)
        try:
            done = bench.train(plan, 2)
            figures = {"peak_gib": done.peak_gib, "warnings": done.warnings}
        except (RuntimeError, MemoryError) as error:
            figures = {"error": str(error)[:200]}
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        rows.add(what="cap", gib=cap, quantization=quantization, plan=str(plan), **figures)


if __name__ == "__main__":
    main()
