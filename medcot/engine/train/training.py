"""A training from start to end: load, encode, attach, train, save."""

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from datasets import Dataset
from trl import SFTConfig

from medcot.adapters.base import local_folder
from medcot.adapters.card import model_card
from medcot.data import starter
from medcot.engine import distributed
from medcot.engine.backends import Backend
from medcot.engine.lora import loraplus_optimizer
from medcot.engine.models import device_type
from medcot.engine.outcome import StopSignal
from medcot.engine.train import checkpoints, memory_plan
from medcot.engine.train.backup import Backup, backed_up
from medcot.engine.train.callbacks import SAMPLES, Observer
from medcot.engine.train.checkpoints import Checkpoint, Manifest
from medcot.engine.train.choice import Choice, history_of
from medcot.engine.train.inputs import Inputs
from medcot.engine.train.memory_plan import Hardware
from medcot.engine.train.samples import show_samples
from medcot.engine.train.trainer import GroupedSampler, Trainer
from medcot.errors import BadInput
from medcot.hub import CONTRACT
from medcot.machine import write_atomically
from medcot.prompts.encoder import Encoded
from medcot.runs.events import Kept, PlanMade, Progress, Report, Warned
from medcot.runs.run import Run
from medcot.settings import STARTER, RunSettings, TrainingSettings, endless_warmup, idle_choice

# Settings that the Trainer calls as medcot does.
NAMED_ALIKE = {"learning_rate", "warmup_steps", "weight_decay", "max_grad_norm"}
NAMED_ALIKE |= {"gradient_checkpointing", "save_steps", "seed"}


def train(run: Run, settings: RunSettings, backend: Backend, report: Report, stop: StopSignal) -> int | None:
    """Train the run's adapter and save it; returns None, or the step at which it was stopped before its end.

    Goes on from the newest complete checkpoint, if any. When asked to stop, saves a checkpoint and no adapter.
    Raises BadInput for data or settings that cannot be trained on, NotFinite when the loss is NaN or infinite,
    OutOfMemory if one sequence alone does not fit. In a job of several processes each of them calls this, and rank 0
    writes the run directory.
    """
    with backed_up(run, settings, report) as backup:
        return _trained(Prepared(run, settings, backend, report, backup), run, report, stop)


def _trained(prepared: "Prepared", run: Run, report: Report, stop: StopSignal) -> int | None:
    resume_from = newest_whole(run, prepared.manifest, report)
    with emptied(run.checkpoints_dir / ".writing") as workspace:
        trainer = prepared.trainer(workspace, stop, resume_from)
        report(prepared.plan())
        with stop.graceful():
            step = run_trainer(trainer, resume_from, prepared.choice)
            distributed.barrier()  # another process's Trainer may still list the workspace, which is removed below
            over = step >= prepared.total_steps or prepared.choice.is_over(trainer.state.log_history)
            finished = not trainer.observer.stopping or over
            if finished:
                if trainer.observer.validated_at != step:
                    trainer.evaluate()
                trainer.observer.require_finite(trainer.model, step)
                if distributed.is_main_process():
                    report(Progress(stage="Saving the adapter"))
                    prepared.keep(trainer, step)
                    prepared.save_adapter()
    return None if finished else step


@contextmanager
def emptied(workspace: Path) -> Iterator[Path]:
    """The folder into which the Trainer writes; on a full disk, removing it makes room for the message."""
    if distributed.is_main_process():
        shutil.rmtree(workspace, ignore_errors=True)
    try:
        yield workspace
    finally:
        if distributed.is_main_process():
            shutil.rmtree(workspace, ignore_errors=True)


