"""How much faster a training is on several GPUs than on one: `medcot train --processes N` against one process, in turn.

    python benchmarks/several_gpus.py --model FOLDER --data FILE [--processes 2] [--sequences 16 64]

The same sequences an optimizer step for one and for several, 16 as the recipe has them where nothing else is said,
arranged by the planner for each. Whole jobs as a user starts them; the speed is read from their events, from the fifth
step to the last, padding not counted. A second round, where time allows, finds the kernels compiled.
"""

import itertools
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import measuring
from medcot.runs.events import Step
from medcot.runs.run import Run
from medcot.runs.store import RunStore

MICRO_BATCH = 2  # the recipe's
SKIPPED = 4  # steps in which kernels are compiled and caches filled


def main() -> None:
    parser = measuring.parser(__doc__ or "", 480)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--backend", choices=["unsloth", "peft"], default="unsloth")
    parser.add_argument("--quantization", nargs="*", default=["none", "4bit"])
    parser.add_argument("--sequences", nargs="*", type=int, default=[16], help="an optimizer step, even")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    rows = measuring.Rows(args.out, args.seconds)
    for quantization, sequences in itertools.product(args.quantization, args.sequences):
        rates: dict[int, float] = {}
        for number in range(args.rounds):
            for count in (1, args.processes):
                if rows.left() < 0:
                    return
                run = trained(args, quantization, sequences, count)
                label = {"quantization": quantization, "sequences": sequences}
                rates[count] = tell(run, rows, **label, processes=count, round=number)
        ratio = rates[args.processes] / rates[1] if all(rates.values()) else None
        rows.add(what="ratio", quantization=quantization, sequences=sequences, several_to_one=ratio)


def trained(args: Any, quantization: str, sequences: int, count: int) -> Run:
    """One whole job, and its run directory."""
    folder = Path(tempfile.mkdtemp())
    steps = SKIPPED + (2 if args.tiny else 16)
    values = {
        "model.id": args.model,
        "model.quantization": quantization,
        "data.source": args.data,
        "data.held_out": 2,
        "backend": args.backend,
        "training.accumulation": sequences // MICRO_BATCH,
        "training.max_steps": steps,
        "training.warmup_steps": 2,
        "training.log_steps": 1,
        "training.sample_tokens": 0,
        "training.validate_steps": steps,
        "training.save_steps": steps,
    }
    pairs = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    recipe = ["--recipe", "llama-3.2-3b-medical-cot", "--processes", str(count), "--runs-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "medcot", "train", *recipe, *pairs], check=False)
    return RunStore(folder).get("latest")


def tell(run: Run, rows: measuring.Rows, **label: Any) -> float:
    """A row of one job's speed, which is returned; 0 where it did not get so far."""
    steps = [event for event in run.events()[0] if isinstance(event, Step)][SKIPPED - 1 :]
    plan, status = run.plan(), run.status()
    rate = 0.0
    if len(steps) > 1:
        rate = (steps[-1].tokens_seen - steps[0].tokens_seen) / (steps[-1].time - steps[0].time)
    rows.add(
        what="train",
        **label,
        tokens_per_second=rate,
        steps=len(steps) - 1,
        loss=steps[-1].loss if steps else None,
        peak_gib=max((step.gpu_memory_gib or 0 for step in steps), default=None),
        state=status.state,
        error=status.error[:300],
        arrangement=str(plan.arrangement) if plan else "",
    )
    return rate


if __name__ == "__main__":
    main()
