"""Arms: the ways in which the same question is answered, and which of them are compared.

Base is asked the plain question, and once more told the format, so that what an adapter knows is not confused with
what it merely writes. Tuned and any further adapters get the plain question.
"""

from collections.abc import Sequence

BASE, TOLD, TUNED = "base", "base-told", "tuned"
TITLES = {BASE: "Base", TOLD: "Base told the format", TUNED: "Tuned"}
FORMAT_HINT = (
    "First think step by step between <think> and </think>. Then give the final answer between <response> and "
    "</response>."
)


def title(arm: str) -> str:
    """An arm's name for people; further adapters are called as they were given."""
    return TITLES.get(arm, arm)


def asked_as(arm: str, question: str) -> str:
    """The question as this arm is asked it."""
    return f"{question.strip()}\n\n{FORMAT_HINT}" if arm == TOLD else question


def comparisons(arms: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Each paired comparison's key with its two arms, the first measured against the second; tuned-base comes first."""
    pairs = [(TUNED, BASE)]
    if TOLD in arms:
        pairs += [(TUNED, TOLD), (TOLD, BASE)]
    pairs += [(arm, BASE) for arm in arms if arm not in TITLES]
    return {f"{arm}-{against}": (arm, against) for arm, against in pairs}
