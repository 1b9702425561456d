"""The parser on random outputs: it never raises, and no text is lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medcot.evaluation import metrics
from medcot.prompts.tags import TAG, TAGS, completion_text, parse

PIECES = st.sampled_from([*TAGS, "< THINK >", "<think", "think>", "</", "\n", " ", "gout", "<|im_end|>"])
OUTPUTS = st.lists(PIECES | st.text(max_size=8), max_size=24).map("".join)
ALWAYS = {"derandomize": True, "deadline": None, "database": None}


def keep_all_text(output):
    parsed = parse(output)
    kept = f"{parsed.reasoning}\n{parsed.answer}"
    pieces = [piece.strip() for piece in TAG.sub("\0", output).split("\0")] if "\0" not in output else []
    lost = [piece for piece in pieces if piece not in kept]
    assert not lost
    assert parsed.strict or parsed.problems
    score = metrics.score(parsed, "Uric acid", "Gout")
    assert all(0 <= getattr(score, name) <= 1 for name in ("answer_rouge_l", "reasoning_rouge_l", "both_rouge_l"))


def give_back_what_was_written(reasoning, answer):
    if not TAG.search(reasoning + answer) and reasoning.strip() and answer.strip():
        parsed = parse(completion_text(reasoning, answer))
        assert (parsed.reasoning, parsed.answer, parsed.strict) == (reasoning.strip(), answer.strip(), True)


test_outputs = settings(max_examples=300, **ALWAYS)(given(OUTPUTS)(keep_all_text))
test_many_outputs = pytest.mark.thorough(settings(max_examples=10_000, **ALWAYS)(given(OUTPUTS)(keep_all_text)))
test_many_completions = pytest.mark.thorough(
    settings(max_examples=10_000, **ALWAYS)(given(st.text(), st.text())(give_back_what_was_written))
)
