"""How often the matcher agrees with a reader, over real answers of the starter that were read before it saw them.

labelled_answers.jsonl has an answer a line, with the facts that it names and the forbidden statements that it makes, by
the meaning of their names and not by their wordings.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from medcot.data.facts import starter_facts
from medcot.evaluation.facts import find

LABELLED = [
    json.loads(line)
    for line in Path(__file__).with_name("labelled_answers.jsonl").read_text(encoding="utf-8").splitlines()
]
DOCS = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def pairs(kind: str) -> Iterator[tuple[bool, bool]]:
    """(reader, matcher) for every listed fact, or forbidden statement, of every answer."""
    for row in LABELLED:
        facts = starter_facts()[row["question"]]
        found = set(getattr(find(row["answer"], facts), kind) or [])
        for statement in getattr(facts, kind):
            yield statement.name in row[kind], statement.name in found


def figures(kind: str) -> str:
    """Agreement and Cohen's kappa, and the counts they are from, as the docs have them."""
    found = list(pairs(kind))
    count = len(found)
    both = sum(reader and matcher for reader, matcher in found)
    read, matched = (sum(column) for column in zip(*found, strict=True))
    agreed = sum(reader == matcher for reader, matcher in found) / count
    chance = (read * matched + (count - read) * (count - matched)) / count**2
    kappa = (agreed - chance) / (1 - chance)
    return f"| {count} | {read} | {matched} | {both} | {agreed:.1%} | {kappa:.2f} |"


def test_there_are_150_answers_or_more_each_labelled_with_listed_names():
    assert len(LABELLED) >= 150
    for row in LABELLED:
        facts = starter_facts()[row["question"]]
        assert set(row["named"]) <= {s.name for s in facts.named}
        assert set(row["forbidden"]) <= {s.name for s in facts.forbidden}


@pytest.mark.parametrize("kind", ["named", "forbidden"])
def test_the_docs_print_the_agreement_that_is_measured(kind):
    assert figures(kind) in DOCS, figures(kind)
