"""How fast a training step is: the planner's arrangement against the reference recipe's, and against peers.

    python benchmarks/train_speed.py --model FOLDER --data FILE [--backend unsloth|peft] [--peers]

2 x 8 with checkpointing (the recipe `reference-exact`; under Unsloth its own offloaded one), 16 x 1 shuffled and padded
without checkpointing, as who knows the library asks it for, and the planner's, in turn, in one process on one loaded
model, in 4-bit and in bfloat16; with --memory also the peaks of memory_model.py, to load
once; with --profile where one step's time goes. --peers: TRL + PEFT + bitsandbytes at the recipe's own arrangement,
without and with Liger's kernels.
Tokens are those of the records, padding not counted; the peak is this card's own, of a large matrix product.
"""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

from benchmarks import measuring
from medcot.engine import backends
from medcot.runs.events import Arrangement
from medcot.settings.recipes import compose

REFERENCE = Arrangement(micro_batch=2, accumulation=8, gradient_checkpointing=True, sampling="shuffled")
BY_HAND = Arrangement(micro_batch=16, accumulation=1, gradient_checkpointing=False, sampling="shuffled")


def main() -> None:
    parser = measuring.parser(__doc__ or "", 240)
    parser.add_argument("--backend", choices=["unsloth", "peft"], default="unsloth")
    parser.add_argument("--quantization", nargs="*", default=["4bit", "none"])
    parser.add_argument(
        "--peers", action="store_true", help="TRL + PEFT at the recipe's arrangement, with backend peft"
    )
    parser.add_argument("--steps", type=int, default=6, help="of the arrangements of 16 x 1, a turn")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    rows = measuring.Rows(args.out, args.seconds)
    settings = settings_for(args, "none")
    backends.for_training(settings)  # Unsloth before everything else
    peak = measuring.peak_tflops()
    rows.add(what="card", bf16_tflops=peak, launch_us=measuring.launch_microseconds())
    for n, quantization in enumerate(args.quantization):
        settings = settings_for(args, quantization)
        bench = measuring.Workbench(settings, backends.for_training(settings))
        until = args.seconds * (1 - (n + 1) / len(args.quantization))  # left when it is the next one's turn
        way = Comparison(bench, rows, peak, quantization, until, steps=args.steps, tiny=args.tiny)
        if args.peers:
            way.peers()
            continue
        way.warm_up()
        way.turn(0)
        if args.profile:
            way.profile()
        if args.memory:
            from benchmarks import memory_model

            memory_model.peaks(bench, rows, quantization, until, tiny=args.tiny)
        for number in range(1, args.turns):
            way.turn(number)
        del bench, way


def settings_for(args: Any, quantization: str) -> Any:
    pairs = [
        f"model.id={args.model}",
        f"data.source={args.data}",
        f"model.quantization={quantization}",
        f"backend={args.backend}",
        "data.held_out=8",
        "training.warmup_steps=2",
        f"training.max_length={1024 if args.tiny else 2048}",
    ]
    return compose("llama-3.2-3b-medical-cot", None, pairs)


class Comparison:
    """The arrangements of one loaded model, timed in turn until so many seconds are left."""

    def __init__(
        self,
        bench: measuring.Workbench,
        rows: measuring.Rows,
        peak: float,
        quantization: str,
        until: float,
        *,
        steps: int,
        tiny: bool,
    ):
        self.bench, self.rows, self.peak, self.until = bench, rows, peak, until
        self.quantization, self.tiny = quantization, tiny
        self.planned = bench.planned()
        few, some, many = (1, 2, 2) if tiny else (3, 6, steps)
        padded = {"padding_free": False, "pad_to_multiple_of": None}
        self.ways: dict[str, tuple[Arrangement, int, dict[str, Any]]] = {
            "planner": (self.planned, many, {}),
            "16 x 1, shuffled and padded": (BY_HAND, many, padded),
            "reference 2 x 8": (REFERENCE, few, {}),
            "planner, joined instead of padded": (self.planned, some, {"padding_free": True}),
        }
        self.totals = {name: [0.0, 0.0] for name in self.ways}

    def warm_up(self) -> None:
        """Kernels are compiled, shape by shape."""
        self.rows.add(what="plan", quantization=self.quantization, plan=str(self.planned))
        done = self.bench.train(self.planned, self.ways["planner"][1])
        self.rows.add(what="warm-up", quantization=self.quantization, seconds=sum(done.seconds), loss=done.loss)
        self.bench.train(REFERENCE, 1)

    def turn(self, number: int) -> None:
        for name, (arrangement, steps, overrides) in self.ways.items():
            if self.rows.left() < self.until or (number and "joined" in name):
                continue
            done = self.bench.train(arrangement, steps + 1, **overrides)
            self.tell(name, arrangement, done, turn=number)
        rate = {name: tokens / seconds for name, (seconds, tokens) in self.totals.items() if seconds}
        for other in rate.keys() - {"planner"}:
            ratio = rate["planner"] / rate[other]
            self.rows.add(what="ratio", quantization=self.quantization, turns=number + 1, planner_to=other, ratio=ratio)

    def profile(self) -> None:
        if self.rows.left() > self.until:
            done = self.bench.train(self.planned, 3, profile_step=3)
            self.rows.add(what="profile", quantization=self.quantization, step="planner's", **(done.profile or {}))

    def peers(self) -> None:
        ways: dict[str, dict[str, Any]] = {"TRL + PEFT": {}}
        if importlib.util.find_spec("liger_kernel"):
            ways["TRL + PEFT + Liger"] = {"use_liger_kernel": True, "loss_type": "nll"}
        for name, overrides in ways.items():
            if self.rows.left() > self.until:
                self.totals[name] = [0.0, 0.0]
                done = self.bench.train(REFERENCE, 2 if self.tiny else 3, **overrides)
                self.tell(name, REFERENCE, done)

    def tell(self, name: str, arrangement: Arrangement, done: Any, **more: Any) -> None:
        """A row of one reading, the first step left out."""
        seconds, tokens = sum(done.seconds[1:]), sum(done.tokens[1:])
        self.totals[name][0] += seconds
        self.totals[name][1] += tokens
        operations = (6 if arrangement.gradient_checkpointing else 4) * self.bench.parameters * tokens
        self.rows.add(
            what="train",
            arrangement=name,
            quantization=self.quantization,
            tokens_per_second=tokens / seconds,
            share_of_peak=operations / seconds / (self.peak * 1e12),
            peak_gib=done.peak_gib,
            loss=done.loss,
            seconds=[round(s, 3) for s in done.seconds],
            tokens=done.tokens,
            warnings=done.warnings,
            **more,
        )


if __name__ == "__main__":
    main()
