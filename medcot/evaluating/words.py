"""What an evaluation says in sentences: the verdict, and what a reader should know besides. It claims no more."""

from typing import Any

from medcot.evaluating.arms import BASE, TUNED, title
from medcot.evaluating.table import FLOORS, TUNED_BASE, is_choice, score_name, sides
from medcot.metrics import FEWEST_RECORDS


def verdict_text(summary: dict[str, Any], key: str = TUNED_BASE) -> str:
    """A comparison in a sentence, claiming no more than its interval or test allows."""
    paired = summary["paired"][key]
    arm, against = (title(name) for name in sides(key, summary))
    against = against[0].lower() + against[1:]
    name, figures = score_name(summary), _figures(summary, paired)
    had = paired["win"] + paired["tie"] + paired["loss"]
    if paired["verdict"] != "not distinguishable":
        return f"{arm} scores {paired['verdict']} than {against} on {name}: {figures}."
    if had < FEWEST_RECORDS:
        return f"Too few records for a verdict ({had} of at least {FEWEST_RECORDS}): {name} differs by {figures}."
    wanted = paired.get("records_needed") or 0
    needed = f" About {wanted} records would tell such a difference (80% power)." if wanted > had else ""
    return f"Not distinguishable at this size: {name} differs by {figures}.{needed}"


def _figures(summary: dict[str, Any], paired: dict[str, Any]) -> str:
    if is_choice(summary):
        difference, low, high = (f"{100 * paired[name]:+.1f}" for name in ("difference", "low", "high"))
        return f"{difference} points (95% interval {low} to {high}; McNemar's exact test p = {paired['p_value']:.3g})"
    return f"{paired['difference']:+.3f} (95% interval {paired['low']:+.3f} to {paired['high']:+.3f})"


def counts_text(summary: dict[str, Any], key: str = TUNED_BASE) -> str:
    paired = summary["paired"][key]
    meaning = (
        "A stated letter shows a choice, not that the reasoning behind it holds."
        if is_choice(summary)
        else "ROUGE-L measures shared wording with a reference, not medical truth."
    )
    return f"Question by question: {paired['win']} higher, {paired['tie']} equal, {paired['loss']} lower. {meaning}"


def cautions(summary: dict[str, Any]) -> list[str]:
    """What a reader of the headline should know besides: what else than better answers could have made it."""
    notes = ["The prompt contract did not have to match: this evaluation was forced."] if summary.get("forced") else []
    notes += [str(note) for note in summary.get("notes", [])]
    return notes + (_choice_cautions(summary) if is_choice(summary) else _record_cautions(summary))


def _record_cautions(summary: dict[str, Any]) -> list[str]:
    base, tuned = summary["arms"][BASE], summary["arms"][TUNED]
    notes = [
        f"The floor '{name.replace('_', ' ')}' ({FLOORS[name]}) scores {value:.3f}, above tuned: wording like the "
        "reference's is still far off."
        for name, value in summary["floors"].items()
        if value > tuned["answer_rouge_l"]
    ]
    if base["length_ratio"] > 2 * max(tuned["length_ratio"], 0.5):
        notes.append(
            f"Base answers are {base['length_ratio']:.1f} times as long as the reference, tuned "
            f"{tuned['length_ratio']:.1f}. F1 punishes length, so part of the difference is length."
        )
    ceiling = summary.get("ceiling")
    if ceiling and ceiling["truncated"] > 0.1:
        notes.append(
            f"{ceiling['truncated']:.0%} of the references themselves do not fit the token budget: it is too short."
        )
    return notes + _cut(summary)


def _choice_cautions(summary: dict[str, Any]) -> list[str]:
    notes = [
        f"{title(arm)} stated no letter in {found['unparsed']:.0%} of the questions, which counts as wrong."
        for arm, found in summary["arms"].items()
        if found["unparsed"] > 0.1
    ]
    chance = max(summary["floors"].values())
    notes += [
        f"{title(arm)} cannot be told from guessing ({chance:.0%})."
        for arm, found in summary["arms"].items()
        if found["low"] <= chance <= found["high"]
    ]
    return notes + _cut(summary)


def _cut(summary: dict[str, Any]) -> list[str]:
    return [
        f"{title(arm)} was cut at the token limit in {found['truncated']:.0%} of the records."
        for arm, found in summary["arms"].items()
        if found["truncated"] > 0.1
    ]
