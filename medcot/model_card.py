"""The model card: what a run knows of its adapter, and no more than was measured."""

import re
from typing import Any

from medcot import __version__, licences, starter
from medcot.errors import BadInput, Problem
from medcot.evaluating.table import FLOORS, figure, measured, score_name
from medcot.evaluating.words import cautions, verdict_text
from medcot.events import Finished, PlanMade, Started, Step, Validation, newest
from medcot.prompts import PromptContract
from medcot.recipes import changed_settings
from medcot.runs import Run
from medcot.settings import STARTER, ModelSettings, RunSettings, is_local_data, is_local_model

CLAIM = re.compile(r"\b(improv\w*|outperform\w*|superior|better|beats?|more accurate)\b", re.IGNORECASE)
DENIED = re.compile(r"(?:\b(?:not|no|never|nor|neither|without|cannot)|n['’]t)\b[^.!?]{0,40}$", re.IGNORECASE)
MOST_LOSSES = 12  # rows of the loss table
LIMITS = """\
For research on how small models reason about medicine, and for teaching. **Not for care**: not for diagnosis,
treatment, triage or advice, not for patients, and not as a source of medical facts.

- No output was checked by a clinician. Fluent reasoning can be wrong, out of date, or invented, and the written
  reasoning need not be how the answer came about.
- It learned from synthetic text and inherits its errors and its biases, and those of the base.
- It knows nothing of a patient, remembers nothing, and does not know when to say nothing. It was not tested for safety.
- ROUGE-L measures shared wording with a reference, not medical truth.
- Enter no patient data."""


def model_card(run: Run, contract: PromptContract, *, repo: str | None = None, about: str = "") -> str:
    """README.md of the adapter, with the Hub's front matter; `repo` is where it will lie, `about` its author's words.

    Raises BadInput where `about` claims what the run's evaluation does not show.
    """
    settings, summary = run.settings(), run.latest_summary()
    require_honest(about, summary)
    llama = licences.of_llama(settings.model)
    title = repo.partition("/")[2] if repo else f"LoRA adapter of the run {run.id}"
    parts = [
        f"# {title}",
        "**For research only.** Not for care, and no output was checked by a clinician."
        + ("\n\nBuilt with Llama." if llama else ""),
        about.strip(),
        _made_from(settings, contract, repo, run),
        _training(run, settings, pictured=repo is not None),
        "## Evaluation\n\n" + (_evaluation(summary) if summary else "No evaluation was run, so nothing is claimed."),
        _samples(run),
        f"## Intended use and limits\n\n{LIMITS}",
        _licence(settings),
    ]
    return f"---\n{_front_matter(settings, summary, title)}---\n\n" + "\n\n".join(p for p in parts if p) + "\n"


def require_honest(text: str, summary: dict[str, Any] | None) -> None:
    """Raises BadInput for a claim of improvement that no evaluation of the run bears out."""
    claim = next((c for c in CLAIM.finditer(text) if not DENIED.search(text[: c.start()])), None)
    if claim and (summary is None or summary["paired"]["tuned-base"]["verdict"] != "better"):
        why = verdict_text(summary) if summary else "No evaluation was run."
        raise BadInput(
            Problem("--about", f"says {claim[0]!r}, and this run does not show it. {why}", "Say what was measured.")
        )


def base_name(model: ModelSettings) -> str:
    """The base for others: its Hub name, never a path of this machine."""
    if model.id == STARTER:
        return starter.HUB_ID
    return model.id.rstrip("/").rpartition("/")[2] if is_local_model(model.id) else model.id


def data_name(settings: RunSettings) -> str:
    """The data for others: a Hub name, or a file's name without its folder."""
    return source_name(settings.data.source)


def source_name(source: str) -> str:
    """A Hub name as it is; a file's name without its folder."""
    return source.rpartition("/")[2] if is_local_data(source) else source


def _front_matter(settings: RunSettings, summary: dict[str, Any] | None, title: str) -> str:
    from huggingface_hub import ModelCardData

    llama, on_hub = licences.of_llama(settings.model), not is_local_model(settings.model.id)
    results = [_result(settings, summary, arm) for arm in ("base", "tuned")] if summary else None
    data = ModelCardData(
        base_model=base_name(settings.model) if on_hub else None,
        base_model_relation="adapter" if on_hub else None,
        datasets=None if is_local_data(settings.data.source) else [settings.data.source],
        eval_results=results,
        model_name=title,
        library_name="peft",
        pipeline_tag="text-generation",
        license=llama.hub_id if llama else "apache-2.0" if settings.model.id == STARTER else None,
        tags=["lora", "medical", "chain-of-thought", "research-only", "medcot"],
    )
    return data.to_yaml() + "\n"


def _result(settings: RunSettings, summary: dict[str, Any], arm: str) -> Any:
    """One line of the Hub's model-index."""
    from huggingface_hub import EvalResult

    name = source_name(summary["data"]["source"])
    same = summary["data"]["source"] == settings.data.source
    return EvalResult(
        task_type="text-generation",
        dataset_type=name,
        dataset_name=f"{name}, {summary['data']['records']} held-out records",
        dataset_config=settings.data.config if same else None,
        dataset_revision=summary["data"].get("revision"),
        metric_type="rouge",
        metric_name=f"Answer {summary['metric']}, {arm}",
        metric_value=round(summary["arms"][arm]["answer_rouge_l"], 4),
    )


