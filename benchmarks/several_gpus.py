"""How much faster a training is on several GPUs: `medcot train --processes N` for each N, in turn.

    python benchmarks/several_gpus.py --model FOLDER --data FILE [--processes 1 2 4] [--sequences 16 64 128]

The same sequences an optimizer step for all, 16 as the recipe has them where nothing else is said, arranged by the
planner for each. Whole jobs as a user starts them; the speed is read from their events, from before the first step to
after the last, and of the second half of the steps alone (steady: attention's plans are built and passes captured by
then), padding not counted. The limit is 4 operations a parameter and token at this card's own rate of a large bf16
product, times the GPUs. A second round, where time allows, finds the kernels compiled.
"""

import itertools
import math
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


def main() -> None:
    parser = measuring.parser(__doc__ or "", 480)
    parser.add_argument("--processes", nargs="*", type=int, default=[1, 2], help="the first is what others are held to")
    parser.add_argument("--backend", choices=["unsloth", "peft"], default="unsloth")
    parser.add_argument("--quantization", nargs="*", default=["none", "4bit"])
    parser.add_argument("--sequences", nargs="*", type=int, default=[16], help="an optimizer step, even")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--log-steps", type=int, default=25, help="the recipe's; each logged step waits for the GPUs")
    args = parser.parse_args()
    rows = measuring.Rows(args.out, args.seconds)
    peak = measuring.peak_tflops()
    rows.add(what="card", bf16_tflops=peak, launch_us=measuring.launch_microseconds())
    for quantization, sequences in itertools.product(args.quantization, args.sequences):
        for number in range(args.rounds):
            first = 0.0
            for count in args.processes:
                if rows.left() < 0:
                    return
                run = trained(args, quantization, sequences, count)
                label = {"quantization": quantization, "sequences": sequences, "processes": count, "round": number}
                rate = tell(run, rows, peak * count, **label)
                first = first or rate
                if first and count != args.processes[0]:
                    rows.add(what="ratio", **label, to=args.processes[0], ratio=rate / first)


def trained(args: Any, quantization: str, sequences: int, count: int) -> Run:
    """One whole job, and its run directory."""
    folder = Path(tempfile.mkdtemp())
    steps = 4 if args.tiny else args.steps
    values = {
        "model.id": args.model,
        "model.quantization": quantization,
        "data.source": args.data,
        "data.held_out": 2,
        "backend": args.backend,
        "training.accumulation": sequences // MICRO_BATCH,
        "training.max_steps": steps,
        "training.warmup_steps": 2,
        "training.log_steps": 1 if args.tiny else args.log_steps,
        "training.sample_tokens": 0,
        "training.validate_steps": steps,
        "training.save_steps": steps,
    }
    pairs = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    recipe = ["--recipe", "llama-3.2-3b-medical-cot", "--processes", str(count), "--runs-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "medcot", "train", *recipe, *pairs], check=False)
    return RunStore(folder).get("latest")


def tell(run: Run, rows: measuring.Rows, tflops: float, **label: Any) -> float:
    """A row of one job's speed, which is returned; 0 where it did not get so far."""
    steps = [event for event in run.events()[0] if isinstance(event, Step)]
    plan, status = run.plan(), run.status()
    rate, steady = steps[-1].tokens_per_second if steps else 0.0, speed(steps[(len(steps) - 1) // 2 :])
    rows.add(
        what="train",
        **label,
        tokens_per_second=rate,
        steady_tokens_per_second=steady,
        share_of_limit=rate * 4 * parameters(run) / (tflops * 1e12),
        steps=steps[-1].step if steps else 0,
        loss=steps[-1].loss if steps else None,
        peak_gib=max((step.gpu_memory_gib or 0 for step in steps), default=None),
        state=status.state,
        error=status.error[:300],
        arrangement=str(plan.arrangement) if plan else "",
    )
    return rate


def speed(steps: list[Step]) -> float:
    """Tokens a second from the first of these steps to the last; 0 of fewer than two."""
    if len(steps) < 2:
        return 0.0
    return (steps[-1].tokens_seen - steps[0].tokens_seen) / (steps[-1].time - steps[0].time)


def parameters(run: Run) -> int:
    """The base's, as its weights' files say: a 4-bit model in memory packs two into a byte."""
    from medcot.adapters.tensors import header

    files = Path(run.settings().model.id).glob("*.safetensors")
    return sum(math.prod(shape) for file in files for shape in header(file).values())


if __name__ == "__main__":
    main()
