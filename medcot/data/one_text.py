"""A text that holds question, reasoning and answer at once, with <think> tags around the reasoning.

Such a column is what trainers were given as `text`. The words that introduce its parts ("### Question:", "Response:")
and an instruction that is the same in every record are no part of the question.
"""

import re

from medcot.data.files import BadRow
from medcot.prompts.tags import TAG

_LINE = r"(?im)^[#*\s]*(?:{})[*\s]*[:：][*\s]*"
ASKS = re.compile(_LINE.format("question|instruction|problem|query|user|human|patient|问题"))
INPUT = re.compile(_LINE.format("input"))
ANSWERS = re.compile(r"(?i)(?:\A|\n)[#*\s]*(?:response|answer|assistant|output|model|回答)[*\s]*[:：]?[*\s]*\Z")
# What a chat template writes. It would be learned as text, and the contract's own template would stand around it.
MARKUP = re.compile(r"<\|[a-z_]+\|>|\[/?INST\]|<(?:start|end)_of_turn>|<[｜|](?:User|Assistant)[｜|]>")
FIX = "Give the conversation itself: a list `messages` with role and content."


def question_inside(text: str) -> tuple[str, str]:
    """The question before the opening <think>, and the rest; the question is empty if nothing stands before it.

    Raises BadRow if the text was written by a chat template.
    """
    opening = TAG.search(text)
    if opening is None or opening[1] or opening[2].lower() != "think":
        return "", text
    if markup := MARKUP.search(text):
        raise BadRow(f"holds {markup[0]!r}, which a chat template wrote. {FIX}")
    before = ANSWERS.sub("", text[: opening.start()].rstrip())
    if labels := list(ASKS.finditer(before)):
        before = before[labels[-1].end() :]
    return INPUT.sub("", before).strip(), text[opening.start() :]