class Prepared:
    """A run ready to train: its encoded records, its model with a fresh adapter, and its batching plan."""

    def __init__(self, run: Run, settings: RunSettings, backend: Backend, report: Report, backup: Backup | None):
        self.run, self.backend, self.report, self.backup = run, backend, report, backup
        inputs = Inputs.of(settings, report)
        self.split, self.encoder = inputs.split, inputs.encoder
        self.train_set, self.validation, self.left_out = inputs.train_set, inputs.validation, inputs.left_out
        report(Progress(stage="Loading the model"))
        free = distributed.all_reduce_min(memory_plan.free_gib())
        self.hardware = Hardware(backend.memory, torch.cuda.is_available(), free)
        base = backend.load(inputs.local, settings.model, max_length=settings.training.max_length)
        self.dtype, self.identity = base.dtype, inputs.local.identity
        lengths = [len(e.input_ids) for e in self.train_set]
        # A resume keeps the plan that the run began with on any device, so that its steps stay the same.
        begun = run.plan() if run.checkpoints() else None
        self.arrangement = (begun and begun.arrangement) or memory_plan.plan_batching(
            inputs.dims, settings, self.hardware, lengths
        )
        if not self.arrangement.fits:
            report(Warned(message=f"Memory may not be enough. {self.arrangement}"))
        self.settings = memory_plan.arranged(settings, self.arrangement)
        t = self.settings.training
        self.captured = self.hardware.gains_by_capture(self.arrangement, lengths)
        self.total_steps = total_steps(len(self.train_set), t)
        self.choice = Choice(t, self.total_steps)
        for message in filter(None, (endless_warmup(t, self.total_steps), idle_choice(t, self.total_steps))):
            report(Warned(message=message))
        self.model = backend.attach(base, settings.lora, seed=t.seed, checkpointing=t.gradient_checkpointing)
        self.manifest = Manifest(
            depends_on=checkpoints.dependencies(self.settings, self.split.fingerprint, self.identity),
            micro_batch=t.micro_batch,
            computed=f"{backend.name}, {str(base.dtype).removeprefix('torch.')}, {base.device.type}",
        )

    def plan(self) -> PlanMade:
        parameters, apart = list(self.model.parameters()), self.split.validation is not None
        return PlanMade(
            records=len(self.train_set),
            held_out=len(self.split.held_out if apart else self.validation),
            truncated=sum(e.truncated for e in self.train_set),
            shortened=sum(e.left_off > 0 for e in self.train_set),
            left_out=self.left_out,
            total_steps=self.total_steps,
            arrangement=self.arrangement,
            held_out_hashes=self.split.held_out_hashes,
            trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
            total_parameters=sum(p.numel() for p in parameters),
            fingerprint=self.split.fingerprint,
            model=self.identity,
            validation=len(self.validation) if apart else None,
            repeated=self.split.left_out_of("train"),
        )

    def trainer(self, workspace: Path, stop: StopSignal, resume_from: Checkpoint | None) -> Trainer:
        """The Trainer over the model, which saves checkpoints and answers the sample questions at each validation."""
        t, report = self.settings.training, self.report

        def save_checkpoint(written: Path) -> Path:
            now = self.manifest.model_copy(update={"micro_batch": trainer.micro_batch})
            best = self.choice.best(trainer.state.log_history)
            kept = checkpoints.save(written, self.run.checkpoints_dir, now, most=t.keep_checkpoints, best=best)
            if self.backup:
                self.backup.take()
            return kept.path

        def on_validation() -> None:
            step, cached = trainer.state.global_step, self.backend.caches_in_training
            if distributed.is_main_process() and t.sample_tokens and (step or t.sample_base):
                trainer.observer.stage(SAMPLES, 0, len(starter.SAMPLE_QUESTIONS))
                show_samples(trainer.model, self.encoder, t.sample_tokens, report, step=step, cached=cached)

        arguments = trainer_arguments(self.settings, workspace, self.dtype, self.hardware)
        trainer = Trainer(
            model=self.model,
            args=arguments,
            optimizers=(loraplus_optimizer(self.model, arguments, self.settings.lora.loraplus_ratio), None),
            train_dataset=as_dataset(self.train_set),
            eval_dataset=as_dataset(self.validation),
            processing_class=self.encoder.tokenizer,
            order=order_of(self.train_set, t),
            observer=Observer(report, stop, save_checkpoint, self.choice),
            micro_batch=resume_from.manifest.micro_batch if resume_from else t.micro_batch,
            on_validation=on_validation,
            captured=self.captured,
        )
        return trainer

    def keep(self, trainer: Trainer, step: int) -> None:
        """Go back to the weights that are kept, and say whose they are where the validation loss chose."""
        history, t = trainer.state.log_history, self.settings.training
        kept, checkpoint = self.choice.kept(history, step, self.run.checkpoints_dir, self.report)
        if checkpoint:
            trainer._load_from_checkpoint(str(checkpoint.path))
        ended_at = step if step < self.total_steps else None
        if t.keep == "best" or ended_at:
            self.report(Kept(step=kept, loss=self.choice.losses(history)[kept], ended_at=ended_at))

    def save_adapter(self) -> None:
        """Write adapter/ aside and rename it, so that it appears whole. The weights are known to be finite."""
        run, encoder, model = self.run, self.encoder, self.settings.model
        draft = run.path / ".adapter"
        shutil.rmtree(draft, ignore_errors=True)
        if model.id != STARTER and not local_folder(model):
            # The Hub's name and commit, not this machine's cache folder.
            config = self.model.peft_config["default"]
            config.base_model_name_or_path, config.revision = model.id, model.revision
        self.model.save_pretrained(draft, safe_serialization=True, save_embedding_layers=False)
        encoder.tokenizer.save_pretrained(draft)
        write_atomically(draft / CONTRACT, encoder.contract.model_dump_json(indent=1))
        write_atomically(draft / "README.md", model_card(run, encoder.contract))
        shutil.rmtree(run.adapter_dir, ignore_errors=True)
        draft.rename(run.adapter_dir)


