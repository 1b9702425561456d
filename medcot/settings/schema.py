"""The fields of RunSettings, shown alike by the form, the command line and the TOML file.

Every bound, default and help text stands beside its field, and nowhere else. Models are frozen and refuse unknown
names, so a setting that is misspelt is an error and never ignored.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, computed_field, field_validator, model_validator

from medcot.settings.extras import BackendName, TrackerName
from medcot.settings.inputs import Count, DataSettings, ModelSettings, PromptSettings, Seed, Tokens
from medcot.settings.names import HUB_NAME, NAME_LENGTH, STARTER, plain_name
from medcot.settings.sources import Section, setting

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ALL_LINEAR = "all-linear"  # PEFT's word


class LoraSettings(Section):
    rank: int = setting(16, "LoRA rank", "Size r of the low-rank update.", ge=1, le=512)
    alpha: int = setting(16, "LoRA alpha", "The update is scaled by alpha / rank; see Rank-stabilized.", ge=1, le=2048)
    rslora: bool = setting(
        False,
        "Rank-stabilized",
        "rsLoRA: scaled by alpha / √rank instead, so that a larger rank learns at the same pace.",
    )
    dora: bool = setting(
        False,
        "DoRA",
        "Learns each output's magnitude apart from its direction. Slower in training and decoding; with peft alone.",
    )
    loraplus_ratio: float | None = setting(
        None,
        "LoRA+ ratio",
        "The second of an adapter's two matrices learns at so many times training.learning_rate (LoRA+; 16 is usual); "
        "none is plain LoRA. With peft alone.",
        ge=1,
        le=1000,
    )
    dropout: float = setting(0.0, "LoRA dropout", "On the adapter's input.", ge=0, lt=1)
    bias: Literal["none"] = setting(
        "none",
        "Bias",
        "Never trained: base and tuned share one loaded model, and biases could not be told apart there.",
    )
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = setting(
        LINEAR_LAYERS,
        "Target modules",
        f"Layers that get an adapter, by the end of their name; {ALL_LINEAR}: every linear layer but the one that "
        "makes the logits.",
    )

    @field_validator("target_modules", mode="before")
    @classmethod
    def _one_word_for_all(cls, given: Any) -> Any:
        return (ALL_LINEAR,) if given == ALL_LINEAR else given


class TrainingSettings(Section):
    epochs: float = setting(1.0, "Epochs", "Passes over the training records.", gt=0, le=100)
    max_steps: int | None = setting(
        None, "Step limit", "Stop after this many optimizer steps, whatever the epochs say.", ge=1, le=10_000_000
    )
    arrangement: Literal["auto", "as-given"] = setting(
        "auto",
        "Arrangement",
        "auto: a GPU's memory and the data's lengths decide micro-batch, accumulation, checkpointing and "
        "order; a step's number of sequences stays.",
    )
    micro_batch: Count = setting(2, "Micro-batch", "Sequences in one forward pass.")
    accumulation: Count = setting(
        8, "Accumulation", "Forward passes an optimizer step; their product is the effective batch."
    )
    processes: Count = setting(
        1, "Processes", "They share each step's sequences; each takes a GPU of its own, where there are GPUs."
    )
    learning_rate: float = setting(
        2e-4,
        "Learning rate",
        "Peak value. Published LoRA advice for models of some billion parameters is 1e-4 to 2e-4; small ones "
        "take more.",
        gt=0,
        le=1,
    )
    scheduler: Literal["linear", "cosine", "constant_with_warmup"] = setting(
        "linear", "Schedule", "Of the learning rate, after the warm-up."
    )
    warmup_steps: int = setting(5, "Warm-up steps", "Steps up to the peak.", ge=0, le=1_000_000)
    weight_decay: float = setting(0.01, "Weight decay", "AdamW's.", ge=0, le=1)
    max_grad_norm: float = setting(1.0, "Gradient clip", "Largest gradient norm.", gt=0, le=1000)
    max_length: int = setting(
        2048, "Longest sequence", "Tokens; data.overlong says what becomes of longer records.", ge=16, le=131_072
    )
    gradient_checkpointing: bool = setting(False, "Gradient checkpointing", "Less memory for about a third more time.")
    sampling: Literal["shuffled", "grouped"] = setting(
        "shuffled",
        "Order of records",
        "grouped: records of like length share a step, which leaves little padding. Both are fixed by the "
        "seed and the epoch.",
    )
    log_steps: int = setting(1, "Log every", "Optimizer steps between loss readings.", ge=1)
    validate_steps: int = setting(50, "Validate every", "Optimizer steps.", ge=1)
    sample_tokens: Annotated[int, Field(ge=0, le=4096)] = setting(
        0,
        "Sample tokens",
        "At each validation the model answers the sample questions in this many tokens at most; 0 is off.",
    )
    sample_base: bool = setting(False, "Sample the base too", "Answer the sample questions before the first step too.")
    save_steps: int = setting(50, "Save every", "Optimizer steps between checkpoints.", ge=1)
    keep_checkpoints: int = setting(1, "Keep checkpoints", "The newest N are kept.", ge=1, le=100)
    keep: Literal["newest", "best"] = setting(
        "newest",
        "Keep the adapter of",
        "newest: the last step; best: the validation with the lowest loss, whose checkpoint stays beside the newest.",
    )
    patience: int | None = setting(
        None,
        "Patience",
        "End the training after this many validations without a lower loss; 0 or none: after the last step.",
        ge=0,
        le=10_000,
    )
    backup: str | None = setting(
        None,
        "Backup",
        "A private repository on the Hub (OWNER/NAME): each kept checkpoint and the run's records are pushed there in "
        "the background, and another machine can go on from them: resume OWNER/NAME there.",
        max_length=200,
        pattern=f"^{HUB_NAME.pattern}$",
    )
    seed: Seed = setting(42, "Seed", "Of the adapter and the order of records.")


class EvaluationSettings(Section):
    records: int | None = setting(None, "Number of questions", "The first N held-out; none means all.", ge=1)
    max_new_tokens: Tokens = setting(
        1280, "New tokens", "Budget for base and tuned alike. Real records need about 1280."
    )
    choice_max_new_tokens: Tokens = setting(
        2000,
        "New tokens, multiple choice",
        "Budget where letters are asked for; 2000 is what HuatuoGPT-o1 was measured with.",
    )
    tell_base: bool = setting(
        True,
        "Base told the format",
        "Ask base once more, told to use the tags, so that knowing is not confused with formatting.",
    )
    rouge: Literal["rougeL", "rougeLsum"] = setting(
        "rougeL", "ROUGE", "rougeL: the whole text; rougeLsum: line by line."
    )
    stemmer: bool = setting(True, "Stemmer", "Patients and patient are one word to ROUGE.")
    batch_size: Count = setting(48, "Rows a batch", "Those of all arms together.")
    processes: Count = setting(1, "Processes", "They share the batches; each takes a GPU of its own.")
    temperature: float = setting(0.0, "Temperature", "0 is greedy.", ge=0, le=5)
    top_p: float = setting(1.0, "Top-p", "Nucleus sampling; 1 keeps every token.", gt=0, le=1)
    seed: Seed = setting(42, "Seed", "Of sampling and of the bootstrap.")


class TrackingSettings(Section):
    to: tuple[TrackerName, ...] = setting(
        (),
        "Log to",
        "Losses, speed, memory and the evaluation's figures go there too: wandb (Weights & Biases; without a key, "
        "WANDB_API_KEY, into the run's folder for `wandb sync`), tensorboard, trackio (both into the run's folder, no "
        "account). Any of them, or none.",
    )
    project: str = setting(
        "medcot", "Project", "In W&B and trackio.", min_length=1, max_length=128, pattern=r"^[^/\\#?%:]+$"
    )
    entity: str | None = setting(
        None, "Entity", "A W&B user or team; none is the key's own.", min_length=1, max_length=128
    )
    run_name: str | None = setting(
        None, "Run name", "Shown in W&B and trackio; none is the run's id.", min_length=1, max_length=128
    )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def wandb(self) -> bool:
        """What this was called before there was a choice; scripts read it in what `--json` prints."""
        return "wandb" in self.to

    @model_validator(mode="before")
    @classmethod
    def _as_once_written(cls, raw: Any) -> Any:
        """One name for a list of one, and `wandb = true` as it was before there was a choice."""
        if not isinstance(raw, dict):
            return raw
        found = dict(raw)
        if isinstance(found.get("to"), str):
            words = [word.strip() for word in found["to"].split(",")]
            found["to"] = [word for word in words if word not in ("", "none")]
        if isinstance(found.get("wandb"), bool) and isinstance(named := found.get("to", ()), list | tuple):
            if not found.pop("wandb"):
                found["to"] = [name for name in named if name != "wandb"]
            elif "wandb" not in named:
                found["to"] = ["wandb", *named]
        return found

    @field_validator("to")
    @classmethod
    def _each_once(cls, names: tuple[TrackerName, ...]) -> tuple[TrackerName, ...]:
        return tuple(dict.fromkeys(names))


class RunSettings(Section):
    """Everything that decides what a run does. Secrets are not settings: they are in a worker's environment only."""

    recipe: str = setting(STARTER, "Recipe", "Where these settings started from.")
    name: str | None = setting(None, "Name", "Becomes part of the run's id.", max_length=NAME_LENGTH)
    backend: BackendName = setting("auto", "Backend", "auto: unsloth on a CUDA GPU where it is installed, else peft.")
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    prompt: PromptSettings = PromptSettings()
    lora: LoraSettings = LoraSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    tracking: TrackingSettings = TrackingSettings()

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, name: str | None) -> str | None:
        return None if name is None else plain_name(name)

    def replacing(self, section: str, **values: object) -> "RunSettings":
        """Return a copy with some values of a section replaced, unvalidated."""
        return self.model_copy(update={section: getattr(self, section).model_copy(update=values)})
