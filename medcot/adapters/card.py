"""The model card: what a run knows of its adapter, and no more than was measured. Its text is card.md here."""

import re
from dataclasses import dataclass
from pathlib import Path

from medcot import __version__
from medcot.data import starter
from medcot.errors import BadInput
from medcot.evaluation import summary as table
from medcot.evaluation.answers import ARMS
from medcot.evaluation.judge.words import licence_lines
from medcot.evaluation.summary import Summary, cautions, judgements, seen_text, verdict_text
from medcot.prompts.contract import PromptContract
from medcot.runs.events import Validation
from medcot.runs.export import checked
from medcot.runs.run import Run
from medcot.settings import (
    PARTS,
    STARTER,
    DataSettings,
    ModelSettings,
    Part,
    RunSettings,
    is_local_data,
    is_local_model,
)
from medcot.settings.recipes import changed_settings
from medcot.settings.sources import Source

CLAIM = re.compile(r"\b(improv\w*|outperform\w*|superior|better|beats?|more accurate)\b", re.IGNORECASE)
DENIED = re.compile(r"(?:\b(?:not|no|never|nor|neither|without|cannot)|n['’]t)\b[^.!?]{0,40}$", re.IGNORECASE)
MOST_LOSSES = 12  # rows of the loss table
LLAMA = re.compile(r"[^/]+/(?:meta-)?llama-(\d(?:\.\d)?)(?:-.*)?", re.IGNORECASE)
DATA_LICENCES = {
    STARTER: "Apache-2.0; synthetic, written for medcot with a language model's help, not reviewed by clinicians",
    "FreedomIntelligence/medical-o1-reasoning-SFT": "Apache-2.0; made with GPT-4o",
}


def model_card(run: Run, contract: PromptContract, *, repo: str | None = None, about: str = "") -> str:
    """Write the adapter's README.md. Raises BadInput if `about`, the author's text, claims what was not measured."""
    from jinja2 import Environment

    settings, summary, (events, _) = run.settings(), run.latest_summary(), run.events()
    require_honest(about, summary)
    title = repo.partition("/")[2] if repo else f"LoRA adapter of the run {run.id}"
    validations = sorted({e.step: e.loss for e in events if isinstance(e, Validation)}.items())
    evaluations = (e for e in run.evaluations() if e.summary())
    text = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    lines = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    return lines.from_string(text).render(
        front_matter=_front_matter(settings, summary, title),
        title=title,
        repo=repo,
        about=about.strip(),
        settings=settings,
        version=__version__,
        contract=contract,
        changed=changed_settings(public_settings(settings)),
        own_base=settings.model.id == STARTER or is_local_model(settings.model.id),
        newest={event.type: event for event in events},
        validations=_thinned(validations),
        summary=summary,
        scores=summary and table.scores(summary),
        floors=summary and table.floors(summary),
        exported=checked(run.path),
        samples=next(filter(None, (e.samples() for e in evaluations)), [])[:3],
        **{words.__name__: words for words in WORDS},
    )


def require_honest(text: str, summary: Summary | None) -> None:
    """Raise BadInput for a claim of improvement that no evaluation of the run supports."""
    claim = next((c for c in CLAIM.finditer(text) if not DENIED.search(text[: c.start()])), None)
    if claim and (summary is None or summary.tuned_base.verdict != "better"):
        why = verdict_text(summary) if summary else "No evaluation was run."
        what = f"says {claim[0]!r}, and this run does not show it. {why}"
        raise BadInput.of("--about", what, "Say what was measured.")


def base_name(model: ModelSettings) -> str:
    """The base for others: its Hub name, never a path of this machine."""
    if model.id == STARTER:
        return starter.HUB_ID
    return model.id.rstrip("/").rpartition("/")[2] if is_local_model(model.id) else model.id


def source_name(source: str) -> str:
    """A Hub name as it is; a file's name without its folder."""
    return source.rpartition("/")[2] if is_local_data(source) else source