def run_trainer(trainer: Trainer, resume_from: Checkpoint | None, choice: Choice) -> int:
    """Train, from a checkpoint if there is one; returns the step reached.

    A worker that died between its last checkpoint and its adapter has nothing left to train, but the Trainer would take
    one more step before it notices.
    """
    history = history_of(resume_from) if resume_from else []
    if resume_from and (resume_from.step >= choice.total_steps or choice.is_over(history)):
        trainer._load_from_checkpoint(str(resume_from.path))
        trainer.state.global_step, trainer.state.log_history = resume_from.step, history
    else:
        trainer.train(resume_from_checkpoint=str(resume_from.path) if resume_from else None)
    return int(trainer.state.global_step)


def as_dataset(encoded: list[Encoded]) -> Dataset:
    return Dataset.from_dict({"input_ids": [e.input_ids for e in encoded], "labels": [e.labels for e in encoded]})


def order_of(encoded: list[Encoded], training: TrainingSettings) -> GroupedSampler | None:
    """The sampler of grouped records; None for shuffled ones, which the Trainer does by itself."""
    lengths, size = [len(e.input_ids) for e in encoded], sequences_a_step(training)
    return None if training.sampling == "shuffled" else GroupedSampler(lengths, size, training.seed)


def sequences_a_step(training: TrainingSettings) -> int:
    """How many sequences an optimizer step learns from; micro-batch and accumulation are each process's."""
    return training.micro_batch * training.accumulation * training.processes


def total_steps(records: int, training: TrainingSettings) -> int:
    """Optimizer steps of a run, as the Trainer counts them: the last step of an epoch may be smaller."""
    an_epoch = math.ceil(records / sequences_a_step(training))
    return training.max_steps or math.ceil(training.epochs * an_epoch)


def trainer_arguments(settings: RunSettings, workspace: Path, dtype: torch.dtype, hardware: Hardware) -> SFTConfig:
    t = settings.training
    place, length_step = device_type(), hardware.length_step(t.sampling)
    return SFTConfig(
        output_dir=str(workspace),
        **t.model_dump(include=NAMED_ALIKE),
        num_train_epochs=t.epochs,
        max_steps=t.max_steps or -1,
        per_device_train_batch_size=t.micro_batch,
        per_device_eval_batch_size=t.micro_batch,
        gradient_accumulation_steps=t.accumulation,
        lr_scheduler_type=t.scheduler,
        optim="adamw_torch_fused" if place == "cuda" else "adamw_torch",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=place == "cpu",
        gradient_checkpointing_kwargs={"use_reentrant": False},
        # The encoder has already cut the sequences.
        max_length=None,
        pad_to_multiple_of=length_step if length_step > 1 else None,
        # Unsloth joins a pass's sequences unless this is False. Sequences of like length gain nothing from it, and
        # attention over each of them alone costs kernel launches. TRL's own default is False.
        **({} if hardware.joins(t.sampling) else {"padding_free": False}),
        logging_steps=t.log_steps,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=t.validate_steps,
        eval_on_start=True,
        data_seed=t.seed,
        dataloader_pin_memory=place == "cuda",
        ddp_find_unused_parameters=False,
        include_num_input_tokens_seen="non_padding",
        report_to="none",
        disable_tqdm=True,
    )


def newest_whole(run: Run, manifest: Manifest, report: Report) -> Checkpoint | None:
    """The newest complete checkpoint, or None. Warns of damaged ones, and of an inexact resume.

    Raises BadInput if settings have changed since, or if no checkpoint is whole.
    """
    found = [Checkpoint(path) for path in run.checkpoints()]
    for checkpoint in found:
        name = checkpoint.path.name
        if problem := checkpoint.damage():
            report(Warned(message=f"{name} is passed over: {problem}."))
            continue
        checkpoint.require_same(manifest.depends_on)
        before = checkpoint.manifest.computed
        if before not in ("", manifest.computed):
            how = f"{name} was computed otherwise ({before}) than from here on ({manifest.computed}): "
            report(Warned(message=how + "the run goes on, and its weights are not those that it would have had."))
        return checkpoint
    if found:
        raise BadInput.of("--resume", "none of the run's checkpoints is whole.", "Start a new run.")
    return None
