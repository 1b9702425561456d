"""What the run directory costs a training step: medcot's training against the bare SFTTrainer with the same arguments.

    python benchmarks/overhead.py [--model FOLDER] [--steps 20] [--rounds 5] [--track NAME ...]

Both train the same records in the same order from the same weights, in turns (bare, medcot, medcot, bare, ...), in one
process; what other programs on the machine do falls on both. Counted is from the first step's beginning to the end of
training: losses are logged at each step and one checkpoint is saved, by both; medcot's is hashed and flushed as well.
Printed are the ratios of wall and of processor time, median of the rounds, and the share of the wall time that was
spent inside medcot's own callbacks, which noise cannot hide. `--track` names trackers that medcot's side logs to, and
what they take of the training's own time is printed too; their own threads are in the processor time alone.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from medcot.engine import tracking
from medcot.engine.backends.peft import PeftBackend
from medcot.engine.train import callbacks, checkpoints, training
from medcot.engine.train.fused import Fused
from medcot.engine.train.inputs import Inputs
from medcot.engine.train.memory_plan import Hardware
from medcot.runs.store import RunStore
from medcot.settings import RunSettings
from medcot.settings.recipes import compose

from transformers import TrainerCallback, trainer  # isort: skip
from trl import SFTTrainer  # isort: skip


class Clock(TrainerCallback):
    """(wall seconds, processor seconds) of each training in turn."""

    read: list[tuple[float, float]] = []  # noqa: RUF012  # one for the whole program
    began: tuple[float, float] | None = None

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = self.began or (time.perf_counter(), time.process_time())

    def on_train_end(self, *_: Any, **__: Any) -> None:
        assert self.began
        Clock.read.append((time.perf_counter() - self.began[0], time.process_time() - self.began[1]))


class Inside:
    """Wall seconds within the functions given to `watch`, counted once where they nest."""

    seconds, depth = 0.0, 0

    def watch(self, owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def timed(*arguments: Any, **named: Any) -> Any:
            started, self.depth = time.perf_counter(), self.depth + 1
            try:
                return original(*arguments, **named)
            finally:
                self.depth -= 1
                self.seconds += 0.0 if self.depth else time.perf_counter() - started

        setattr(owner, name, timed)


class NoStop:
    requested = False

    def graceful(self) -> Any:
        return tempfile.TemporaryDirectory()


def bare(settings: RunSettings, folder: Path) -> None:
    """The same arguments, model, adapter, records and fused products, and nothing of medcot around them."""
    inputs, backend, t = Inputs.of(settings, lambda _: None), PeftBackend(), settings.training
    base = backend.load(inputs.local, settings.model, max_length=t.max_length)
    model = backend.attach(base, settings.lora, seed=t.seed, checkpointing=t.gradient_checkpointing)
    sets = [training.as_dataset(part) for part in (inputs.train_set, inputs.validation)]
    trainer = SFTTrainer(
        model=model,
        args=training.trainer_arguments(settings, folder, base.dtype, Hardware(backend.memory, False, 0.0)),
        train_dataset=sets[0],
        eval_dataset=sets[1],
        processing_class=inputs.encoder.tokenizer,
    )
    with Fused(model).in_place():
        trainer.train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--track", action="append", default=[], choices=tracking.KINDS)
    given = parser.parse_args()
    pairs = [f"model.id={given.model}", "training.micro_batch=1", f"training.max_steps={given.steps}"]
    pairs += [
        "training.sample_tokens=0",
        "data.held_out=1",
        f"training.save_steps={given.steps}",
        "training.validate_steps=1000000",
    ]
    settings = compose("starter", None, [*pairs, f"tracking.to={','.join(given.track)}"])
    trainer.DEFAULT_CALLBACKS.append(Clock)
    inside, trackers = Inside(), Inside()
    for name in ("on_train_begin", "on_step_end", "on_log", "on_save"):
        inside.watch(callbacks.Observer, name)
    inside.watch(checkpoints, "save")
    trackers.watch(tracking.Tracker, "_each")
    ratios, shares, tracked = [], [], []
    for turn in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            spent: dict[str, tuple[float, float]] = {}
            for who in ("bare", "medcot") if turn % 2 == 0 else ("medcot", "bare"):
                inside.seconds = trackers.seconds = 0.0
                if who == "bare":
                    bare(settings, Path(folder) / "bare")
                else:
                    run = RunStore(Path(folder) / "runs").create(settings)
                    with tracking.follow(run, settings, run.append) as report:
                        training.train(run, settings, PeftBackend(), report, NoStop())
                        tracked.append(trackers.seconds / Clock.read[-1][0])
                    shares.append(inside.seconds / Clock.read[-1][0])
                spent[who] = Clock.read[-1]
        ratios.append([spent["medcot"][i] / spent["bare"][i] for i in (0, 1)])
        print(
            f"round {turn + 1}: wall x{ratios[-1][0]:.3f}, processor x{ratios[-1][1]:.3f}, inside {shares[-1]:.2%}, "
            f"trackers {tracked[-1]:.3%}"
        )
    wall, processor = (statistics.median(r[i] for r in ratios) for i in (0, 1))
    print(
        f"median of {given.rounds}: wall x{wall:.3f}, processor x{processor:.3f}, inside medcot's callbacks "
        f"{statistics.median(shares):.2%}, of it inside trackers {statistics.median(tracked):.3%}"
    )


if __name__ == "__main__":
    main()
