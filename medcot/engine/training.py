"""One recipe that reads top to bottom: load, attach, encode, train, save."""

import math
import shutil
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig

from medcot import data, prompts, starter
from medcot.engine import checkpoints, fitting, models, samples, world
from medcot.engine.backends import Backend
from medcot.engine.memory import is_out_of_memory
from medcot.engine.observer import Observer, StopSignal, require_finite
from medcot.engine.sampling import GroupedSampler
from medcot.engine.trainer import Trainer
from medcot.errors import BadInput, Problem
from medcot.events import Arrangement, PlanMade, Progress, Report, Sample, Warned
from medcot.jobdirs import write_atomically
from medcot.model_card import model_card
from medcot.prompts import Encoded, PromptContract
from medcot.runs import Run
from medcot.settings import STARTER, RunSettings, TrainingSettings


def train(run: Run, settings: RunSettings, backend: Backend, report: Report, stop: StopSignal) -> int | None:
    """Train the run's adapter and save it; returns None, or the step at which it was stopped before its end.

    Goes on from the newest complete checkpoint, if any. When asked to stop, saves a checkpoint and no adapter.
    Raises BadInput for data or settings that cannot be trained on, FloatingPointError when the loss is no number,
    OutOfMemory where one sequence alone does not fit. Where the job has several processes, each calls this, and the
    first writes the run directory.
    """
    report(Progress(stage="Reading the data"))
    split = data.load(settings.data)
    local = models.resolve(settings.model, report)
    report(Progress(stage="Loading the model"))
    host = fitting.Host(backend.name, torch.cuda.is_available(), world.least(fitting.free_gib()))
    base, tokenizer = backend.load(local, settings.model, max_length=settings.training.max_length)
    contract = prompts.make_contract(settings.prompt, tokenizer)
    train_set = encode(split.train, tokenizer, contract, settings)
    held_out = encode(split.held_out, tokenizer, contract, settings)
    arrangement = begun_with(run) or fitting.arrange(
        fitting.Shape.of(base, settings.lora), settings, host, [len(e.input_ids) for e in train_set]
    )
    if not arrangement.fits:
        report(Warned(message=f"Memory may not be enough. {arrangement}"))
    settings = fitting.arranged(settings, arrangement)
    model = backend.attach(
        base, settings.lora, seed=settings.training.seed, checkpointing=settings.training.gradient_checkpointing
    )
    depends_on = checkpoints.dependencies(settings, split.fingerprint, local.identity)
    computed = f"{backend.name}, {str(base.dtype).removeprefix('torch.')}, {base.device.type}"
    resume_from = newest_whole(run, depends_on, computed, report)
    workspace = run.checkpoints_dir / ".writing"
    if world.is_first():
        shutil.rmtree(workspace, ignore_errors=True)

    def keep(written: Path) -> Path:
        most = settings.training.keep_checkpoints
        return checkpoints.keep(written, run.checkpoints_dir, depends_on, most, trainer.micro_batch, computed)

    def look() -> None:
        if world.is_first():
            show_samples(trainer, tokenizer, contract, settings, report, cached=backend.name != "unsloth")

    trainer = Trainer(
        model=model,
        args=trainer_arguments(settings, workspace, base.dtype),
        train_dataset=as_dataset(train_set),
        eval_dataset=as_dataset(held_out),
        processing_class=tokenizer,
        order=order_of(train_set, settings.training),
        observer=Observer(report, stop, keep),
        report=report,
        micro_batch=checkpoints.micro_batch(resume_from) if resume_from else settings.training.micro_batch,
        look=look,
    )
    planned = total_steps(len(train_set), settings.training)
    report(plan_made(split, train_set, model, local.identity, planned, arrangement))
    try:
        with stop.graceful():
            step = run_trainer(trainer, resume_from, planned)
            finished = not trainer.observer.stopping or step >= planned
            if finished:
                if trainer.observer.validated_at != step:
                    trainer.evaluate()
                require_finite(trainer.model, step)
                if world.is_first():
                    save_adapter(run, trainer.model, tokenizer, contract, settings)
    finally:
        if world.is_first():
            shutil.rmtree(workspace, ignore_errors=True)  # on a full disk, room to say so
    return None if finished else step


