"""A rubric in HealthBench's layout: a line for each question, with criteria and their points.

    {"prompt": [{"role": "user", "content": QUESTION}], "rubrics": [{"criterion": ..., "points": 5, "tags": [...]}]}

`question` in place of `prompt` is read too. Points may be below zero, for what an answer should not do; what can be
reached is the sum of those above. HealthBench itself is https://openai.com/index/healthbench (OpenAI, MIT).
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from medcot import data
from medcot.data.files import BadRow
from medcot.errors import BadInput

MOST_CRITERIA = 100
KEPT = "rubric.jsonl"  # the copy in the evaluation's folder
FIX = 'Write a line such as {"question": "...", "rubrics": [{"criterion": "Names ...", "points": 5}]}.'


class Criterion(BaseModel):
    """What an answer may meet, and what that is worth."""

    model_config = ConfigDict(frozen=True)
    criterion: str
    points: float


class Rubric(BaseModel):
    """The criteria of each question."""

    model_config = ConfigDict(frozen=True)
    criteria: dict[str, list[Criterion]] = Field(default_factory=dict)

    def of(self, question: str) -> list[Criterion]:
        return self.criteria.get(same(question), [])

    def possible(self, question: str) -> float:
        """The points that can be reached."""
        return math.fsum(one.points for one in self.of(question) if one.points > 0)

    def lines(self) -> str:
        """The rubric as a file in the same layout."""
        rows = ({"question": q, "rubrics": [one.model_dump() for one in c]} for q, c in self.criteria.items())
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def same(question: str) -> str:
    """A question as it is compared: without differences in blanks and case."""
    return " ".join(question.split()).casefold()


def load(path: Path) -> Rubric:
    """Read a rubric file. Raises BadInput with every record that is none."""
    found: dict[str, list[Criterion]] = {}
    for question, criteria in data.read_objects(path, _read, FIX):
        found.setdefault(same(question), []).extend(criteria)
    if not found:
        raise BadInput.of("--rubric", f"{path.name} holds no questions.", FIX)
    return Rubric(criteria=found)


def _read(row: Mapping[str, Any]) -> tuple[str, list[Criterion]]:
    """(question, criteria) of a row. Raises BadRow."""
    question, listed = _question(row), row.get("rubrics")
    if isinstance(listed, str):
        raise BadRow("has rubrics as text, not as a list.")
    if not isinstance(listed, list) or not listed:
        raise BadRow("has no list of rubrics.")
    criteria = [_criterion(item, number) for number, item in enumerate(listed, start=1)]
    if len(criteria) > MOST_CRITERIA:
        raise BadRow(f"has {len(criteria)} criteria; {MOST_CRITERIA} can be asked about.")
    if not any(one.points > 0 for one in criteria):
        raise BadRow("has no criterion with points above zero, so that nothing can be reached.")
    return question, criteria


def _question(row: Mapping[str, Any]) -> str:
    asked = row.get("question")
    if asked is None and isinstance(row.get("prompt"), list):
        turns = [turn for turn in row["prompt"] if isinstance(turn, dict) and turn.get("role") == "user"]
        asked = turns[-1].get("content") if turns else None
    if not isinstance(asked, str) or not any(map(str.isalnum, asked)):
        raise BadRow("has neither a question nor a prompt with a user's words.")
    return asked


def _criterion(item: Any, number: int) -> Criterion:
    given = item if isinstance(item, dict) else {}
    text, points = given.get("criterion"), given.get("points")
    if not isinstance(text, str) or not any(map(str.isalnum, text)):
        raise BadRow(f"has no text as criterion {number}.")
    if isinstance(points, bool) or not isinstance(points, int | float) or not math.isfinite(points):
        raise BadRow(f"has no points, as a number, for criterion {number} ({text:.60}).")
    return Criterion(criterion=text.strip(), points=float(points))


def require_some(rubric: Rubric, questions: Iterable[str]) -> list[str]:
    """Note how many questions have no criteria. Raises BadInput if none has."""
    asked = list(questions)
    without = sum(not rubric.of(question) for question in asked)
    if without == len(asked):
        what = "the rubric has none of the questions of this evaluation, word for word."
        raise BadInput.of("--rubric", what, "Write criteria for the questions that were asked.")
    return [f"{without} of {len(asked)} questions have no criteria in the rubric and are left out."] if without else []