def part_name(data: DataSettings, part: Part) -> str:
    """What a run chose by or measured with: records of the data, or a file or data set of its own."""
    if (own := data.part(part)) is None:
        return f"{data.taken(part)} records of it ({data.held_out_from})"
    split = "" if is_local_data(own.source) else f", split {own.split}"
    revision = f", revision {own.revision}" if own.revision else ""
    return f"{source_name(own.source)}{split}{revision}"


def _front_matter(settings: RunSettings, summary: Summary | None, title: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    model, source, llama = settings.model, settings.data.source, llama_licence(settings.model)
    on_hub, results = not is_local_model(model.id), None
    if summary:
        asked, name = summary.data, source_name(summary.data.source)
        results = [
            EvalResult(
                task_type="text-generation",
                dataset_type=name,
                dataset_name=f"{name}, {asked.records} held-out records",
                dataset_config=settings.data.config if asked.source == source else None,
                dataset_revision=asked.revision,
                metric_type="rouge",
                metric_name=f"Answer {summary.metric}, {arm}",
                metric_value=round(summary.arms[arm]["answer_rouge_l"], 4),
            )
            for arm in ARMS
        ]
    data = ModelCardData(
        base_model=base_name(model) if on_hub else None,
        base_model_relation="adapter" if on_hub else None,
        datasets=[name for name in (source, *(one.source for one in settings.data.more)) if not is_local_data(name)]
        or None,
        eval_results=results,
        model_name=title,
        library_name="peft",
        pipeline_tag="text-generation",
        license=llama.hub_id if llama else "apache-2.0" if model.id == STARTER else None,
        tags=["lora", "medical", "chain-of-thought", "research-only", "medcot"],
    )
    return data.to_yaml()


def public_settings(settings: RunSettings) -> RunSettings:
    """Strip the settings of this machine's folders."""
    local = {"id": "local"} if is_local_model(settings.model.id) else {}
    data = settings.data.model_copy(update={"source": source_name(settings.data.source)})
    for part in PARTS:
        if (own := settings.data.part(part)) and own.source != settings.data.source and is_local_data(own.source):
            data = data.model_copy(update={part: source_name(own.source)})
    more = tuple(one.model_copy(update={"source": source_name(one.source)}) for one in data.more)
    model, data = settings.model.model_copy(update=local), data.model_copy(update={"more": more})
    return settings.model_copy(update={"model": model, "data": data, "name": None})


def _thinned(rows: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Keep at most MOST_LOSSES rows, the first and the last among them."""
    most = min(len(rows), MOST_LOSSES)
    return [rows[round(i * (len(rows) - 1) / max(1, most - 1))] for i in range(most)]


def fenced(text: str) -> str:
    """Quote text literally, in a fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


@dataclass(frozen=True, slots=True)
class LlamaLicence:
    """What Meta's community licence asks of whoever passes on a model made from Llama."""

    version: str

    @property
    def hub_id(self) -> str:
        return f"llama{self.version}"

    @property
    def notice(self) -> str:
        return (
            f"Llama {self.version} is licensed under the Llama {self.version} Community License, "
            "Copyright © Meta Platforms, Inc. All Rights Reserved."
        )

    @property
    def link(self) -> str:
        return f"https://www.llama.com/llama{self.version.replace('.', '_')}/license/"


def llama_licence(model: ModelSettings) -> LlamaLicence | None:
    """Meta's licence if the base is a Llama by its Hub name; None for any other."""
    found = LLAMA.fullmatch(model.id)
    return LlamaLicence(found[1]) if found else None


def base_licence(model: ModelSettings) -> str:
    """The base's licence in words, as far as this project knows it."""
    if llama := llama_licence(model):
        return f"Llama {llama.version} Community License ({llama.link})"
    if model.id in (STARTER, starter.HUB_ID):
        return "Apache-2.0"
    return "that of the base; look at its page before you pass this on"


def data_licence(data: Source) -> str:
    """The data's licence in words, as far as this project knows it."""
    return DATA_LICENCES.get(data.source, "not known to medcot; look at the source before you pass this on")


# What card.md calls.
WORDS = (
    *(base_licence, base_name, cautions, data_licence, fenced, judgements, licence_lines),
    *(llama_licence, part_name, seen_text, source_name, verdict_text),
)
