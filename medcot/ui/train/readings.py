"""A run's newest figures, its small curves, and what it said to the sample questions."""

from itertools import groupby

import psutil

from medcot.events import Step
from medcot.jobdirs import ALIVE, Status
from medcot.tags import begins_strict, parse
from medcot.terminal import duration
from medcot.ui import components as c
from medcot.ui.chart import Points
from medcot.ui.reading import Seen

MOST_VALIDATIONS = 12  # whose samples are shown, the newest first


def figures(seen: Seen, status: Status) -> list[tuple[str, str]]:
    """The newest reading; what has not been measured yet is a dash."""
    last = seen.steps[-1] if seen.steps else None
    validation = seen.validations[-1] if seen.validations else None
    left = last is not None and status.state in ("running", "stopping")
    return [
        ("Train loss", f"{last.loss:.3f}" if last else "–"),
        ("Validation loss", f"{validation.loss:.3f}" if validation else "–"),
        ("Step", f"{last.step:,} of {last.total_steps:,}" if last else "–"),
        ("Epoch", f"{last.epoch:.2f}" if last else "–"),
        *([("Time left", f"about {duration(last.eta_seconds)}")] if last and left else []),
        ("Learning rate", f"{last.learning_rate:.2e}" if last else "–"),
        ("Gradient norm", f"{last.grad_norm:.2f}" if last and last.grad_norm is not None else "–"),
        ("Tokens/s", f"{last.tokens_per_second:,.0f}" if last else "–"),
        ("Memory", memory(last, seen, status)),
    ]


def memory(last: Step | None, seen: Seen, status: Status) -> str:
    """The GPU's, as the worker reports it; on a CPU, what the worker's process holds, or held at its peak."""
    if last and last.gpu_memory_gib:
        return f"{last.gpu_memory_gib:.1f} GiB"
    if seen.finished and status.state not in ALIVE:
        return f"{seen.finished.peak_memory_gib:.1f} GiB"
    if status.state != "running" or status.pid is None:
        return "–"
    try:
        return f"{psutil.Process(status.pid).memory_info().rss / 2**30:.1f} GiB"
    except psutil.Error:
        return "–"


def rates(seen: Seen) -> list[tuple[str, Points]]:
    """(title, points) of what is measured at each step beside the loss."""
    on_gpu = any(s.gpu_memory_gib for s in seen.steps)
    return [
        ("Learning rate", [(s.step, s.learning_rate) for s in seen.steps]),
        ("Gradient norm", [(s.step, s.grad_norm) for s in seen.steps if s.grad_norm is not None]),
        ("Tokens/s", [(s.step, s.tokens_per_second) for s in seen.steps]),
        ("GPU memory, GiB", [(s.step, s.gpu_memory_gib) for s in seen.steps] if on_gpu else []),
    ]


def samples(seen: Seen) -> str:
    """The answers at each validation, newest first: one sees the form being learned."""
    told = [s for s in reversed(seen.samples) if s.step is not None]
    groups = [(step, list(group)) for step, group in groupby(told, key=lambda s: s.step)][:MOST_VALIDATIONS]
    if not groups:
        return ""
    parts = []
    for i, (step, group) in enumerate(groups):
        answers = "".join(_sample(s.question, s.output) for s in reversed(group))
        whole = sum(parse(s.output).strict for s in group)
        begun = sum(begins_strict(s.output) for s in group)
        so_far = f" so far, {whole} complete" if begun > whole else ""
        parts.append(
            f'<details class="mc-example"{" open" if i == 0 else ""}><summary>Step {step}: '
            f"{begun} of {len(group)} in the form{so_far}</summary>{answers}</details>"
        )
    return f"<h4>Sample answers, as it learns</h4>{''.join(parts)}"


def _sample(question: str, output: str) -> str:
    parsed = parse(output)
    told = "cut short, in the form so far" if begins_strict(output) else "; ".join(parsed.problems)
    wrong = f'<p class="mc-format">Format: {c.text(told)}</p>' if parsed.problems else ""
    reasoning = f"<h5>Reasoning</h5>{c.passage(parsed.reasoning)}" if parsed.reasoning else ""
    return (
        f'<div class="mc-arm mc-arm-tuned"><p class="mc-soft">{c.text(question)}</p>{reasoning}'
        f"<h5>Answer</h5>{c.passage(parsed.answer, 'No answer.')}{wrong}</div>"
    )
