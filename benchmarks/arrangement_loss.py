"""Whether the planner's arrangement learns what the recipe's does: validation loss after 50 steps, over seeds.

    python benchmarks/arrangement_loss.py --model starter --data FILE [--seeds 1 2 3] [--backend unsloth|peft]

The same 16 sequences an optimizer step, as 2 x 8 shuffled with checkpointing, and as the planner arranges them.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import measuring
from medcot.runs.events import Validation
from medcot.runs.store import RunStore

WAYS = {"2 x 8": "as-given", "planner": "auto"}


def main() -> None:
    parser = measuring.parser(__doc__ or "", 480)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3])
    parser.add_argument("--ways", nargs="*", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--backend", choices=["unsloth", "peft"], default="unsloth")
    args = parser.parse_args()
    rows = measuring.Rows(args.out, args.seconds)
    losses: dict[str, list[float]] = {way: [] for way in args.ways}
    for seed in args.seeds:
        for way in args.ways:
            if rows.left() > 0 and (loss := after(args, rows, seed, way)) is not None:
                losses[way].append(loss)
    means = {way: statistics.mean(found) for way, found in losses.items() if found}
    rows.add(what="means", **means)
    if set(WAYS) <= means.keys():
        rows.add(what="ratio", planner_to_2x8=means["planner"] / means["2 x 8"])


def after(args: Any, rows: measuring.Rows, seed: int, way: str) -> float | None:
    """The last validation loss of one job."""
    folder = Path(tempfile.mkdtemp())
    steps = 3 if args.tiny else 50
    values = {
        "model.id": args.model,
        "data.source": args.data,
        "data.held_out": 20,
        "backend": args.backend,
        "training.arrangement": WAYS[way],
        "training.micro_batch": 2,
        "training.accumulation": 8,
        "training.gradient_checkpointing": "true",
        "training.learning_rate": 2e-4,
        "training.max_length": 2048,
        "training.max_steps": steps,
        "training.validate_steps": steps,
        "training.save_steps": steps,
        "training.sample_tokens": 0,
        "training.seed": seed,
    }
    pairs = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "medcot", "train", "--recipe", "starter", "--runs-dir", str(folder), *pairs]
    subprocess.run(command, check=False)
    run = RunStore(folder).get("latest")
    losses = [event.loss for event in run.events()[0] if isinstance(event, Validation)]
    plan, status = run.plan(), run.status()
    rows.add(
        what="validation",
        way=way,
        seed=seed,
        losses=losses,
        state=status.state,
        error=status.error[:300],
        arrangement=str(plan.arrangement) if plan else "",
    )
    return losses[-1] if len(losses) > 1 else None


if __name__ == "__main__":
    main()
