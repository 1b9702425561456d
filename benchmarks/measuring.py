"""What the GPU benchmarks share: rows written as they come, a deadline, the card's ceiling, and a timed training."""

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any


class Rows:
    """Each row is printed and appended to a file at once, so that nothing is lost when time runs out."""

    def __init__(self, out: Path | None, seconds: float):
        self._out, self._end = out, time.monotonic() + seconds

    def left(self) -> float:
        return self._end - time.monotonic()

    def add(self, **row: Any) -> None:
        line = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
        print(line, flush=True)
        if self._out:
            with self._out.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def parser(doc: str, seconds: float) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", required=True, help="a folder or Hub id")
    made.add_argument("--data", required=True, help="a file of records")
    made.add_argument("--seconds", type=float, default=seconds, help="begin nothing new after this long")
    made.add_argument("--out", type=Path, help="append each row here, as JSON")
    made.add_argument("--tiny", action="store_true", help="few and short steps: to try the program itself")
    return made


def synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_tflops() -> float:
    """Of a large bfloat16 matrix product on this device, random data."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    n, repeat = (8192, 30) if device == "cuda" else (512, 2)
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    synchronize()
    started = time.perf_counter()
    for _ in range(repeat):
        a @ b
    synchronize()
    return 2 * n**3 * repeat / (time.perf_counter() - started) / 1e12


def launch_microseconds() -> float:
    """What the host needs to launch one small kernel."""
    import torch

    if not torch.cuda.is_available():
        return 0.0
    x = torch.zeros(1, device="cuda")
    for _ in range(100):
        x += 1
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(2000):
        x += 1
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / 2000 * 1e6


@contextmanager
def fresh_memory() -> Iterator[SimpleNamespace]:
    """Inside, the peak is counted anew; `peak_gib` and `reserved_gib` of what it yields are there after it."""
    import torch

    found = SimpleNamespace(peak_gib=0.0, reserved_gib=0.0)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        yield found
    finally:
        if torch.cuda.is_available():
            found.peak_gib = torch.cuda.max_memory_allocated() / 2**30
            found.reserved_gib = torch.cuda.max_memory_reserved() / 2**30


class Workbench:
    """One loaded base with one adapter, to train a few steps on in this arrangement and that."""

    def __init__(self, settings: Any, backend: Any):
        import torch

        from medcot.engine.train import memory_plan
        from medcot.engine.train.inputs import Inputs

        self.settings, self.backend = settings, backend
        self.hardware = memory_plan.Hardware(backend.memory, torch.cuda.is_available(), memory_plan.free_gib())
        inputs = Inputs.of(settings, lambda event: None)
        base = backend.load(inputs.local, settings.model, max_length=settings.training.max_length)
        self.tokenizer = inputs.encoder.tokenizer
        self.dtype, self.dims, self.records = base.dtype, inputs.dims, inputs.train_set
        self.lengths = [len(e.input_ids) for e in self.records]
        self.parameters = self.dims.linear + self.dims.other
        self.model = backend.attach(base, settings.lora, seed=settings.training.seed, checkpointing=True)

    def planned(self, free_gib: float | None = None) -> Any:
        """What the planner chooses, here or where only so much memory is free."""
        from dataclasses import replace

        from medcot.engine.train import memory_plan

        hardware = self.hardware if free_gib is None else replace(self.hardware, free_gib=free_gib)
        return memory_plan.plan_batching(self.dims, self.settings, hardware, self.lengths)

    def estimate(self, arrangement: Any) -> float:
        from medcot.engine.train import memory_plan

        return memory_plan.peak_gib(self.dims, self.settings, self.hardware, arrangement, self.lengths)

    def train(self, arrangement: Any, steps: int, *, profile_step: int = 0, **overrides: Any) -> SimpleNamespace:
        """`steps` optimizer steps: seconds and tokens (padding not counted) of each, peak memory, last loss."""
        from medcot.engine.train import memory_plan, training
        from medcot.engine.train.callbacks import Observer
        from medcot.engine.train.choice import Choice

        settings = memory_plan.arranged(self.settings, arrangement)
        t = settings.training.model_copy(update={"max_steps": steps, "log_steps": 1})
        settings = settings.model_copy(update={"training": t})
        losses: list[float] = []
        warnings: list[str] = []

        def report(event: Any) -> None:
            if event.type == "step":
                losses.append(event.loss)
            elif event.type == "warning":
                warnings.append(event.message)

        if hasattr(self.model, "_unsloth_gradient_checkpointing"):  # it goes by what the adapter was attached with
            self.model._unsloth_gradient_checkpointing = "unsloth" if t.gradient_checkpointing else False
        with tempfile.TemporaryDirectory() as folder, fresh_memory() as memory:
            args = training.trainer_arguments(settings, Path(folder), self.dtype, self.hardware)
            for name, value in {"eval_strategy": "no", "eval_on_start": False, "save_strategy": "no"}.items():
                setattr(args, name, value)
            for name, value in overrides.items():
                setattr(args, name, value)
            clock = stopwatch(profile_step)
            trainer = training.Trainer(
                model=self.model,
                args=args,
                train_dataset=training.as_dataset(self.records),
                eval_dataset=None,
                processing_class=self.tokenizer,
                order=training.order_of(self.records, t),
                observer=Observer(report, SimpleNamespace(requested=False), lambda folder: folder, Choice(t, 0)),
                micro_batch=t.micro_batch,
                on_validation=lambda: None,
                captured=not overrides and self.hardware.gains_by_capture(arrangement, self.lengths),
            )
            trainer.add_callback(clock)
            trainer.train()
            self.model.zero_grad(set_to_none=True)
            del trainer
        return SimpleNamespace(
            seconds=clock.seconds,
            tokens=clock.tokens,
            loss=losses[-1] if losses else None,
            profile=clock.profile,
            warnings=warnings,
            **vars(memory),
        )


def stopwatch(profile_step: int) -> Any:
    """A Trainer callback that times each step with the device's queue empty at both ends, and profiles one."""
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.tokens: list[int] = []
            self.profile: dict[str, Any] | None = None
            self._seen = 0
            self._profiler: Any = None

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            synchronize()
            if profile_step and state.global_step + 1 == profile_step:
                self._profiler = profiler()
                self._profiler.start()
            self._started = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            synchronize()
            self.seconds.append(time.perf_counter() - self._started)
            if self._profiler:
                self._profiler.stop()
                self.profile = summary_of(self._profiler, self.seconds[-1])
                self._profiler = None

        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            if "loss" in logs:  # of each step; the state's count of tokens is brought up to date for it
                self.tokens.append(int(state.num_input_tokens_seen) - self._seen)
                self._seen = int(state.num_input_tokens_seen)

    return Stopwatch()


def profiler() -> Any:
    import torch
    from torch.profiler import ProfilerActivity

    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
    return torch.profiler.profile(activities=kinds)


def summary_of(profiled: Any, wall: float) -> dict[str, Any]:
    """Time that kernels ran against the wall's (the profiler slows the host), and the longest kernels."""
    kernels: dict[str, list[float]] = {}
    for event in profiled.events():
        if str(event.device_type).endswith("CUDA"):
            kept = kernels.setdefault(event.name[:70], [0, 0])
            kept[0] += event.device_time / 1e3
            kept[1] += 1
    longest = sorted(kernels.items(), key=lambda item: -item[1][0])[:14]
    busy = sum(ms for ms, _ in kernels.values())
    return {
        "kernels": int(sum(n for _, n in kernels.values())),
        "kernel_ms": round(busy, 2),
        "wall_ms": round(wall * 1e3, 2),
        "longest_ms": {name: [round(ms, 2), int(n)] for name, (ms, n) in longest},
    }
