"""RunSettings: what a run is. One model, three faces: the form, the command line and the TOML file.

Every bound, default and help text stands beside its field, and nowhere else. Models are frozen and refuse unknown
names, so a setting that is misspelt is an error and never ignored.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

STARTER = "starter"


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSettings(Section):
    id: str = Field(
        STARTER,
        min_length=1,
        max_length=300,
        title="Model",
        description="A Hugging Face Hub id, a local folder, or 'starter' for the embedded default.",
    )
    revision: str | None = Field(
        None,
        title="Revision",
        description="Branch, tag or commit on the Hub. The commit found is pinned into the run.",
    )
    quantization: Literal["none", "4bit"] = Field(
        "none", title="Quantization", description="4bit loads the base as NF4 (QLoRA); needs a CUDA GPU."
    )
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = Field(
        "auto",
        title="Number format",
        description="auto: bfloat16 where the device computes in it, else float16 on a GPU and float32 on a CPU.",
    )


class DataSettings(Section):
    source: str = Field(
        STARTER,
        min_length=1,
        max_length=1000,
        title="Data",
        description="A Hub data set id, a .json, .jsonl, .csv or .parquet file, or 'starter'.",
    )
    config: str | None = Field(None, title="Configuration", description="A Hub data set's configuration, such as 'en'.")
    split: str = Field("train", min_length=1, title="Split", description="A Hub data set's split.")
    revision: str | None = Field(
        None,
        title="Revision",
        description="Branch, tag or commit on the Hub. The commit found is pinned into the run.",
    )
    question_column: str = Field("Question", min_length=1, title="Question column", description="Holds the question.")
    reasoning_column: str = Field(
        "Complex_CoT", min_length=1, title="Reasoning column", description="Holds the chain of thought."
    )
    answer_column: str = Field("Response", min_length=1, title="Answer column", description="Holds the final answer.")
    empty_records: Literal["refuse", "skip"] = Field(
        "refuse",
        title="Empty records",
        description="refuse: name them, do not start; skip: leave out records that lack question, reasoning or answer.",
    )
    held_out: int = Field(
        24,
        ge=1,
        le=10_000,
        title="Held-out records",
        description="Never trained on; validation and evaluation use these.",
    )
    held_out_from: Literal["first", "shuffled"] = Field(
        "first",
        title="Held out from",
        description="first: the first records of the file; shuffled: the first after a seeded shuffle.",
    )
    shuffle_seed: int = Field(42, ge=0, le=2**31 - 1, title="Shuffle seed", description="Used by 'shuffled' only.")
    limit: int | None = Field(None, ge=1, title="Training records", description="Train on the first N only.")


class PromptSettings(Section):
    style: Literal["chat", "plain"] = Field(
        "chat",
        title="Prompt contract",
        description="chat: the tokenizer's own chat template; plain: a text without turns, as the adapter "
        "AzzamShahid/llama-3b-medical-cot has it.",
    )
    system: str | None = Field(None, max_length=4000, title="System text", description="Chat only; none by default.")
    loss_on: Literal["completion", "all"] = Field(
        "completion",
        title="Learn from",
        description="completion: the assistant's part only; all: the question too.",
    )


class LoraSettings(Section):
    rank: int = Field(16, ge=1, le=512, title="LoRA rank", description="Size r of the low-rank update.")
    alpha: int = Field(16, ge=1, le=2048, title="LoRA alpha", description="The update is scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, title="LoRA dropout", description="On the adapter's input.")
    bias: Literal["none"] = Field(
        "none",
        title="Bias",
        description="Never trained: base and tuned share one loaded model, and biases could not be told apart there.",
    )
    target_modules: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        title="Target modules",
        description="Layers that get an adapter, by the end of their name.",
    )


class TrainingSettings(Section):
    epochs: float = Field(1.0, gt=0, le=100, title="Epochs", description="Passes over the training records.")
    max_steps: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        title="Step limit",
        description="Stop after this many optimizer steps, whatever the epochs say.",
    )
    arrangement: Literal["auto", "as-given"] = Field(
        "auto",
        title="Arrangement",
        description="auto: a GPU's memory and the data's lengths decide micro-batch, accumulation, checkpointing and "
        "order; a step's number of sequences stays.",
    )
    micro_batch: int = Field(2, ge=1, le=1024, title="Micro-batch", description="Sequences in one forward pass.")
    accumulation: int = Field(
        8,
        ge=1,
        le=1024,
        title="Accumulation",
        description="Forward passes an optimizer step; their product is the effective batch.",
    )
    processes: int = Field(
        1,
        ge=1,
        le=1024,
        title="Processes",
        description="They share each step's sequences; each takes a GPU of its own, where there are GPUs.",
    )
    learning_rate: float = Field(
        2e-4,
        gt=0,
        le=1,
        title="Learning rate",
        description="Peak value. Published LoRA advice at this size: 1e-4 to 2e-4.",
    )
    scheduler: Literal["linear", "cosine", "constant_with_warmup"] = Field(
        "linear", title="Schedule", description="Of the learning rate, after the warm-up."
    )
    warmup_steps: int = Field(5, ge=0, le=1_000_000, title="Warm-up steps", description="Steps up to the peak.")
    weight_decay: float = Field(0.01, ge=0, le=1, title="Weight decay", description="AdamW's.")
    max_grad_norm: float = Field(1.0, gt=0, le=1000, title="Gradient clip", description="Largest gradient norm.")
    max_length: int = Field(
        2048,
        ge=16,
        le=131_072,
        title="Longest sequence",
        description="Tokens; what is longer loses its end, and the end is the answer.",
    )
    gradient_checkpointing: bool = Field(
        False, title="Gradient checkpointing", description="Less memory for about a third more time."
    )
    sampling: Literal["shuffled", "grouped"] = Field(
        "shuffled",
        title="Order of records",
        description="grouped: records of like length share a step, which leaves little padding. Both are fixed by the "
        "seed and the epoch.",
    )
    log_steps: int = Field(1, ge=1, title="Log every", description="Optimizer steps between loss readings.")
    validate_steps: int = Field(50, ge=1, title="Validate every", description="Optimizer steps.")
    sample_tokens: int = Field(
        0,
        ge=0,
        le=4096,
        title="Sample tokens",
        description="At each validation the model answers the sample questions in this many tokens at most; 0 is off.",
    )
    save_steps: int = Field(50, ge=1, title="Save every", description="Optimizer steps between checkpoints.")
    keep_checkpoints: int = Field(1, ge=1, le=100, title="Keep checkpoints", description="The newest N are kept.")
    seed: int = Field(42, ge=0, le=2**31 - 1, title="Seed", description="Of the adapter and the order of records.")


class EvaluationSettings(Section):
    records: int | None = Field(None, ge=1, title="Questions", description="The first N held-out; none means all.")
    max_new_tokens: int = Field(
        1280,
        ge=1,
        le=32_768,
        title="New tokens",
        description="Budget for base and tuned alike. Real records need about 1280.",
    )
    choice_max_new_tokens: int = Field(
        2000,
        ge=1,
        le=32_768,
        title="New tokens, multiple choice",
        description="Budget where letters are asked for; 2000 is what HuatuoGPT-o1 was measured with.",
    )
    tell_base: bool = Field(
        True,
        title="Base told the format",
        description="Ask base once more, told to use the tags, so that knowing is not confused with formatting.",
    )
    rouge: Literal["rougeL", "rougeLsum"] = Field(
        "rougeL", title="ROUGE", description="rougeL: the whole text; rougeLsum: line by line."
    )
    stemmer: bool = Field(True, title="Stemmer", description="Patients and patient are one word to ROUGE.")
    batch_size: int = Field(48, ge=1, le=1024, title="Rows a batch", description="Those of all arms together.")
    processes: int = Field(
        1, ge=1, le=1024, title="Processes", description="They share the batches; each takes a GPU of its own."
    )
    temperature: float = Field(0.0, ge=0, le=5, title="Temperature", description="0 is greedy.")
    top_p: float = Field(1.0, gt=0, le=1, title="Top-p", description="Nucleus sampling; 1 keeps every token.")
    seed: int = Field(42, ge=0, le=2**31 - 1, title="Seed", description="Of sampling and of the bootstrap.")


class TrackingSettings(Section):
    wandb: bool = Field(
        False,
        title="Log to Weights & Biases",
        description="Losses, speed, memory and the evaluation's figures go there too. Without a key (WANDB_API_KEY) "
        "they are kept in the run's folder, for `wandb sync`.",
    )
    project: str = Field(
        "medcot", min_length=1, max_length=128, pattern=r"^[^/\\#?%:]+$", title="Project", description="In W&B."
    )
    entity: str | None = Field(
        None, min_length=1, max_length=128, title="Entity", description="A W&B user or team; none is the key's own."
    )
    run_name: str | None = Field(
        None, min_length=1, max_length=128, title="Run name", description="Shown in W&B; none is the run's id."
    )


NAME_LENGTH = 60


def plain_name(name: str) -> str:
    """A run's name as it is. Raises ValueError for what could be taken for a path or a shell's words."""
    if not name.strip() or any(ord(c) < 32 or c in "/\\;\x7f" for c in name) or name.startswith("."):
        raise ValueError("may not be empty, start with a dot, or hold control characters, slashes or semicolons")
    return name


class RunSettings(Section):
    """Everything that decides what a run does. Holds no secret: those live in a worker's environment only."""

    recipe: str = Field(STARTER, title="Recipe", description="Where these settings started from.")
    name: str | None = Field(None, max_length=NAME_LENGTH, title="Name", description="Becomes part of the run's id.")
    backend: Literal["auto", "peft", "unsloth"] = Field(
        "auto", title="Backend", description="auto: unsloth on a CUDA GPU where it is installed, else peft."
    )
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
        """The same with some values of a section replaced, which are not checked again."""
        return self.model_copy(update={section: getattr(self, section).model_copy(update=values)})


DATA_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")


def is_local_data(source: str) -> bool:
    """Whether a data source names the starter set or a file, and not a Hub data set."""
    return (
        source == STARTER
        or source.lower().endswith(DATA_SUFFIXES)
        or source.startswith((".", "/", "~"))
        or _exists(source)
    )


def is_local_model(model_id: str) -> bool:
    """Whether a model's id is, or by its form once was, a folder of some machine, and no name on the Hub."""
    return model_id.startswith((".", "/", "~")) or is_folder(model_id)


def is_folder(text: str) -> bool:
    """Whether text names a folder; what cannot be a path at all, such as a text too long for one, does not."""
    try:
        return Path(text).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):
        return False


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False