def plan_made(
    split: data.Split, train_set: list[Encoded], model: Any, identity: str, planned: int, arrangement: Arrangement
) -> PlanMade:
    return PlanMade(
        records=len(train_set),
        held_out=len(split.held_out),
        truncated=sum(e.truncated for e in train_set),
        total_steps=planned,
        arrangement=arrangement,
        held_out_hashes=split.held_out_hashes,
        trainable_parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        total_parameters=sum(p.numel() for p in model.parameters()),
        fingerprint=split.fingerprint,
        model=identity,
    )


def show_samples(
    trainer: Trainer, tokenizer: Any, contract: PromptContract, settings: RunSettings, report: Report, *, cached: bool
) -> None:
    """Report what the model says now to the sample questions. Too little memory for it is no reason to end a run."""
    budget = settings.training.sample_tokens
    if not budget:
        return
    questions = [question for _, question in starter.SAMPLE_QUESTIONS]
    try:
        outputs = samples.answers(trainer.model, tokenizer, contract, questions, budget, cached=cached)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        report(Warned(message="No samples this time: there was not enough memory for them."))
        return
    for question, output in zip(questions, outputs, strict=True):
        report(Sample(arm="tuned", question=question, output=output, step=trainer.state.global_step))


def begun_with(run: Run) -> Arrangement | None:
    """The arrangement of the run's first worker: a resume keeps it, whatever the device, so that its steps stay the
    same."""
    plan = run.plan() if run.checkpoints() else None
    return plan.arrangement if plan else None


def run_trainer(trainer: Trainer, resume_from: Path | None, planned: int) -> int:
    """Train, going on from a checkpoint where there is one; returns the step reached.

    A worker that died between its last checkpoint and its adapter has nothing left to train: the Trainer would take
    one step more before it looks.
    """
    if resume_from and checkpoints.step_of(resume_from) >= planned:
        trainer._load_from_checkpoint(str(resume_from))
        trainer.state.global_step = checkpoints.step_of(resume_from)
    else:
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    reached: int = trainer.state.global_step
    return reached


def encode(
    examples: list[data.Example], tokenizer: Any, contract: PromptContract, settings: RunSettings
) -> list[Encoded]:
    """Raises BadInput where a record's prompt alone fills the longest sequence, so that nothing would be learned."""
    encoded = [
        prompts.encode_example(
            tokenizer,
            contract,
            e.question,
            e.reasoning,
            e.answer,
            loss_on=settings.prompt.loss_on,
            max_length=settings.training.max_length,
        )
        for e in examples
    ]
    masked = [e.record for e, ids in zip(examples, encoded, strict=True) if not any(ids.trained)]
    if masked:
        raise BadInput(
            Problem(
                "training.max_length",
                f"at {settings.training.max_length} tokens nothing of record "
                f"{', '.join(map(str, masked[:10]))} is left to learn from: the question fills it.",
                "Raise training.max_length.",
            )
        )
    return encoded


def as_dataset(encoded: list[Encoded]) -> Dataset:
    return Dataset.from_dict({"input_ids": [e.input_ids for e in encoded], "labels": [e.labels for e in encoded]})


def order_of(encoded: list[Encoded], training: TrainingSettings) -> GroupedSampler | None:
    """None for records that are shuffled, which the Trainer does by itself. `training` is as arranged."""
    if training.sampling == "shuffled":
        return None
    return GroupedSampler([len(e.input_ids) for e in encoded], sequences_a_step(training), training.seed)


def sequences_a_step(training: TrainingSettings) -> int:
    """What an optimizer step learns from; `training` is as arranged, each process's own."""
    return training.micro_batch * training.accumulation * training.processes


