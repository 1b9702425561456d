"""How fast the starter trains on a CPU: medcot against bare TRL and LLaMA-Factory, on the same records.

    python benchmarks/cpu_peers.py [--steps 10] [--turns 2] [--llamafactory PYTHON] [--only NAME ...] [--out FILE]

The starter's 146 training records, LoRA as its recipe has it, 4 sequences an optimizer step. Each turn is a process of
its own, in alternating order, so that what other programs on the machine do falls on all. Counted are tokens without
padding, from the end of the second step to the end of the last; imports, loading and validations lie outside. Losses
are logged at each step by all. A turn that goes on for minutes ends early, and its way takes no further turn; one that
has counted no step after ten minutes is given up. The peers:

- "TRL told": an SFTTrainer given the model's folder, messages, the adapter and the recipe's training settings, and told
  to compute in medcot's number format for this machine and to keep activations.
- "LLaMA-Factory": its own `train`, told the same; it reads the template from the tokenizer. It computes in the format
  that the model's file has, whatever `bf16` says, so it gets a copy of the model in the machine's format.
- "TRL as it comes": not told the last two things. It multiplies in bfloat16, whatever the machine is fast in, and
  computes activations twice (gradient checkpointing).

What differs: both peers learn the line break behind the end of a turn, one token a record. LLaMA-Factory pads to a
multiple of 8. It needs an environment of its own, without torchvision and torchaudio, which no text needs:

    python -m venv LF && LF/bin/pip install torch==2.13.0 "transformers<=5.6" "trl<=0.24" "peft<=0.18.1" \\
      "accelerate<=1.11" "datasets<=4.0" einops fire omegaconf pandas protobuf pydantic pyyaml scipy sentencepiece \\
      tiktoken "tyro<0.9" && LF/bin/pip install --no-deps llamafactory==0.9.5
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import measuring

LEFT_OUT = 2  # steps at the beginning of each turn
LONGEST, GIVEN_UP = 200, 600  # seconds after which a turn ends at its next counted step, and after which at once
Job = dict[str, Any]  # what a turn's process is told: model, numbers, LoRA and training settings, steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="optimizer steps a turn")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--llamafactory", type=Path, metavar="PYTHON", help="of an environment that has it")
    parser.add_argument("--only", nargs="*", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--out", type=Path, help="append each row here, as JSON")
    parser.add_argument("--turn", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turn:
        return one_turn(args.turn[0], Path(args.turn[1]))
    rows, totals = measuring.Rows(args.out, float("inf")), dict[str, list[float]]()
    ways = [name for name in args.only if args.llamafactory or name != "LLaMA-Factory"]
    with tempfile.TemporaryDirectory() as made:
        job = prepare(Path(made), args.steps)
        rows.add(what="job", **{name: job[name] for name in ("numbers", "records", "tokens")}, cores=os.cpu_count())
        for turn in range(args.turns):
            for name in list(ways if turn % 2 == 0 else ways[::-1]):
                # Not resolved: an environment is found by where its link to python lies.
                python = str(args.llamafactory.absolute()) if name == "LLaMA-Factory" else sys.executable
                offline = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
                command = [python, __file__, "--turn", name, made]
                try:
                    subprocess.run(command, check=True, env=offline, stdout=subprocess.DEVNULL, timeout=GIVEN_UP)
                except subprocess.TimeoutExpired:
                    rows.add(what="given up", turn=turn, name=name, seconds=GIVEN_UP)
                    ways.remove(name)
                    continue
                row = json.loads((Path(made) / "row.json").read_text(encoding="utf-8"))
                if len(row["losses"]) < args.steps:
                    ways.remove(name)
                tokens, seconds = sum(row["tokens"]), sum(row["seconds"])
                totals[name] = [a + b for a, b in zip(totals.get(name, [0, 0]), (tokens, seconds), strict=True)]
                rows.add(what="turn", turn=turn, name=name, tokens_per_second=tokens / seconds, **row)
    rates = {name: tokens / seconds for name, (tokens, seconds) in totals.items()}
    for name, rate in rates.items():
        ratio = rates["medcot"] / rate if "medcot" in rates else None
        rows.add(what="all turns", name=name, tokens_per_second=rate, medcot_to_it=ratio)


def prepare(folder: Path, steps: int) -> Job:
    """Write what the turns read: the records as messages, the model in this machine's format, and the job."""
    from transformers import AutoModelForCausalLM

    from medcot.engine import models
    from medcot.engine.train.inputs import Inputs
    from medcot.prompts.tags import completion_text
    from medcot.settings.recipes import compose

    settings = compose("starter", None, [])
    inputs, numbers = Inputs.of(settings, lambda event: None), models.compute_dtype("auto")
    shutil.copytree(inputs.local.path, folder / "model")
    AutoModelForCausalLM.from_pretrained(inputs.local.path, dtype=numbers).save_pretrained(folder / "model")
    pairs = [(e.question, completion_text(e.reasoning, e.answer)) for e in inputs.split.train]
    messages = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    described = {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    job = {
        "model": str(inputs.local.path),
        "numbers": str(numbers).removeprefix("torch."),
        "lora": settings.lora.model_dump(mode="json"),
        "training": settings.training.model_dump(mode="json"),
        "records": len(pairs),
        "tokens": sum(len(e.input_ids) for e in inputs.train_set),
        "steps": steps,
    }
    lines = "".join(json.dumps({"messages": both}) + "\n" for both in messages)
    (folder / "records.jsonl").write_text(lines, encoding="utf-8")
    info = json.dumps({"records": {"file_name": "records.jsonl", **described}})
    (folder / "dataset_info.json").write_text(info, encoding="utf-8")
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    return job


def one_turn(name: str, folder: Path) -> None:
    """Train in this process, and write the seconds and tokens of each counted step."""
    from transformers import TrainerCallback, trainer

    seen: list[tuple[float, int, float]] = []
    began = time.perf_counter()

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **_: Any) -> None:
            if "loss" in logs:
                seen.append((time.perf_counter(), int(state.num_input_tokens_seen), logs["loss"]))
                if len(seen) > LEFT_OUT and time.perf_counter() - began > LONGEST:
                    control.should_training_stop = True

    trainer.DEFAULT_CALLBACKS.append(Clock)
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as work:
        WAYS[name](job, folder, Path(work))
    counted = list(zip(seen[LEFT_OUT - 1 :], seen[LEFT_OUT:], strict=False))
    row = {
        "tokens": [after[1] - before[1] for before, after in counted],
        "seconds": [round(after[0] - before[0], 3) for before, after in counted],
        "losses": [round(float(loss), 3) for *_, loss in seen],
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    (folder / "row.json").write_text(json.dumps(row), encoding="utf-8")


def medcot(job: Job, folder: Path, work: Path) -> None:
    from benchmarks.overhead import NoStop
    from medcot.engine.backends.peft import PeftBackend
    from medcot.engine.train import training
    from medcot.runs.store import RunStore
    from medcot.settings.recipes import compose

    settings = compose("starter", None, [f"training.max_steps={job['steps']}", "training.sample_tokens=0"])
    run = RunStore(work).create(settings)
    training.train(run, settings, PeftBackend(), run.append, NoStop())


def shared(job: Job, work: Path) -> Job:
    """What both peers are told, in the words of transformers' Trainer."""
    t = job["training"]
    told = {name: t[name] for name in ("learning_rate", "warmup_steps", "weight_decay", "max_grad_norm", "seed")}
    told |= {"lr_scheduler_type": t["scheduler"], "data_seed": t["seed"], "max_steps": job["steps"]}
    told |= {"per_device_train_batch_size": t["micro_batch"], "gradient_accumulation_steps": t["accumulation"]}
    told |= {"output_dir": str(work), "logging_steps": 1, "save_strategy": "no", "report_to": "none"}
    return told | {"include_num_input_tokens_seen": "non_padding", "disable_tqdm": True, "use_cpu": True}


def trl(job: Job, folder: Path, work: Path, **told: Any) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    lines = (folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    pairs = [json.loads(line)["messages"] for line in lines]
    lora = {"r": job["lora"]["rank"], "lora_alpha": job["lora"]["alpha"], "lora_dropout": job["lora"]["dropout"]}
    SFTTrainer(
        model=job["model"],
        args=SFTConfig(**shared(job, work), max_length=job["training"]["max_length"], **told),
        train_dataset=Dataset.from_list([{"prompt": p[:1], "completion": p[1:]} for p in pairs]),
        peft_config=LoraConfig(target_modules=job["lora"]["target_modules"], task_type="CAUSAL_LM", **lora),
    ).train()


def trl_told(job: Job, folder: Path, work: Path) -> None:
    numbers = {"bf16": job["numbers"] == "bfloat16", "model_init_kwargs": {"dtype": job["numbers"]}}
    trl(job, folder, work, gradient_checkpointing=False, **numbers)


def llamafactory(job: Job, folder: Path, work: Path) -> None:
    import transformers  # noqa: F401  # it looks for torchaudio, before there is one that is empty

    audio = ModuleType("torchaudio")  # imported at once, and used for sound alone
    audio.__spec__ = ModuleSpec("torchaudio", None)
    sys.modules.setdefault("torchaudio", audio)
    from llamafactory.train.tuner import run_exp  # type: ignore[import-not-found]  # in the other environment

    told = {f"lora_{name}": job["lora"][name] for name in ("rank", "alpha", "dropout")}
    told |= {"finetuning_type": "lora", "lora_target": ",".join(job["lora"]["target_modules"])}
    told |= {"dataset": "records", "dataset_dir": str(folder), "cutoff_len": job["training"]["max_length"]}
    told |= {"overwrite_cache": True, "stage": "sft", "do_train": True, "model_name_or_path": str(folder / "model")}
    told |= {"bf16": job["numbers"] == "bfloat16", "disable_gradient_checkpointing": True}
    run_exp({**shared(job, work), **told})


WAYS: dict[str, Callable[[Job, Path, Path], None]] = {
    "medcot": medcot,
    "TRL told": trl_told,
    "LLaMA-Factory": llamafactory,
    "TRL as it comes": trl,
}

if __name__ == "__main__":
    main()
