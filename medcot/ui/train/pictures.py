"""What a plan found, drawn: records as conversations, lengths as histograms, one record token by token."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from medcot import columns, prompts, tags
from medcot.data import Example, Split
from medcot.settings import RunSettings
from medcot.ui import components as c

PREVIEWED = 3
TITLES = {"question": "Question", "reasoning": "Reasoning", "answer": "Answer", "whole": "Whole record"}
KINDS = {
    "prompt": "Read, not learned",
    "trained": "Learned",
    "end": "End of turn, learned: it teaches the model to stop",
    "cut": "Cut off, never seen",
}


def preview(settings: RunSettings, split: Split) -> str:
    """The first records to train on, as the conversation that the model sees."""
    named = ", ".join(f"{part} from {column!r}" for part, column in columns.of(settings.data).items())
    counts = f"{len(split.train)} records to train on, {len(split.held_out)} held out. Columns: {named}."
    guess = c.warnings([g] if (g := columns.in_words(split.guessed)) else [])
    shown = "".join(_conversation(settings, e, i == 0) for i, e in enumerate(split.train[:PREVIEWED]))
    return f'<h3>The data</h3><p class="mc-soft">{c.text(counts)}</p>{guess}{shown}'


def _conversation(settings: RunSettings, example: Example, is_open: bool) -> str:
    plain = settings.prompt.style == "plain"
    question = prompts.PLAIN_PROMPT.format(question=example.question) if plain else example.question
    turns = [("Text before the answer" if plain else "User", "user", question)]
    if settings.prompt.system:
        turns.insert(0, ("System", "system", settings.prompt.system))
    turns.append(("Assistant", "assistant", tags.completion_text(example.reasoning, example.answer)))
    said = "".join(
        f'<div class="mc-turn mc-turn-{style}"><b>{who}</b><div class="mc-text">{c.text(text)}</div></div>'
        for who, style, text in turns
    )
    return (
        f'<details class="mc-example"{" open" if is_open else ""}><summary>Record {example.record}: '
        f'{c.text(example.question[:100])}</summary><div class="mc-turns">{said}</div></details>'
    )


def plan(found: dict[str, Any]) -> str:
    """What the run would be on this device."""
    figures, audit = found["plan"], found["audit"]
    factors = [figures["micro_batch"], figures["accumulation"]]
    factors += [figures["processes"]] if figures["processes"] > 1 else []
    kept = "with" if figures["gradient_checkpointing"] else "without"
    how = f"Each step {kept} gradient checkpointing, records {figures['sampling']}: {figures['why']}."
    pairs = [
        ("Steps", f"{figures['steps']:,}"),
        ("Sequences a step", f"{math.prod(factors)} = {' × '.join(map(str, factors))}"),
        ("Trained parameters", f"{figures['trainable_parameters']:,}"),
        ("Peak memory, estimated", f"{figures['peak_memory_gib']:.1f} GiB"),
        ("Cut at the end", f"{audit['truncated_share']:.1%}"),
        ("All is kept at", f"{audit['keeps_all']:,} tokens"),
    ]
    return f'<h3>The plan</h3>{c.figures(pairs)}<p class="mc-soft">{c.text(how)}</p>{c.warnings(found["problems"])}'


def audit(found: dict[str, Any]) -> str:
    """Histograms of lengths, and what is there twice."""
    drawn = "".join(
        _histogram(
            name,
            found["histograms"][name],
            found["lengths"][name],
            found["max_length"] if name == "whole" else None,
        )
        for name in TITLES
    )
    repeats = [
        f"Record {d['record']} asks the same as record {d['same_as']}: {d['question']:.200}"
        for d in found["duplicate_records"]
    ]
    near = [
        f"Held-out {p['held_out_record']}: {p['held_out_question']:.200}\n"
        f"Training {p['train_record']}: {p['train_question']:.200}"
        for p in found["near_duplicate_pairs"]
    ]
    return (
        '<h3>Lengths in tokens</h3><div class="mc-small-plots" id="histograms">'
        + drawn
        + "</div>"
        + _listed("Repeated questions", found["duplicates"], repeats)
        + _listed("Held-out questions that nearly repeat a training question", found["near_duplicates"], near)
    )


def _histogram(name: str, drawn: dict[str, Any], figures: dict[str, Any], limit: int | None) -> str:
    width, counts = drawn["width"], drawn["counts"]
    reach = width * len(counts)
    bars = "".join(
        f'<i class="{"mc-over" if limit is not None and i * width >= limit else ""}" '
        f'style="height:{100 * count / max(counts):.1f}%" title="{i * width} to {(i + 1) * width - 1}: {count}"></i>'
        for i, count in enumerate(counts)
    )
    line = ""
    if limit is not None and limit < reach:
        line = (
            f'<span class="mc-limit" style="left:{100 * limit / reach:.2f}%" title="Longest sequence: {limit}"></span>'
        )
    words = f"mean {figures['mean']:.0f}, median {figures['p50']}, 95% {figures['p95']}, longest {figures['max']}"
    return (
        f'<figure class="mc-plot mc-plot-small mc-histogram" role="img" aria-label="{TITLES[name]}: {words} tokens">'
        f"<figcaption><b>{TITLES[name]}</b></figcaption>"
        f'<div class="mc-bars">{bars}{line}</div><p class="mc-ends"><span>0</span><span>{reach}</span></p>'
        f'<p class="mc-axis">{words}</p></figure>'
    )


def _listed(title: str, count: int, lines: Sequence[str]) -> str:
    if not count:
        return f'<p class="mc-soft">{title}: none.</p>'
    more = f"<li>and {count - len(lines)} more</li>" if count > len(lines) else ""
    items = "".join(f'<li class="mc-text">{c.text(line)}</li>' for line in lines)
    return (
        f'<details class="mc-example"><summary>{title}: {count}</summary>'
        f'<ul class="mc-list">{items}{more}</ul></details>'
    )


def tokens(found: dict[str, Any]) -> str:
    """One record, token by token; what is learned differs by heading, line and colour."""
    where = " (held out: never trained on)" if found.get("held_out") else ""
    counts = f"{found['prompt']} tokens read, {found['trained']} learned" + (
        f", {found['cut']} cut off: raise the longest sequence" if found["cut"] else ""
    )
    blocks = "".join(
        f'<div class="mc-tokens mc-tokens-{kind}"><b>{KINDS[kind]}</b>'
        f"<p>{''.join(_token(text) for text, _ in pieces)}</p></div>"
        for kind, pieces in groupby(found["pieces"], key=lambda piece: piece[1])
    )
    return (
        f"<h3>What the model learns from: record {found['record']}{where}</h3>"
        f'<p class="mc-soft">{counts}.</p><div id="token-blocks">{blocks}</div>'
    )


def _token(text: str) -> str:
    return f"<span>{c.text(text).replace(chr(10), '<em>↵</em>' + chr(10))}</span>"