def total_steps(records: int, training: TrainingSettings) -> int:
    """Optimizer steps of a run, as the Trainer counts them: the last step of an epoch may be smaller."""
    an_epoch = math.ceil(records / sequences_a_step(training))
    return training.max_steps or math.ceil(training.epochs * an_epoch)


def trainer_arguments(settings: RunSettings, workspace: Path, dtype: torch.dtype) -> SFTConfig:
    t = settings.training
    on_cpu = not torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(workspace),
        num_train_epochs=t.epochs,
        max_steps=t.max_steps or -1,
        per_device_train_batch_size=t.micro_batch,
        per_device_eval_batch_size=t.micro_batch,
        gradient_accumulation_steps=t.accumulation,
        learning_rate=t.learning_rate,
        lr_scheduler_type=t.scheduler,
        warmup_steps=t.warmup_steps,
        weight_decay=t.weight_decay,
        max_grad_norm=t.max_grad_norm,
        optim="adamw_torch",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=on_cpu,
        gradient_checkpointing=t.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        # Sequences are already cut by the contract's own encoding, and never joined.
        max_length=None,
        packing=False,
        **joined(t),
        logging_strategy="steps",
        logging_steps=t.log_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=t.validate_steps,
        eval_on_start=True,
        save_strategy="steps",
        save_steps=t.save_steps,
        seed=t.seed,
        data_seed=t.seed,
        dataloader_pin_memory=not on_cpu,
        ddp_find_unused_parameters=False,
        include_num_input_tokens_seen="non_padding",
        report_to="none",
        disable_tqdm=True,
        push_to_hub=False,
    )


def joined(training: TrainingSettings) -> dict[str, bool]:
    """Unsloth joins a pass's sequences unless told not to. Where they are of like length there is nothing to gain, and
    attention over each by itself costs launches; TRL joins none by itself."""
    return {"padding_free": False} if training.sampling == "grouped" else {}


def newest_whole(run: Run, depends_on: dict[str, str], computed: str, report: Report) -> Path | None:
    """The newest complete checkpoint, None where there is none at all; damaged ones are named and passed over, and that
    it was computed otherwise than from here on is told.

    Raises BadInput if settings have changed since, or if none of those that are there is whole.
    """
    found = run.checkpoints()
    for checkpoint in found:
        if problem := checkpoints.damage(checkpoint):
            report(Warned(message=f"{checkpoint.name} is passed over: {problem}."))
            continue
        checkpoints.require_same(checkpoint, depends_on)
        before = checkpoints.computed(checkpoint)
        if before not in ("", computed):
            how = f"{checkpoint.name} was computed otherwise ({before}) than from here on ({computed}): "
            report(Warned(message=how + "the run goes on, and its weights are not those that it would have had."))
        return checkpoint
    if found:
        raise BadInput(Problem("--resume", "none of the run's checkpoints is whole.", "Start a new run."))
    return None


def save_adapter(run: Run, model: Any, tokenizer: Any, contract: PromptContract, settings: RunSettings) -> None:
    """Write adapter/ aside and put it in place whole. The weights have been found finite."""
    draft = run.path / ".adapter"
    shutil.rmtree(draft, ignore_errors=True)
    if not Path(settings.model.id).is_dir() and settings.model.id != STARTER:
        # The Hub's name and commit, not this machine's cache folder.
        config = model.peft_config["default"]
        config.base_model_name_or_path, config.revision = settings.model.id, settings.model.revision
    model.save_pretrained(draft, safe_serialization=True, save_embedding_layers=False)
    tokenizer.save_pretrained(draft)
    write_atomically(draft / "prompt_contract.json", contract.model_dump_json(indent=1))
    write_atomically(draft / "README.md", model_card(run, contract))
    shutil.rmtree(run.adapter_dir, ignore_errors=True)
    draft.rename(run.adapter_dir)