def _made_from(settings: RunSettings, contract: PromptContract, repo: str | None, run: Run) -> str:
    model, data = settings.model, settings.data
    revision = f", revision {model.revision}" if model.revision else ""
    plan = run.plan()
    exact = plan.model if plan else ""
    trained_on = f", trained on `{exact}`" if model.id == STARTER or is_local_model(model.id) else ""
    config = f", configuration {data.config}" if data.config else ""
    at = f", revision {data.revision}" if data.revision else ""
    changed = "\n".join(f"  - `{pair}`" for pair in changed_settings(public_settings(settings))) or "  - none"
    ask = (
        f'\n\n```\nmedcot ask {repo} "What is the difference between type 1 and type 2 diabetes?"\n```' if repo else ""
    )
    return f"""## What it is

A LoRA adapter for `{base_name(model)}` that writes its reasoning between `<think>` tags and its answer between
`<response>` tags.{ask}

- Base: `{base_name(model)}`{revision}, quantization {model.quantization}{trained_on}
- Data: `{data_name(settings)}`{config}{at}; licence: {licences.of_data(data)};
  {data.held_out} records held out ({data.held_out_from})
- Prompt contract: {contract.style}, ends with `{contract.eos_token}`; the whole of it is in prompt_contract.json. Asked
  under another contract, this adapter gives other answers.
- Recipe: {settings.recipe}, medcot {__version__}. Settings changed from it:
{changed}"""


def public_settings(settings: RunSettings) -> RunSettings:
    """The settings without the folders of this machine."""
    model = settings.model.model_copy(
        update={"id": settings.model.id if not is_local_model(settings.model.id) else "local"}
    )
    source = settings.data.source if settings.data.source == STARTER else data_name(settings)
    return settings.model_copy(
        update={"model": model, "data": settings.data.model_copy(update={"source": source}), "name": None}
    )


def _training(run: Run, settings: RunSettings, *, pictured: bool) -> str:
    events, _ = run.events()
    started, plan, ended = newest(events, Started), newest(events, PlanMade), newest(events, Finished)
    steps = [e for e in events if isinstance(e, Step)]
    lines = [f"- Hardware: {started.device}"] if started and started.device else []
    if ended:
        memory = f", {ended.peak_memory_gib:.1f} GiB at the peak" if ended.peak_memory_gib else ""
        lines.append(f"- Time: {ended.seconds / 60:.0f} minutes{memory}")
    if plan:
        lines.append(f"- Records: {plan.records} trained on, {plan.held_out} held out, {plan.truncated} cut short")
        lines.append(f"- Trained parameters: {plan.trainable_parameters:,} of {plan.total_parameters:,}")
    if steps:
        last = steps[-1]
        lines.append(f"- Steps: {last.step}, {last.tokens_seen:,} tokens; last train loss {last.loss:.3f}")
    validations = {e.step: e.loss for e in events if isinstance(e, Validation)}
    table = ""
    if validations:
        shown = _thinned(sorted(validations.items()))
        rows = "\n".join(f"| {step} | {loss:.3f} |" for step, loss in shown)
        table = f"\n\n| step | validation loss |\n| ---: | ---: |\n{rows}"
    picture = "\n\n![Train and validation loss by optimizer step](loss.png)" if pictured and (steps or table) else ""
    return "## Training\n\n" + "\n".join(lines) + picture + table if lines or table else ""


def _thinned(rows: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most MOST_LOSSES of them, the first and the last among these."""
    if len(rows) <= MOST_LOSSES:
        return rows
    return [rows[round(i * (len(rows) - 1) / (MOST_LOSSES - 1))] for i in range(MOST_LOSSES)]


def _evaluation(summary: dict[str, Any]) -> str:
    arms, paired, decoding = summary["arms"], summary["paired"]["tuned-base"], summary["decoding"]
    rows = "\n".join(
        f"| {row.label} | " + " | ".join(figure(row, arm) for arm in arms.values()) + " |" for row in measured(summary)
    )
    floors = "\n".join(f"| {FLOORS.get(name, name)} | {value:.3f} |" for name, value in summary["floors"].items())
    notes = "".join(f"\n- {note}" for note in cautions(summary))
    how = "greedy" if decoding["temperature"] == 0 else f"temperature {decoding['temperature']}"
    counts = f"{paired['win']} higher, {paired['tie']} equal, {paired['loss']} lower"
    source = source_name(summary["data"]["source"])
    what = f"{summary['data']['records']} held-out records of {source}, {summary['metric']}, {how}"
    return f"""**{verdict_text(summary)}** Record by record: {counts}.
{notes}

{what}, {decoding["max_new_tokens"]} new tokens at most:

| | {" | ".join(arms)} |
| --- |{" ---: |" * len(arms)}
{rows}

Floors, {score_name(summary)} that needs no model:

| floor | score |
| --- | ---: |
{floors}"""


def _samples(run: Run) -> str:
    samples = next((found for e in run.evaluations() if e.summary() and (found := e.samples())), [])
    if not samples:
        return ""
    shown = "\n\n".join(
        f"<details><summary>{arm}: {sample['question'].replace('<', '&lt;')}</summary>\n\n"
        f"{fenced(sample[arm]['output'])}\n\n</details>"
        for sample in samples[:3]
        for arm in ("base", "tuned")
        if arm in sample
    )
    return f"## Sample outputs, as they are\n\nUnchecked, and often wrong.\n\n{shown}"


def fenced(text: str) -> str:
    """Somebody else's text as text: a fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _licence(settings: RunSettings) -> str:
    llama = licences.of_llama(settings.model)
    lines = f"- Base: {licences.of_base(settings.model)}\n- Data: {licences.of_data(settings.data)}"
    if llama:
        lines += f"\n\n{llama.notice} The licence: {llama.link}"
    return f"## Licence\n\n{lines}"
