"""The second measure: multiple choice. The letter that an output states last is what counts, and no letter is wrong.

The prompt, the budget of 2000 new tokens and the idea of reading the letter from the text are those of HuatuoGPT-o1's
evaluation (arXiv 2412.18925), so that figures can be set beside its tables; its scorer takes the better of the first
and the last letter, which flatters, and this one takes the last.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medcot import metrics
from medcot.evaluating.answers import Answer, Question, shown
from medcot.evaluating.arms import BASE, TUNED, comparisons
from medcot.evaluating.measure import Cut, Prompt
from medcot.evaluating.questions import ChoiceQuestion

EXAMPLE = "in the format: 'The answer is A.'"
PROMPT = (
    "Please answer the following multiple-choice questions, ensuring your response concludes with the correct option "
    f"{EXAMPLE}.\n{{question}}\n{{options}}"
)
METRIC = "accuracy of the last stated letter; unparsed is wrong"
CONFIDENCE = 0.95
# A capital A or I that is no word: "The answer is A patient's history" states nothing.
_LETTER = (
    r"(?:\\boxed\{)?[*(\[\"'“‘]{0,4}([A-Z])(?![\w'’-])"
    r"(?:(?<![AI])|(?! (?!because|since|as |for |which|and |or |is |due |in |based|with )[a-z]))"
)
_IS = r"(?:\**\s*[:：]\**| is:?| would be:?| must be:?| should be:?)"
_STATED = re.compile(
    rf"\b(?:[Aa]nswers?|ANSWER|[Oo]ption|[Cc]hoice){_IS}\s*\**\s*(?:[Oo]ption )?{_LETTER}"
    r"|\b[Oo]ption ([A-Z]) is (?:the )?(?:correct|right|best)\b"
    r"|答案(?:是|为|：|:)?\s*([A-Z])"
)
_ALONE = re.compile(r"^[\s\*\(\[#]*(?:[Oo]ption )?([A-Z])(?:[\.\):\]\*]|\s*$)", re.MULTILINE)
_BRACKETED = re.compile(r"\(([A-Z])\)")


@dataclass(frozen=True)
class Choice:
    """Questions with lettered options, one of them right."""

    source: str
    asked: list[ChoiceQuestion]
    fingerprint: str
    kind: str = "choice"

    @property
    def questions(self) -> list[Question]:
        return [Question(kind="record", number=i, text=prompt_for(q)) for i, q in enumerate(self.asked)]

    def check(self, prompt: Prompt, arms: Sequence[str]) -> list[str]:
        """No prompt may state an answer in the form that is read from outputs, and no letter must be read as none."""
        if stated_letter("", "", "AB") is not None:
            raise RuntimeError("A letter was read from an empty output; the metric is broken.")
        # The instruction itself names one as an example; the question behind it must name none.
        leaks = [q.record for q in self.asked if _STATED.search(q.question)]
        if not leaks:
            return []
        return [f"The questions {', '.join(map(str, leaks[:10]))} speak of an answer themselves."]

    def row(self, question: Question, answers: Mapping[str, Answer]) -> dict[str, Any]:
        asked = self.asked[question.number]
        letters = "".join(asked.options)
        row: dict[str, Any] = {
            "record": asked.record,
            "question": asked.question,
            "options": asked.options,
            "reference": {"letter": asked.letter, "answer": asked.options[asked.letter]},
        }
        for arm, answer in answers.items():
            parsed = answer.parsed()
            letter = stated_letter(parsed.answer, parsed.reasoning, letters)
            row[arm] = {**shown(answer), "letter": letter, "correct": letter == asked.letter}
        row["gain"] = float(row[TUNED]["correct"]) - float(row[BASE]["correct"])
        return row

    def figures(self, rows: list[dict[str, Any]], arms: Sequence[str], seed: int, cut: Cut) -> dict[str, Any]:
        correct = {arm: [bool(row[arm]["correct"]) for row in rows] for arm in arms}
        most_common = Counter(q.letter for q in self.asked).most_common(1)[0][1]
        return {
            "data": {
                "source": self.source,
                "revision": None,
                "records": len(self.asked),
                "fingerprint": self.fingerprint,
            },
            "metric": METRIC,
            "arms": {arm: accuracy(correct[arm], [row[arm] for row in rows]) for arm in arms},
            "floors": {
                "chance": sum(1 / len(q.options) for q in self.asked) / len(self.asked),
                "most_common_letter": most_common / len(self.asked),
            },
            "paired": {
                key: compare(correct[against], correct[arm], seed=seed)
                for key, (arm, against) in comparisons(arms).items()
            },
        }


def prompt_for(asked: ChoiceQuestion) -> str:
    options = "\n".join(f"{letter}. {text}" for letter, text in asked.options.items())
    return PROMPT.format(question=asked.question, options=options)


def stated_letter(answer: str, reasoning: str, letters: str) -> str | None:
    """The letter that an output states last, None where it states none of `letters`.

    Only what is plainly a choice counts: "the answer is B", else a line that begins with "B." or is "B" alone, else
    "(B)". Lines and brackets count only where they name one letter, since a list of the options chooses none. A bare
    letter in a sentence does not, because hepatitis B is no choice, nor does the prompt's own example said again.
    Where an output has no answer part, as when it was cut, a plain statement in its reasoning counts.
    """
    text = (answer or reasoning).replace(EXAMPLE, "")
    for pattern in (_STATED, _ALONE, _BRACKETED) if answer else (_STATED,):
        found = ["".join(filter(None, match.groups())) for match in pattern.finditer(text)]
        stated = [letter for letter in found if letter in letters]
        if stated and (pattern is _STATED or len(set(stated)) == 1):
            return stated[-1]
    return None


def accuracy(correct: Sequence[bool], shown_arms: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Accuracy with Wilson's 95% interval (scipy.stats.binomtest), and how many outputs stated no letter."""
    from scipy.stats import binomtest

    interval = binomtest(sum(correct), len(correct)).proportion_ci(CONFIDENCE, method="wilson")
    return {
        "accuracy": sum(correct) / len(correct),
        "low": float(interval.low),
        "high": float(interval.high),
        "correct": sum(correct),
        "unparsed": sum(a["letter"] is None for a in shown_arms) / len(correct),
        "truncated": sum(a["truncated"] for a in shown_arms) / len(correct),
        "records": len(correct),
    }


def compare(base: Sequence[bool], tuned: Sequence[bool], *, seed: int = 42) -> dict[str, Any]:
    """Paired difference of accuracies. The verdict is McNemar's exact test at 5%: a two-sided binomial test of one half
    on the questions that only one of the two got right (McNemar 1947). The interval is that of metrics.compare.
    """
    from scipy.stats import binomtest

    found = metrics.compare([float(b) for b in base], [float(t) for t in tuned], seed=seed)
    win, loss = found["win"], found["loss"]
    p_value = float(binomtest(win, win + loss, 0.5).pvalue) if win + loss else 1.0
    verdict = "not distinguishable" if p_value >= 1 - CONFIDENCE else "better" if win > loss else "worse"
    return {**found, "p_value": p_value, "verdict": verdict}
